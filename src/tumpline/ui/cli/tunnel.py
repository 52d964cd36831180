"""`tumpline tunnel`: join a session of the packet overlay, and see those who have."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from tumpline.errors import NotReachableError
from tumpline.ui.cli.common import DEFAULT, Common, Flag, Seconds
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.tunnel_options import (
    CAPTURE,
    PLACE,
    RADIO,
    SESSION,
    CaptureOptions,
    PlaceOptions,
    RadioOptions,
    SessionOptions,
)


def connect(
    *,
    name: str,
    session: SessionOptions = SESSION,
    place: PlaceOptions = PLACE,
    radio: RadioOptions = RADIO,
    capture: CaptureOptions = CAPTURE,
    common: Common = DEFAULT,
) -> int:
    """Join a session: this machine and the other members see each other as neighbours, until Ctrl-C or SIGTERM.

    Parameters
    ----------
    name
        Who you are in the session: one word, unique there. agent_1 to agent_6 bring addresses of old with them.
    """
    from tumpline.node.overlay.agent import serve
    from tumpline.node.overlay.settings import Wish, settings_of
    from tumpline.ui.cli.tunnel_telling import Teller

    output = Output(common)
    wish = Wish(name=name, **asdict(session), **asdict(place), **asdict(radio), **asdict(capture))
    teller = Teller(output)
    asyncio.run(serve(settings_of(wish), tell=teller.tell, ready=teller.ready, join_s=common.timeout))
    return 0


async def status(
    *, name: str | None = None, watch: Flag = False, interval: Seconds = 1.0, common: Common = DEFAULT
) -> int:
    """Show the agents of this machine (or one, by its name): their sessions, the other members, what was carried.

    Parameters
    ----------
    name
        Which agent.
    watch
        Show it again and again until Ctrl-C (with --json: one object a line).
    interval
        How often, with --watch.
    """
    from tumpline.node.overlay.status import ask_all
    from tumpline.ui.cli.tunnel_status import status_lines

    output = Output(common)
    while True:
        agents = await ask_all("tunnel", name)
        if not agents and not watch:
            whose = f" named {name}" if name else ""
            raise NotReachableError(f"no agent{whose} runs here: start one with `tumpline tunnel connect --name NAME`")
        if watch:
            output.redraw()
        output.event({"agents": agents}, status_lines(agents, output))
        if not watch:
            return 0
        await asyncio.sleep(interval)

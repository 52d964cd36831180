"""`tumpline router`: the packet router of a session of the overlay, and what it has seen."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from tumpline.errors import NotReachableError
from tumpline.ui.cli.common import DEFAULT, Common, Flag, Seconds
from tumpline.ui.cli.output import Output

Repeated = Annotated[tuple[str, ...], Parameter(negative=())]


@Parameter(name="*", group=Group("Routing", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class RoutingOptions:
    """Which session, and how packets are passed on."""

    # The older router's variables are read, too.
    url: Annotated[str, Parameter(env_var="AMQP_URL")] = "amqp://guest:guest@localhost/"
    "The broker and, as its path, the session: amqp://USER:PASSWORD@HOST/SESSION, or amqps:// (TLS)."
    exchange: Annotated[str, Parameter(env_var="AMQP_EXCHANGE")] = "amq.topic"
    "The topic exchange of the session."
    name: str | None = None
    "What it is called in the session (default: one that is drawn)."
    config: str | None = None
    "Who hears whom: COAP_CFG_01 and others that come with the program, FILE.yaml, or FILE.yaml#NAME (default: all hear all)."
    impair: str | None = None
    "What befalls packets on their way: 'delay: 20 ms, loss: 1 %, rate: 1 Mbit/s'; links of a FILE.yaml can have their own."
    key: Path | None = None
    "The session's key, as for `tunnel connect`: where members have one, they do not believe a router without."
    identity: Path | None = None
    "A file with this router's own key, made if it is not there (default: a new key for each start)."
    peer: Repeated = ()
    "NAME=KEY: NAME is only who has this public key; may be given several times."
    ca: Path | None = None
    "Who signs the broker's certificate (PEM), in place of the system's authorities."


@Parameter(name="*", group=Group("Several routers on one session", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class SharingOptions:
    """How the work is divided; the same for all routers of a session."""

    shards: int = 1
    "Into how many shares the agents are divided; with 1, further routers wait until the first one is gone."
    queue_type: Literal["classic", "quorum"] = "classic"
    "Of the broker's queues: quorum ones lie on several nodes of a cluster."
    queue_length: int = 1000
    "Packets that may wait for the router; the oldest are dropped."
    queue_expires: str = "60s"
    "When quorum queues that nobody uses are gone."


@Parameter(name="*", group=Group("To see routers that run here", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class ShowingOptions:
    """Look, in place of routing."""

    status: Flag = False
    "Show the routers of this machine (or one, by --name) in place of starting one."
    watch: Flag = False
    "Show them again and again until Ctrl-C (with --json: one object a line)."
    interval: Seconds = 1.0
    "How often, with --watch."


ROUTING, SHARING, SHOWING = RoutingOptions(), SharingOptions(), ShowingOptions()


async def router(
    *,
    routing: RoutingOptions = ROUTING,
    sharing: SharingOptions = SHARING,
    showing: ShowingOptions = SHOWING,
    common: Common = DEFAULT,
) -> int:
    """Pass packets on between the agents of a session, each to whom it is for, until Ctrl-C or SIGTERM."""
    if showing.status or showing.watch:
        return await _show(routing.name, showing, Output(common))
    from tumpline.node.overlay.router import RouterWish, router_settings_of, serve_router
    from tumpline.ui.cli.router_telling import Teller

    wish = RouterWish(**asdict(routing), **asdict(sharing))
    teller = Teller(Output(common))
    await serve_router(router_settings_of(wish), tell=teller.tell, ready=teller.ready)
    return 0


async def _show(name: str | None, showing: ShowingOptions, output: Output) -> int:
    from tumpline.node.overlay.status import ask_all
    from tumpline.ui.cli.router_telling import status_lines

    while True:
        routers = await ask_all("router", name)
        if not routers and not showing.watch:
            whose = f" named {name}" if name else ""
            raise NotReachableError(f"no router{whose} runs here: start one with `tumpline router`")
        if showing.watch:
            output.redraw()
        output.event({"routers": routers}, status_lines(routers, output))
        if not showing.watch:
            return 0
        await asyncio.sleep(showing.interval)

"""`tumpline up` and `tumpline down`: an agent's life."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from tumpline.ui.cli.agent import connected, default_config_path
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.detach import Detached, told_ready
from tumpline.ui.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tumpline.node.agent import Adapter
    from tumpline.node.config import Configuration

LOG = "agent.log"  # below the state directory, for agents without a terminal whose [log] names no file


def up(*, config: Path | None = None, detach: Flag = False, common: Common = DEFAULT) -> int:
    """Run the agent of a configuration until it is stopped (Ctrl-C, SIGTERM, `tumpline down`).

    Parameters
    ----------
    config
        Its file (default: NAME.toml of --node in the configuration directory).
    detach
        Return once the agent is ready, and leave it running.
    """
    from tumpline.node.config import load

    output = Output(common)
    configuration = load(config or default_config_path(common.node))
    for remark in configuration.remarks:
        output.note(remark)
    if not detach:
        return asyncio.run(_serve(configuration, output, None))
    with Detached() as detached:
        if detached.is_parent:
            return detached.wait(output)
        return asyncio.run(_serve(configuration, output, detached))


async def _serve(configuration: Configuration, output: Output, detached: Detached | None) -> int:
    from tumpline.node.agent import serve
    from tumpline.node.collector import set_aside

    def ready() -> None:
        line = f"{configuration.node.id} is up"
        told_ready(line)
        if detached is not None:
            detached.ready(line, configuration.state_dir / LOG)
        else:
            output.event({"event": "ready", "node_id": str(configuration.node.id)}, line)
        set_aside()

    return await serve(configuration, ready=ready, adapters=list(_adapters(configuration)))


def _adapters(configuration: Configuration) -> Iterator[Adapter]:
    """What the agent shall be seen by besides control."""
    if configuration.bus.kind != "off":
        from tumpline.ui.dbus.node import on_bus

        yield on_bus(configuration)


async def down(*, now: Flag = False, common: Common = DEFAULT) -> int:
    """Stop the agent; transfers under way are finished first.

    Parameters
    ----------
    now
        Do not wait for transfers under way.
    """
    async with connected(common) as agent:
        value = await agent.get("/v1/status")
        await agent.post("/v1/down", {"graceful": not now})
        await agent.gone(common.timeout)
    Output(common).result({"node_id": value["node_id"], "stopped": True}, f"{value['node_id']} is down")
    return 0

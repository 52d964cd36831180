"""`tumpline send` and `tumpline recv`: files as bundles, with honest progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumpline.errors import ConfigError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Flag, Seconds
from tumpline.ui.cli.output import Output, octets

if TYPE_CHECKING:
    from tumpline.node.client import Client

EXIT_STORED_ONLY = 6
_CHUNK_OCTETS = 1 << 20


async def send(
    path: Path,
    to: str,
    /,
    *,
    name: str | None = None,
    no_wait: Flag = False,
    lifetime: Seconds = 86400.0,
    common: Common = DEFAULT,
) -> int:
    """Send a file to the files service of a node. Exits 6 if it is stored but not delivered when --timeout ends.

    Parameters
    ----------
    path
        The file.
    to
        EID of a node, or of its files endpoint.
    name
        How the receiver shall call it (default: its own name).
    no_wait
        Be content when the agent has stored it.
    lifetime
        How long it may be under way.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file")
    output = Output(common)
    asked = {"to": to, "name": name or path.name, "size": path.stat().st_size, "lifetime_s": lifetime, "wait": not no_wait}
    last: dict[str, Any] = {}
    async with connected(common) as agent:
        with progress(output, path.name, asked["size"]) as show:
            async for event in agent.upload_stream("/v1/send", _chunks(path), asked):
                show(event)
                if output.json:
                    output.event(event)
                last = event
    return _sent(output, path, to, last)

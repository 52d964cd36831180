"""`tumpline send|pipe|recv`: files and streams as bundles, with honest progress."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumpline.errors import ConfigError, NoAnswerError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Flag, Seconds
from tumpline.ui.cli.output import Output, octets
from tumpline.ui.cli.progress import Progress
from tumpline.ui.cli.reach import why_waiting

if TYPE_CHECKING:
    from tumpline.node.client import Client

EXIT_STORED_ONLY = 6
_WEEK_S = 7 * 86_400.0
_DEFAULT_WAIT_S = 30.0  # for the receipt, once everything is stored
_PIECE_OCTETS = 1 << 20


async def send(
    path: Path,
    to: str,
    /,
    *,
    name: str | None = None,
    no_wait: Flag = False,
    lifetime: Seconds = _WEEK_S,
    common: Common = DEFAULT,
) -> int:
    """Send a file. Asked again after an interruption, it goes on where it was.

    Exits 0 when the receiver has verified the whole file, 6 when it is stored here but not delivered within --timeout
    (default 30s), 5 when the receiver refused it.

    Parameters
    ----------
    path
        The file.
    to
        Node ID of the receiver, or the EID of a files service.
    name
        How the receiver shall call it (default: its own name).
    no_wait
        Be content when everything is stored here: exit 0 then.
    lifetime
        How long it may be under way.
    """
    path, size = _facts(path)
    asked = {
        "path": str(path),
        "to": to,
        "name": name,
        "lifetime_s": lifetime,
        "wait_s": _wait_s(common, no_wait),
    }
    async with connected(common) as agent:
        events = agent.stream("/v1/send", {key: value for key, value in asked.items() if value is not None})
        code = await _follow(events, Output(common), name or path.name, size, no_wait)
        await _tell_why(agent, code, Output(common))
        return code


def _facts(path: Path) -> tuple[Path, int]:
    """Where the agent finds the file, and its octets. Raises: ConfigError."""
    if not path.is_file():
        raise ConfigError(f"{path} is no file; streams are sent with `tumpline pipe`")
    return path.absolute(), path.stat().st_size


async def pipe(
    to: str,
    /,
    *,
    name: str = "stream",
    no_wait: Flag = False,
    lifetime: Seconds = _WEEK_S,
    common: Common = DEFAULT,
) -> int:
    """Send standard input as it comes; it becomes a file of the receiver when it has ended.

    Parameters
    ----------
    to
        Node ID of the receiver, or the EID of a files service.
    name
        How the receiver shall call it.
    no_wait
        Be content when everything is stored here: exit 0 then.
    lifetime
        How long it may be under way.
    """
    asked = {"to": to, "name": name, "lifetime_s": lifetime, "wait_s": _wait_s(common, no_wait)}
    async with connected(common) as agent:
        events = agent.upload_stream("/v1/pipe", _standard_input(), asked)
        code = await _follow(events, Output(common), name, None, no_wait)
        await _tell_why(agent, code, Output(common))
        return code


async def _tell_why(agent: Client, code: int, output: Output) -> None:
    """Which peers cannot be reached, of a file that waits here."""
    if code == EXIT_STORED_ONLY:
        for line in await why_waiting(agent):
            output.note(line)


def _wait_s(common: Common, no_wait: bool) -> float:
    if no_wait:
        return 0.0
    return _DEFAULT_WAIT_S if common.timeout is None else common.timeout


async def _standard_input() -> AsyncIterator[bytes]:
    # As a raw file: what is there is sent, however little it is.
    while data := await asyncio.to_thread(os.read, sys.stdin.fileno(), _PIECE_OCTETS):
        yield data


async def _follow(
    events: AsyncIterator[dict[str, Any]], output: Output, name: str, size: int | None, no_wait: bool
) -> int:
    code = 1
    with Progress(output, name, size) as progress:
        async for event in events:
            if output.json:
                output.event(event)
            code = event.get("exit_code", code)
            progress.show(event)
            if (line := _told(event, name)) is not None:
                progress.pause(line)
    return 0 if no_wait and code == EXIT_STORED_ONLY else code


def _told(event: dict[str, Any], name: str) -> str | None:
    if event["event"] == "stored":
        resumed = f", {octets(event['resumed'])} of them before" if event["resumed"] else ""
        return f"{name}: {octets(event['octets'])} stored in {event['chunks']} bundles{resumed}"
    if event["event"] == "delivered":
        return f"{name}: delivered and verified as {event['name']}"
    if event["event"] == "waiting":
        return f"{name}: waiting, {event['reason']}"
    if event["event"] == "finished" and event["exit_code"] == EXIT_STORED_ONLY:
        return f"{name}: not yet delivered; the agent goes on"
    if event["event"] == "finished" and event["exit_code"]:
        return f"{name}: {event.get('reason') or 'failed'}"
    return None


async def recv(directory: Path | None = None, /, *, count: int | None = None, common: Common = DEFAULT) -> int:
    """Tell of files as they come, until Ctrl-C or --count. Exits 3 if --timeout ends first.

    Parameters
    ----------
    directory
        Move them here from the inbox of the agent on this machine, those that lie there already first.
    count
        End after so many files.
    """
    output = Output(common)
    try:
        async with asyncio.timeout(common.timeout), connected(common) as agent, agent.events("file_received") as events:
            inbox = await _inbox(agent)
            waiting = _lying(inbox) if directory is not None else []
            output.note(f"receiving into {directory or inbox}")
            taken = 0
            async for event in _files(waiting, events):
                if (path := _placed(inbox / event["file"], directory)) is None:
                    continue
                event["path"] = str(path)
                output.event(event, f"{path}  {octets(event['octets'])}  {event.get('source', '')}".rstrip())
                taken += 1
                if taken == count:
                    break
    except TimeoutError:
        raise NoAnswerError(f"no file came within {common.timeout:g} s") from None
    return 0


async def _inbox(agent: Client) -> Path:
    status = await agent.status()
    service = status["services"].get("files")
    if service is None:
        raise ConfigError("this agent receives no files: add [services.files] with a directory to its configuration")
    return Path(service["directory"])


def _lying(inbox: Path) -> list[Path]:
    return sorted(path for path in inbox.glob("[!.]*") if path.is_file())


async def _files(waiting: list[Path], events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for path in waiting:
        yield {"event": "file_received", "file": path.name, "octets": path.stat().st_size}
    async for event in events:
        yield {"event": event["event"], **event["fields"]}


def _placed(source: Path, directory: Path | None) -> Path | None:
    """Where the file is now; None if it is not there any more. Nothing is overwritten: a number is added to the name."""
    if directory is None:
        return source
    directory.mkdir(parents=True, exist_ok=True)
    target, number = directory / source.name, 0
    while target.exists():
        number += 1
        target = directory / f"{source.stem} ({number}){source.suffix}"
    try:
        shutil.move(source, target)
    except FileNotFoundError:
        return None  # it lay there when we began, and an event told of it as well
    return target

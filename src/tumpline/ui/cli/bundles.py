"""`tumpline bundles ls|show|rm|export|import`: what the store of an agent holds."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tumpline.errors import TumplineError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, FileOrDash, Flag
from tumpline.ui.cli.output import Output, duration, octets, pairs, table

if TYPE_CHECKING:
    from tumpline.node.client import Client

_DTN_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # RFC 9171 §4.2.6
_COLUMNS = ("SEQ", "SOURCE", "DESTINATION", "SIZE", "EXPIRES IN", "FROM")
_PAGE = 500


class NothingThereError(TumplineError):
    """There is nothing of that name."""


class FileExistsAlreadyError(TumplineError):
    """A file of that name is there; nothing is overwritten without --force."""


async def ls(*, limit: int = 100, after: int = 0, common: Common = DEFAULT) -> int:
    """List held bundles, oldest first (with --json: one a line).

    Parameters
    ----------
    limit
        At most so many.
    after
        Only bundles with a higher number.
    """
    output = Output(common)
    rows: list[dict[str, Any]] = []
    async with connected(common) as agent:
        async for bundle in _pages(agent, after, limit):
            rows.append(bundle)
            if output.json:
                output.event(bundle)
    if not output.json:
        output.result(None, table(_COLUMNS, [_row(bundle) for bundle in rows]))
    return 0


async def _pages(agent: Client, after: int, limit: int) -> AsyncIterator[dict[str, Any]]:
    position: int | None = after
    while position is not None and limit > 0:
        page = await agent.get("/v1/bundles", {"after": position, "limit": min(limit, _PAGE)})
        for bundle in page["bundles"]:
            yield bundle
        limit -= len(page["bundles"])
        position = page["next_after"]


def _row(bundle: dict[str, Any]) -> tuple[Any, ...]:
    left_s = (bundle["expires_ms"] - _dtn_now_ms()) / 1000
    where = bundle["previous"] or "here"
    return (
        bundle["seq"],
        bundle["source"],
        bundle["destination"],
        octets(bundle["octets"]),
        duration(max(0.0, left_s)),
        where,
    )


def _dtn_now_ms() -> float:
    return (datetime.now(UTC) - _DTN_EPOCH) / timedelta(milliseconds=1)


async def show(bundle: str, /, *, common: Common = DEFAULT) -> int:
    """Show one held bundle.

    Parameters
    ----------
    bundle
        Its number, or its identity as `bundles ls --json` names it.
    """
    async with connected(common) as agent:
        value = await agent.get(f"/v1/bundles/{bundle}")
    Output(common).result(value, pairs(value))
    return 0


async def rm(bundle: str, /, *, common: Common = DEFAULT) -> int:
    """Delete a held bundle; it is not forwarded any more.

    Parameters
    ----------
    bundle
        Its number or identity.
    """
    async with connected(common) as agent:
        value = await agent.delete(f"/v1/bundles/{bundle}")
    if not value["removed"]:
        raise NothingThereError(f"no bundle {bundle} is held: `tumpline bundles ls` lists those that are")
    Output(common).result(value, f"bundle {bundle} is deleted")
    return 0


async def export(bundle: str, file: FileOrDash, /, *, force: Flag = False, common: Common = DEFAULT) -> int:
    """Write a held bundle's octets to a file (- for standard output).

    Parameters
    ----------
    bundle
        Its number or identity.
    file
        Where to; nothing is overwritten.
    force
        Overwrite.
    """
    async with connected(common) as agent:
        pieces = agent.octets(f"/v1/bundles/{bundle}/octets")
        first = await anext(pieces, b"")  # an error comes before anything is created
        if file == "-":
            await _copy(sys.stdout.buffer, first, pieces)
            sys.stdout.buffer.flush()
            return 0
        with _new_file(Path(file), force) as target:
            count = await _copy(target, first, pieces)
    Output(common).result({"file": file, "octets": count}, f"{octets(count)} in {file}")
    return 0


async def _copy(target: BinaryIO, first: bytes, pieces: AsyncIterator[bytes]) -> int:
    count = target.write(first)
    async for piece in pieces:
        count += target.write(piece)
    return count


def _new_file(path: Path, force: bool) -> BinaryIO:
    try:
        return path.open("wb" if force else "xb")
    except FileExistsError:
        raise FileExistsAlreadyError(f"{path} is there already: choose another name, or --force") from None


async def import_(file: Path, /, *, common: Common = DEFAULT) -> int:
    """Give the agent a bundle from a file, as if a neighbour had sent it.

    Parameters
    ----------
    file
        The bundle's octets.
    """
    data = _read(file)
    async with connected(common) as agent:
        value = await agent.upload("/v1/bundles/import", data)
    Output(common).result(value, f"{value['bundle']} is stored")
    return 0


def _read(path: Path) -> bytes:
    """The file, whole: control wants to know its length before."""
    return path.read_bytes()

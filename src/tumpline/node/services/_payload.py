"""Copying payloads within a node, a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload
from tumpline.node.services._api import ServiceContext

TURN_OCTETS = 2 << 20  # copied in one turn of the loop: 1 ms


async def copy_payload(ctx: ServiceContext, payload: Payload) -> Payload:
    """The same octets as a payload of our own: a bundle's file belongs to that bundle. Raises: StorageError."""
    return payload if isinstance(payload, Octets) else await copy_pieces(ctx, ctx.pieces(payload))


async def copy_pieces(ctx: ServiceContext, data: Iterable[bytes | memoryview]) -> Payload:
    """A payload in a file, of these pieces; others have their turn meanwhile. Raises: StorageError."""
    writer = ctx.writer()
    written = 0
    try:
        for piece in data:
            writer.write(piece)
            written += len(piece)
            if written >= TURN_OCTETS:
                written = 0
                await asyncio.sleep(0)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def as_payload(ctx: ServiceContext, data: bytes) -> Payload:
    """`data` as a payload, in a file if it is large. Raises: StorageError."""
    return Octets(data) if len(data) < FILE_PAYLOAD_OCTETS else in_file(ctx, [data])


def in_file(ctx: ServiceContext, data: Iterable[bytes | memoryview]) -> Payload:
    """A payload in a file, of these pieces. Raises: StorageError."""
    writer = ctx.writer()
    try:
        for piece in data:
            writer.write(piece)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def give_back(payload: Payload) -> None:
    """Free a payload that was not sent after all."""
    if isinstance(payload, FileRange):
        payload.handle.release()

"""Copying payloads within a node, a piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload
from tumpline.node.services._api import ServiceContext

PIECE_OCTETS = 1 << 20  # held in memory at a time; about 0.2 ms of copying, so the loop stays responsive


def pieces(ctx: ServiceContext, payload: Payload, start: int = 0) -> Iterator[bytes]:
    """The octets of a payload from `start`, at most PIECE_OCTETS at a time. Raises: StorageError."""
    for offset in range(start, payload.length, PIECE_OCTETS):
        yield ctx.read_payload(payload, offset, PIECE_OCTETS)


async def copy_payload(ctx: ServiceContext, payload: Payload) -> Payload:
    """The same octets as a payload of our own: a bundle's file belongs to that bundle. Raises: StorageError."""
    if isinstance(payload, Octets):
        return payload
    writer = ctx.writer()
    try:
        for piece in pieces(ctx, payload):
            writer.write(piece)
            await asyncio.sleep(0)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def as_payload(ctx: ServiceContext, data: bytes) -> Payload:
    """`data` as a payload, in a file if it is large. Raises: StorageError."""
    if len(data) < FILE_PAYLOAD_OCTETS:
        return Octets(data)
    writer = ctx.writer()
    try:
        writer.write(data)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def give_back(payload: Payload) -> None:
    """Free a payload that was not sent after all."""
    if isinstance(payload, FileRange):
        payload.handle.release()

"""Receives files: chunks in any order, as often as they come; each file appears once, whole, under a harmless name.

What was done with a chunk is committed together with the identity of its bundle; that a file is about to appear under a
name is committed before it does, and done again after a crash. docs/files-protocol.md has the protocol.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from tumpline.errors import MalformedError, RefusedError, StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, Delivery, Outcome
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._inbox import Inbox, OnConflict, check_name
from tumpline.node.services._partial import Partial, Phase, key_of, pack, unpack
from tumpline.wire import files as wire
from tumpline.wire.eid import IPN, Eid

DEMUX = "files"
IPN_SERVICE = 2021  # of the numbers that nobody else has been given; 21 is FTP's port
RETRY_S = 30.0  # when the disk is full or the limits are reached
SWEEP_S = 60.0  # how often expired transfers are looked for
MAX_ENDED = 10_000  # transfers that are over and remembered, so that late doubles do not begin them anew
# A receipt for a chunk that came late must still reach its sender.
MIN_RECEIPT_LIFETIME_MS = 86_400_000


class FilesConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where received files appear, and how much of them there may be."""

    directory: str
    """Received files appear here (relative to this service's part of the state directory)."""
    on_conflict: Literal["rename", "refuse", "overwrite"] = "rename"
    """When there is a file of that name: "name (1).ext", refuse the new one, or replace the old one."""
    max_partials: int = 64
    """Transfers that may be incomplete at a time."""
    max_partial_bytes: int = 64 << 30
    """Octets that incomplete transfers may take together."""
    max_file_bytes: int = 1 << 40
    """Larger files are refused."""


class Files:
    """The receiving service."""

    name = "files"

    def __init__(self, config: FilesConfig) -> None:
        self._config = config
        self._on_conflict = OnConflict(config.on_conflict)
        self._partials: dict[str, Partial] = {}
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()  # as many as the node hands over at a time
        # The answer that ended a transfer, by the delivery that did: if its commit fails, that delivery comes again.
        self._last_answer: dict[int, Outcome] = {}
        self.received = 0

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        self._inbox = Inbox(self._directory())
        await self._take_up()
        ctx.spawn(self._work(), "receive")
        self._sweep_timer = ctx.call_later(SWEEP_S, self._sweep_soon)

    def _directory(self) -> Path:
        return Path(self._ctx.state_dir, os.path.expanduser(self._config.directory))

    async def stop(self) -> None:
        """The chunk under way is not answered: it comes again at the next start."""
        self._sweep_timer.cancel()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._queue.put_nowait(delivery)

    def describe(self) -> dict[str, Any]:
        return {
            "directory": str(self._directory()),
            "received": self.received,
            "partial": [partial.describe() for partial in self._partials.values() if partial.phase is Phase.OPEN],
        }

    # ---- after a start -----------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """Read what is committed, let appear what was about to, and clear away what nobody knows."""
        for key, record in (await self._ctx.get_state()).items():
            self._partials[key] = unpack(record)
        for key in await asyncio.to_thread(self._inbox.partials):
            if key not in self._partials or self._partials[key].phase is not Phase.OPEN:
                self._inbox.remove(key)
        for partial in self._partials.values():
            if partial.phase is Phase.OPEN and partial.final is not None:
                await self._appear_again(partial, partial.final)

    async def _appear_again(self, partial: Partial, name: str) -> None:
        """The intent was committed, and then the agent ended. The last chunk was not answered: it comes again."""
        try:
            if not await self._place(partial, name):
                await self._appear(partial, name)
        except (OSError, RefusedError) as error:
            self._ctx.notice("file_not_written", source=partial.source, error=str(error))
        else:
            partial.phase = Phase.PLACED
            await self._ctx.put_state({partial.key: pack(partial)})

    # ---- one chunk after the other -----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            delivery = await self._queue.get()
            try:
                outcome = await self._take(delivery)
            except (OSError, StorageError) as error:
                self._ctx.notice("file_not_written", source=str(delivery.source), error=str(error), retry_s=RETRY_S)
                self._ctx.failed(delivery.seq, RETRY_S)
            except _NoRoomError as error:
                self._ctx.notice("file_waits", source=str(delivery.source), reason=str(error), retry_s=RETRY_S)
                self._ctx.failed(delivery.seq, RETRY_S)
            except MalformedError as error:
                self._ctx.notice("file_message_ignored", source=str(delivery.source), reason=str(error))
                self._ctx.done([(delivery.seq, NOTHING)])
            else:
                self._ctx.done([(delivery.seq, outcome)])

    async def _take(self, delivery: Delivery) -> Outcome:
        """What to commit for an ADU. Raises: MalformedError (it is of no use), _NoRoomError, OSError, StorageError."""
        if (answer := self._last_answer.pop(delivery.seq, None)) is not None:
            return self._ends(delivery.seq, answer)
        piece, offset = self._read(delivery)
        partial = self._partial(delivery, piece)
        octets = delivery.payload.length - offset
        if partial.phase is Phase.DONE:
            # A double of a chunk needs no answer; a manifest alone asks for one.
            return NOTHING if piece.chunk is not None else Outcome([], [self._receipt(delivery, partial)])
        if partial.phase is Phase.OPEN:
            partial.check(piece, octets)
            if (reason := self._unacceptable(piece, octets)) is not None:
                return await self._refuse(delivery, partial, reason)
            await self._take_piece(delivery, piece, offset, partial)
        if partial.phase is Phase.PLACED or partial.complete:
            return await self._finish(delivery, partial)
        return Outcome([(partial.key, pack(partial))])

    def _read(self, delivery: Delivery) -> tuple[wire.Piece, int]:
        if delivery.admin or delivery.source.is_null:
            raise MalformedError("files come from an endpoint that can be answered")
        message, offset = wire.decode_untrusted(self._ctx.read_payload(delivery.payload, 0, wire.MAX_HEADER_OCTETS))
        if isinstance(message, wire.Receipt):
            raise MalformedError("receipts go to senders")
        return message, offset

    def _partial(self, delivery: Delivery, piece: wire.Piece) -> Partial:
        """The transfer that the piece belongs to. Raises: _NoRoomError."""
        source = str(delivery.source)
        expires_ms = (delivery.created_ms or self._ctx.dtn_ms()) + delivery.lifetime_ms
        key = key_of(source, piece.transfer)
        partial = self._partials.get(key)
        if partial is None:
            self._make_room()
            partial = self._partials[key] = Partial(source, piece.transfer, piece.chunk_octets, expires_ms)
        partial.expires_ms = max(partial.expires_ms, expires_ms)
        return partial

    def _make_room(self) -> None:
        open_ones = sum(partial.phase is Phase.OPEN for partial in self._partials.values())
        if open_ones >= self._config.max_partials:
            raise _NoRoomError(f"{open_ones} transfers are incomplete already (max_partials)")
        if len(self._partials) - open_ones >= MAX_ENDED:
            self._forget(next(key for key, partial in self._partials.items() if partial.phase is Phase.DONE))

    def _unacceptable(self, piece: wire.Piece, octets: int) -> str | None:
        """Why this file shall not appear here, if so."""
        end = (piece.chunk or 0) * piece.chunk_octets + octets
        if max(end, piece.manifest.size if piece.manifest else 0) > self._config.max_file_bytes:
            return f"the file has more than {self._config.max_file_bytes} octets"
        try:
            if piece.manifest is not None:
                check_name(piece.manifest.name)
        except MalformedError as error:
            return str(error)
        return None

    async def _take_piece(self, delivery: Delivery, piece: wire.Piece, offset: int, partial: Partial) -> None:
        octets = delivery.payload.length - offset
        if piece.chunk is not None and not partial.has(piece.chunk):
            held = sum(one.octets for one in self._partials.values() if one.phase is Phase.OPEN)
            if held + octets > self._config.max_partial_bytes:
                raise _NoRoomError(f"incomplete transfers take {held} octets already (max_partial_bytes)")
            await self._write(delivery, offset, partial.key, piece.chunk * piece.chunk_octets)
            partial.note_chunk(piece.chunk, octets)
        if piece.manifest is not None:
            partial.manifest = (piece.manifest.name, piece.manifest.size, piece.manifest.sha256)

    async def _write(self, delivery: Delivery, offset: int, key: str, position: int) -> None:
        """Copy the chunk into the partial file, and see it to the disk."""
        file = self._inbox.open(key)
        try:
            for piece in self._ctx.pieces(delivery.payload, offset):
                await asyncio.to_thread(_write_all, file, piece, position)
                position += len(piece)
            await asyncio.to_thread(os.fdatasync, file)
        finally:
            os.close(file)

    # ---- the end of a transfer ---------------------------------------------------------------------------------------

    async def _finish(self, delivery: Delivery, partial: Partial) -> Outcome:
        """Verify the file, let it appear, and answer. All chunks are on the disk."""
        manifest = partial.whole
        assert manifest is not None, "a complete transfer has its manifest"
        if partial.phase is Phase.OPEN:
            digest = await asyncio.to_thread(self._inbox.digest, partial.key, manifest.size)
            if digest != manifest.sha256:
                return await self._refuse(delivery, partial, "its SHA-256 is not the one that was announced")
            try:
                await self._appear(partial, manifest.name)
            except RefusedError as error:
                return await self._refuse(delivery, partial, str(error))
        return self._answer(delivery, partial)

    async def _appear(self, partial: Partial, name: str) -> None:
        while True:
            partial.final = await asyncio.to_thread(self._inbox.free_name, name, self._on_conflict)
            # The intent is durable before the name is: a crash from here on places this file under this name, once.
            await self._ctx.put_state({partial.key: pack(partial)})
            if await self._place(partial, partial.final):
                return

    async def _place(self, partial: Partial, name: str) -> bool:
        placed = await asyncio.to_thread(self._inbox.place, partial.key, name, self._on_conflict)
        if placed:
            self.received += 1
            size = partial.manifest[1] if partial.manifest is not None else 0
            self._ctx.notice("file_received", source=partial.source, file=name, octets=size)
        return placed

    async def _refuse(self, delivery: Delivery, partial: Partial, reason: str) -> Outcome:
        await asyncio.to_thread(self._inbox.remove, partial.key)
        partial.refused = reason
        self._ctx.notice("file_refused", source=partial.source, reason=reason)
        return self._answer(delivery, partial)

    def _answer(self, delivery: Delivery, partial: Partial) -> Outcome:
        partial.phase = Phase.DONE
        partial.bits = b""
        outcome = Outcome([(partial.key, pack(partial))], [self._receipt(delivery, partial)])
        return self._ends(delivery.seq, outcome)

    def _ends(self, seq: int, outcome: Outcome) -> Outcome:
        if len(self._last_answer) >= self._config.max_partials:
            del self._last_answer[next(iter(self._last_answer))]
        self._last_answer[seq] = outcome
        return outcome

    def _receipt(self, delivery: Delivery, partial: Partial) -> Adu:
        delivered = partial.refused is None
        text = partial.final if delivered else partial.refused
        message = wire.encode(wire.Receipt(partial.transfer, delivered, text or ""))
        same = delivery.destination.scheme == self._ctx.node_id.scheme
        demux = delivery.destination.demux if same else self._ctx.demux_for(self.name)
        lifetime_ms = max(MIN_RECEIPT_LIFETIME_MS, delivery.lifetime_ms)
        return Adu(Eid.parse(partial.source), Octets(message), source_demux=demux, lifetime_ms=lifetime_ms)

    # ---- expiry ------------------------------------------------------------------------------------------------------

    def _sweep_soon(self) -> None:
        self._ctx.spawn(self.sweep(), "sweep")
        self._sweep_timer = self._ctx.call_later(SWEEP_S, self._sweep_soon)

    async def sweep(self) -> None:
        """Forget transfers whose last bundle's lifetime is over: no further chunk can come."""
        now_ms = self._ctx.dtn_ms()
        expired = [key for key, partial in self._partials.items() if partial.expires_ms < now_ms]
        for key in expired:
            partial = self._partials.pop(key)
            if partial.phase is Phase.OPEN:
                self._inbox.remove(key)
                self._ctx.notice("file_expired", source=partial.source, octets=partial.octets)
        if expired:
            await self._ctx.put_state(dict.fromkeys(expired))

    def _forget(self, key: str) -> None:
        del self._partials[key]
        self._ctx.spawn(self._ctx.put_state({key: None}), f"forget {key}")


class _NoRoomError(Exception):
    """The limits are reached; later there may be room."""


def _write_all(file: int, data: bytes | memoryview, position: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(file, rest, position)
        position += count
        rest = rest[count:]


def endpoint_of(eid: Eid) -> Eid:
    """The files endpoint of a node, if a node is named; else the endpoint as it is."""
    if not eid.is_administrative:
        return eid
    return eid.with_demux(str(IPN_SERVICE) if eid.scheme == IPN else DEMUX)


SPEC = ServiceSpec(
    name="files",
    summary="receives files",
    config=FilesConfig,
    open=lambda config: Files(config),
    demux=DEMUX,
    ipn_service=IPN_SERVICE,
)

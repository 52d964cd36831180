"""Sends files and streams: chunks, each a bundle, from a state that outlives the agent.

A chunk counts as sent once its bundle is stored. After an end by force, sending goes on behind the last chunk that was
counted; the one chunk that may have been stored uncounted is sent once more, and the receiver ignores the double.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from tumpline.errors import ConfigError, MalformedError, NoAnswerError, RefusedError, StorageError, TumplineError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, Octets, Payload
from tumpline.machines.effects import Adu, Delivery, Outcome
from tumpline.node.services import _outgoing as out
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._inbox import check_name
from tumpline.node.services._outgoing import Outgoing, SendEvent
from tumpline.node.services._patience import Patience
from tumpline.node.services._payload import as_payload, give_back
from tumpline.node.services.files import endpoint_of
from tumpline.wire import files as wire
from tumpline.wire.eid import Eid

DEMUX = "send"
IPN_SERVICE = 2022  # the one after that of files
CHUNK_OCTETS = 16 << 20  # a lost or refused bundle costs at most this much; each costs one commit
STREAM_CHUNK_OCTETS = 1 << 20  # what a stream may keep back until it has enough
MAX_LIFETIME_S = 366 * 86_400.0
MAX_WATCHERS_EVENTS = 1000  # a client that does not read loses progress events, not the end


class SendConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Sending has nothing to configure."""


class SendRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A file to send."""

    path: str
    """Absolute path on the agent's machine."""
    to: str
    """A node ID (its files service is meant), or the EID of a files service."""
    name: str | None = None
    """Name at the destination; by default that of the file."""
    lifetime_s: float = 7 * 86_400.0
    chunk_octets: int = CHUNK_OCTETS
    wait_s: float = 30.0
    """How long to wait for the receipt once all is stored."""


class PipeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A stream to send: the body of the request, to its end."""

    to: str
    name: str = "stream"
    lifetime_s: float = 7 * 86_400.0
    chunk_octets: int = STREAM_CHUNK_OCTETS
    wait_s: float = 30.0


class _Transfer:
    """A transfer that this run of the agent knows: its record, its task, and who watches."""

    def __init__(self, record: Outgoing) -> None:
        self.record = record
        self.task: asyncio.Task[None] | None = None
        self.watchers: set[asyncio.Queue[SendEvent]] = set()
        self.resumed = record.stored_octets

    def tell(self, event: SendEvent) -> None:
        for watcher in self.watchers:
            if watcher.full():
                watcher.get_nowait()  # progress is worth less than what comes after it
            watcher.put_nowait(event)

    def stored_event(self) -> out.Stored:
        record = self.record
        return out.Stored(record.key, record.name, record.size or 0, record.stored, self.resumed)

    def end_event(self) -> SendEvent | None:
        if self.record.delivered is None:
            return None
        if self.record.delivered:
            return out.Delivered(self.record.text)
        return out.Finished(RefusedError.exit_code, self.record.text)


class Send:
    """The sending service."""

    name = "send"

    def __init__(self) -> None:
        self._transfers: dict[bytes, _Transfer] = {}

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        self._demux = ctx.demux_for(self.name)
        for record in (await ctx.get_state()).values():
            transfer = _Transfer(out.unpack(record))
            self._transfers[transfer.record.transfer] = transfer
        await self._forget_expired()
        for transfer in self._transfers.values():
            if not transfer.record.complete and transfer.record.path is not None:
                self._go(transfer)

    async def stop(self) -> None:
        """Transfers under way go on at the next start."""

    def describe(self) -> dict[str, Any]:
        unfinished = [transfer.record for transfer in self._transfers.values() if transfer.record.delivered is None]
        return {
            "sending": [
                {"to": one.destination, "name": one.name, "octets": one.stored_octets, "size": one.size}
                for one in unfinished
            ]
        }

    # ---- files -------------------------------------------------------------------------------------------------------

    async def run(self, request: SendRequest) -> AsyncGenerator[SendEvent, None]:
        """Send a file, or go on with it, and tell how it goes. It goes on without a listener too.

        Raises: ConfigError (no such file), MalformedError."""
        destination, lifetime_ms = check(request.to, request.lifetime_s, request.chunk_octets)
        path = Path(request.path)
        name = check_name(request.name or path.name)
        found = await asyncio.to_thread(out.facts, path)
        if not path.is_absolute() or found.size > wire.MAX_CHUNKS * request.chunk_octets:
            raise ConfigError(f"{path}: write an absolute path, to a file of at most {wire.MAX_CHUNKS} chunks")
        sha256 = b""
        async with aclosing(out.hashed(path, found.size)) as hashing:
            async for step in hashing:
                if isinstance(step, bytes):
                    sha256 = step
                else:
                    yield step
        base = out.base_of(str(destination), name, sha256, request.chunk_octets)
        record = Outgoing(
            transfer=base,
            base=base,
            attempt=0,
            destination=str(destination),
            name=name,
            path=str(path),
            chunk_octets=request.chunk_octets,
            expires_ms=self._ctx.dtn_ms() + lifetime_ms,
            size=found.size,
            sha256=sha256,
            mtime_ns=found.mtime_ns,
        )
        transfer = await self._begin_or_go_on(record)
        async for event in self._watch(transfer, request.wait_s):
            yield event

    async def _begin_or_go_on(self, record: Outgoing) -> _Transfer:
        transfer = self._known(record.base)
        if transfer is None:
            record.attempt = self._next_attempt(record.base)
            record.transfer = out.transfer_of(record.base, record.attempt)
            transfer = await self._begin(record)
        else:  # the same content: it may lie elsewhere now
            transfer.record.path, transfer.record.mtime_ns = record.path, record.mtime_ns
        if not transfer.record.complete and (transfer.task is None or transfer.task.done()):
            self._go(transfer)
        return transfer

    def _known(self, base: bytes) -> _Transfer | None:
        """The attempt at this transfer that has not ended yet."""
        for transfer in self._transfers.values():
            record = transfer.record
            if record.base == base and record.delivered is None and record.expires_ms > self._ctx.dtn_ms():
                transfer.resumed = record.stored_octets
                return transfer
        return None

    def _next_attempt(self, base: bytes) -> int:
        attempts = [one.record.attempt for one in self._transfers.values() if one.record.base == base]
        return max(attempts, default=-1) + 1

    async def _begin(self, record: Outgoing) -> _Transfer:
        await self._forget_expired()
        transfer = self._transfers[record.transfer] = _Transfer(record)
        await self._keep(record)
        return transfer

    def _go(self, transfer: _Transfer) -> None:
        transfer.task = self._ctx.spawn(self._push_file(transfer), f"send {transfer.record.name}")

    async def _push_file(self, transfer: _Transfer) -> None:
        """Store the chunks that are not stored yet."""
        record = transfer.record
        try:
            while record.stored < record.chunks:
                await self._push_chunk(transfer)
            if not record.chunks:
                await self._originate(transfer, Octets(wire.encode(self._piece(record, None))))
            record.complete = True
            await self._keep(record)
            transfer.tell(transfer.stored_event())
        except (TumplineError, OSError) as error:
            self._ctx.notice("send_failed", file=record.name, to=record.destination, error=str(error))
            await self._give_up(transfer, str(error), RefusedError.exit_code if isinstance(error, RefusedError) else 1)

    async def _push_chunk(self, transfer: _Transfer) -> None:
        record = transfer.record
        payload = await self._chunk(record, record.stored)
        await self._originate(transfer, payload)
        record.stored += 1
        await self._keep(record)
        transfer.tell(out.Progress("store", record.stored_octets, record.size))

    async def _chunk(self, record: Outgoing, number: int) -> Payload:
        """The payload of a chunk. Raises: ConfigError (the file has changed), OSError, StorageError."""
        assert record.path is not None, "a stream is pushed as it comes"
        assert record.size is not None, "the size of a file is known"
        path = Path(record.path)
        if await asyncio.to_thread(out.facts, path) != (record.size, record.mtime_ns):
            raise ConfigError(f"{path} has changed since it was hashed: send it again")
        offset = number * record.chunk_octets
        length = min(record.chunk_octets, record.size - offset)
        header = wire.encode(self._piece(record, number))
        if len(header) + length < FILE_PAYLOAD_OCTETS:
            return Octets(header + b"".join([data async for data in out.range_of(path, offset, length)]))
        writer = self._ctx.writer()
        try:
            writer.write(header)
            async for data in out.range_of(path, offset, length):
                writer.write(data)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    def _piece(self, record: Outgoing, number: int | None) -> wire.Piece:
        return wire.Piece(record.transfer, record.chunk_octets, number, record.manifest)

    async def _originate(self, transfer: _Transfer, payload: Payload) -> None:
        """Have the ADU stored, however long the node takes nothing (as long as the transfer lives)."""
        async for waiting in self._storing(transfer.record, payload, None):
            transfer.tell(waiting)

    async def _storing(
        self, record: Outgoing, payload: Payload, wait_s: float | None
    ) -> AsyncGenerator[out.Waiting, None]:
        """Have the ADU stored; tells when it has to wait. Raises: RefusedError, NoAnswerError (not within `wait_s`)."""
        patience = Patience(self._ctx, wait_s)
        while (lifetime_ms := record.expires_ms - self._ctx.dtn_ms()) > 0:
            adu = Adu(Eid.parse(record.destination), payload, self._demux, lifetime_ms)
            try:
                await self._ctx.send(
                    adu
                )  # cancelled here, the node may have taken it: the payload is not ours any more
                return
            except RefusedError:
                give_back(payload)
                raise
            except StorageError as error:
                failure = error
            try:
                yield out.Waiting(str(failure))
                await patience.pause([adu], failure)
            except BaseException:
                give_back(payload)
                raise
        give_back(payload)
        raise NoAnswerError("its lifetime ended before all was stored")

    async def _give_up(self, transfer: _Transfer, reason: str, exit_code: int) -> None:
        self._transfers.pop(transfer.record.transfer, None)
        transfer.tell(out.Finished(exit_code, reason))  # first: on a full disk the record cannot be removed either
        await self._ctx.put_state({transfer.record.key: None})

    # ---- streams -----------------------------------------------------------------------------------------------------

    async def run_stream(self, request: PipeRequest, source: AsyncIterator[bytes]) -> AsyncGenerator[SendEvent, None]:
        """Send a stream as it comes. What ends early, because its client went away, never becomes a file."""
        destination, lifetime_ms = check(request.to, request.lifetime_s, request.chunk_octets)
        identity = out.random_transfer()
        record = Outgoing(
            transfer=identity,
            base=identity,
            attempt=0,
            destination=str(destination),
            name=check_name(request.name),
            path=None,
            chunk_octets=request.chunk_octets,
            expires_ms=self._ctx.dtn_ms() + lifetime_ms,
            size=None,
            sha256=None,
        )
        transfer = await self._begin(record)
        digest = hashlib.sha256()
        size = 0
        async for chunk in cut(source, request.chunk_octets):
            if record.stored >= wire.MAX_CHUNKS:
                raise RefusedError(f"a stream has at most {wire.MAX_CHUNKS} chunks: choose a larger chunk_octets")
            digest.update(chunk)
            size += len(chunk)
            async for waiting in self._pushing(record, record.stored, chunk, request.wait_s):
                yield waiting
            record.stored += 1
            yield out.Progress("store", size, None)
        record.size, record.sha256 = size, digest.digest()
        async for waiting in self._pushing(record, None, b"", request.wait_s):
            yield waiting
        record.complete = True
        await self._keep(record)
        async for event in self._watch(transfer, request.wait_s):
            yield event

    def _pushing(
        self, record: Outgoing, number: int | None, data: bytes, wait_s: float
    ) -> AsyncGenerator[out.Waiting, None]:
        """Have a chunk of a stream (None: its end) stored. Raises: as `_storing`, and StorageError."""
        payload = as_payload(self._ctx, wire.encode(self._piece(record, number)) + data)
        return self._storing(record, payload, wait_s)

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def _watch(self, transfer: _Transfer, wait_s: float) -> AsyncGenerator[SendEvent, None]:
        """What happens to a transfer, to its end or until `wait_s` after all was stored (or since the node takes nothing)."""
        events: asyncio.Queue[SendEvent] = asyncio.Queue(MAX_WATCHERS_EVENTS)
        transfer.watchers.add(events)
        deadline: float | None = None
        reason = ""
        try:
            if transfer.record.complete:
                events.put_nowait(transfer.stored_event())
            if (end := transfer.end_event()) is not None:
                events.put_nowait(end)
            while True:
                try:
                    left = None if deadline is None else max(0.0, deadline - self._ctx.now())
                    event = await asyncio.wait_for(events.get(), left)
                except TimeoutError:
                    yield out.Finished(6) if transfer.record.complete else out.Finished(3, f"not stored yet: {reason}")
                    return
                yield event
                if isinstance(event, out.Waiting):
                    reason = event.reason
                    deadline = deadline or self._ctx.now() + wait_s
                elif isinstance(event, out.Progress):
                    deadline = None
                if isinstance(event, out.Stored):
                    deadline = self._ctx.now() + wait_s
                elif isinstance(event, out.Delivered):
                    yield out.Finished(0)
                    return
                elif isinstance(event, out.Finished):
                    return
        finally:
            transfer.watchers.discard(events)

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        self._ctx.done([(delivery.seq, self._take(delivery)) for delivery in deliveries])

    def _take(self, delivery: Delivery) -> Outcome:
        """A receipt: what it says is committed with its identity."""
        try:
            transfer = self._receipt(delivery)
        except (MalformedError, StorageError) as error:
            self._ctx.notice("receipt_ignored", source=str(delivery.source), reason=str(error))
            return NOTHING
        if (event := transfer.end_event()) is not None:
            transfer.tell(event)
        record = transfer.record
        name = "file_delivered" if record.delivered else "file_refused_by_receiver"
        self._ctx.notice(name, to=record.destination, file=record.name, text=record.text)
        return Outcome([(record.key, out.pack(record))])

    def _receipt(self, delivery: Delivery) -> _Transfer:
        if delivery.admin:
            raise MalformedError("an administrative record")
        message, _ = wire.decode_untrusted(self._ctx.read_payload(delivery.payload, 0, wire.MAX_HEADER_OCTETS))
        transfer = self._transfers.get(message.transfer)
        if not isinstance(message, wire.Receipt) or transfer is None:
            raise MalformedError("no receipt for a transfer of this node")
        # Only the receiver may end a transfer. Its node answers under one of its names: that of our destination.
        if delivery.source.node != Eid.parse(transfer.record.destination).node:
            raise MalformedError("a receipt from another node than the receiver")
        if transfer.record.delivered is None:
            transfer.record.delivered, transfer.record.text = message.delivered, message.text
        return transfer

    async def _keep(self, record: Outgoing) -> None:
        await self._ctx.put_state({record.key: out.pack(record)})

    async def _forget_expired(self) -> None:
        now_ms = self._ctx.dtn_ms()
        expired = [one.record for one in self._transfers.values() if one.record.expires_ms < now_ms]
        for record in expired:
            del self._transfers[record.transfer]
        if expired:
            await self._ctx.put_state({record.key: None for record in expired})


def check(to: str, lifetime_s: float, chunk_octets: int) -> tuple[Eid, int]:
    """Destination and lifetime (ms) of a request that makes sense. Raises: MalformedError that says what to write."""
    if not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise MalformedError(f"lifetime_s {lifetime_s}: write seconds, at most a year")
    if not 1 <= chunk_octets <= wire.MAX_CHUNK_OCTETS:
        raise MalformedError(f"chunk_octets {chunk_octets}: write 1 to {wire.MAX_CHUNK_OCTETS}")
    destination = endpoint_of(Eid.parse(to))
    if destination.is_null:
        raise MalformedError("the null endpoint takes no files: write a node ID such as dtn://node/")
    return destination, int(lifetime_s * 1000)


async def cut(source: AsyncIterator[bytes], octets: int) -> AsyncGenerator[bytes, None]:
    """The stream in pieces of `octets`, the last one shorter."""
    kept = bytearray()
    async for data in source:
        kept += data
        while len(kept) >= octets:
            yield bytes(kept[:octets])
            del kept[:octets]
    if kept:
        yield bytes(kept)


SPEC = ServiceSpec(
    name="send",
    summary="sends files and streams",
    config=SendConfig,
    open=lambda _config: Send(),
    demux=DEMUX,
    ipn_service=IPN_SERVICE,
    always=True,
)

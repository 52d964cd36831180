"""Sends numbered ADUs as fast as the node takes them, or at a rate; in batches, a transaction each."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from tumpline.errors import MalformedError, NoRoomError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, Octets, Payload
from tumpline.machines.effects import Adu, Delivery
from tumpline.node.services import _numbered
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._patience import Patience
from tumpline.node.services._payload import copy_pieces, give_back
from tumpline.wire.eid import Eid

BATCH_BUNDLES = 256  # one transaction; more gain nothing
# What a link writes in one turn of the loop: a source that ran ahead of it would fill memory that no cache holds.
BATCH_OCTETS = 1 << 20
BATCHES_OUT = 4  # in the store's hands while the next one is made
AHEAD_OCTETS = 8 << 20  # this many may wait while others leave
STEP_BACK_S = 0.001
PROGRESS_S = 1.0
RATE_SLICE_S = 0.02  # with a rate, how often a batch leaves
MAX_SIZE_OCTETS = 1 << 36
MAX_LIFETIME_S = 366 * 86_400.0


class SourceConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Sources have nothing to configure."""


class SourceRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to send."""

    to: str
    """EID, such as a sink's."""
    count: int = 1
    """How many ADUs."""
    size: int = 100
    """Octets of each payload (32 to 64 GiB)."""
    rate: float = 0.0
    """ADUs a second; 0: as many as the node takes."""
    lifetime_s: float = 86_400.0
    wait_s: float | None = None
    """How long to wait when the quota of the store is reached, from one success to the next; by default without end."""


class SourceProgress(msgspec.Struct, tag="progress", tag_field="event"):
    """Told about once a second."""

    stored: int
    total: int
    bundles_per_s: float


class SourceWaiting(msgspec.Struct, tag="waiting", tag_field="event"):
    """There is no room in the store; told once a second until there is."""

    stored: int
    total: int
    reason: str


class SourceSummary(msgspec.Struct, tag="summary", tag_field="event"):
    """The last event: all is stored."""

    to: str
    stored: int
    octets: int
    seconds: float
    bundles_per_s: float
    octets_per_s: float
    exit_code: int = 0


SourceEvent = SourceProgress | SourceWaiting | SourceSummary


class _Batch(NamedTuple):
    """ADUs on their way into the store."""

    adus: list[Adu]
    # One answer for all of them, or for each its own (so that payload files can be freed); an error: they wait for room.
    answer: asyncio.Future[list[Any]] | NoRoomError


class Source:
    """All sources that run on this node."""

    name = "source"

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx

    async def stop(self) -> None:
        """Sources belong to the requests that run them."""

    async def run(self, request: SourceRequest) -> AsyncGenerator[SourceEvent, None]:
        """Send, and tell how it goes. What was accepted stays stored whatever happens.

        Raises: MalformedError, RefusedError, StorageError, NoAnswerError (no room in the store for so long)."""
        destination = check(request)
        run = secrets.token_bytes(_numbered.RUN_OCTETS)
        demux = self._ctx.new_demux("source")
        began = told = self._ctx.now()
        out: deque[_Batch] = deque()
        patience = Patience(self._ctx, request.wait_s)
        made = stored = 0
        pushed_back = False
        try:
            while stored < request.count:
                # While some wait for room, what was made later shall not go before them.
                pushed_back = pushed_back and bool(out)
                while made < request.count and len(out) < BATCHES_OUT and not pushed_back:
                    ready = await self._ready(request, made, began)
                    adus = [await self._adu(request, destination, demux, run, made + index) for index in range(ready)]
                    out.append(self._send(adus))
                    made += ready
                batch = out.popleft()
                if isinstance(batch.answer, NoRoomError):
                    if await self._try_again(batch, out, patience):
                        yield SourceWaiting(stored, request.count, str(batch.answer))
                    continue
                left = await _not_stored(batch)
                stored += len(batch.adus) - len(left.adus)
                if left.adus:
                    pushed_back = True
                    out.appendleft(left)
                if (now := self._ctx.now()) - told >= PROGRESS_S:
                    told = now
                    yield SourceProgress(stored, request.count, stored / (now - began))
        finally:
            for batch in out:  # after one refusal, what becomes of the others is told to nobody
                _abandon(batch)
        yield self._summary(request, self._ctx.now() - began)

    async def _ready(self, request: SourceRequest, made: int, began: float) -> int:
        """How many ADUs may leave now, at least one; waits for the rate."""
        most = min(request.count - made, BATCH_BUNDLES, max(1, BATCH_OCTETS // request.size))
        if not request.rate:
            await self._step_back()
            return most
        due = began + made / request.rate
        await asyncio.sleep(max(0.0, due - self._ctx.now()))
        return max(1, min(most, int(request.rate * RATE_SLICE_S)))

    async def _step_back(self) -> None:
        """Others want their turn (a store in memory has its answers at once); and as long as bundles leave the node, so
        many wait for that as stay in the cache. Where nothing leaves, the store is there to be filled."""
        await asyncio.sleep(0)
        before = held = self._ctx.held_octets()
        while held > AHEAD_OCTETS:
            await asyncio.sleep(STEP_BACK_S)
            held = self._ctx.held_octets()
            if held >= before:
                return
            before = held

    async def _try_again(self, batch: _Batch, out: deque[_Batch], patience: Patience) -> bool:
        """Wait a while, and send as many of them as there is room for; True: there is none."""
        assert isinstance(batch.answer, NoRoomError)
        out.appendleft(batch)
        fit = await patience.room(batch.adus, batch.answer)
        if fit:
            out.popleft()
            if rest := batch.adus[fit:]:
                out.appendleft(batch._replace(adus=rest))
            out.appendleft(self._send(batch.adus[:fit]))
        return not fit

    def _send(self, adus: list[Adu]) -> _Batch:
        if isinstance(adus[0].payload, Octets):
            return _Batch(adus, self._ctx.send_many(adus))
        # One by one, so that those that are refused can be freed.
        return _Batch(adus, asyncio.gather(*map(self._ctx.send, adus), return_exceptions=True))

    async def _adu(self, request: SourceRequest, destination: Eid, demux: str, run: bytes, number: int) -> Adu:
        size = request.size
        payload: Payload
        if size < FILE_PAYLOAD_OCTETS:
            payload = Octets(_numbered.make(run, number, size))
        else:
            payload = await copy_pieces(self._ctx, _numbered.make_pieces(run, number, size))
        return Adu(destination, payload, demux, int(request.lifetime_s * 1000))

    def _summary(self, request: SourceRequest, seconds: float) -> SourceSummary:
        octets = request.count * request.size
        seconds = max(seconds, 1e-9)
        return SourceSummary(request.to, request.count, octets, seconds, request.count / seconds, octets / seconds)

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Nobody answers a source; whatever comes is of no use."""
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    def describe(self) -> dict[str, Any]:
        return {}


async def _not_stored(batch: _Batch) -> _Batch:
    """Those of a batch for which there was no room (none, as a rule). Raises: RefusedError, StorageError."""
    assert not isinstance(batch.answer, NoRoomError)
    try:
        answers = await batch.answer
    except NoRoomError as full:
        return _Batch([batch.adus[index] for index in full.refused], full)
    if isinstance(batch.adus[0].payload, Octets):
        return _Batch([], batch.answer)
    refused = [(adu, answer) for adu, answer in zip(batch.adus, answers, strict=True) if isinstance(answer, Exception)]
    adus = [adu for adu, _ in refused]
    no_room: NoRoomError | None = None
    for _, error in refused:
        if not isinstance(error, NoRoomError):
            _free(adus)
            raise error
        no_room = error
    return _Batch(adus, no_room or batch.answer)


def _abandon(batch: _Batch) -> None:
    """Free what is not stored in the end."""
    if isinstance(batch.answer, NoRoomError):
        _free(batch.adus)
    else:
        batch.answer.add_done_callback(partial(_read, batch.adus))


def _read(adus: list[Adu], answer: asyncio.Future[list[Any]]) -> None:
    if not answer.cancelled() and answer.exception() is None:
        _free([adu for adu, each in zip(adus, answer.result(), strict=True) if isinstance(each, Exception)])


def _free(adus: list[Adu]) -> None:
    for adu in adus:
        give_back(adu.payload)


def check(request: SourceRequest) -> Eid:
    """The destination of a request that makes sense. Raises: MalformedError that says what to write."""
    if request.count < 1:
        raise MalformedError(f"count {request.count}: write 1 or more")
    if not _numbered.HEADER_OCTETS <= request.size <= MAX_SIZE_OCTETS:
        raise MalformedError(f"size {request.size}: write {_numbered.HEADER_OCTETS} to {MAX_SIZE_OCTETS} octets")
    if not 0 <= request.rate < 1e9:
        raise MalformedError(f"rate {request.rate}: write ADUs a second, or 0 for no limit")
    if not 0 < request.lifetime_s <= MAX_LIFETIME_S:
        raise MalformedError(f"lifetime_s {request.lifetime_s}: write seconds, at most a year")
    destination = Eid.parse(request.to)
    if destination.is_null:
        raise MalformedError("the null endpoint takes nothing: write an EID such as dtn://node/sink")
    return destination


SPEC = ServiceSpec(
    name="source",
    summary="sends numbered ADUs",
    config=SourceConfig,
    open=lambda _config: Source(),
    always=True,
)

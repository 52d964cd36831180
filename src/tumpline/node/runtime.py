"""The runtime: it performs what the node's machine decides, and tells it what came of that.

One agent process = one Runtime. Everything here runs on the event loop's thread; it holds no policy and knows no octet.
The one rhythm is a *turn*: facts go into the machine, its effects are drained and performed until none is left, and one
timer is armed for the machine's next deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol

from tumpline.drivers.links._api import BundleLink
from tumpline.drivers.payload import pieces, release, retain
from tumpline.drivers.stores._api import Store
from tumpline.errors import NoRoomError, RefusedError, StorageError, TumplineError
from tumpline.machines import effects as fx
from tumpline.machines.contract import Payload
from tumpline.machines.node import NodeMachine
from tumpline.machines.storage import Operation, Results
from tumpline.node.room import RoomLine
from tumpline.node.services._api import Administering, Confirming, Service
from tumpline.wire.crc import ZEROED_FIELD, RunningCrc

# The wall clock may be set while we run: DTN time is taken from it anew this often.
CLOCK_INTERVAL_S = 30.0
DTN_EPOCH_UNIX_MS = 946_684_800_000  # 2000-01-01T00:00:00Z, RFC 9171 §4.2.6

# A service that went away between the decision and its performance: its deliveries are decided anew after this.
RETRY_S = 1.0

Spawn = Callable[[Coroutine[Any, Any, None], str], None]


def dtn_now_ms() -> int:
    """The wall clock as DTN time (RFC 9171 §4.2.6), in milliseconds."""
    return time.time_ns() // 1_000_000 - DTN_EPOCH_UNIX_MS


class Watcher(Protocol):
    """Who is told what happens: the event stream, the log."""

    def notice(self, name: str, fields: dict[str, Any]) -> None:
        """Something happened; `name` is in the past tense."""


class _Batch:
    """ADUs given together: one future for all of them."""

    __slots__ = ("_bundles", "_left", "_no_room", "_refusal", "future")

    def __init__(self, future: asyncio.Future[list[str]], count: int) -> None:
        self.future = future
        self._bundles = [""] * count
        self._left = count
        self._refusal: fx.AduRefused | None = None  # the first
        self._no_room: list[int] = []  # places of those for which there is no room now

    def decide(self, index: int, bundle: str, refusal: fx.AduRefused | None) -> None:
        self._bundles[index] = bundle
        self._left -= 1
        if refusal is not None:
            if refusal.kind is fx.AduRefusal.NO_ROOM:
                self._no_room.append(index)
            # One that can be mended by waiting counts less than one that cannot.
            if self._refusal is None or self._refusal.kind is fx.AduRefusal.NO_ROOM:
                self._refusal = refusal
        if self._left or self.future.done():
            return
        if self._refusal is None:
            self.future.set_result(self._bundles)
        else:
            self.future.set_exception(self._error(self._refusal))

    def _error(self, refusal: fx.AduRefused) -> TumplineError:
        if refusal.kind is fx.AduRefusal.NO_ROOM:
            return NoRoomError(refusal.reason, self._no_room)
        if refusal.kind is fx.AduRefusal.NOT_STORED:
            return StorageError(refusal.reason)
        return RefusedError(refusal.reason)


class Runtime:
    """Performs the effects of one NodeMachine on one store, its links and its services."""

    def __init__(self, machine: NodeMachine, store: Store, watcher: Watcher, spawn: Spawn) -> None:
        self.machine = machine
        self.store = store
        self.links: dict[str, BundleLink] = {}
        self.services: dict[str, Service] = {}
        self._watcher = watcher
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._clock_timer: asyncio.TimerHandle | None = None
        self._turning = False
        self._paths: dict[int, BundleLink] = {}
        self._last_path = 0
        self._answers: dict[str, list[tuple[int, fx.Outcome]]] = defaultdict(list)
        self._in_service: dict[int, Payload] = {}
        self._batches: dict[int, tuple[_Batch, int]] = {}
        self._last_token = 0
        self._room_line = RoomLine(machine.fits)
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            fx.Transact: self._transact,
            fx.Acknowledge: self._acknowledge,
            fx.Refuse: self._refuse,
            fx.Forward: self._forward,
            fx.Deliver: self._deliver,
            fx.Administer: self._administer,
            fx.Committed: self._committed,
            fx.Connect: self._connect,
            fx.Disconnect: self._disconnect,
            fx.Split: self._split,
            fx.Join: self._join,
            fx.Notice: self._notice,
            fx.AduStored: self._adu_stored,
            fx.AduRefused: self._adu_refused,
        }

    # ---- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store and begin to turn. Raises: StateError."""
        recovered = self.store.open()
        self._set_clock()
        self.machine.start(recovered, self.now())
        self.turn()

    async def stop(self) -> None:
        """Stop turning; the store finishes what it was given."""
        for timer in (self._timer, self._clock_timer):
            if timer is not None:
                timer.cancel()
        await self.store.close()

    def now(self) -> float:
        """The clock that every machine of this process is told."""
        return self._loop.time()

    def _set_clock(self) -> None:
        self.machine.set_clock(dtn_now_ms(), self.now())
        self._clock_timer = self._loop.call_later(CLOCK_INTERVAL_S, self._set_clock)

    # ---- the turn -----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Drain and perform effects until none is left. Facts that arise meanwhile join this turn."""
        if self._turning:
            return
        self._turning = True
        try:
            while True:
                effects = self.machine.effects()
                for effect in effects:
                    self._performers[type(effect)](effect)
                if self._answers:
                    self.take_answers()
                elif not effects:
                    break
        finally:
            self._turning = False
        if self._room_line:
            self._room_line.look()
        self._arm()

    def perform(self, effect: fx.Effect) -> None:
        """Perform one effect that comes from outside the machine (a link's notice)."""
        self._performers[type(effect)](effect)

    def _arm(self) -> None:
        deadline = self.machine.next_timeout()
        if self._timer is not None:
            if deadline is not None and self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.machine.handle_timeout(self.now())
        self.turn()

    # ---- store --------------------------------------------------------------------------------------------------

    def _transact(self, effect: fx.Transact) -> None:
        self.store.submit(effect.operations, partial(self._transacted, effect.token))

    def _transacted(self, token: int, results: Results | None, error: Exception | None) -> None:
        if results is not None:
            self.machine.store_done(token, results, self.now())
        else:
            self.machine.store_failed(token, str(error), self.now())
        self.turn()

    async def ask(self, operations: list[Operation]) -> Results:
        """Operations of our own (listings, service records), outside the machine. Raises: StorageError."""
        answer: asyncio.Future[Results] = self._loop.create_future()

        def done(results: Results | None, error: Exception | None) -> None:
            if answer.done():
                return
            if results is not None:
                answer.set_result(results)
            else:
                answer.set_exception(error or StorageError("the store kept nothing of it"))

        self.store.submit(operations, done)
        return await answer

    # ---- links --------------------------------------------------------------------------------------------------

    def new_path(self, link: BundleLink) -> int:
        """A path number for a session of this link."""
        self._last_path += 1
        self._paths[self._last_path] = link
        return self._last_path

    def forget_path(self, path: int) -> None:
        """The session is over; its number will not come again."""
        self._paths.pop(path, None)

    def _acknowledge(self, effect: fx.Acknowledge) -> None:
        if (link := self._paths.get(effect.path)) is not None:
            link.acknowledge(effect.path, effect.transfers)

    def _refuse(self, effect: fx.Refuse) -> None:
        if (link := self._paths.get(effect.path)) is not None:
            link.refuse(effect.path, effect.transfer, effect.reason)

    def _forward(self, effect: fx.Forward) -> None:
        link = self._paths.get(effect.path)
        if link is not None:
            link.offer(effect.path, effect.units)
            return
        # The path went down between the decision and this line, in the same turn.
        for unit in effect.units:
            release(unit.payload)
        self.machine.lost(effect.path, [unit.seq for unit in effect.units], self.now())

    def _connect(self, effect: fx.Connect) -> None:
        if (link := self.links.get(effect.link)) is not None:
            link.connect(effect.address, effect.peer)

    def _disconnect(self, effect: fx.Disconnect) -> None:
        if (link := self.links.get(effect.link)) is not None:
            link.disconnect(effect.address, effect.path, effect.reason)

    # ---- services and applications --------------------------------------------------------------------------------

    def _deliver(self, effect: fx.Deliver) -> None:
        service = self.services.get(effect.service)
        if service is None:
            for delivery in effect.deliveries:
                self.machine.delivery_failed(effect.service, delivery.seq, RETRY_S, self.now())
            return
        for delivery in effect.deliveries:
            # A service may read for a while; an expiry or an operator must not pull the octets from under it.
            retain(delivery.payload)
            self._in_service[delivery.seq] = delivery.payload
        service.deliver(effect.deliveries)

    def _administer(self, effect: fx.Administer) -> None:
        service: object = self.services.get(effect.service)
        if isinstance(service, Administering):
            service.administer(effect.record)

    def _committed(self, effect: fx.Committed) -> None:
        service: object = self.services.get(effect.service)
        if isinstance(service, Confirming):
            service.committed(effect.seqs)

    def answer(self, service: str, answers: Sequence[tuple[int, fx.Outcome]]) -> None:
        """A service has done with deliveries. The answers of one turn reach the machine as one batch."""
        for seq, _ in answers:
            self._give_back(seq)
        if not self._answers and not self._turning:
            self._loop.call_soon(self.turn)
        self._answers[service].extend(answers)

    def answer_failed(self, service: str, seq: int, retry_s: float) -> None:
        """A service could not take a delivery; it will be offered again (after `retry_s`)."""
        self._give_back(seq)
        self.machine.delivery_failed(service, seq, retry_s, self.now())
        self._loop.call_soon(self.turn)

    def _give_back(self, seq: int) -> None:
        if (payload := self._in_service.pop(seq, None)) is not None:
            release(payload)

    def take_answers(self) -> None:
        """Tell the machine what services have answered in this turn."""
        answers, self._answers = self._answers, defaultdict(list)
        for service, outcomes in answers.items():
            self.machine.delivered(service, outcomes, self.now())

    def originate(self, adus: Sequence[fx.Adu]) -> asyncio.Future[list[str]]:
        """Send ADUs as one batch. The future gives the bundles' identities, in order, once all are stored; or raises,
        when all are decided (those that were accepted stay stored) RefusedError, StorageError or NoRoomError, with the
        first reason."""
        batch = _Batch(self._loop.create_future(), len(adus))
        numbered = []
        for index, adu in enumerate(adus):
            self._last_token += 1
            numbered.append(adu._replace(token=self._last_token))
            self._batches[self._last_token] = (batch, index)
        self.machine.originate(numbered, self.now())
        self.turn()
        return batch.future

    async def room(self, adus: Sequence[fx.Adu], most_s: float) -> int:
        """Wait until there is room for the first of these ADUs, `most_s` at most; how many find room then, perhaps 0.
        Raises: RefusedError (too many wait)."""
        return await self._room_line.wait(adus, most_s, own=self.machine.is_own(adus[0].destination))

    def _adu_stored(self, effect: fx.AduStored) -> None:
        if (place := self._batches.pop(effect.token, None)) is not None:
            place[0].decide(place[1], effect.bundle, None)

    def _adu_refused(self, effect: fx.AduRefused) -> None:
        if (place := self._batches.pop(effect.token, None)) is not None:
            place[0].decide(place[1], "", effect)

    # ---- payload work, off the loop's thread --------------------------------------------------------------------------

    def _split(self, effect: fx.Split) -> None:
        retain(effect.payload)
        self._spawn(self._split_off_thread(effect), f"split {effect.seq}")

    async def _split_off_thread(self, effect: fx.Split) -> None:
        try:
            crcs = await asyncio.to_thread(_piece_crcs, effect)
        finally:
            release(effect.payload)
        self.machine.split_done(effect.seq, crcs, self.now())
        self.turn()

    def _join(self, effect: fx.Join) -> None:
        for payload, _, _ in effect.ranges:
            retain(payload)
        self._spawn(self._join_off_thread(effect), f"join {effect.token}")

    async def _join_off_thread(self, effect: fx.Join) -> None:
        joined: Payload | None = None
        try:
            writer = self.store.writer()
            try:
                for payload, offset, length in effect.ranges:
                    for piece in pieces(payload, offset, length):
                        await asyncio.to_thread(writer.write, piece)
                joined = writer.finish()
            except BaseException:
                writer.abort()
                raise
        except StorageError as error:
            self._watcher.notice("reassembly_failed", {"error": str(error)})
        finally:
            for payload, _, _ in effect.ranges:
                release(payload)
        self.machine.join_done(effect.token, joined, self.now())
        self.turn()

    def _notice(self, effect: fx.Notice) -> None:
        self._watcher.notice(effect.name, effect.fields)


def _piece_crcs(effect: fx.Split) -> list[int]:
    crcs = []
    for offset, length, prefix in effect.pieces:
        crc = RunningCrc(effect.crc_type)
        crc.update(prefix)
        for piece in pieces(effect.payload, offset, length):
            crc.update(piece)
        crc.update(ZEROED_FIELD[effect.crc_type])  # RFC 9171 §4.2.2
        crcs.append(crc.value)
    return crcs

"""Bundles within one process: what a link promises, without any octet on a wire. For tests, demonstrations and embedding.

Each `listen` is a name of this process. A session is a pair of ends; units go over in the order they were offered, some
each turn of the loop, and are acknowledged when the other side's host says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from tumpline.drivers.dial import addresses_of
from tumpline.drivers.links._api import LinkContext, LinkHost, LinkSpec, Sink
from tumpline.drivers.links._sinks import why_refused
from tumpline.drivers.links._units import copy_into, lose, read_small, release
from tumpline.errors import MalformedError, StorageError, TumplineError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.wire.eid import Eid

ANY_NAME = "*"  # asks for a name of its own, as port 0 does with TCP
TURN_OCTETS = 1 << 20  # carried in one turn of the loop: others must have theirs
RETRY_S = 0.05  # nothing is spent on looking for a name

_listening: dict[str, MemoryLink] = {}
_names = iter(range(1, 1 << 62))


class MemoryConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Links between nodes of one process."""

    listen: str | list[str] = msgspec.field(default_factory=list)
    """Names under which links of this process reach us; "*" makes one up."""
    connect: str | list[str] = msgspec.field(default_factory=list)
    """Names to hold a session with."""
    transfer_mru: Annotated[int, msgspec.Meta(ge=1)] = 1 << 40
    """Largest bundle to take, in octets."""
    max_unanswered: Annotated[int, msgspec.Meta(ge=1)] = 32_768
    """Received bundles that wait for the store; at the bound nothing more is taken."""
    max_unanswered_octets: Annotated[int, msgspec.Meta(ge=1)] = 32 << 20
    """The same in octets of bundles held in memory."""


class _End:
    """One side of a session: what it sends, and what of it waits for an answer."""

    def __init__(self, link: MemoryLink, address: str, outbound: bool) -> None:
        self.link = link
        self.address = address
        self.outbound = outbound
        self.path = link.host.new_path()
        self.peer: _End = self
        self.queue: deque[Unit] = deque()
        self.unanswered: dict[int, Unit] = {}  # by transfer: taken by the peer, not answered by its host
        self.unanswered_octets = 0  # in memory
        self.transfers = 0  # numbers given
        self.sink: Sink | None = None  # at the peer, of the first unit of the queue
        self.done = 0  # octets of that unit
        self.turn: asyncio.Handle | None = None
        self.ending = ""  # why nothing new begins

    def info(self) -> PathInfo:
        peer = self.peer.link
        return PathInfo(self.path, self.link.name, peer.node_id, self.address, True, peer.mru, outbound=self.outbound)

    def ask_turn(self) -> None:
        if self.turn is None:
            self.turn = asyncio.get_running_loop().call_soon(self._turn)

    # ---- carrying ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self.turn = None
        budget, arrivals = TURN_OCTETS, list[Arrival]()
        while budget > 0 and self.queue and self.has_room():
            unit = self.queue[0]
            if unit.length > self.peer.link.mru:
                self._refused(self.queue.popleft(), RefuseReason.NOT_ACCEPTABLE)
                continue
            data = read_small(unit)
            if data is None:
                self._hand_over(arrivals)
                arrivals = []
                budget -= self._carry(unit, budget)
            else:
                arrivals.append(Arrival(self._sent(self.queue.popleft(), len(data)), data))
                budget -= len(data)
        self._hand_over(arrivals)
        if self.queue and self.has_room():
            self.ask_turn()
        self.close_if_done()

    def has_room(self) -> bool:
        """Whether the peer may be given more."""
        config = self.peer.link.config
        return len(self.unanswered) < config.max_unanswered and self.unanswered_octets < config.max_unanswered_octets

    def _hand_over(self, arrivals: list[Arrival]) -> None:
        if arrivals:
            self.peer.link.host.received(self.peer.path, arrivals)

    def _sent(self, unit: Unit, in_memory: int) -> int:
        self.transfers += 1
        self.unanswered[self.transfers] = unit
        self.unanswered_octets += in_memory
        return self.transfers

    def _carry(self, unit: Unit, most: int) -> int:
        """Some octets of a large unit. Returns how many."""
        if self.sink is None:
            sink = self.peer.link.host.reserve(self.peer.path, unit.length)
            if isinstance(sink, RefuseReason):
                self._refused(self.queue.popleft(), sink)
                return 1
            self.sink, self.done = sink, 0
        try:
            count = copy_into(self.sink, unit, self.done, min(most, unit.length - self.done))
            self.done += count
            if self.done == unit.length:
                self._complete()
            return count
        except (StorageError, MalformedError) as error:
            self.abort_sink()
            self._refused(self.queue.popleft(), why_refused(error))
            return 1

    def _complete(self) -> None:
        """Raises: StorageError, MalformedError."""
        assert self.sink is not None
        arrival = self.sink.finish(self.transfers + 1)
        self.sink = None
        self._sent(self.queue.popleft(), 0)
        self._hand_over([arrival])

    def _refused(self, unit: Unit, reason: RefuseReason) -> None:
        release(unit)
        self.link.host.refused(self.path, unit.seq, reason)

    # ---- the answers of the peer's host ------------------------------------------------------------------------------

    def answered(self, transfers: Sequence[int]) -> list[int]:
        """These of our transfers have their answer; their numbers as units."""
        seqs = []
        for transfer in transfers:
            unit = self.unanswered.pop(transfer)
            self.unanswered_octets -= unit.length if unit.length < FILE_PAYLOAD_OCTETS else 0
            release(unit)
            seqs.append(unit.seq)
        self.ask_turn()
        return seqs

    # ---- ending ------------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """What the peer has begun to receive is finished; the rest is lost."""
        if self.ending:
            return
        self.ending = reason
        begun = [self.queue.popleft()] if self.sink is not None else []
        self.lose(self.queue)
        self.queue = deque(begun)
        self.ask_turn()

    def close_if_done(self) -> None:
        """The last answer ends a session that is ending."""
        both = (self, self.peer)
        if self.ending and not any(end.queue or end.unanswered for end in both):
            self.link.close(self, self.ending)

    def abort_sink(self) -> None:
        if self.sink is not None:
            self.sink.abort()
            self.sink = None

    def lose(self, units: Sequence[Unit]) -> None:
        lose(self.link.host, self.path, units)

    def drop_all(self) -> None:
        """The session is over."""
        if self.turn is not None:
            self.turn.cancel()
        self.abort_sink()
        units = [*self.unanswered.values(), *self.queue]
        self.unanswered.clear()
        self.queue.clear()
        self.lose(units)


class MemoryLink:
    """BundleLink within the process. Made by SPEC.open."""

    host: LinkHost

    def __init__(self, config: MemoryConfig, context: LinkContext) -> None:
        self.name = context.name
        self.node_id: Eid = context.node_id
        self.config = config
        self.mru = config.transfer_mru
        self._bound: list[str] = []
        self._ends: dict[int, _End] = {}
        self._wanted: dict[str, Eid | None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: LinkHost) -> None:
        """Raises: TumplineError with the remedy."""
        self.host = host
        for name in addresses_of(self.config.listen):
            name = f"memory-{next(_names)}" if name == ANY_NAME else name
            if name in _listening:
                await self.stop(graceful=False)
                raise TumplineError(f'name in use: a link of this process listens on "{name}"; choose another `listen`')
            _listening[name] = self
            self._bound.append(name)
        for name in addresses_of(self.config.connect):
            self.connect(name)

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """End all sessions and give the names back."""
        for name in self._bound:
            del _listening[name]
        self._bound.clear()
        self._wanted.clear()
        if self._retry is not None:
            self._retry.cancel()
        if graceful:
            await self._end_sessions(timeout_s)
        for end in list(self._ends.values()):
            self.close(end, "the link is stopped")

    async def _end_sessions(self, timeout_s: float) -> None:
        for end in list(self._ends.values()):
            self._end(end, "the link is stopped")
        try:
            async with asyncio.timeout(timeout_s):
                while self._ends:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            self.host.notice("sessions_cut", link=self.name, count=len(self._ends), after_s=timeout_s)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Keep a session with this name."""
        if address not in self._wanted:
            self._wanted[address] = peer
            self._retry_in(0.0)

    def _retry_in(self, delay_s: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._connect_all)

    def _connect_all(self) -> None:
        self._retry = None
        held = {end.address for end in self._ends.values() if end.outbound}
        missing = [name for name in self._wanted if name not in held]
        for name in missing:
            self._connect(name, self._wanted[name])
        if any(name not in _listening for name in missing):
            self._retry_in(RETRY_S)

    def _connect(self, name: str, expected: Eid | None) -> None:
        other = _listening.get(name)
        if other is None:
            return
        if expected is not None and other.node_id != expected:
            text = f"the peer is {other.node_id}, not {expected}"
            self.host.notice("connection_failed", link=self.name, address=name, reason=text)
            return
        here, there = _End(self, name, outbound=True), _End(other, self.name, outbound=False)
        here.peer, there.peer = there, here
        self._ends[here.path], other._ends[there.path] = here, there
        self.host.path_up(here.info())
        other.host.path_up(there.info())

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """Keep no session with the name, end the one there is; end the path."""
        if address is not None:
            self._wanted.pop(address, None)
        for end in list(self._ends.values()):
            if end.path == path or (end.outbound and end.address == address):
                self._end(end, reason)

    @staticmethod
    def _end(end: _End, reason: str) -> None:
        end.end(reason)
        end.peer.end(reason)

    def close(self, end: _End, reason: str) -> None:
        """A session is over: both hosts are told."""
        both = (end, end.peer)
        for each in both:
            each.drop_all()
        for each in both:
            if each.link._ends.pop(each.path, None) is not None:
                each.link.host.path_down(each.path, reason)
                each.link._closed.set()
                if each.link._wanted:
                    each.link._retry_in(RETRY_S)

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order."""
        end = self._ends.get(path)
        if end is None or end.ending:
            lose(self.host, path, units)
            return
        end.queue.extend(units)
        end.ask_turn()

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if it has not begun."""
        end = self._ends.get(path)
        if end is None:
            return
        for index, unit in enumerate(end.queue):
            if unit.seq == seq and (index or end.sink is None):
                del end.queue[index]
                end.lose([unit])
                return

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:
        """These are stored."""
        end = self._ends.get(path)
        if end is not None:
            sender = end.peer
            sender.link.host.acked(sender.path, sender.answered(transfers))

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:
        """This one is not kept."""
        end = self._ends.get(path)
        if end is not None:
            sender = end.peer
            (seq,) = sender.answered([transfer])
            sender.link.host.refused(sender.path, seq, reason)

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        sessions = [{"path": e.path, "address": e.address, "outbound": e.outbound} for e in self._ends.values()]
        return {
            "kind": SPEC.scheme,
            "listening": list(self._bound),
            "sessions": sessions,
            "dialling": list(self._wanted),
        }


SPEC = LinkSpec(
    scheme="memory",
    summary="bundles between nodes of one process",
    config=MemoryConfig,
    open=MemoryLink,
)

"""Wires of the simulated world: byte streams that keep order, take time and break, with a TCPCLv4 session at each end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from tumpline.drivers.payload import release
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.machines.impairment import Impairment, Line
from tumpline.machines.tcpcl4 import events as ev
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.reasons import refusal_code, refuse_reason
from tumpline.machines.tcpcl4.session import Session
from tumpline.wire.eid import Eid
from tumpline.wire.tcpcl4 import TerminationCode

if TYPE_CHECKING:
    from tumpline.testing.world.node import SimNode
    from tumpline.testing.world.simulation import World

WRITE_OCTETS = 64 << 10  # what one end hands to the wire at once
STREAM_QUEUE_OCTETS = 1 << 40  # a stream waits where a datagram would be dropped
FAIR = Impairment(delay_s=0.01, rate_bps=80e6, queue_octets=STREAM_QUEUE_OCTETS)


@dataclass(frozen=True, slots=True)
class Faults:
    """What a wire does to the streams on it."""

    impairment: Impairment = FAIR
    resets_per_s: float = 0.0  # mean rate at which a connection is reset
    stalls_per_s: float = 0.0  # mean rate at which it stops carrying anything, without a word
    chunk_octets: int = 1 << 16  # the stream arrives in pieces of at most this many octets


PERFECT = Faults()


class Wire:
    """Between two nodes. While it is up, either can open connections over it."""

    def __init__(self, world: World, a: SimNode, b: SimNode, faults: Faults) -> None:
        self.world = world
        self.ends = (a, b)
        self.faults = faults
        self.is_up = True
        self.chance = world.chance(f"wire {a.name} {b.name}")
        self.connections: list[Connection] = []

    def other(self, node: SimNode) -> SimNode:
        """Who is at the other end."""
        return self.ends[1] if node is self.ends[0] else self.ends[0]

    def set_up(self, is_up: bool) -> None:
        """Plug in or pull. Pulling resets every connection (both ends learn it a delay later)."""
        self.is_up = is_up
        if not is_up:
            for connection in list(self.connections):
                connection.reset("the wire was pulled")

    def connect(self, caller: SimNode, peer: Eid | None) -> Connection | None:
        """Open a connection; None if nobody answers."""
        called = self.other(caller)
        if not (self.is_up and called.is_up):
            return None
        connection = Connection(self, caller, called, peer)
        self.connections.append(connection)
        return connection


class Connection:
    """One TCP connection: two ends, each a session, and a fate drawn when it is made."""

    def __init__(self, wire: Wire, caller: SimNode, called: SimNode, peer: Eid | None) -> None:
        self.wire = wire
        self.is_stalled = False
        self.ends = (
            End(self, caller, called.name, Role.ACTIVE, peer),
            End(self, called, caller.name, Role.PASSIVE, None),
        )
        self._doom(wire.faults.resets_per_s, lambda: self.reset("reset by the network"))
        self._doom(wire.faults.stalls_per_s, self._stall)
        for end in self.ends:
            end.begin()

    def _doom(self, per_s: float, what: Callable[[], None]) -> None:
        if per_s > 0:
            self.wire.world.after(self.wire.chance.expovariate(per_s), what)

    def _stall(self) -> None:
        self.is_stalled = True

    def reset(self, why: str) -> None:
        """Both ends lose it; what was under way is gone."""
        if self in self.wire.connections:
            self.wire.connections.remove(self)
            for end in self.ends:
                self.wire.world.after(self.wire.faults.impairment.delay_s, partial(end.lose, why))

    def other(self, end: End) -> End:
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class _Sink(NamedTuple):
    octets: bytearray
    reserved: int


class End:
    """One end of a connection: what a TCPCL driver is to a real session, in virtual time."""

    def __init__(self, connection: Connection, node: SimNode, peer_name: str, role: Role, peer: Eid | None) -> None:
        self.connection = connection
        self._wire = connection.wire
        self._world = connection.wire.world
        self._faults = connection.wire.faults
        self.node = node
        self._life = node.life
        self.peer_name = peer_name
        self.path = node.new_path(self)
        # Between planets nobody answers within the usual times.
        answer_s = 4 * self._faults.impairment.delay_s
        config = SessionConfig(
            node_id=str(node.config.node_id),
            keepalive_s=max(10, ceil(answer_s)),
            contact_timeout_s=max(30.0, answer_s),
            init_timeout_s=max(30.0, answer_s),
            ending_timeout_s=max(10.0, answer_s),
            expected_node_id=str(peer) if peer is not None else None,
            segment_octets_first=4096,
            segment_octets_least=1024,
            segment_octets_most=65536,
        )
        self._session = Session(config, role, self._stream_chance(role))
        self._outbound = role is Role.ACTIVE
        self._units: dict[int, bytes] = {}
        self._sinks: dict[int, _Sink] = {}
        self._unread = bytearray()  # came over the wire
        self._left = b""  # given to the session, not taken yet
        self._behind_body = False  # what is left was not looked at since a body ended
        self._line = Line(self._faults.impairment, self._wire.chance.random)
        self._deadline: float | None = None
        self.is_established = False
        self.is_over = False

    def _stream_chance(self, role: Role) -> Callable[[], float]:
        return random.Random(f"{self._wire.chance.random()} {role.name}").random

    def begin(self) -> None:
        self._session.connected(self._world.now)
        self.pump()

    # ---- verbs of the node ------------------------------------------------------------------------------------------

    def offer(self, units: list[Unit]) -> None:
        now = self._world.now
        for unit in units:
            octets = unit.head + self.node.octets_of(unit.payload) + unit.tail
            release(unit.payload)
            self._units[unit.seq] = octets
            # Whole when small, as a driver does it; a large one is asked for range by range.
            self._session.send(unit.seq, len(octets), octets if len(octets) < WRITE_OCTETS else None, now)
        self.pump()

    def acknowledge(self, transfers: list[int]) -> None:
        if not self.is_over:
            self._session.acknowledge(transfers, self._world.now)
            self.pump()

    def refuse(self, transfer: int, reason: RefuseReason) -> None:
        if not self.is_over:
            self._session.refuse(transfer, refusal_code(reason), self._world.now)
            self.pump()

    def terminate(self, reason: str) -> None:
        if not self.is_over:
            self._session.terminate(TerminationCode.UNKNOWN, self._world.now, reason)
            self.pump()

    # ---- the wire ---------------------------------------------------------------------------------------------------

    def lose(self, why: str) -> None:
        """The connection is gone."""
        if self.is_over or self._life != self.node.life or not self.node.is_up:
            return
        self._world.tell(self.node.name, self.node.name, f"connection with {self.peer_name} lost ({why})")
        self._session.connection_lost(self._world.now)
        self.pump()

    def arrive(self, octets: bytes) -> None:
        if self.is_over or self._life != self.node.life or not self.node.is_up:
            return
        self._unread += octets
        self.pump()

    def _put_on_wire(self, octets: bytes) -> None:
        world, faults = self._world, self._faults
        if self.connection.is_stalled:
            return
        other = self.connection.other(self)
        for start in range(0, len(octets), faults.chunk_octets):
            piece = octets[start : start + faults.chunk_octets]
            world.at(self._arrival(len(piece)), partial(self._carries, other, piece))

    def _arrival(self, octets: int) -> float:
        """When what goes onto the wire now is at its other end: behind all that went before."""
        at = self._line.carry(octets, self._world.now)
        assert at is not None, "a stream loses nothing but its end"
        return at

    def _carries(self, other: End, piece: bytes) -> None:
        if self.connection in self._wire.connections and not self.connection.is_stalled:
            other.arrive(piece)

    # ---- the driver's loop: feed, drain events, write, re-arm one timer -----------------------------------------------

    def pump(self) -> None:
        while True:
            self._events()
            if self.is_over:
                return
            if not (self._feed() | self._write()):
                break
        self.node.turn()
        self._arm()

    def _feed(self) -> bool:
        want = self._session.wants()
        if isinstance(want, ev.Body):
            return self._feed_body(want)
        if not isinstance(want, ev.Read) or not (self._unread or self._behind_body):
            return False
        self._behind_body = False
        take = min(want.most, len(self._unread))
        data = self._left + bytes(self._unread[:take])
        del self._unread[:take]
        consumed = self._session.receive(memoryview(data), self._world.now)
        self._left = data[consumed:]
        return True

    def _feed_body(self, want: ev.Body) -> bool:
        data = self._left + bytes(self._unread)
        take = min(want.octets, len(data))
        if not take:
            return False
        from_left = min(take, len(self._left))
        self._left = self._left[from_left:]
        del self._unread[: take - from_left]
        if want.transfer is not None:
            self._sinks[want.transfer].octets.extend(data[:take])
        self._session.body_received(take, self._world.now)
        self._behind_body = bool(self._left)
        return True

    def _write(self) -> bool:
        pieces = self._session.data_to_send(WRITE_OCTETS, self._world.now)
        octets = b"".join(
            self._units[piece.token][piece.offset : piece.offset + piece.length]
            if isinstance(piece, ev.BodyRange)
            else piece
            for piece in pieces
        )
        self._put_on_wire(octets)
        return bool(octets)

    def _arm(self) -> None:
        deadline = None if self.is_over else self._session.next_timeout()
        if deadline is not None and deadline != self._deadline:
            self._world.at(max(deadline, self._world.now), lambda: self._expire(deadline))
        self._deadline = deadline

    def _expire(self, deadline: float) -> None:
        if deadline == self._deadline and not self.is_over and self._life == self.node.life and self.node.is_up:
            self._deadline = None
            self._session.handle_timeout(self._world.now)
            self.pump()

    # ---- events of the session become facts of the node ---------------------------------------------------------------

    def _events(self) -> None:
        for event in self._session.events():
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _established(self, event: ev.SessionEstablished) -> None:
        self.is_established = True
        peer = Eid.parse(event.node_id) if event.node_id else None
        info = PathInfo(
            self.path, self.peer_name, peer, self.peer_name, True, event.transfer_mru, outbound=self._outbound
        )
        self._world.tell(self.node.name, self.peer_name, "session established")
        self.node.machine.path_up(info, self._world.now)

    def _received(self, event: ev.TransfersReceived) -> None:
        self.node.receive(self.path, [Arrival(transfer, data) for transfer, data in event.transfers])

    def _started(self, event: ev.TransferStarted) -> None:
        reason = self.node.machine.may_receive(event.octets)
        if reason is not None:
            self._session.refuse(event.transfer, refusal_code(reason), self._world.now)
            return
        self._sinks[event.transfer] = _Sink(bytearray(event.prefix), event.octets)
        self._session.accept(event.transfer, self._world.now)

    def _segment(self, event: ev.SegmentStarted) -> None:
        reason = self.node.machine.may_receive(event.octets)
        sink = self._sinks[event.transfer]
        if reason is not None:
            self._session.refuse(event.transfer, refusal_code(reason), self._world.now)
        else:
            self._sinks[event.transfer] = sink._replace(reserved=sink.reserved + event.octets)

    def _completed(self, event: ev.TransferReceived) -> None:
        sink = self._sinks.pop(event.transfer)
        self.node.machine.release(sink.reserved)
        self.node.receive(self.path, [Arrival(event.transfer, bytes(sink.octets))])

    def _aborted(self, event: ev.TransferAborted) -> None:
        self.node.machine.release(self._sinks.pop(event.transfer).reserved)

    def _acked(self, event: ev.TransfersAcked) -> None:
        for token in event.tokens:
            self._units.pop(token, None)
        self._world.tell(self.node.name, self.peer_name, f"acked {event.tokens}")
        self.node.machine.acked(self.path, event.tokens, self._world.now)

    def _refused(self, event: ev.TransferRefused) -> None:
        self._world.tell(self.node.name, self.peer_name, f"refused {event.token} {event.reason.name}")
        self.node.machine.refused(self.path, event.token, refuse_reason(event.reason), self._world.now)

    def _lost(self, event: ev.TransfersLost) -> None:
        self.node.machine.lost(self.path, event.tokens, self._world.now)

    def _terminated(self, event: ev.SessionTerminated) -> None:
        self._world.tell(self.node.name, self.node.name, f"session with {self.peer_name} over: {event.text}")
        if self.is_established:
            self.node.machine.path_down(self.path, event.text, self._world.now)

    def _close(self, _: ev.Close) -> None:
        self._put_on_wire(
            b"".join(p for p in self._session.data_to_send(WRITE_OCTETS, self._world.now) if isinstance(p, bytes))
        )
        self.is_over = True
        other = self.connection.other(self)
        self._world.at(self._arrival(0), lambda: other.lose("closed by the peer"))
        self.node.end_over(self)
        self.node.turn()


_HANDLERS: dict[type[Any], Callable[[End, Any], None]] = {
    ev.SessionEstablished: End._established,
    ev.TransfersReceived: End._received,
    ev.TransferStarted: End._started,
    ev.SegmentStarted: End._segment,
    ev.TransferReceived: End._completed,
    ev.TransferAborted: End._aborted,
    ev.TransfersAcked: End._acked,
    ev.TransferRefused: End._refused,
    ev.TransfersLost: End._lost,
    ev.SessionTerminated: End._terminated,
    ev.Close: End._close,
}

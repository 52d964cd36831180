"""TCPCLv4 sessions back to back in memory, under a virtual clock: a driver that does what a socket driver does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tumpline.machines.authenticate import PeerCertificate
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Body,
    BodyRange,
    Close,
    Event,
    Read,
    TlsStart,
    TransferReceived,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.tcpcl4.session import Session
from tumpline.machines.tcpcl4.states import State
from tumpline.testing.pcap import Chunk
from tumpline.wire.tcpcl4 import VERSION, ContactHeader, RefusalCode, SessionInit, encode_contact, encode_init

T = TypeVar("T")
PEER_INIT = SessionInit(60, 1 << 20, 1 << 30, b"dtn://peer/")
ROUNDS_MOST = 100_000  # of one `Pair.settle`: more is a livelock


class MemoryDriver:
    """One end: a session, the octets that came, the sinks they went into, the units it sends from."""

    def __init__(self, config: SessionConfig, role: Role) -> None:
        self.session = Session(config, role, lambda: 0.5)
        self.log: list[Event] = []
        self.units: dict[int, bytes] = {}
        self.received: dict[int, bytes] = {}
        self.sinks: dict[int, bytearray] = {}
        self.acknowledges = True  # at once, in order
        self.unanswered: list[int] = []  # complete transfers, while `acknowledges` is off
        self.certificate: PeerCertificate | None = None
        self.decide: Callable[[TransferStarted], RefusalCode | None] = lambda _: None
        self.sent = bytearray()  # every octet that was ever written
        self.is_closed = False
        self._socket = bytearray()
        self._buffer = bytearray()

    def offer(self, token: int, data: bytes, now: float, *, whole: bool = True) -> None:
        """Send a unit; `whole=False` keeps the octets here, as a file would."""
        self.units[token] = data
        self.session.send(token, len(data), data if whole else None, now)

    def feed(self, data: bytes, now: float) -> None:
        """Octets arrive from the peer."""
        self._socket += data
        self.turn(now)

    def write(self, most: int, now: float) -> bytes:
        """What goes to the peer next."""
        octets = bytearray()
        for piece in self.session.data_to_send(most, now):
            if isinstance(piece, BodyRange):
                octets += self.units[piece.token][piece.offset : piece.offset + piece.length]
            else:
                octets += piece
        self.sent += octets
        self.turn(now)
        return bytes(octets)

    def turn(self, now: float) -> None:
        """Handle events and read while the session wants it."""
        while self._take(now):
            pass
        self._handle_events(now)

    def of(self, kind: type[T]) -> list[T]:
        """Events of one kind, in order."""
        return [event for event in self.log if isinstance(event, kind)]

    @property
    def unread(self) -> int:
        """Octets that came and that the session does not want."""
        return len(self._socket) + len(self._buffer)

    def _take(self, now: float) -> bool:
        """One step of reading; False when there is nothing to do."""
        self._handle_events(now)
        want = self.session.wants()
        if isinstance(want, Body):
            return self._take_body(want, now)
        if not isinstance(want, Read):
            return False
        taken = self.session.receive(memoryview(bytes(self._buffer)), now)
        del self._buffer[:taken]
        if taken:
            return True
        self._buffer += self._socket[: want.most]
        moved = min(want.most, len(self._socket))
        del self._socket[:moved]
        return moved > 0

    def _take_body(self, want: Body, now: float) -> bool:
        source = self._buffer or self._socket
        count = min(want.octets, len(source))
        if want.transfer is not None:
            self.sinks[want.transfer] += source[:count]
        del source[:count]
        if count:
            self.session.body_received(count, now)
        return count > 0

    def _handle_events(self, now: float) -> None:
        for event in self.session.events():
            self.log.append(event)
            match event:
                case TlsStart():
                    self.session.tls_done(self.certificate, now)
                case TransfersReceived(transfers):
                    self.received.update(transfers)
                    self._answer([number for number, _ in transfers], now)
                case TransferStarted(transfer=number, prefix=prefix):
                    self.sinks[number] = bytearray(prefix)
                    refusal = self.decide(event)
                    if refusal is None:
                        self.session.accept(number, now)
                    else:
                        self.session.refuse(number, refusal, now)
                case TransferReceived(number):
                    self.received[number] = bytes(self.sinks.pop(number))
                    self._answer([number], now)
                case Close():
                    self.is_closed = True
                case _:
                    pass

    def _answer(self, numbers: list[int], now: float) -> None:
        if self.acknowledges:
            self.session.acknowledge(numbers, now)
        else:
            self.unanswered += numbers


class Pair:
    """An active and a passive session joined by a perfect connection, with a clock that tests turn."""

    def __init__(self, active: SessionConfig | None = None, passive: SessionConfig | None = None) -> None:
        self.now = 0.0
        self.active = MemoryDriver(active or SessionConfig(node_id="dtn://active/"), Role.ACTIVE)
        self.passive = MemoryDriver(passive or SessionConfig(node_id="dtn://passive/"), Role.PASSIVE)
        self.most = 1 << 18  # octets of one write
        self.is_cut = False  # nothing arrives any more
        self.trace: list[Chunk] = []  # what was written, in order, the active end as the client

    def connect(self) -> Pair:
        """Open the connection and let both come to rest."""
        self.active.session.connected(self.now)
        self.passive.session.connected(self.now)
        self.settle()
        return self

    def settle(self) -> None:
        """Carry octets until nobody has any; a closed end's FIN reaches the other as a lost connection."""
        for _ in range(ROUNDS_MOST):
            if not (self._carry(self.active, self.passive) | self._carry(self.passive, self.active)):
                return
        raise AssertionError("the sessions never come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass; every deadline is acted on when it comes."""
        end = self.now + seconds
        while True:
            deadlines = [driver.session.next_timeout() for driver in (self.active, self.passive)]
            due = min((deadline for deadline in deadlines if deadline is not None), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            for driver in (self.active, self.passive):
                driver.session.handle_timeout(self.now)
                after = driver.session.next_timeout()
                assert after is None or after > self.now, "a deadline that was acted on is still there"
                driver.turn(self.now)
            self.settle()
            if due == end:
                break
        self.now = end

    def _carry(self, source: MemoryDriver, sink: MemoryDriver) -> bool:
        octets = source.write(self.most, self.now)
        if octets:
            self.trace.append(Chunk(source is self.active, octets))
        if octets and not self.is_cut and not sink.is_closed:
            sink.feed(octets, self.now)
        if not octets and source.is_closed and not sink.is_closed and not self.is_cut:
            sink.session.connection_lost(self.now)
            sink.turn(self.now)
            return True
        return bool(octets)


def established(config: SessionConfig | None = None, peer: SessionInit = PEER_INIT) -> MemoryDriver:
    """An active end whose session a scripted peer has just established, at time 0; `log` and `sent` are empty."""
    driver = MemoryDriver(config or SessionConfig(node_id="dtn://here/"), Role.ACTIVE)
    driver.session.connected(0.0)
    driver.feed(encode_contact(ContactHeader(VERSION, 0)), 0.0)
    driver.feed(encode_init(peer), 0.0)
    driver.write(1 << 16, 0.0)
    assert driver.session.state is State.ESTABLISHED
    driver.log.clear()
    driver.sent.clear()
    return driver

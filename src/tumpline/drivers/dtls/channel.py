"""All DTLS of one conversation: the session that carries, the one whose handshake goes on beside it, the one before.

A peer that has restarted knows nothing of the session it had, and begins another from the same address. Until that one's
handshake has succeeded the old one stays: whoever only pretends to be the peer ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from tumpline.drivers.dtls.session import DtlsSession
from tumpline.wire.dtls import PLAINTEXT_OCTETS_MOST, is_encrypted
from tumpline.wire.udpcl import DATAGRAM_OCTETS_MOST

PREVIOUS_S: Final = 10.0  # what was sent before the change of keys may still be under way


class Route(Enum):
    """Whose a ClientHello is."""

    LISTENER = "listener"  # a new handshake: first of all it needs a cookie
    SESSION = "session"  # the one that is under way: it has come again
    NOWHERE = "nowhere"  # of one that is over; or ours goes on instead


Accept = Callable[[DtlsSession], str]


def _accept_all(_session: DtlsSession) -> str:
    return ""


class DtlsChannel:
    """`failure` says why nothing is carried any more, "" while it can be or a first handshake goes on."""

    def __init__(self, session: DtlsSession, accept: Accept = _accept_all) -> None:
        """`accept` says why the peer of a session whose handshake is over is refused all the same, or ""."""
        self.failure = ""
        self.has_heard = session.is_server  # anything at all has come from the peer
        self.trouble = ""  # of the last handshake that failed while an older session went on
        self.renewals = 0  # how often another session has taken over
        self._accept = accept
        self._carrying: DtlsSession | None = None
        self._pending: DtlsSession | None = session
        self._previous: DtlsSession | None = None
        self._previous_until = 0.0
        self._out: list[bytes] = []
        self._take_out()

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def is_established(self) -> bool:
        """Whether plaintext can be sent."""
        return self._carrying is not None and self._carrying.is_established

    @property
    def is_securing(self) -> bool:
        """Whether a handshake goes on."""
        return self._pending is not None

    @property
    def certificate(self) -> bytes | None:
        """Of the peer, DER."""
        return None if self._carrying is None else self._carrying.peer_certificate()

    @property
    def security(self) -> str:
        """For people: "DTLSv1.2"."""
        return "" if self._carrying is None else self._carrying.version

    @property
    def overhead_octets(self) -> int:
        """How much longer a record is than what it carries."""
        return 0 if self._carrying is None else self._carrying.overhead_octets

    def route(self, random: bytes) -> Route:
        """Where a ClientHello of the peer with this random value goes."""
        pending = self._pending
        if pending is not None and pending.hello_random == random:
            return Route.SESSION
        if any(each is not None and each.hello_random == random for each in (self._carrying, self._previous)):
            return Route.NOWHERE
        # Both may begin at once. Then the one with the greater random value goes on, which both can see.
        if pending is not None and not pending.is_server and pending.hello_random > random:
            return Route.NOWHERE
        return Route.LISTENER

    # ---- octets ------------------------------------------------------------------------------------------------------

    def adopt(self, session: DtlsSession, now: float) -> None:
        """A handshake with the same peer has begun: by a ClientHello whose cookie was right, or by us."""
        self._pending = session
        self._settle(now)

    def feed(self, datagram: bytes, now: float) -> list[bytes]:
        """One datagram came. Returns: the plaintexts in it. What is wrong shows in `failure`."""
        self.has_heard = True
        carrying = self._carrying
        if self._pending is None and self._previous is None and carrying is not None:
            plaintexts = carrying.feed(datagram, now)
            if not carrying.is_established:
                self._settle(now)
            return plaintexts
        return self._feed_all(datagram, now)

    def _feed_all(self, datagram: bytes, now: float) -> list[bytes]:
        """Nobody can tell from outside whose record it is; to the others it is garbage, and garbage is passed over."""
        plaintexts: list[bytes] = []
        if datagram and is_encrypted(datagram):
            for session in (self._carrying, self._previous):
                if session is not None and not plaintexts:
                    plaintexts = session.feed(datagram, now)
        if self._pending is not None and not plaintexts:
            plaintexts = self._pending.feed(datagram, now)
        self._settle(now)
        return plaintexts

    def seal(self, plaintexts: Sequence[bytes], octets: int) -> list[bytes]:
        """Datagrams that carry these, each in a record of its own; none is longer than `octets` but for a plaintext that is
        (a probe: the octets behind its first record are padding, which is padding too when it comes in a record by itself).
        What cannot be sent any more is dropped, as a network would."""
        carrying = self._carrying
        if carrying is None or not carrying.is_established:
            return []
        carrying.pack_octets = octets
        for plaintext in plaintexts:
            if len(plaintext) <= PLAINTEXT_OCTETS_MOST:
                carrying.write(plaintext)
            else:
                self._out += carrying.datagrams()
                self._out.append(_in_one_datagram(carrying, plaintext))
        return self.out()

    def out(self) -> list[bytes]:
        """Datagrams for the peer that have gathered."""
        self._take_out()
        gathered, self._out = self._out, []
        return gathered

    def close(self) -> None:
        """Say goodbye (close_notify goes to `out`) and free everything. Idempotent."""
        for session in (self._pending, self._carrying):
            if session is not None:
                session.close()
        self._take_out()
        self._pending = self._carrying = self._previous = None
        self.failure = self.failure or "closed by us"

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        times = [] if self._previous is None else [self._previous_until]
        if self._pending is not None and (at := self._pending.next_timeout()) is not None:
            times.append(at)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """It is that time."""
        if self._previous is not None and now >= self._previous_until:
            self._previous = None
        if self._pending is not None:
            self._pending.handle_timeout(now)
        self._settle(now)

    # ---- within ------------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        """After anything happened: who carries now?"""
        self._take_out()
        pending = self._pending
        if pending is not None and pending.is_established and (refusal := self._accept(pending)):
            pending.refuse(refusal)
            self._out += pending.datagrams()
        if pending is not None and pending.is_established:
            pending.set_mtu(DATAGRAM_OCTETS_MOST)  # how long datagrams may be is the conversation's business
            self._previous, self._previous_until = self._carrying, now + PREVIOUS_S
            self.renewals += self._carrying is not None
            self._carrying, self._pending = pending, None
        elif pending is not None and pending.failure:
            self._pending = None
            self.trouble = pending.failure
        if self._carrying is not None and self._carrying.failure:
            self.failure = "" if self._pending is not None else self._carrying.failure
        elif self._carrying is None and self._pending is None:
            self.failure = self.trouble

    def _take_out(self) -> None:
        for session in (self._pending, self._carrying, self._previous):
            if session is not None and (datagrams := session.datagrams()):
                self._out += datagrams


def _in_one_datagram(session: DtlsSession, plaintext: bytes) -> bytes:
    """Records that are together as long as one record with all of it would be."""
    whole, record = len(plaintext) + session.overhead_octets, PLAINTEXT_OCTETS_MOST + session.overhead_octets
    records = -(-whole // record)
    session.pack_octets = whole
    rest = plaintext[: whole - records * session.overhead_octets]
    each = -(-len(rest) // records)
    for at in range(0, len(rest), each):
        session.write(rest[at : at + each])
    (datagram,) = session.datagrams()
    return datagram

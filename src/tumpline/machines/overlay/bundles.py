"""Bundles between two members of the packet overlay, over messages that can be lost when a broker dies.

A *conversation* is one member's side of what it has with another; a *session* is what both agreed on by OPEN. Sessions have
numbers drawn at random, so that nothing meant for one is taken for another: not what still lay in a queue, nor what an older
life of the peer said. Within a session messages arrive in order (`numbered`); a transfer ends when the peer says that it has
stored it, or refuses it, and when the session ends its rest is lost. An interrupted carrier (`paused`) ends no session as long
as both are back within PATIENCE_S: what was under way goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError, RemoteProtocolError
from tumpline.machines.backoff import Backoff
from tumpline.machines.effects import RefuseReason
from tumpline.machines.overlay.bundle_events import (
    BundleEvent,
    BundleEvents,
    SessionLowered,
    SessionRaised,
    TransfersLost,
)
from tumpline.machines.overlay.bundle_incoming import Incoming
from tumpline.machines.overlay.bundle_outgoing import Outgoing, Waiting
from tumpline.machines.overlay.numbered import FLIGHT_OCTETS_MOST, BodyRange, Flight, Part
from tumpline.wire.overlay_bundles import (
    HEAD_OCTETS,
    Abort,
    Ending,
    MessageHead,
    MessageKind,
    Opening,
    Refused,
    Segment,
    Start,
    Stored,
    Whole,
    decode_head_untrusted,
    decode_opening_untrusted,
    decode_records_untrusted,
    decode_text_untrusted,
    encode_ending,
    encode_head,
    encode_opening,
    encode_text,
)

MESSAGE_OCTETS: Final = 120_000  # with the overlay's seal it fits into one frame of RabbitMQ (128 KiB)
PATIENCE_S: Final = 60.0  # without a word about what was sent; a broker that restarts takes some ten seconds
OPEN_S_FIRST: Final = 1.0
OPEN_S_MOST: Final = 30.0
STRANGER_ATTEMPTS: Final = 6  # answers to one who asked for a session and then is silent
CONTROL_MOST: Final = 4  # a peer that speaks to a session of the past hears that a few times, not once a message
SESSION_NUMBERS: Final = (1 << 53) - 1  # what a random float can tell apart

Pieces = list[bytes | BodyRange]


class Phase(Enum):
    """Where a conversation stands."""

    IDLE = "idle"  # nobody asks for a session
    OPENING = "opening"  # we do, or we have answered one who did
    UP = "up"
    WAITING = "waiting"  # a session failed; the next one is asked for after a pause


class Handshake(NamedTuple):
    """What both ends call this session; 0 = not known yet."""

    ours: int = 0
    theirs: int = 0


class Conversation:
    """Driver: `received`, then handle `events`, then send what `pull` gives until that is None, then arm the timer."""

    def __init__(self, ours: Opening, random: Callable[[], float]) -> None:
        self.phase = Phase.IDLE
        self.malformed = 0  # messages that were dropped, for people
        self._ours = ours
        self._random = random
        self._backoff = Backoff(random, OPEN_S_FIRST, OPEN_S_MOST)
        self._events = BundleEvents()
        self._flight_octets_most = FLIGHT_OCTETS_MOST
        self._wanted = False
        self._paused_since: float | None = None
        self._session = Handshake()
        self._says_open = False
        self._retry_at = 0.0  # OPENING: say OPEN again; WAITING: begin the next
        self._control: list[Pieces] = []  # whole messages beside the order: CLOSE, RESET, the ACK that confirms
        self._message_handlers: dict[MessageKind, Callable[[MessageHead, memoryview, float], None]] = {
            MessageKind.OPEN: self._on_open,
            MessageKind.DATA: self._on_data,
            MessageKind.ACK: self._on_answer,
            MessageKind.GAP: self._on_answer,
            MessageKind.CLOSE: self._on_close,
            MessageKind.RESET: self._on_close,
        }
        self._record_handlers: dict[type[Any], Callable[[Any], None]] = {
            Whole: lambda record: self._incoming.whole(record),
            Start: lambda record: self._incoming.start(record),
            Segment: lambda record: self._incoming.segment(record),
            Abort: lambda record: self._incoming.abort(record),
            Stored: lambda record: self._outgoing.stored(record.transfers),
            Refused: lambda record: self._outgoing.refused(record.transfer, record.code),
            Ending: self._on_ending,
        }
        self._fresh(None)

    def _fresh(self, peer: Opening | None) -> None:
        """What one session holds, empty."""
        self._peer = peer
        self._outbound = False
        self._flight = Flight(self._flight_octets_most)
        self._outgoing = Outgoing(peer or self._ours, self._events)
        self._incoming = Incoming(self._ours, self._events)
        self._came = 0  # number of the last message that came in order
        self._owes: MessageKind | None = None  # ACK or GAP
        self._gap_told = -1  # `_came` when the peer was told of a gap behind it
        self._ending = ""  # why we begin nothing new
        self._says_ending = False
        self._peer_ends = False

    # ---- verbs -------------------------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """The peer is there: have a session with it, again and again. Idempotent."""
        self._wanted = True
        if self.phase in (Phase.IDLE, Phase.WAITING):
            self._backoff.reset()
            self._begin(now)
            self._outbound = True

    def close(self, reason: str, now: float) -> None:
        """End the session in order: transfers that have begun are finished. No other is asked for until `open`."""
        self._wanted = False
        if self.phase is Phase.UP:
            self._wind_down(reason)
            self._finish_if_done(now)
        else:
            self.drop(reason, now)

    def drop(self, reason: str, now: float) -> None:
        """Everything ends now; the peer is told if it can hear us. No session is asked for until `open`."""
        self._wanted = False
        if self._session.theirs and self._paused_since is None:
            self._say(MessageKind.CLOSE, encode_text(reason))
        self._end(reason, now)

    def pause(self, now: float) -> None:
        """The carrier is interrupted."""
        if self._paused_since is None:
            self._paused_since = now

    def resume(self, now: float) -> None:
        """It carries again; what it had is lost."""
        if self._paused_since is not None:
            self._paused_since = None
            self._control.clear()
            self._flight.rewind(now)
            self._says_open = self._says_open or self.phase is Phase.OPENING

    def limit_flight(self, octets: int) -> None:
        """No more than this is to be under way from now on: others send to the same queue."""
        self._flight_octets_most = self._flight.octets_most = octets

    def wait_anew(self, now: float) -> None:
        """The carrier takes messages again, after a while in which it took none: what is due was not the peer's fault."""
        self._flight.wait_anew(now)

    def send(self, token: int, octets: int, data: bytes | None) -> None:
        """One more unit. Without `data` its octets are asked for by BodyRange."""
        if self.phase is not Phase.UP or self._ending:
            self._events.emit(TransfersLost([token]))
        else:
            self._outgoing.send(Waiting(token, octets, data))

    def cancel(self, token: int) -> None:
        """Do not send it, if it has not begun."""
        self._outgoing.cancel(token)

    def unreadable(self, token: int, now: float) -> None:
        """A message that `pull` gave could not be made, because this unit's octets are gone: it comes again without."""
        self._outgoing.unreadable(token)
        self._flight.rewind(now)

    def acknowledge(self, transfers: Sequence[int]) -> None:
        """These received transfers are stored."""
        self._incoming.acknowledge(transfers)

    def refuse(self, transfer: int, reason: RefuseReason) -> None:
        """This one is not kept, come whole or not."""
        self._incoming.refuse(transfer, reason)

    def events(self) -> list[BundleEvent]:
        """What happened since the last call."""
        return self._events.drain()

    # ---- what is to be sent ------------------------------------------------------------------------------------------

    def pull(self, now: float) -> Pieces | None:
        """The next message, as pieces; None: nothing is to be sent now."""
        if self._paused_since is not None:
            return None
        if self._control:
            return self._control.pop(0)
        if self._says_open:
            self._says_open = False
            return self._message(MessageKind.OPEN, encode_opening(self._ours))
        if self.phase is Phase.UP:
            pieces = self._pull_data(now)
            if pieces is not None:
                return pieces
            self._finish_if_done(now)
            if self._control:
                return self._control.pop(0)
        if self._owes is not None:
            kind, self._owes = self._owes, None
            return self._message(kind)
        return None

    def _pull_data(self, now: float) -> Pieces | None:
        """What is to be repeated, or something new."""
        flight = self._flight
        message = flight.again()
        parts: list[Part] = []
        if message is not None:
            parts = self._outgoing.still_wanted(message)
        elif flight.has_room:
            parts = self._new_parts()
            message = flight.append(parts, now) if parts else None
        if message is None:
            return None
        if self._owes is MessageKind.ACK:  # the head says as much
            self._owes = None
        head = MessageHead(MessageKind.DATA, *self._session, message.sequence, self._came)
        pieces: Pieces = [encode_head(head)]
        for part in parts:
            pieces += part.pieces
        return pieces

    def _new_parts(self) -> list[Part]:
        """Answers first: they free what the peer holds."""
        room = MESSAGE_OCTETS - HEAD_OCTETS
        parts = self._incoming.take(room) if self._incoming.has_answers else []
        room -= sum(part.octets for part in parts)
        parts += self._outgoing.take(room)
        if self._says_ending:
            self._says_ending = False
            ending = encode_ending(self._ending)
            parts.append(Part(len(ending), (ending,)))
        return parts

    def _message(self, kind: MessageKind, body: bytes = b"") -> Pieces:
        """Beside the order."""
        head = encode_head(MessageHead(kind, *self._session, 0, self._came))
        return [head + body]

    def _say(self, kind: MessageKind, body: bytes) -> None:
        self._control.append(self._message(kind, body))

    # ---- what comes --------------------------------------------------------------------------------------------------

    def received(self, messages: Sequence[memoryview], now: float) -> None:
        """These came from the peer, in this order. Events refer to them until the next call."""
        for message in messages:
            try:
                head = decode_head_untrusted(message)
                self._message_handlers[head.kind](head, message[HEAD_OCTETS:], now)
            except MalformedError:
                self.malformed += 1
            except RemoteProtocolError as error:
                self._fail(str(error), now)
        self._finish_if_done(now)

    def _on_open(self, head: MessageHead, body: memoryview, now: float) -> None:
        opening = decode_opening_untrusted(body)
        if head.receiver not in (0, self._session.ours):
            self._reset(head)
            return
        if head.sender != self._session.theirs:
            self._meet(head.sender, opening, now)
        if head.receiver and head.receiver == self._session.ours:
            self._establish()
            self._owes = self._owes or MessageKind.ACK
        else:
            self._says_open = True  # it does not know our session yet

    def _meet(self, theirs: int, opening: Opening, now: float) -> None:
        """The peer asks for a session that is new to us."""
        outbound = self._outbound
        if self._session.theirs:
            self._end("the peer began anew", now)
            outbound = False
        if self.phase is not Phase.OPENING:
            self._begin(now)
            outbound = False
        ours = self._session.ours
        self._fresh(opening)
        self._outbound = outbound
        self._session = Handshake(ours, theirs)

    def _establish(self) -> None:
        """Both know both sessions."""
        if self.phase is Phase.OPENING and self._peer is not None:
            self.phase = Phase.UP
            self._says_open = False
            self._backoff.reset()
            self._events.emit(SessionRaised(self._peer.node_id, self._peer.mru_octets, self._outbound))

    def _is_ours(self, head: MessageHead) -> bool:
        """Whether a message belongs to the session; if so, the peer knows it as well."""
        ours, theirs = self._session
        if head.receiver != ours or head.sender != theirs or not theirs:
            return False
        self._establish()
        return True

    def _on_answer(self, head: MessageHead, _body: memoryview, now: float) -> None:
        if self._is_ours(head):
            self._outgoing.arrived(self._flight.acknowledged(head.acknowledged, now))
            if head.kind is MessageKind.GAP:
                self._flight.gap(now)

    def _on_data(self, head: MessageHead, body: memoryview, now: float) -> None:
        if not self._is_ours(head):
            self._reset(head)
            return
        records = decode_records_untrusted(body)
        self._outgoing.arrived(self._flight.acknowledged(head.acknowledged, now))
        if head.sequence != self._came + 1:
            self._out_of_order(head.sequence)
            return
        self._came += 1
        self._owes = MessageKind.ACK
        handlers = self._record_handlers
        for record in records:
            handlers[type(record)](record)

    def _out_of_order(self, sequence: int) -> None:
        """It came already (and our acknowledgement is lost), or something before it is lost."""
        if sequence <= self._came:
            self._owes = self._owes or MessageKind.ACK
        elif self._gap_told != self._came:  # once: all of it comes again
            self._gap_told = self._came
            self._owes = MessageKind.GAP

    def _on_ending(self, record: Ending) -> None:
        self._peer_ends = True
        self._wind_down(f"the peer ended the session: {record.text}")

    def _on_close(self, head: MessageHead, body: memoryview, now: float) -> None:
        """CLOSE, or RESET: the peer does not know our session any more."""
        text = decode_text_untrusted(body)
        if head.receiver != self._session.ours or not head.receiver:
            return
        if head.kind is MessageKind.CLOSE:
            self._wanted = False  # it does not want us now; it asks when it does
            self._peer_ends = True
        self._end(self._ending or f"the peer ended the session: {text}", now)

    def _reset(self, head: MessageHead) -> None:
        """Somebody speaks to a session that we do not have."""
        if len(self._control) < CONTROL_MOST:
            reset = MessageHead(MessageKind.RESET, self._session.ours, head.sender)
            self._control.append([encode_head(reset) + encode_text("the session is not known here (any more)")])

    # ---- beginning and ending ----------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Ask for a session."""
        self._fresh(None)
        self._session = Handshake(1 + int(self._random() * SESSION_NUMBERS))
        self.phase = Phase.OPENING
        self._says_open = True
        self._retry_at = now + self._backoff.next_delay_s()

    def _wind_down(self, reason: str) -> None:
        """Begin nothing new, and say so."""
        if not self._ending:
            self._ending = reason
            self._says_ending = True
            self._outgoing.lose_waiting()

    def _finish_if_done(self, now: float) -> None:
        """The last answer ends a session in which neither begins anything new."""
        if not (self._ending and self._peer_ends and self.phase is Phase.UP) or self._says_ending:
            return
        if self._flight.is_empty and not self._outgoing.is_busy and not self._incoming.is_busy:
            self._say(MessageKind.CLOSE, encode_text(self._ending))
            self._end(self._ending, now)

    def _fail(self, reason: str, now: float) -> None:
        """The peer broke the rules."""
        self._say(MessageKind.RESET, encode_text(reason))
        self._end(reason, now)

    def _end(self, reason: str, now: float) -> None:
        """The session is over: each unit has its end, then the path."""
        was_up = self.phase is Phase.UP
        self._incoming.abort_large()
        self._outgoing.lose_all()
        if was_up:
            self._events.emit(SessionLowered(reason, self._peer_ends))
        self._fresh(None)
        self._session = Handshake()
        self._says_open = False
        self.phase = Phase.WAITING if self._wanted else Phase.IDLE
        if self._wanted:
            self._retry_at = now + self._backoff.next_delay_s()

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is to be called."""
        if self._paused_since is not None:
            return self._paused_since + PATIENCE_S if self.phase is Phase.UP else None
        if self.phase is Phase.UP:
            return self._flight.next_timeout()
        return self._retry_at if self.phase is not Phase.IDLE else None

    def handle_timeout(self, now: float) -> None:
        """Ask again, repeat what nobody has answered, or give up."""
        if self._paused_since is not None:
            if self.phase is Phase.UP and now >= self._paused_since + PATIENCE_S:
                self._end("the connection to the broker is lost", now)
        elif self.phase is Phase.UP:
            if self._flight.silent_s(now) >= PATIENCE_S:
                self._end(f"no word of the peer for {PATIENCE_S:.0f} s", now)
            else:
                self._flight.handle_timeout(now)
        elif self.phase is not Phase.IDLE and now >= self._retry_at:
            self._ask_again(now)

    def _ask_again(self, now: float) -> None:
        if self.phase is Phase.WAITING:
            self._begin(now)
            self._outbound = True
        elif self._wanted or self._backoff.attempts < STRANGER_ATTEMPTS:
            self._says_open = True
            self._retry_at = now + self._backoff.next_delay_s()
        else:
            self._end("the peer asked for a session and is silent", now)

    def snapshot(self) -> dict[str, Any]:
        """For people."""
        counters = {"repeated": self._flight.repeated, "malformed": self.malformed}
        return {"state": self.phase.value, **self._outgoing.snapshot(), **counters}

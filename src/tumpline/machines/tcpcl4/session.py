"""One TCPCLv4 session (RFC 9174): contact, TLS, SESS_INIT, upkeep, termination. Transfers: inbound.py, outbound.py.

The driver's loop, after anything happened:

    for event in session.events(): ...          # answer TransferStarted here, with accept or refuse
    write session.data_to_send(most, now)       # while the socket takes more
    want = session.wants()                      # Read: read and `receive`; Body: fill the sink; None: do not read now
    re-arm one timer for session.next_timeout()

Octets that `receive` did not take stay with the driver, in front of what it reads next. Its buffer must have room for
BUFFER_OCTETS_LEAST. `wants` may change with every call, `acknowledge` included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tumpline.errors import LocalProtocolError, MalformedError, RemoteProtocolError
from tumpline.machines.authenticate import PeerCertificate
from tumpline.machines.bucket import Bucket
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import (
    Body,
    BodyRange,
    Close,
    ContactHeaderExchanged,
    Event,
    MessageRejected,
    Read,
    SessionEnding,
    SessionEstablished,
    SessionEvents,
    SessionTerminated,
    TlsStart,
    TransferRefused,
    TransfersLost,
)
from tumpline.machines.tcpcl4.inbound import Inbound
from tumpline.machines.tcpcl4.negotiate import check_host, negotiate, own_init
from tumpline.machines.tcpcl4.outbound import Outbound
from tumpline.machines.tcpcl4.outbox import Outbox
from tumpline.machines.tcpcl4.sizing import SegmentSizer
from tumpline.machines.tcpcl4.states import State, Step, following
from tumpline.machines.tcpcl4.upkeep import Upkeep
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import MessageType, RefusalCode, RejectionCode, TerminationCode

READ_MOST = 262_144  # octets of one read: thousands of small bundles, little enough to stay in the processor's cache
# The longest thing that `receive` wants to see whole: a small segment with its head and extension items.
BUFFER_OCTETS_LEAST = FILE_PAYLOAD_OCTETS + wire.EXTENSION_OCTETS_MOST + wire.NODE_ID_OCTETS_MOST + 64
_IDLE = frozenset({MessageType.KEEPALIVE, MessageType.SESS_TERM, MessageType.MSG_REJECT, MessageType.SESS_INIT})
_MESSAGING = (State.ESTABLISHED, State.INIT, State.ENDING)  # a tuple: compared by identity, which is asked per message
_MESSAGE = Read(READ_MOST)


class Session:
    """A session from the TCP connection on; one object a connection, never reused."""

    def __init__(self, config: SessionConfig, role: Role, random: Callable[[], float]) -> None:
        """`random` gives [0, 1): sessions of one node must not send their KEEPALIVEs in step."""
        self.state = State.START
        self.established: SessionEstablished | None = None
        self._config = config
        self._role = role
        self._random = random
        self._events = SessionEvents()
        self._out = Outbox(config.control_octets_most)
        self._idle = Bucket(0, 0, 0, 0.0)  # filled by `connected`
        self._now = 0.0  # of the octets that are read
        self._inbound = Inbound(config, self._events, self._out, self._take_idle)
        extensions = wire.encode_extensions(list(config.transfer_extensions))
        self._outbound = Outbound(self._events, config.first_transfer_id, config.lenient_acks, extensions)
        self._contact = bytearray()
        self._tls = False
        self._certificate: PeerCertificate | None = None
        self._init_received = False
        self._peer_terminated = False
        self._ending = SessionEnding(TerminationCode.UNKNOWN, False, "")
        self._left_over = 0  # octets that the last `receive` did not take
        self._since = 0.0  # begin of the present state
        self._upkeep = Upkeep(config.idle_s)
        self._length_most = 0  # of a transfer that the peer takes
        self._handlers: dict[int, Callable[[memoryview, int, float], int]] = {
            MessageType.XFER_SEGMENT: self._receive_segments,
            MessageType.XFER_ACK: self._receive_acks,
            MessageType.XFER_REFUSE: self._receive_refusal,
            MessageType.KEEPALIVE: self._receive_keepalive,
            MessageType.SESS_TERM: self._receive_termination,
            MessageType.MSG_REJECT: self._receive_rejection,
            MessageType.SESS_INIT: self._receive_init,
        }

    # ---- facts from the driver ---------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """The TCP connection is there."""
        self._go(Step.CONNECTED, now)
        config = self._config
        self._idle = Bucket(config.idle_messages_first, config.idle_messages_most, config.idle_messages_per_s, now)
        self._upkeep.received_at = now
        if self._role is Role.ACTIVE:  # RFC 9174 §4.1: the passive entity waits
            self._send_contact()

    def tls_done(self, certificate: PeerCertificate | None, now: float) -> None:
        """The handshake succeeded; what the peer's certificate names (None: it gave none)."""
        if self.state is State.CLOSED:
            return
        self._certificate = certificate
        self._go(Step.TLS_DONE, now)
        self._upkeep.received_at = now
        try:
            check_host(self._config, certificate)
        except RemoteProtocolError as error:
            self._terminate_for(error, now)
            return
        self._begin_init()

    def tls_failed(self, text: str, now: float) -> None:
        """RFC 9174 §4.4.3: "both entities of the TCPCL session SHALL close the TCP connection"."""
        self._close(TerminationCode.CONTACT_FAILURE, f"TLS: {text}", now)

    def connection_lost(self, now: float) -> None:
        """The peer closed the connection, or it broke. Nothing can be sent any more."""
        self._out.take()
        if self.state is State.ENDING:
            self._close(self._ending.reason, f"{self._ending.text}; the connection was lost before the end", now)
        else:
            self._close(TerminationCode.UNKNOWN, "the connection was lost", now)

    # ---- octets in ---------------------------------------------------------------------------------------------------

    def wants(self) -> Read | Body | None:
        """What is to be read next. None: nothing for now (TLS handshake, a transfer to be accepted, too many transfers
        without answer) or for ever (closed)."""
        if self.state is State.CONTACT:
            # RFC 9174 §4.3: TLS may follow at once; not one octet of it may be read here.
            return Read(wire.CONTACT_OCTETS - len(self._contact))
        if self.state not in _MESSAGING or self._inbound.is_paused:
            return None
        return self._inbound.body or _MESSAGE

    def receive(self, data: memoryview, now: float) -> int:
        """Take octets of the stream; returns how many were taken. No view of `data` is kept."""
        if len(data) > self._left_over:  # what was left is no new sign of life
            self._upkeep.received_at = now
        if self.state is State.CONTACT:
            return self._receive_contact(data, now)
        if self.state is State.CLOSED:
            return len(data)
        offset, self._now = 0, now
        try:
            while offset < len(data) and self._inbound.takes_messages and self.state in _MESSAGING:
                taken = self._receive_message(data, offset, now)
                if taken == offset:
                    break
                offset = taken
                self._close_if_done(now)  # after each message: what follows the last one must not depend on the read
            self._out.check()
        except RemoteProtocolError as error:
            self._break_off(error, now)
        except MalformedError as error:  # a list that passes its bound: it can neither be kept nor skipped
            self._break_off(RemoteProtocolError(str(error), TerminationCode.RESOURCE_EXHAUSTION), now)
        self._left_over = len(data) - offset
        return offset

    def body_received(self, count: int, now: float) -> None:
        """`count` octets of the Body that `wants` named are in their sink (or discarded)."""
        if self.state is State.CLOSED:
            return
        self._upkeep.received_at = self._upkeep.active_at = now
        self._left_over = 0  # who has octets of a body has no more left than that
        self._inbound.body_received(count)
        self._close_if_done(now)

    # ---- verbs -------------------------------------------------------------------------------------------------------

    def send(self, token: int, length: int, data: bytes | None, now: float) -> None:
        """Queue a transfer of `length` octets: `data`, or (None) what the driver finds under `token`.

        Ends in exactly one of TransfersAcked, TransferRefused, TransfersLost."""
        if self.established is None and self.state not in (State.ENDING, State.CLOSED):
            raise LocalProtocolError(f"no transfer can be sent in state {self.state.value}")
        if self.state is not State.ESTABLISHED:
            self._events.emit(TransfersLost([token]))
        elif length > self._length_most:
            self._events.emit(TransferRefused(token, RefusalCode.NOT_ACCEPTABLE, local=True))
        else:
            self._upkeep.active_at = now
            self._outbound.offer(token, length, data)

    def cancel(self, token: int) -> bool:
        """Do not send it, if it has not begun: TransfersLost follows. False: it has begun, or is not known."""
        return self._outbound.cancel(token)

    def accept(self, transfer: int, now: float) -> None:
        """There is a sink for a transfer that TransferStarted announced."""
        if self.state is not State.CLOSED:
            self._inbound.accept(transfer)
            self._close_if_done(now)

    def acknowledge(self, transfers: Sequence[int], now: float) -> None:
        """These complete transfers are kept for good. Once the session is over this has no effect."""
        if self.state is not State.CLOSED:
            self._inbound.acknowledge(transfers)
            self._close_if_done(now)

    def refuse(self, transfer: int, reason: RefusalCode, now: float) -> None:
        """This transfer is not wanted: to be accepted, in progress, or complete and not acknowledged."""
        if self.state is not State.CLOSED:
            self._inbound.refuse(transfer, reason)
            self._close_if_done(now)

    def terminate(self, reason: TerminationCode, now: float, text: str = "terminated here") -> None:
        """End the session: transfers under way are finished, others are lost. Idempotent."""
        if self.state in (State.INIT, State.ESTABLISHED):
            self._terminate(wire.Termination(0, reason), False, text, now)
            self._close_if_done(now)
        elif self.state is not State.ENDING:
            self._close(reason, text, now)

    # ---- octets out --------------------------------------------------------------------------------------------------

    def data_to_send(self, most: int, now: float) -> list[bytes | BodyRange]:
        """About `most` octets to be written next, in order (at least a whole message if there is one)."""
        if self.state is not State.CLOSED:
            self._inbound.release_refusals()
        if self._outbound.has_work:
            self._upkeep.active_at = now
        pieces = self._outbound.pull(self._out.take(), most, now)
        if self._outbound.exhausted and self.state is State.ESTABLISHED:  # RFC 9174 §5.2.1
            self.terminate(TerminationCode.RESOURCE_EXHAUSTION, now, "no Transfer ID is left")
        if pieces:
            self._upkeep.said(now)
        return pieces

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        return self._events.drain()

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        return min(self._deadlines(), default=None)

    def handle_timeout(self, now: float) -> None:
        """Act on every deadline that has come."""
        if self.state is State.CONTACT and now >= self._since + self._config.contact_timeout_s:
            # RFC 9174 §4.1: "the waiting entity SHALL close the TCP connection".
            self._close(TerminationCode.IDLE_TIMEOUT, "no contact header came", now)
        elif self.state is State.TLS and now >= self._since + self._config.tls_timeout_s:
            self._close(TerminationCode.IDLE_TIMEOUT, "the TLS handshake did not end", now)
        elif self.state is State.INIT and now >= self._since + self._config.init_timeout_s:
            self.terminate(TerminationCode.IDLE_TIMEOUT, now, "no SESS_INIT came")
        elif self.state is State.ENDING and now >= self._ending_at:
            self._close(self._ending.reason, f"{self._ending.text}; the peer did not finish", now)
        elif self.state is State.ESTABLISHED:
            self._check_peer(now)
        if self.state in (State.ESTABLISHED, State.ENDING):
            is_due = self._upkeep.keepalive_is_due(now)
            if is_due and not self._out.octets:  # whatever waits to be written serves as well
                self._out.put(wire.KEEPALIVE)

    def _deadlines(self) -> list[float]:
        config = self._config
        match self.state:
            case State.CONTACT:
                return [self._since + config.contact_timeout_s]
            case State.TLS:
                return [self._since + config.tls_timeout_s]
            case State.INIT:
                return [self._since + config.init_timeout_s]
            case State.ESTABLISHED:
                return self._upkeep.deadlines(self._is_live)
            case State.ENDING:
                return [self._ending_at, *self._upkeep.keepalive_deadlines()]
            case _:
                return []

    def _check_peer(self, now: float) -> None:
        """Silence and idleness of an established session."""
        if self._upkeep.is_silent(now):
            if self._inbound.is_paused:
                self._upkeep.received_at = now  # it is we who do not read
            else:
                # RFC 9174 §5.1.1; the peer does not answer, so an unclean termination (§6.1) loses nothing.
                text = f"nothing came for {self._upkeep.silence_s} s"
                self._break_off(RemoteProtocolError(text, TerminationCode.IDLE_TIMEOUT), now)
        elif self._upkeep.is_idle(now) and not self._is_live:
            self.terminate(TerminationCode.IDLE_TIMEOUT, now, f"idle for {self._config.idle_s} s")  # RFC 9174 §6.2

    @property
    def _ending_at(self) -> float:
        return max(self._since, self._upkeep.active_at) + self._config.ending_timeout_s

    # ---- contact and session negotiation -----------------------------------------------------------------------------

    def _send_contact(self) -> None:
        flags = wire.CAN_TLS if self._config.offers_tls else 0
        self._out.put(wire.encode_contact(wire.ContactHeader(wire.VERSION, flags)))

    def _receive_contact(self, data: memoryview, now: float) -> int:
        taken = min(wire.CONTACT_OCTETS - len(self._contact), len(data))
        self._contact += data[:taken]
        if len(self._contact) == wire.CONTACT_OCTETS:
            try:
                header = wire.decode_contact_untrusted(bytes(self._contact))
            except MalformedError as error:
                # RFC 9174 §6.1: "SHALL close the TCP connection without sending a SESS_TERM message".
                self._close(TerminationCode.CONTACT_FAILURE, str(error), now)
            else:
                self._judge_contact(header, now)
        return taken

    def _judge_contact(self, header: wire.ContactHeader, now: float) -> None:
        """RFC 9174 §4.3."""
        if self._role is Role.PASSIVE:
            self._send_contact()
        if header.version != wire.VERSION:
            text = f"the peer speaks TCPCL version {header.version}"
            if self._role is Role.PASSIVE:  # "send its Contact Header and immediately terminate the session"
                self._out.put(wire.encode_termination(wire.Termination(0, TerminationCode.VERSION_MISMATCH)))
            self._close(TerminationCode.VERSION_MISMATCH, text, now)
            return
        self._tls = header.can_tls and self._config.offers_tls
        if self._config.require_tls and not self._tls:
            text = "TLS is required here and the peer does not offer it"
            self._terminate(wire.Termination(0, TerminationCode.CONTACT_FAILURE), False, text, now)
            return
        self._go(Step.CONTACT_FOR_TLS if self._tls else Step.CONTACT_FOR_PLAIN, now)
        self._events.emit(ContactHeaderExchanged(self._tls))
        if self._tls:
            self._events.emit(TlsStart(server_side=self._role is Role.PASSIVE))
        else:
            self._begin_init()

    def _begin_init(self) -> None:
        if self._role is Role.ACTIVE:  # RFC 9174 §4.4.3; the passive entity waits (Figure 9)
            self._out.put(wire.encode_init(own_init(self._config)))

    def _receive_init(self, data: memoryview, offset: int, now: float) -> int:
        parsed = wire.decode_init_untrusted(data, offset)
        if parsed is None:
            return offset
        init, offset = parsed
        if self._init_received:
            self._reject(RejectionCode.UNEXPECTED, MessageType.SESS_INIT)
        self._init_received = True
        if self.state is not State.INIT:
            return offset  # it crossed with our SESS_TERM
        if self._role is Role.PASSIVE:
            self._out.put(wire.encode_init(own_init(self._config)))
        try:
            self._establish(negotiate(self._config, init, self._tls, self._certificate), now)
        except RemoteProtocolError as error:
            self._terminate_for(error, now)
        return offset

    def _establish(self, session: SessionEstablished, now: float) -> None:
        self._go(Step.SESS_INIT, now)
        self.established = session
        self._upkeep.start(session.keepalive_s, self._random(), now)
        config = self._config
        most = min(config.segment_octets_most, session.segment_mru)
        first, least = config.segment_octets_first, config.segment_octets_least
        if config.single_segment:  # all of the largest transfer that `negotiate` left
            first = least = most = min(session.segment_mru, session.transfer_mru)
        self._outbound.sizer = SegmentSizer(first, least, most, config.segment_ack_s)
        self._length_most = min(session.transfer_mru, session.segment_mru * config.segments_most)
        self._events.emit(session)

    # ---- messages in -------------------------------------------------------------------------------------------------

    def _receive_message(self, data: memoryview, offset: int, now: float) -> int:
        """At least one message, if it is there whole. Raises: RemoteProtocolError, OversizeError."""
        kind = data[offset]
        handler = self._handlers.get(kind)
        if handler is None:
            # RFC 9174 §5.1.2: reject "and close the TCP connection"; §8.5: "not even a clean termination can be done".
            self._reject(RejectionCode.TYPE_UNKNOWN, kind)
            self._close(TerminationCode.UNKNOWN, f"the peer sent a message of unknown type 0x{kind:02x}", now)
            return len(data)
        if self.state is State.INIT and kind <= MessageType.XFER_REFUSE:
            self._reject(RejectionCode.UNEXPECTED, kind)
            raise RemoteProtocolError("a transfer before SESS_INIT", TerminationCode.CONTACT_FAILURE)
        if kind != MessageType.KEEPALIVE:
            self._upkeep.active_at = now
        behind = handler(data, offset, now)
        if kind in _IDLE and behind > offset:  # once for each message, in however many reads it came
            self._take_idle()
        return behind

    def _receive_segments(self, data: memoryview, offset: int, _now: float) -> int:
        behind = self._inbound.receive_whole(data, offset)
        return behind if behind > offset else self._inbound.receive_segment(data, offset)

    def _receive_acks(self, data: memoryview, offset: int, now: float) -> int:
        behind = self._outbound.receive_acks(data, offset)
        if behind > offset:
            return behind
        parsed = wire.decode_ack_untrusted(data, offset)
        if parsed is None:
            return offset
        ack, offset = parsed
        try:
            is_known = self._outbound.receive_ack(ack, now)
        except RemoteProtocolError:
            self._reject(RejectionCode.UNEXPECTED, MessageType.XFER_ACK)
            raise
        if not is_known:
            self._reject(RejectionCode.UNEXPECTED, MessageType.XFER_ACK)
            self._take_idle()
        return offset

    def _receive_refusal(self, data: memoryview, offset: int, _now: float) -> int:
        parsed = wire.decode_refusal_untrusted(data, offset)
        if parsed is None:
            return offset
        refusal, offset = parsed
        if not self._outbound.receive_refusal(refusal):
            self._reject(RejectionCode.UNEXPECTED, MessageType.XFER_REFUSE)
            self._take_idle()
        return offset

    def _receive_keepalive(self, _data: memoryview, offset: int, _now: float) -> int:
        if self.established is not None and not self.established.keepalive_s:
            # RFC 9174 §5.1.2: "known but ... inappropriate for the negotiated session parameters".
            self._reject(RejectionCode.UNSUPPORTED, MessageType.KEEPALIVE)
        return offset + 1

    def _receive_termination(self, data: memoryview, offset: int, now: float) -> int:
        parsed = wire.decode_termination_untrusted(data, offset)
        if parsed is None:
            return offset
        message, offset = parsed
        if self._peer_terminated:
            self._reject(RejectionCode.UNEXPECTED, MessageType.SESS_TERM)
            return offset
        self._peer_terminated = True
        if self.state is not State.ENDING:
            # RFC 9174 §6.1: "identical data content ... except for the REPLY flag".
            reply = wire.Termination(message.flags | wire.REPLY, message.reason)
            self._terminate(reply, True, "terminated by the peer", now)
        return offset

    def _receive_rejection(self, data: memoryview, offset: int, now: float) -> int:
        parsed = wire.decode_rejection_untrusted(data, offset)
        if parsed is None:
            return offset
        message, offset = parsed
        self._events.emit(MessageRejected(RejectionCode(message.reason), message.header))
        if message.header == MessageType.XFER_SEGMENT:
            # Which transfer it was is not said: none can be relied on to be acknowledged. Begin anew.
            self.terminate(TerminationCode.UNKNOWN, now, "the peer rejected a segment")
        return offset

    def _take_idle(self) -> None:
        """A message that moves no transfer. Raises: RemoteProtocolError (RFC 9174 §7.10: a flood of them)."""
        if not self._idle.take(self._now):
            raise RemoteProtocolError(
                "the peer floods the session with messages that move no transfer", TerminationCode.RESOURCE_EXHAUSTION
            )

    def _reject(self, reason: RejectionCode, header: int) -> None:
        self._out.put(wire.encode_rejection(wire.Rejection(reason, header)))

    # ---- ending ------------------------------------------------------------------------------------------------------

    @property
    def _is_live(self) -> bool:
        return self._outbound.is_busy or self._outbound.has_work or self._inbound.is_busy

    def _go(self, step: Step, now: float) -> None:
        self.state = following(self.state, step)
        self._since = now

    def _terminate_for(self, error: RemoteProtocolError, now: float) -> None:
        self._terminate(wire.Termination(0, error.reason or 0), False, str(error), now)

    def _terminate(self, message: wire.Termination, by_peer: bool, text: str, now: float) -> None:
        """Send SESS_TERM and finish what is under way."""
        self._go(Step.SESS_TERM, now)
        self._out.put(wire.encode_termination(message))
        self._ending = SessionEnding(TerminationCode(message.reason), by_peer, text)
        self._events.emit(self._ending)
        self._inbound.begin_ending()
        self._outbound.drop_queue()

    def _close_if_done(self, now: float) -> None:
        if self.state is not State.ENDING or not self._peer_terminated:
            return
        self._inbound.release_refusals()
        if not self._is_live:
            self._close(self._ending.reason, self._ending.text, now, is_clean=True)

    def _break_off(self, error: RemoteProtocolError, now: float) -> None:
        """The stream cannot be read on: an unclean termination (RFC 9174 §6.1)."""
        reason = TerminationCode(error.reason or 0)
        if self.state in (State.INIT, State.ESTABLISHED):
            self._terminate(wire.Termination(0, reason), False, str(error), now)
        self._close(reason, str(error), now)

    def _close(self, reason: TerminationCode, text: str, now: float, is_clean: bool = False) -> None:
        """Idempotent."""
        if self.state is State.CLOSED:
            return
        by_peer = self.state is State.ENDING and self._ending.by_peer
        self._go(Step.CLOSE, now)
        self._inbound.drop_all(text)
        self._outbound.drop_all()
        self._events.emit(SessionTerminated(reason, by_peer, is_clean, text))
        self._events.emit(Close())

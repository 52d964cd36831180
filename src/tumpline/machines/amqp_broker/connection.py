"""One client's connection to the broker: protocol header, authentication, channels, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from hmac import compare_digest
from typing import Any, Final, Protocol

from tumpline.errors import MalformedError
from tumpline.machines.amqp_broker.channel import Channel
from tumpline.machines.amqp_broker.errors import Fault, Reply
from tumpline.machines.amqp_broker.queue import Memory, Message
from tumpline.machines.amqp_broker.virtual_host import VirtualHost
from tumpline.wire.amqp import (
    FRAME_OVERHEAD_OCTETS,
    HEARTBEAT,
    PROTOCOL_HEADER,
    Frame,
    FrameKind,
    decode_method_untrusted,
    encode_frame,
    encode_method,
    split_frames_untrusted,
)
from tumpline.wire.amqp import methods as m

FRAME_OCTETS_MOST: Final = 131_072  # RabbitMQ's
FRAME_OCTETS_LEAST: Final = 4096  # specification §4.2.3: frame-min-size
CHANNELS_MOST: Final = 64
HEARTBEAT_S: Final = 60
HANDSHAKE_S: Final = 10.0
# Written and not gone: beyond this its consumers get no more, and what is for them waits in the queues, within their bounds.
BACKLOG_OCTETS: Final = 8 << 20

_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
}
_PROPERTIES: Final = {
    "product": "tumpline",
    "information": "the subset of AMQP 0-9-1 that a packet overlay needs; no replacement for RabbitMQ",
    "platform": "Python",
    "capabilities": _CAPABILITIES,
}


class State(Enum):
    """What is expected from the client."""

    HEADER = "protocol header"
    START_OK = "start-ok"
    TUNE_OK = "tune-ok"
    OPEN = "open"
    RUNNING = "running"
    CLOSING = "close-ok"
    CLOSED = "closed"


_AWAITED: Final[dict[State, type[Any]]] = {
    State.START_OK: m.ConnectionStartOk,
    State.TUNE_OK: m.ConnectionTuneOk,
    State.OPEN: m.ConnectionOpen,
}


class Owner(Protocol):
    """The broker."""

    memory: Memory

    def password_of(self, user: str) -> str | None:
        """None: there is no such user."""

    def virtual_host(self, name: str) -> VirtualHost:
        """Raises: Fault."""

    def new_name(self, prefix: str) -> str:
        """A name that nobody has."""

    def has_output(self, connection: Connection) -> None:
        """`data_to_send` has something."""

    def left(self, connection: Connection, now: float) -> None:
        """It is closed."""


class Connection:
    """`receive` octets, write what `data_to_send` gives and tell `sent`; until `is_closed`, then close the socket."""

    virtual_host: VirtualHost

    def __init__(self, owner: Owner, now: float) -> None:
        self.user = ""
        self.state = State.HEADER
        self.why = ""  # it was closed
        self._owner = owner
        self._rest = bytearray()
        self._out: list[bytes] = []
        self._backlog_octets = 0
        self._frame_octets_most = FRAME_OCTETS_MOST
        self._heartbeat_s = 0
        self._heard_at = self._spoke_at = now
        self._handshake_until = now + HANDSHAKE_S
        self._channels: dict[int, Channel] = {}
        self._wants_blocked = False
        self._was_told_blocked = False
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            m.ConnectionStartOk: self._start_ok,
            m.ConnectionTuneOk: self._tune_ok,
            m.ConnectionOpen: self._open,
            m.ConnectionClose: self._close,
            m.ConnectionCloseOk: self._close_ok,
        }

    # ---- the driver's side -------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Once the rest of `data_to_send` is written, the socket is to be closed."""
        return self.state is State.CLOSED

    @property
    def wants_octets(self) -> bool:
        """False: read nothing more for now. Queues are full, or it does not read its answers."""
        return not (self._channels and self._owner.memory.is_full) and self._backlog_octets < 2 * BACKLOG_OCTETS

    @property
    def has_room(self) -> bool:
        """See `channel.Wire`."""
        return self._backlog_octets < BACKLOG_OCTETS and self.state is State.RUNNING

    def receive(self, data: bytes, now: float) -> None:
        """Octets have come."""
        if self.is_closed:
            return
        self._heard_at = now
        self._rest += data
        if self.state is State.HEADER and not self._header(now):
            return
        try:
            frames, taken = split_frames_untrusted(memoryview(self._rest), self._frame_octets_most)
            for frame in frames:
                if self.state is not State.CLOSED:
                    self._frame(frame, now)
            del frames
        except MalformedError as error:
            self._fail(Fault(Reply.FRAME_ERROR, str(error)), now)
            taken = len(self._rest)
        self._rest = self._rest[taken:]

    def data_to_send(self) -> list[bytes]:
        """What is to be written, in order; `sent` when it is."""
        out, self._out = self._out, []
        return out

    def sent(self, octets: int, now: float) -> None:
        """So many of them have gone."""
        self._backlog_octets -= octets
        self._spoke_at = now
        if self.has_room:
            for channel in list(self._channels.values()):
                channel.serve(now)

    def lost(self, now: float) -> None:
        """The peer is gone."""
        self._end("the connection was lost", now)

    def next_timeout(self) -> float:
        """When `handle_timeout` is wanted."""
        if self.state not in (State.RUNNING, State.CLOSING):
            return self._handshake_until
        if not self._heartbeat_s:
            return float("inf")
        return min(self._spoke_at + self._heartbeat_s / 2, self._heard_at + 2 * self._heartbeat_s)

    def handle_timeout(self, now: float) -> None:
        """Heartbeats (specification §4.2.7), and clients that are silent."""
        if self.is_closed or now < self.next_timeout():
            return
        if self.state is not State.RUNNING:
            self._end("no AMQP connection within 10 s", now)
        elif now >= self._heard_at + 2 * self._heartbeat_s:
            self._end("missed heartbeats from client", now)
        else:
            self._spoke_at = now
            self._write(HEARTBEAT)

    def blocked(self, is_blocked: bool) -> None:
        """Queues are full (or not any more): clients that want to know are told."""
        if self._wants_blocked and self._was_told_blocked is not is_blocked and self.state is State.RUNNING:
            self._was_told_blocked = is_blocked
            self.send(0, m.ConnectionBlocked("queues are full") if is_blocked else m.ConnectionUnblocked())

    def shut_down(self, text: str, now: float) -> None:
        """The broker ends."""
        if self.state is State.RUNNING:
            self._fail(Fault(Reply.CONNECTION_FORCED, text), now)
        else:
            self._end(text, now)

    # ---- channel.Wire ------------------------------------------------------------------------------------------------

    def send(self, channel: int, method: m.Method) -> None:
        """See `channel.Wire`."""
        self._write(encode_frame(FrameKind.METHOD, channel, encode_method(method)))

    def send_content(self, channel: int, method: m.Method, message: Message) -> None:
        """See `channel.Wire`."""
        self.send(channel, method)
        self._write(encode_frame(FrameKind.HEADER, channel, message.header))
        body = message.body
        most = self._frame_octets_most - FRAME_OVERHEAD_OCTETS
        if len(body) <= most:
            if body:
                self._write(encode_frame(FrameKind.BODY, channel, body))
            return
        view = memoryview(body)
        for at in range(0, len(body), most):
            self._write(encode_frame(FrameKind.BODY, channel, view[at : at + most]))

    def new_name(self, prefix: str) -> str:
        """See `channel.Wire`."""
        return self._owner.new_name(prefix)

    def _write(self, octets: bytes) -> None:
        self._out.append(octets)
        self._backlog_octets += len(octets)
        self._owner.has_output(self)

    # ---- frames ------------------------------------------------------------------------------------------------------

    def _header(self, now: float) -> bool:
        if len(self._rest) < len(PROTOCOL_HEADER):
            if not PROTOCOL_HEADER.startswith(bytes(self._rest)):
                self._not_amqp(now)
            return False
        if not self._rest.startswith(PROTOCOL_HEADER):
            self._not_amqp(now)
            return False
        del self._rest[: len(PROTOCOL_HEADER)]
        self.state = State.START_OK
        self.send(0, m.ConnectionStart(server_properties=_PROPERTIES))
        return True

    def _not_amqp(self, now: float) -> None:
        """Specification §2.2.4: say what would be understood, and close."""
        self._write(PROTOCOL_HEADER)
        self._end("no AMQP 0-9-1", now)

    def _frame(self, frame: Frame, now: float) -> None:
        if frame.kind == FrameKind.HEARTBEAT:
            return
        try:
            if frame.channel == 0:
                self._of_connection(frame, now)
            else:
                self._of_channel(frame, now)
        except Fault as fault:
            self._fail(fault, now)

    def _of_connection(self, frame: Frame, now: float) -> None:
        method = _decoded(frame)
        if type(method) not in self._handlers:
            raise Fault(Reply.COMMAND_INVALID, f"{type(method).__name__} on channel 0")
        awaited = _AWAITED.get(self.state)
        if awaited is not None and not isinstance(method, awaited | m.ConnectionClose):
            raise Fault(Reply.COMMAND_INVALID, f"{type(method).__name__} where {self.state.value} was to come")
        if self.state is State.RUNNING and isinstance(method, tuple(_AWAITED.values())):
            raise Fault(Reply.COMMAND_INVALID, f"{type(method).__name__} on an open connection")
        self._handlers[type(method)](method, now)

    def _of_channel(self, frame: Frame, now: float) -> None:
        if self.state is State.CLOSING:
            return
        if self.state is not State.RUNNING:
            raise Fault(Reply.CHANNEL_ERROR, "a channel before the connection is open")
        channel = self._channels.get(frame.channel)
        method = _decoded(frame) if frame.kind == FrameKind.METHOD else None
        if isinstance(method, m.ChannelOpen):
            self._open_channel(frame.channel)
        elif channel is None:
            raise Fault(Reply.CHANNEL_ERROR, f"channel {frame.channel} is not open")
        elif isinstance(method, m.ChannelClose):
            self._close_channel(channel, now)
            self.send(channel.number, m.ChannelCloseOk())
        elif isinstance(method, m.ChannelCloseOk):
            self._close_channel(channel, now)
        elif not channel.is_closing:
            self._hand_on(channel, frame, method, now)

    def _hand_on(self, channel: Channel, frame: Frame, method: m.Method | None, now: float) -> None:
        try:
            if method is not None:
                channel.method(method, now)
            elif frame.kind == FrameKind.HEADER:
                channel.header(bytes(frame.payload), now)
            elif frame.kind == FrameKind.BODY:
                channel.body(frame.payload, now)
            else:
                raise Fault(Reply.FRAME_ERROR, f"a frame of kind {frame.kind}")
        except Fault as fault:
            if fault.ends_connection:
                raise
            class_id, method_id = m.KEYS.get(type(method), (60, 40))
            channel.close(now)
            self.send(channel.number, m.ChannelClose(fault.reply, str(fault)[:255], class_id, method_id))

    # ---- channels ----------------------------------------------------------------------------------------------------

    def _open_channel(self, number: int) -> None:
        if number in self._channels:
            raise Fault(Reply.CHANNEL_ERROR, f"channel {number} is open")
        if len(self._channels) >= CHANNELS_MOST:
            raise Fault(Reply.NOT_ALLOWED, f"{CHANNELS_MOST} channels are open")
        self._channels[number] = Channel(self, number)
        self.send(number, m.ChannelOpenOk())

    def _close_channel(self, channel: Channel, now: float) -> None:
        del self._channels[channel.number]
        channel.close(now)

    # ---- the connection's own methods --------------------------------------------------------------------------------

    def _start_ok(self, method: m.ConnectionStartOk, _now: float) -> None:
        if method.mechanism != "PLAIN":
            raise Fault(Reply.ACCESS_REFUSED, f"mechanism {method.mechanism} is not offered: use PLAIN")
        parts = method.response.split(b"\0")  # RFC 4616 §2: authorization identity, user, password
        user, password = (parts[1], parts[2]) if len(parts) == 3 else (b"", b"")
        expected = self._owner.password_of(user.decode("utf-8", "replace"))
        if not compare_digest(password, (expected or "").encode()) or expected is None:
            raise Fault(Reply.ACCESS_REFUSED, "login was refused: user or password is wrong")
        self.user = user.decode()
        capabilities = method.client_properties.get("capabilities")
        self._wants_blocked = isinstance(capabilities, dict) and capabilities.get("connection.blocked") is True
        self.state = State.TUNE_OK
        self.send(0, m.ConnectionTune(CHANNELS_MOST, FRAME_OCTETS_MOST, HEARTBEAT_S))

    def _tune_ok(self, method: m.ConnectionTuneOk, _now: float) -> None:
        most = method.frame_octets_most or FRAME_OCTETS_MOST
        if not FRAME_OCTETS_LEAST <= most <= FRAME_OCTETS_MOST:
            raise Fault(Reply.NOT_ALLOWED, f"frames of {most} octets were not offered")
        self._frame_octets_most = most
        self._heartbeat_s = method.heartbeat_s
        self.state = State.OPEN

    def _open(self, method: m.ConnectionOpen, _now: float) -> None:
        self.virtual_host = self._owner.virtual_host(method.virtual_host)
        self.state = State.RUNNING
        self.send(0, m.ConnectionOpenOk())

    def _close(self, method: m.ConnectionClose, now: float) -> None:
        self.send(0, m.ConnectionCloseOk())
        self._end(f"the client closed it: {method.reply_text or method.reply_code}", now)

    def _close_ok(self, _method: m.ConnectionCloseOk, now: float) -> None:
        self._end(self.why, now)

    def _fail(self, fault: Fault, now: float) -> None:
        """Tell the client, and close."""
        self.why = str(fault)
        self.send(0, m.ConnectionClose(fault.reply, str(fault)[:255]))
        if self.state is not State.RUNNING:  # nothing that it might say would matter
            self._end(self.why, now)
            return
        self.state = State.CLOSING
        self._heard_at, self._heartbeat_s = now, self._heartbeat_s or HEARTBEAT_S
        self._drop_channels(now)

    def _drop_channels(self, now: float) -> None:
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            channel.close(now)
        self.virtual_host.leave(self)

    def _end(self, why: str, now: float) -> None:
        if self.is_closed:
            return
        was_running = self.state is State.RUNNING
        self.state, self.why = State.CLOSED, why
        if was_running:
            self._drop_channels(now)
        self._owner.left(self, now)
        self._owner.has_output(self)  # if only that the socket is to be closed


def _decoded(frame: Frame) -> m.Method:
    if frame.kind != FrameKind.METHOD:
        raise Fault(Reply.UNEXPECTED_FRAME, f"a frame of kind {frame.kind} where a method was to come")
    try:
        return decode_method_untrusted(bytes(frame.payload))
    except MalformedError as error:
        raise Fault(Reply.SYNTAX_ERROR, str(error)) from error

"""One connection of a client to a broker: login, channels, what comes and goes, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from struct import Struct
from typing import Any, Final, NamedTuple

from tumpline.errors import LocalProtocolError, MalformedError
from tumpline.machines.amqp_client.channel import Channel, ChannelState
from tumpline.machines.amqp_client.content import Content, Memo
from tumpline.machines.amqp_client.events import (
    Answered,
    Blocked,
    ChannelEnded,
    Confirmed,
    ConsumerCancelled,
    Delivered,
    Delivery,
    Ended,
    Event,
    Opened,
    Oversized,
    Returned,
    ReturnedMessage,
    Unblocked,
)
from tumpline.machines.amqp_client.outbox import Body, Outbox
from tumpline.wire.amqp import (
    FRAME_OVERHEAD_OCTETS,
    HEARTBEAT,
    PROTOCOL_HEADER,
    FrameKind,
    Method,
    Properties,
    decode_method_untrusted,
)
from tumpline.wire.amqp import methods as m

FRAME_OCTETS_MOST: Final = 131_072  # what RabbitMQ agrees to: a super-packet fits one frame
FRAME_OCTETS_LEAST: Final = 4096  # specification §4.2.3: frame-min-size
CHANNELS_MOST: Final = 255
HEARTBEAT_S: Final = 10  # a dead path is noticed after 20 s, by either side
LOGIN_S: Final = 10.0
CLOSE_S: Final = 2.0  # what a broker gets to say good-bye
MESSAGE_OCTETS_MOST: Final = 16 << 20

_HEAD: Final = Struct(">BHI")
_U64: Final = Struct(">Q")
_HEADS_OCTETS: Final = 768  # method and header of a delivery hardly have more
_METHOD, _HEADER = int(FrameKind.METHOD), int(FrameKind.HEADER)
_BODY, _HEARTBEAT = int(FrameKind.BODY), int(FrameKind.HEARTBEAT)
_DELIVER: Final = b"\x00\x3c\x00\x3c"
_FRAME_END: Final = 0xCE
_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class State(Enum):
    """What is awaited from the broker."""

    START = "start"
    TUNE = "tune"
    OPEN_OK = "open-ok"
    OPEN = "anything"
    CLOSING = "close-ok"
    ENDED = "nothing"


_AWAITED: Final[dict[State, type[Any]]] = {
    State.START: m.ConnectionStart,
    State.TUNE: m.ConnectionTune,
    State.OPEN_OK: m.ConnectionOpenOk,
    State.CLOSING: m.ConnectionCloseOk,
}


class ClientConfig(NamedTuple):
    """Who we are to the broker."""

    user: str = "guest"
    password: str = "guest"
    virtual_host: str = "/"
    name: str = ""  # shown to the broker's operator
    heartbeat_s: int = HEARTBEAT_S  # 0: none
    login_s: float = LOGIN_S
    message_octets_most: int = MESSAGE_OCTETS_MOST

    def __repr__(self) -> str:
        return f"ClientConfig({self.user!r} in {self.virtual_host!r} as {self.name!r})"


class ClientConnection:
    """`received` octets, write `data_to_send`, act on `events`; the connection is over when `Ended` was among them."""

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.state = State.START
        self.server_properties: dict[str, Any] = {}
        self.heartbeat_s = 0
        self._config = config
        self._outbox = Outbox(FRAME_OCTETS_MOST)
        self._outbox.raw(PROTOCOL_HEADER)
        self._events: list[Event] = []
        self._memo = Memo()
        self._channels: dict[int, Channel] = {}
        self._frame_octets_most = FRAME_OCTETS_MOST
        self._channels_most = CHANNELS_MOST
        self._last_channel = 0
        self._heard_at = self._spoke_at = now
        self._until = now + config.login_s  # of the login, or of the good-bye
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            m.ConnectionStart: self._start,
            m.ConnectionTune: self._tune,
            m.ConnectionOpenOk: self._open_ok,
            m.ConnectionClose: self._closed_by_broker,
            m.ConnectionCloseOk: self._close_ok,
            m.ConnectionBlocked: self._blocked,
            m.ConnectionUnblocked: self._unblocked,
        }

    # ---- the driver's side -------------------------------------------------------------------------------------------

    def received(self, data: memoryview, now: float) -> int:
        """How many of these octets were dealt with: the others are to come again, with more behind them. `events` refer to
        `data`: they are to be acted on before it changes."""
        if self.state is State.ENDED:
            return len(data)
        self._heard_at = now
        try:
            return self._frames(data)
        except MalformedError as error:
            self._end(0, f"the broker broke the rules of AMQP: {error}")
            return len(data)

    def data_to_send(self, now: float) -> list[bytes | memoryview]:
        """What is to be written, in order."""
        if self._outbox.octets:
            self._spoke_at = now
        return self._outbox.take()

    @property
    def octets_to_send(self) -> int:
        """What `data_to_send` would give."""
        return self._outbox.octets

    def events(self) -> list[Event]:
        """What has happened since."""
        events, self._events = self._events, []
        return events

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        if self.state is State.ENDED:
            return None
        if self.state is not State.OPEN:
            return self._until
        if not self.heartbeat_s:
            return None
        return min(self._spoke_at + self.heartbeat_s / 2, self._heard_at + 2 * self.heartbeat_s)

    def handle_timeout(self, now: float) -> None:
        """Heartbeats (specification §4.2.7), and brokers that are silent."""
        at = self.next_timeout()
        if at is None or now < at:
            return
        if self.state is State.CLOSING:
            self._end(0, "closed here; the broker did not say good-bye")
        elif self.state is not State.OPEN:
            self._end(0, f"no AMQP connection within {self._config.login_s:g} s")
        elif now >= self._heard_at + 2 * self.heartbeat_s:
            self._end(0, f"nothing was heard from the broker for {2 * self.heartbeat_s} s")
        else:
            self._spoke_at = now
            self._outbox.raw(HEARTBEAT)

    def lost(self, reason: str) -> None:
        """The socket is gone. While we log in, that is how older brokers refuse."""
        self._end(0, reason)

    def close(self, now: float) -> None:
        """Say good-bye; `Ended` follows."""
        if self.state is State.OPEN:
            self.state = State.CLOSING
            self._until = now + CLOSE_S
            self._outbox.method(0, m.ConnectionClose(200, "bye"))
        elif self.state is not State.CLOSING:
            self._end(0, "closed here")

    # ---- channels ----------------------------------------------------------------------------------------------------

    def open_channel(self) -> int:
        """The number of a new one; its `ChannelOpenOk` follows as `Answered`. Raises: LocalProtocolError."""
        self._check_open()
        if len(self._channels) >= self._channels_most:
            raise LocalProtocolError(f"AMQP: {self._channels_most} channels are open; close one")
        # In turn: what is still said on one that was closed does not meet its successor.
        number = self._last_channel % self._channels_most + 1
        while number in self._channels:
            number = number % self._channels_most + 1
        self._last_channel = number
        self._channels[number] = Channel(number)
        self._outbox.method(number, m.ChannelOpen())
        return number

    def ask(self, channel: int, method: Method) -> None:
        """Say something that will be answered. Raises: LocalProtocolError; ValueError: what AMQP cannot carry."""
        of = self._channel(channel)
        of.check_room()
        self._outbox.method(channel, method)
        of.ask(method)

    def tell(self, channel: int, method: Method) -> None:
        """Say something that is not answered. Raises: LocalProtocolError."""
        self._channel(channel).check_open()
        self._outbox.method(channel, method)

    def publish(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: Body,
        properties: Properties | None = None,
        mandatory: bool = False,
    ) -> int:
        """The message's number where they are confirmed, else 0. Raises: LocalProtocolError; ValueError: what AMQP cannot
        carry."""
        of = self._channels.get(channel)
        if of is None or of.state is not ChannelState.OPEN or self.state is not State.OPEN:
            raise LocalProtocolError(f"AMQP: channel {channel} is not open")
        self._outbox.publish(channel, exchange, routing_key, body, properties, mandatory)
        if not of.confirms:
            return 0
        of.published += 1
        return of.published

    def _channel(self, number: int) -> Channel:
        self._check_open()
        channel = self._channels.get(number)
        if channel is None:
            raise LocalProtocolError(f"AMQP: channel {number} is not open")
        return channel

    def _check_open(self) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError("AMQP: the connection is not open")

    # ---- frames ------------------------------------------------------------------------------------------------------

    def _frames(self, data: memoryview) -> int:
        """Octets that were dealt with. Raises: MalformedError."""
        at, end = 0, len(data)
        payload_most = self._frame_octets_most - FRAME_OVERHEAD_OCTETS
        while end - at >= FRAME_OVERHEAD_OCTETS and self.state is not State.ENDED:
            kind, number, length = _HEAD.unpack_from(data, at)
            if kind == 65 and self.state is State.START:  # "A": the header of the protocol that it would understand
                raise MalformedError("it speaks another version than AMQP 0-9-1")
            if length > payload_most:
                raise MalformedError(f"a frame of {length} octets, {payload_most} were agreed")
            last = at + 7 + length
            if last >= end:
                break
            if data[last] != _FRAME_END:
                raise MalformedError(f"a frame that ends with {data[last]:#04x}")
            if number:
                whole = self._whole_delivery(data, at, number, length, end) if kind == _METHOD else 0
                if whole:
                    at = whole
                    continue
                self._of_channel(kind, number, data[at + 7 : last])
            elif kind != _HEARTBEAT:
                if kind != _METHOD:
                    raise MalformedError(f"a frame of kind {kind} on channel 0")
                self._of_connection(decode_method_untrusted(bytes(data[at + 7 : last])))
                payload_most = self._frame_octets_most - FRAME_OVERHEAD_OCTETS  # it may just have been agreed
            at = last + 1
        self._end_batches()
        return at if self.state is not State.ENDED else end

    def _whole_delivery(self, data: memoryview, at: int, number: int, length: int, end: int) -> int:
        """Where it ends, if a delivery begins here with its header and its whole body in one frame, as nearly all do: three
        frames at once cost a third less. 0 if that is not so: they are looked at one by one. Raises: MalformedError."""
        channel = self._channels.get(number)
        heads = bytes(data[at : at + _HEADS_OCTETS])  # slices of bytes cost less than those of views
        method_end = 7 + length
        header_at = method_end + 8
        if heads[7:11] != _DELIVER or header_at > len(heads) or channel is None or not channel.content.is_idle:
            return 0
        kind, header_channel, header_octets = _HEAD.unpack_from(heads, method_end + 1)
        header_end = header_at + header_octets
        if kind != _HEADER or header_channel != number or header_end + 8 > len(heads):
            return 0
        kind, body_channel, octets = _HEAD.unpack_from(heads, header_end + 1)
        body_at = at + header_end + 8
        body_end: int = body_at + octets
        if kind != _BODY or body_channel != number or body_end >= end:
            return 0
        if heads[header_at + 4 : header_at + 12] != _U64.pack(octets) or octets > self._config.message_octets_most:
            return 0  # not the whole body, or too long
        if not heads[method_end] == heads[header_end] == data[body_end] == _FRAME_END:
            return 0
        route, tag = self._memo.deliver(heads[7:method_end])
        _, properties = self._memo.header(heads[header_at:header_end])
        consumer_tag, redelivered, exchange, key = route
        body = data[body_at:body_end]
        self._delivered(channel, Delivery(consumer_tag, tag, redelivered, exchange, key, properties, body))
        return body_end + 1

    def _of_channel(self, kind: int, number: int, payload: memoryview) -> None:
        channel = self._channels.get(number)
        if channel is None:
            if kind == _METHOD and isinstance(decode_method_untrusted(bytes(payload)), m.ChannelCloseOk):
                return  # both sides closed it at once
            raise MalformedError(f"something on channel {number}, which is not open")
        content = channel.content
        if kind == _BODY:
            if content.length == len(payload):  # the whole in one frame, as nearly always
                self._complete(channel, payload if not content.is_too_long else b"")
            elif content.body(payload):
                self._complete(channel, content.joined())
        elif kind == _HEADER:
            length, properties = self._memo.header(bytes(payload))
            if content.header(length, properties, self._config.message_octets_most):
                self._complete(channel, b"")
        elif kind == _METHOD:
            octets = bytes(payload)
            if octets[:4] == _DELIVER:
                content.deliver(*self._memo.deliver(octets))
            else:
                self._method(channel, decode_method_untrusted(octets))
        else:
            raise MalformedError(f"a frame of kind {kind} on a channel")

    def _complete(self, channel: Channel, body: bytes | memoryview) -> None:
        """A message is whole."""
        content = channel.content
        if content.route is not None:
            if content.is_too_long:
                self._oversized(channel, content)
            else:
                self._delivered(channel, content.delivery(body))
        else:
            self._other_content(channel, content, body)
        content.clear()

    def _delivered(self, channel: Channel, delivery: Delivery) -> None:
        batch = channel.batches.get(delivery.consumer_tag)
        if batch is None:
            batch = channel.batches[delivery.consumer_tag] = []
            self._events.append(Delivered(channel.number, delivery.consumer_tag, batch))
        batch.append(delivery)

    def _oversized(self, channel: Channel, content: Content) -> None:
        route = content.route
        assert route is not None
        event = Oversized(channel.number, route.consumer_tag, content.tag, route.routing_key, content.length)
        self._events.append(event)

    def _other_content(self, channel: Channel, content: Content, body: bytes | memoryview) -> None:
        method = content.method
        if isinstance(method, m.BasicReturn):
            returned = ReturnedMessage(*method, content.properties, body)
            self._events.append(Returned(channel.number, returned))
            return
        assert isinstance(method, m.BasicGetOk)
        if content.is_too_long:
            self._events.append(Answered(channel.number, method))
            return
        tag, redelivered, exchange, key, _ = method
        got = Delivery("", tag, redelivered, exchange, key, content.properties, body)
        self._events.append(Answered(channel.number, method, got))

    def _end_batches(self) -> None:
        """What comes later comes in other batches."""
        for channel in self._channels.values():
            if channel.batches:
                channel.batches = {}

    # ---- methods on channels -----------------------------------------------------------------------------------------

    def _method(self, channel: Channel, method: Method) -> None:
        if not channel.content.is_idle:
            raise MalformedError(f"{type(method).__name__} where a message was to go on")
        if isinstance(method, m.ChannelClose):
            self._channel_closed(channel, method)
        elif isinstance(method, m.BasicAck | m.BasicNack):
            is_taken = isinstance(method, m.BasicAck)
            self._events.append(Confirmed(channel.number, method.delivery_tag, method.multiple, is_taken))
        elif isinstance(method, m.BasicReturn):
            channel.content.start(method)
        elif isinstance(method, m.BasicCancel):
            self._events.append(ConsumerCancelled(channel.number, method.consumer_tag))
            if not method.no_wait:
                self._outbox.method(channel.number, m.BasicCancelOk(method.consumer_tag))
        elif isinstance(method, m.ChannelFlow):  # RabbitMQ never does; what it slows is the socket
            self._outbox.method(channel.number, m.ChannelFlowOk(method.active))
        else:
            self._answer(channel, method)

    def _answer(self, channel: Channel, method: Method) -> None:
        if not channel.is_answer(method):
            raise MalformedError(f"{type(method).__name__} on channel {channel.number}, where nobody asked for it")
        if isinstance(method, m.BasicGetOk):
            channel.content.start(method)
            return
        if isinstance(method, m.ChannelCloseOk):
            del self._channels[channel.number]
        self._events.append(Answered(channel.number, method))

    def _channel_closed(self, channel: Channel, method: m.ChannelClose) -> None:
        del self._channels[channel.number]
        self._outbox.method(channel.number, m.ChannelCloseOk())
        self._events.append(ChannelEnded(channel.number, method.reply_code, method.reply_text))

    # ---- methods of the connection -----------------------------------------------------------------------------------

    def _of_connection(self, method: Method) -> None:
        handler = self._handlers.get(type(method))
        awaited = _AWAITED.get(self.state)
        is_close = isinstance(method, m.ConnectionClose)
        if awaited is not None and not is_close and not isinstance(method, awaited):
            if self.state is State.CLOSING:
                return  # what it said before it heard of it
            raise MalformedError(f"{type(method).__name__} where {self.state.value} was to come")
        if handler is None or (awaited is None and isinstance(method, tuple(_AWAITED.values()))):
            raise MalformedError(f"{type(method).__name__} on an open connection")
        handler(method)

    def _start(self, method: m.ConnectionStart) -> None:
        if b"PLAIN" not in method.mechanisms.split():
            raise MalformedError(f"it offers {method.mechanisms[:80]!r} to log in, and not PLAIN")
        self.server_properties = method.server_properties
        config = self._config
        response = b"\0".join((b"", config.user.encode(), config.password.encode()))  # RFC 4616 §2
        properties = {"product": "tumpline", "connection_name": config.name, "capabilities": _CAPABILITIES}
        self._outbox.method(0, m.ConnectionStartOk(properties, "PLAIN", response))
        self.state = State.TUNE

    def _tune(self, method: m.ConnectionTune) -> None:
        self._frame_octets_most = min(method.frame_octets_most or FRAME_OCTETS_MOST, FRAME_OCTETS_MOST)
        if self._frame_octets_most < FRAME_OCTETS_LEAST:
            raise MalformedError(f"it wants frames of {self._frame_octets_most} octets at most")
        self._channels_most = min(method.channel_most or CHANNELS_MOST, CHANNELS_MOST)
        self.heartbeat_s = self._config.heartbeat_s
        self._outbox.body_octets_most = self._frame_octets_most - FRAME_OVERHEAD_OCTETS
        self._outbox.method(0, m.ConnectionTuneOk(self._channels_most, self._frame_octets_most, self.heartbeat_s))
        self._outbox.method(0, m.ConnectionOpen(self._config.virtual_host))
        self.state = State.OPEN_OK

    def _open_ok(self, _method: m.ConnectionOpenOk) -> None:
        self.state = State.OPEN
        self._events.append(Opened())

    def _closed_by_broker(self, method: m.ConnectionClose) -> None:
        self._outbox.method(0, m.ConnectionCloseOk())
        self._end(method.reply_code, method.reply_text, by_broker=True)

    def _close_ok(self, _method: m.ConnectionCloseOk) -> None:
        self._end(0, "closed here")

    def _blocked(self, method: m.ConnectionBlocked) -> None:
        self._events.append(Blocked(method.reason))

    def _unblocked(self, _method: m.ConnectionUnblocked) -> None:
        self._events.append(Unblocked())

    def _end(self, code: int, text: str, *, by_broker: bool = False) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._channels.clear()
            self._events.append(Ended(code, text, by_broker))

"""One connection of a client to a broker: login, channels, what comes and goes, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple

from tumpline.errors import LocalProtocolError, MalformedError
from tumpline.machines.amqp_client.channel import Channel, ChannelState
from tumpline.machines.amqp_client.events import (
    Answered,
    Blocked,
    ChannelEnded,
    Confirmed,
    ConsumerCancelled,
    Ended,
    Event,
    Opened,
    Unblocked,
)
from tumpline.machines.amqp_client.outbox import Body, Outbox
from tumpline.machines.amqp_client.receiver import Receiver
from tumpline.wire.amqp import (
    FRAME_OVERHEAD_OCTETS,
    HEARTBEAT,
    PROTOCOL_HEADER,
    Method,
    Properties,
)
from tumpline.wire.amqp import methods as m

FRAME_OCTETS_MOST: Final = 131_072  # what RabbitMQ agrees to: a super-packet fits one frame
FRAME_OCTETS_LEAST: Final = 4096  # specification §4.2.3: frame-min-size
CHANNELS_MOST: Final = 255
HEARTBEAT_S: Final = 10  # a dead path is noticed after 20 s, by either side
LOGIN_S: Final = 10.0
CLOSE_S: Final = 2.0  # what a broker gets to say good-bye
MESSAGE_OCTETS_MOST: Final = 16 << 20

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
        self._channels: dict[int, Channel] = {}
        self._receiver = Receiver(self, self._channels, self._events, config.message_octets_most)
        self._receiver.frame_octets_most = FRAME_OCTETS_MOST
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

    @property
    def is_ended(self) -> bool:
        """See `receiver.Listener`."""
        return self.state is State.ENDED

    @property
    def is_greeted(self) -> bool:
        """See `receiver.Listener`."""
        return self.state is not State.START

    # ---- the driver's side -------------------------------------------------------------------------------------------

    def received(self, data: memoryview, now: float) -> int:
        """How many of these octets were dealt with: the others are to come again, with more behind them. `events` refer to
        `data`: they are to be acted on before it changes."""
        if self.state is State.ENDED:
            return len(data)
        self._heard_at = now
        try:
            return self._receiver.take(data)
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
        events = self._events[:]
        self._events.clear()  # the receiver has the same list
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
            self._end(0, f"no answer within {self._config.login_s:g} s")
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

    # ---- methods on channels -----------------------------------------------------------------------------------------

    def of_channel(self, channel: Channel, method: Method) -> None:
        """See `receiver.Listener`."""
        if isinstance(method, m.ChannelClose):
            self._channel_closed(channel, method)
        elif isinstance(method, m.BasicAck | m.BasicNack):
            is_taken = isinstance(method, m.BasicAck)
            self._events.append(Confirmed(channel.number, method.delivery_tag, method.multiple, is_taken))
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
        if isinstance(method, m.ChannelCloseOk):
            del self._channels[channel.number]
        self._events.append(Answered(channel.number, method))

    def _channel_closed(self, channel: Channel, method: m.ChannelClose) -> None:
        del self._channels[channel.number]
        self._outbox.method(channel.number, m.ChannelCloseOk())
        self._events.append(ChannelEnded(channel.number, method.reply_code, method.reply_text))

    # ---- methods of the connection -----------------------------------------------------------------------------------

    def of_connection(self, method: Method) -> None:
        """See `receiver.Listener`."""
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
        frame_octets_most = min(method.frame_octets_most or FRAME_OCTETS_MOST, FRAME_OCTETS_MOST)
        if frame_octets_most < FRAME_OCTETS_LEAST:
            raise MalformedError(f"it wants frames of {frame_octets_most} octets at most")
        self._receiver.frame_octets_most = frame_octets_most
        self._channels_most = min(method.channel_most or CHANNELS_MOST, CHANNELS_MOST)
        self.heartbeat_s = self._config.heartbeat_s
        self._outbox.body_octets_most = frame_octets_most - FRAME_OVERHEAD_OCTETS
        self._outbox.method(0, m.ConnectionTuneOk(self._channels_most, frame_octets_most, self.heartbeat_s))
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

"""From octets to frames, and from frames to messages and methods: the receiving half of a connection."""

from __future__ import annotations

from struct import Struct
from typing import Final, Protocol

from tumpline.errors import MalformedError
from tumpline.machines.amqp_client.channel import Channel
from tumpline.machines.amqp_client.content import Content, Memo
from tumpline.machines.amqp_client.events import (
    Answered,
    Delivered,
    Delivery,
    Event,
    Oversized,
    Returned,
    ReturnedMessage,
)
from tumpline.wire.amqp import FRAME_OVERHEAD_OCTETS, FrameKind, Method, decode_method_untrusted
from tumpline.wire.amqp import methods as m

_HEAD: Final = Struct(">BHI")
_U64: Final = Struct(">Q")
_HEADS_OCTETS: Final = 768  # method and header of a delivery hardly have more
_METHOD, _HEADER = int(FrameKind.METHOD), int(FrameKind.HEADER)
_BODY, _HEARTBEAT = int(FrameKind.BODY), int(FrameKind.HEARTBEAT)
_DELIVER: Final = b"\x00\x3c\x00\x3c"
_FRAME_END: Final = 0xCE
_OTHER_PROTOCOL: Final = ord("A")  # of "AMQP": how a broker says which version it would understand


class Listener(Protocol):
    """Who acts on methods: the connection."""

    @property
    def is_ended(self) -> bool:
        """Nothing that follows counts."""

    @property
    def is_greeted(self) -> bool:
        """The broker has said something that we understand."""

    def of_connection(self, method: Method) -> None:
        """On channel 0. Raises: MalformedError."""

    def of_channel(self, channel: Channel, method: Method) -> None:
        """Anything but a message's beginning. Raises: MalformedError."""


class Receiver:
    """`channels` and `events` are the connection's."""

    def __init__(
        self, listener: Listener, channels: dict[int, Channel], events: list[Event], message_octets_most: int
    ) -> None:
        self.frame_octets_most = 0  # of the connection's choice
        self._listener = listener
        self._channels = channels
        self._events = events
        self._message_octets_most = message_octets_most
        self._memo = Memo()

    def take(self, data: memoryview) -> int:
        """How many octets were dealt with. Raises: MalformedError."""
        at, end = 0, len(data)
        listener = self._listener
        payload_most = self.frame_octets_most - FRAME_OVERHEAD_OCTETS
        while end - at >= FRAME_OVERHEAD_OCTETS and not listener.is_ended:
            kind, number, length = _HEAD.unpack_from(data, at)
            if kind == _OTHER_PROTOCOL and not listener.is_greeted:
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
                self._of_connection(kind, data[at + 7 : last])
                payload_most = self.frame_octets_most - FRAME_OVERHEAD_OCTETS  # it may just have been agreed
            at = last + 1
        self._end_batches()
        return at if not listener.is_ended else end

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
        if heads[header_at + 4 : header_at + 12] != _U64.pack(octets) or octets > self._message_octets_most:
            return 0  # not the whole body, or too long
        if not heads[method_end] == heads[header_end] == data[body_end] == _FRAME_END:
            return 0
        route, tag = self._memo.deliver(heads[7:method_end])
        _, properties = self._memo.header(heads[header_at:header_end])
        consumer_tag, redelivered, exchange, key = route
        body = data[body_at:body_end]
        self._delivered(channel, Delivery(consumer_tag, tag, redelivered, exchange, key, properties, body))
        return body_end + 1

    # ---- frame by frame ----------------------------------------------------------------------------------------------

    def _of_connection(self, kind: int, payload: memoryview) -> None:
        if kind != _METHOD:
            raise MalformedError(f"a frame of kind {kind} on channel 0")
        self._listener.of_connection(decode_method_untrusted(bytes(payload)))

    def _of_channel(self, kind: int, number: int, payload: memoryview) -> None:
        channel = self._channels.get(number)
        if channel is None:
            if kind == _METHOD and isinstance(decode_method_untrusted(bytes(payload)), m.ChannelCloseOk):
                return  # both sides closed it at once
            raise MalformedError(f"something on channel {number}, which is not open")
        content = channel.content
        if kind == _BODY:
            if content.left == content.length == len(payload):  # the whole in one frame, as nearly always
                self._complete(channel, payload if not content.is_too_long else b"")
            elif content.body(payload):
                self._complete(channel, content.joined())
        elif kind == _HEADER:
            length, properties = self._memo.header(bytes(payload))
            if content.header(length, properties, self._message_octets_most):
                self._complete(channel, b"")
        elif kind == _METHOD:
            self._method(channel, bytes(payload))
        else:
            raise MalformedError(f"a frame of kind {kind} on a channel")

    def _method(self, channel: Channel, octets: bytes) -> None:
        content = channel.content
        if octets[:4] == _DELIVER:
            content.deliver(*self._memo.deliver(octets))
            return
        method = decode_method_untrusted(octets)
        if not content.is_idle:
            raise MalformedError(f"{type(method).__name__} where a message was to go on")
        if isinstance(method, m.BasicReturn) or (isinstance(method, m.BasicGetOk) and channel.is_answer(method)):
            content.start(method)
        else:
            self._listener.of_channel(channel, method)

    # ---- whole messages ----------------------------------------------------------------------------------------------

    def _complete(self, channel: Channel, body: bytes | memoryview) -> None:
        content = channel.content
        if content.route is None:
            self._events.append(_other(channel, content, body))
        elif content.is_too_long:
            tag, key = content.route.consumer_tag, content.route.routing_key
            self._events.append(Oversized(channel.number, tag, content.tag, key, content.length))
        else:
            self._delivered(channel, content.delivery(body))
        content.clear()

    def _delivered(self, channel: Channel, delivery: Delivery) -> None:
        batch = channel.batches.get(delivery.consumer_tag)
        if batch is None:
            batch = channel.batches[delivery.consumer_tag] = []
            self._events.append(Delivered(channel.number, delivery.consumer_tag, batch))
        batch.append(delivery)

    def _end_batches(self) -> None:
        """What comes later comes in other batches."""
        for channel in self._channels.values():
            if channel.batches:
                channel.batches = {}


def _other(channel: Channel, content: Content, body: bytes | memoryview) -> Event:
    """A message that came back, or that was asked for."""
    method = content.method
    if isinstance(method, m.BasicReturn):
        return Returned(channel.number, ReturnedMessage(*method, content.properties, body))
    assert isinstance(method, m.BasicGetOk)
    if content.is_too_long:
        return Answered(channel.number, method)
    tag, redelivered, exchange, key, _ = method
    got = Delivery("", tag, redelivered, exchange, key, content.properties, body)
    return Answered(channel.number, method, got)

"""Messages that come on one channel: a method that names them, a header, and as many bodies as it announces."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.amqp_client.events import Delivery
from tumpline.wire.amqp import Method, Properties, decode_content_header_untrusted, decode_method_untrusted
from tumpline.wire.amqp import methods as m

REMEMBERED: Final = 1024  # of each kind; strangers choose keys and properties
REMEMBERED_OCTETS_MOST: Final = 256  # longer properties are hardly the same twice

_U64: Final = Struct(">Q")
_FIRST: Final = 12  # of a content header's payload: what differs between messages of the same properties
_DELIVER_LEAST: Final = 5  # class, method, length of the consumer tag


class Route(NamedTuple):
    """What deliveries have in common that come to one consumer under one key."""

    consumer_tag: str
    redelivered: bool
    exchange: str
    routing_key: str


class Memo:
    """What was decoded before and will come again: routes and properties. One serves all channels of a connection."""

    def __init__(self) -> None:
        self._routes: dict[bytes, Route] = {}
        self._properties: dict[bytes, Properties] = {}

    def deliver(self, octets: bytes) -> tuple[Route, int]:
        """Of the payload of a `basic.deliver`: route and delivery tag. Raises: MalformedError."""
        if len(octets) < _DELIVER_LEAST:
            raise MalformedError("AMQP: a delivery that is cut off")
        tag_at = _DELIVER_LEAST + octets[4]
        # All but the delivery tag. What equals something known is as whole as that was: a shorter one lacks the rest.
        key = octets[:tag_at] + octets[tag_at + _U64.size :]
        route = self._routes.get(key)
        if route is None:
            route = self._new_route(key, octets)
        return route, _U64.unpack_from(octets, tag_at)[0]

    def header(self, octets: bytes) -> tuple[int, Properties]:
        """Of the payload of a content header: how long the body is, and its properties. Raises: MalformedError."""
        found = self._properties.get(octets[_FIRST:])
        if found is not None and octets[:4] == b"\x00\x3c\x00\x00":
            return _U64.unpack_from(octets, 4)[0], found
        length, properties = decode_content_header_untrusted(octets)
        if len(octets) <= REMEMBERED_OCTETS_MOST:
            if len(self._properties) >= REMEMBERED:
                self._properties.clear()
            self._properties[octets[_FIRST:]] = properties
        return length, properties

    def _new_route(self, key: bytes, octets: bytes) -> Route:
        method = decode_method_untrusted(octets)
        assert isinstance(method, m.BasicDeliver)
        if len(self._routes) >= REMEMBERED:
            self._routes.clear()
        route = Route(method.consumer_tag, method.redelivered, method.exchange, method.routing_key)
        self._routes[key] = route
        return route


class Content:
    """The message that is being received on a channel. `start`, `header`, `body`: the last two say when it is whole."""

    __slots__ = ("_parts", "is_too_long", "left", "length", "method", "properties", "route", "tag")

    def __init__(self) -> None:
        self.method: Method | None = None  # a return or something that was asked for; a delivery has a route instead
        self.route: Route | None = None
        self.tag = 0
        self.length = -1
        self.properties = Properties()
        self.is_too_long = False
        self.left = 0  # octets of the body that are still to come
        self._parts: list[bytes] = []

    @property
    def is_idle(self) -> bool:
        """No message has begun."""
        return self.route is None and self.method is None

    def deliver(self, route: Route, tag: int) -> None:
        """A delivery begins. Raises: MalformedError."""
        if self.route is not None or self.method is not None:
            raise MalformedError("AMQP: a message begins where another one was to go on")
        self.route, self.tag = route, tag

    def start(self, method: Method) -> None:
        """Another message begins. Raises: MalformedError."""
        if not self.is_idle:
            raise MalformedError("AMQP: a message begins where another one was to go on")
        self.method = method

    def header(self, length: int, properties: Properties, octets_most: int) -> bool:
        """Raises: MalformedError."""
        if self.length >= 0 or self.is_idle:
            raise MalformedError("AMQP: a content header where none was to come")
        self.length = self.left = length
        self.properties = properties
        self.is_too_long = length > octets_most
        return length == 0

    def body(self, payload: memoryview) -> bool:
        """A part that is not the whole; see `whole` for the one that is. Raises: MalformedError."""
        if self.length < 0 or len(payload) > self.left:
            raise MalformedError("AMQP: a body where none was to come")
        self.left -= len(payload)
        if not self.is_too_long:
            self._parts.append(bytes(payload))
        return self.left == 0

    def joined(self) -> bytes:
        """All parts."""
        return b"".join(self._parts)

    def delivery(self, body: bytes | memoryview) -> Delivery:
        """What was received, with this body."""
        route = self.route
        assert route is not None
        return Delivery(
            route.consumer_tag, self.tag, route.redelivered, route.exchange, route.routing_key, self.properties, body
        )

    def clear(self) -> None:
        """It was dealt with."""
        self.method = self.route = None
        self.length = -1
        if self._parts:
            self._parts = []

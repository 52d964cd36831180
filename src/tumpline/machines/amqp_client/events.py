"""What a client of a broker is told."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.wire.amqp import Method, Properties


class Delivery(NamedTuple):
    """A message for one consumer, or one that was asked for. `body` may be a view of what was received: it dies with the call
    that brought it."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes | memoryview


class ReturnedMessage(NamedTuple):
    """A mandatory message for which the broker found no queue. `body` as in `Delivery`; empty if it was too long for us."""

    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes | memoryview


class Opened(NamedTuple):
    """Logged in, in the virtual host; channels can be opened."""


class Ended(NamedTuple):
    """The connection is over. `code` is the broker's, 0 where it gave none; `by_broker`: it said so."""

    code: int
    text: str
    by_broker: bool


class Blocked(NamedTuple):
    """The broker reads nothing that is published: short of memory or disk."""

    reason: str


class Unblocked(NamedTuple):
    """It reads again."""


class Answered(NamedTuple):
    """The oldest request on this channel has its answer. `delivery`: of a `BasicGetOk`; None if that was too long for us."""

    channel: int
    method: Method
    delivery: Delivery | None = None


class ChannelEnded(NamedTuple):
    """The broker closed it: all requests that waited there were refused."""

    channel: int
    code: int
    text: str


class ConsumerCancelled(NamedTuple):
    """By the broker: its queue is gone."""

    channel: int
    consumer_tag: str


class Delivered(NamedTuple):
    """What one read brought to one consumer, in order."""

    channel: int
    consumer_tag: str
    deliveries: list[Delivery]


class Oversized(NamedTuple):
    """A message longer than we take was passed over."""

    channel: int
    consumer_tag: str
    delivery_tag: int
    routing_key: str
    octets: int


class Returned(NamedTuple):
    """A mandatory message found no queue."""

    channel: int
    message: ReturnedMessage


class Confirmed(NamedTuple):
    """The broker has (or has not) taken what was published: the one of this number, or all up to it. They count from 1."""

    channel: int
    number: int
    multiple: bool
    is_taken: bool


Event = (
    Opened
    | Ended
    | Blocked
    | Unblocked
    | Answered
    | ChannelEnded
    | ConsumerCancelled
    | Delivered
    | Oversized
    | Returned
    | Confirmed
)

"""What the router asks of whoever holds the connection to the broker, in this order."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.wire.amqp.content import Properties

# Of older agents': a consumer of theirs reads no body without a content type.
JSON: Final = Properties(content_type="application/json", content_encoding="utf-8")
SEALED: Final = Properties(content_type="application/octet-stream")


class Publish(NamedTuple):
    """Into the session's exchange. One that is mandatory and that nobody takes comes back (`PacketRouter.returned`)."""

    routing_key: str
    body: bytes
    properties: Properties = JSON
    is_mandatory: bool = True


class Subscribe(NamedTuple):
    """Declare the queue of a share, bind it to these keys, consume it; then `PacketRouter.subscribed`."""

    share: str
    patterns: tuple[str, ...]


class Cancel(NamedTuple):
    """Consume it no more; then, with all that had been delivered, `PacketRouter.cancelled`."""

    share: str


class Bind(NamedTuple):
    """A source belongs to that share from now on."""

    share: str
    patterns: tuple[str, ...]


class Unbind(NamedTuple):
    """It has gone."""

    share: str
    patterns: tuple[str, ...]


class Noted(NamedTuple):
    """Something a person may want to read in the log."""

    text: str


Output = Publish | Subscribe | Cancel | Bind | Unbind | Noted

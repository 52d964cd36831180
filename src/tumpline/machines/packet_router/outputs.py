"""What the router asks of whoever holds the connection to the broker, in this order."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.machines import overlay
from tumpline.wire.amqp.content import Properties

# Of older agents': a consumer of theirs reads no body without a content type.
JSON: Final = Properties(content_type="application/json", content_encoding="utf-8")
SEALED: Final = Properties(content_type="application/octet-stream")


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


class Disagreed(NamedTuple):
    """Another router divides the work otherwise, so that packets would go twice. The one that has just come is to go again."""

    router: str
    theirs: str
    ours: str
    is_ours_to_go: bool


# Beside messages: what the overlay's directory of members tells (who came, who went).
Output = overlay.Output | Subscribe | Cancel | Bind | Unbind | Disagreed

"""Bundles between members of a packet overlay, over an AMQP broker: each stays stored here until the peer has stored it."""

from __future__ import annotations

from tumpline.drivers.links._amqp_config import AmqpConfig
from tumpline.drivers.links._api import BundleLink, LinkContext, LinkSpec


def open_link(config: AmqpConfig, context: LinkContext) -> BundleLink:
    """What it needs is heavy: a node without such a link does not load it."""
    from tumpline.drivers.links._amqp_link import AmqpLink

    return AmqpLink(config, context)


SPEC = LinkSpec(
    scheme="amqp",
    summary="bundles (and packets, if wanted) between members of a session of the packet overlay",
    config=AmqpConfig,
    open=open_link,
    carries=frozenset({"bundle", "ip", "frame802154"}),
)

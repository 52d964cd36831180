"""A client of an AMQP 0-9-1 broker, without I/O: made for many messages, small and large."""

from tumpline.machines.amqp_client.connection import ClientConfig, ClientConnection, State
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

__all__ = [
    "Answered",
    "Blocked",
    "ChannelEnded",
    "ClientConfig",
    "ClientConnection",
    "Confirmed",
    "ConsumerCancelled",
    "Delivered",
    "Delivery",
    "Ended",
    "Event",
    "Opened",
    "Oversized",
    "Returned",
    "ReturnedMessage",
    "State",
    "Unblocked",
]

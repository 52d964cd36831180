"""Connections of D-Bus without I/O: authentication, the stream of messages, calls and their answers."""

from tumpline.machines.dbus.connection import (
    Answered,
    CallReceived,
    ClientConfig,
    ClientConnection,
    Ended,
    Event,
    Joined,
    SignalReceived,
    Unanswered,
)
from tumpline.machines.dbus.stream import Outbox, Received

__all__ = [
    "Answered",
    "CallReceived",
    "ClientConfig",
    "ClientConnection",
    "Ended",
    "Event",
    "Joined",
    "Outbox",
    "Received",
    "SignalReceived",
    "Unanswered",
]

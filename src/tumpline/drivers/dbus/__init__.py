"""D-Bus: a connection to a bus, objects exported on it. Our own client on our own codec (ARCHITECTURE.md says why)."""

from tumpline.drivers.dbus.connection import BusConnection, Subscription
from tumpline.drivers.dbus.errors import BusError, BusUnavailableError, ErrorName
from tumpline.drivers.dbus.interface import Call, Interface, Method, Methods
from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.dbus.server import EmbeddedBus, PlaceTakenError
from tumpline.wire.dbus import MatchRule, Message, Variant

__all__ = [
    "BusConnection",
    "BusError",
    "BusUnavailableError",
    "Call",
    "EmbeddedBus",
    "ErrorName",
    "Interface",
    "MatchRule",
    "Message",
    "Method",
    "Methods",
    "PlaceTakenError",
    "Presence",
    "Subscription",
    "Variant",
]

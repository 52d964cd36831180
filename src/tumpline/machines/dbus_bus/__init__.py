"""A message bus of D-Bus without I/O."""

from tumpline.machines.dbus_bus.bus import Bus, Over
from tumpline.machines.dbus_bus.client import Client
from tumpline.machines.dbus_bus.config import BusConfig, Credentials

__all__ = ["Bus", "BusConfig", "Client", "Credentials", "Over"]

"""Who watches the sessions of a tcpcl4 link more closely than its host: agents that show each connection to people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import Event

if TYPE_CHECKING:
    from tumpline.drivers.links._tcpcl4_connection import Connection


class SessionObserver(Protocol):
    """Called on the loop's thread, in the order of what happens. Connections last from `opened` to `closed`."""

    def configure(self, config: SessionConfig) -> SessionConfig:
        """What a new session is told; the observer may have it otherwise."""

    def opened(self, connection: Connection) -> None:
        """A TCP connection is there; its session begins right after."""

    def happened(self, connection: Connection, event: Event) -> None:
        """The session's machine says this; it is acted on right after."""

    def begun(self, connection: Connection, seq: int) -> None:
        """The first octets of a unit are on their way. Not told of empty units and of small ones given as Octets."""

    def closed(self, connection: Connection) -> None:
        """The descriptor was given back."""

"""What the session is to one port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tumpline.drivers.overlay.events import PortDown, PortUp
from tumpline.drivers.ports._api import PacketPort
from tumpline.machines.packets import PacketBatch


class SessionPortHost:
    """Implements tumpline.drivers.ports._api.PortHost."""

    def __init__(
        self, port: PacketPort, take: Callable[[str, PacketBatch], None], tell: Callable[[PortUp | PortDown], None]
    ) -> None:
        self._port = port
        self._take = take
        self._tell = tell

    def from_port(self, batch: PacketBatch) -> None:
        self._take(self._port.name, batch)

    def port_up(self, **facts: Any) -> None:
        self._tell(PortUp(self._port.name, facts))

    def port_down(self, reason: str) -> None:
        self._tell(PortDown(self._port.name, reason))

"""The seam of packet ports: a TUN device, a serial probe, their memory twin.

All calls run on the event loop's thread; none blocks. Packets are lossy: what a port cannot take is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from tumpline.errors import ConfigError
from tumpline.machines.packets import PacketBatch, PacketKind


class PortHost(Protocol):
    """What the overlay is to a port."""

    def from_port(self, batch: PacketBatch) -> None:
        """These came out of it. The octets are the port's again when this returns."""

    def port_up(self, **facts: Any) -> None:
        """It is there (again): name of the interface, addresses, or the serial device."""

    def port_down(self, reason: str) -> None:
        """It is gone: unplugged, deleted. A port that can come back says `port_up` when it does."""


class PacketPort(Protocol):
    """A port in use."""

    name: str  # of the interface, or of the device
    kind: PacketKind

    async def start(self, host: PortHost) -> None:
        """Open it; `port_up` has been called on return. Raises: TumplineError with the remedy."""

    async def stop(self) -> None:
        """Undo all that `start` did to the machine. Idempotent."""

    def write(self, batch: PacketBatch) -> None:
        """Put these into it; drop (and count) what it cannot take."""

    def pause(self) -> None:
        """The link is congested: read nothing more, so that the kernel's own short queue fills and drops. Idempotent."""

    def resume(self) -> None:
        """Read again. Idempotent."""

    def describe(self) -> dict[str, Any]:
        """Snapshot for people: name, addresses, MTU, counters (packets and octets each way, dropped, malformed)."""


class PortSpec(NamedTuple):
    """The last line of a port's module: `SPEC = PortSpec(...)`."""

    scheme: str
    summary: str
    config: type[Any]  # a msgspec.Struct (kw_only, forbid_unknown_fields), every field documented
    open: Callable[[Any], PacketPort]


def port_problems(spec: PortSpec, config: Any) -> list[str]:
    """What is wrong with a port's table, told before anything is opened; nothing if it can be tried."""
    try:
        spec.open(config)
    except ConfigError as error:
        return error.problems
    return []

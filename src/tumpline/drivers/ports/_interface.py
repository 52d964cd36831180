"""An interface as a port wants it: up, with its addresses, MTU and routes; and as it was, when the port ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tumpline.drivers.ports._guard import Guard
from tumpline.drivers.ports._netlink import Interface, Netlink, Network
from tumpline.drivers.ports._tun_linux import premade
from tumpline.errors import TumplineError

# A super-packet of the kernel, with its header, fits into one batch beside another one, and into one AEAD.
GSO_OCTETS_MOST: Final = 60_500
# What a kernel does on any link is of no use here: every packet of it would go to all members.
_QUIET: Final = {
    "ipv6/conf/{}/accept_dad": "0",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/router_solicitations": "0",
    "ipv4/conf/{}/send_redirects": "0",
}
# Nor is anybody's packet to go on into other networks of this machine, unless that was asked for.
_CLOSED: Final = {"ipv4/conf/{}/forwarding": "0", "ipv6/conf/{}/forwarding": "0"}
_log = logging.getLogger(__name__)


class Behind(NamedTuple):
    """A second network of this machine, reached by the overlay."""

    interface: str
    networks: Sequence[Network]  # that lie there


class Wanted(NamedTuple):
    """What an interface is to have."""

    addresses: Sequence[Interface]
    mtu: int
    queue_packets: int
    routes: Sequence[Network]
    route_metric: int = 0
    behind: Behind | None = None


class Configured:
    """Brings an interface into shape, and has a guard undo what an end of the device does not undo by itself."""

    def __init__(self, name: str, is_ours: bool, keys: Path = Path("/proc/sys/net")) -> None:
        self.name = name
        self._is_ours = is_ours
        self._keys = keys
        self._index = socket.if_nametoindex(name)
        self._guard = Guard()
        self.mtu = 0  # as it is; of one that was made for us as its maker wants it

    def apply(self, wanted: Wanted) -> list[Interface]:
        """The addresses that it has then, those wanted first. Raises: TumplineError; `undo` is to be called then, too."""
        try:
            with Netlink() as netlink:
                self._shape(netlink, wanted)
                self._address(netlink, wanted)
                self._route(netlink, self._index, wanted.routes, wanted.route_metric, is_lasting=not self._is_ours)
                if wanted.behind is not None:
                    self._open(netlink, wanted.behind, wanted.route_metric)
                has = netlink.addresses(self._index)
        except OSError as error:
            raise TumplineError(self._why(error, wanted)) from None
        return [*wanted.addresses, *(each for each in has if each not in wanted.addresses)]

    async def undo(self) -> None:
        """All but what goes with the interface. Idempotent."""
        await self._guard.end()

    def _shape(self, netlink: Netlink, wanted: Wanted) -> None:
        if self._is_ours:
            netlink.shape(self._index, wanted.mtu, wanted.queue_packets, GSO_OCTETS_MOST)
            with contextlib.suppress(OSError):  # without IPv6 there is nothing to forbid
                netlink.no_generated_addresses(self._index)
            for key, value in {**_QUIET, **(_CLOSED if wanted.behind is None else {})}.items():
                self._say(key, value)
        link = netlink.link(self._index)
        self.mtu = link.mtu
        if not link.is_up:
            # Not undone: going down would cost it IPv6 addresses that others have given it.
            netlink.set_up(self._index)

    def _say(self, key: str, value: str) -> None:
        """Best effort: a container may keep its keys from being written."""
        try:
            (self._keys / key.format(self.name)).write_text(value)
        except OSError as error:
            _log.debug("%s of %s stays as it is: %s", key, self.name, error.strerror)

    def _address(self, netlink: Netlink, wanted: Wanted) -> None:
        present = set(netlink.addresses(self._index))
        for address in wanted.addresses:
            if address not in present:
                netlink.add_address(self._index, address)
                if not self._is_ours:
                    self._guard.address(self._index, address)

    def _route(self, netlink: Netlink, index: int, networks: Sequence[Network], metric: int, is_lasting: bool) -> None:
        for network in networks:
            try:
                netlink.add_route(index, network, metric)
            except FileExistsError:
                raise OSError(errno.EEXIST, f"there is a route to {network} already; ip route del {network}") from None
            if is_lasting:
                self._guard.route(index, network, metric)

    # ---- a second network behind this machine -----------------------------------------------------------------------

    def _open(self, netlink: Netlink, behind: Behind, metric: int) -> None:
        """Packets go on between the two. Raises: OSError."""
        try:
            index = socket.if_nametoindex(behind.interface)
        except OSError:
            raise OSError(errno.ENODEV, f"there is no interface {behind.interface}; ip link shows which") from None
        for path in self._forwarding_keys(behind):
            before = path.read_text().strip()
            if before != "1":
                self._guard.key(path, before)
                path.write_text("1")
        self._route(netlink, index, behind.networks, metric, is_lasting=True)

    def _forwarding_keys(self, behind: Behind) -> Iterator[Path]:
        """To be set to 1, in this order. IPv6 knew only all interfaces or none until Linux 6.17; what is written for all
        is written for each: so those that have it already are kept first, to have it again when all have lost it."""
        for name in (self.name, behind.interface):
            yield self._keys / f"ipv4/conf/{name}/forwarding"
        conf = self._keys / "ipv6/conf"
        if (conf / self.name / "force_forwarding").exists():
            for name in (self.name, behind.interface):
                yield conf / name / "force_forwarding"
        elif conf.exists():
            for each in sorted(conf.iterdir()):
                if each.name != "all" and (each / "forwarding").read_text().strip() == "1":
                    self._guard.key(each / "forwarding", "1")
            yield conf / "all/forwarding"

    def _why(self, error: OSError, wanted: Wanted) -> str:
        if error.errno != errno.EPERM:
            return f"interface {self.name} cannot be configured: {error.strerror}"
        steps = [premade(self.name), f"ip link set {self.name} up mtu {wanted.mtu}"]
        steps += [f"ip address add {each} dev {self.name}" for each in wanted.addresses]
        steps += [f"ip route add {each} dev {self.name}" for each in wanted.routes]
        return f"this user may not configure interface {self.name}; let root do it: {' && '.join(steps)}"

"""An interface as a port wants it: up, with its addresses, MTU and routes; and as it was, when the port ends."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tumpline.drivers.ports._netlink import Interface, Netlink, Network
from tumpline.drivers.ports._tun_linux import premade
from tumpline.errors import TumplineError

# A super-packet of the kernel, with its header, fits into one batch beside another one, and into one AEAD.
GSO_OCTETS_MOST: Final = 60_500
_KEYS = Path("/proc/sys/net")
_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What an interface is to have."""

    addresses: Sequence[Interface]
    mtu: int
    queue_packets: int
    routes: Sequence[Network]
    route_metric: int = 0


class Configured:
    """Brings an interface into shape, and remembers how to undo what an end of the device does not undo by itself."""

    def __init__(self, name: str, is_ours: bool) -> None:
        self.name = name
        self._is_ours = is_ours
        self._index = socket.if_nametoindex(name)
        self._undo: list[Callable[[Netlink], None]] = []

    def apply(self, wanted: Wanted) -> list[Interface]:
        """The addresses that it has then, those wanted first. Raises: TumplineError, all undone."""
        try:
            with Netlink() as netlink:
                self._shape(netlink, wanted)
                self._address(netlink, wanted)
                for network in wanted.routes:
                    netlink.add_route(self._index, network, wanted.route_metric)
                    self._undo.append(lambda nl, to=network: nl.remove_route(self._index, to, wanted.route_metric))  # type: ignore[misc]
                has = netlink.addresses(self._index)
                return [*wanted.addresses, *(each for each in has if each not in wanted.addresses)]
        except OSError as error:
            self.undo()
            raise TumplineError(self._why(error, wanted)) from None

    def undo(self) -> None:
        """Idempotent. What is gone meanwhile was undone by somebody else."""
        steps, self._undo = self._undo[::-1], []
        if self._is_ours or not steps:
            return  # all of it goes with the interface
        with Netlink() as netlink:
            for step in steps:
                with contextlib.suppress(OSError):
                    step(netlink)

    def _shape(self, netlink: Netlink, wanted: Wanted) -> None:
        link = netlink.link(self._index)
        if self._is_ours:
            netlink.shape(self._index, wanted.mtu, wanted.queue_packets, GSO_OCTETS_MOST)
            with contextlib.suppress(OSError):  # without IPv6 there is nothing to forbid
                netlink.no_generated_addresses(self._index)
            self._quiet()
        if not link.is_up:
            # Not undone: going down would cost it IPv6 addresses that others have given it.
            netlink.set_up(self._index)

    def _quiet(self) -> None:
        """What a kernel does on any link is of no use here: every packet of it would go to all members."""
        for key, value in (
            ("ipv6/conf/{}/accept_dad", "0"),
            ("ipv6/conf/{}/accept_ra", "0"),
            ("ipv6/conf/{}/router_solicitations", "0"),
            ("ipv4/conf/{}/send_redirects", "0"),
        ):
            try:
                (_KEYS / key.format(self.name)).write_text(value)
            except OSError as error:
                _log.debug("%s of %s stays as it is: %s", key, self.name, error.strerror)

    def _address(self, netlink: Netlink, wanted: Wanted) -> None:
        present = set(netlink.addresses(self._index))
        for address in wanted.addresses:
            if address not in present:
                netlink.add_address(self._index, address)
                self._undo.append(lambda nl, which=address: nl.remove_address(self._index, which))  # type: ignore[misc]

    def _why(self, error: OSError, wanted: Wanted) -> str:
        if error.errno not in (errno.EPERM, errno.EACCES):
            return f"interface {self.name} cannot be configured: {error.strerror}"
        steps = [premade(self.name), f"ip link set {self.name} up mtu {wanted.mtu}"]
        steps += [f"ip address add {each} dev {self.name}" for each in wanted.addresses]
        steps += [f"ip route add {each} dev {self.name}" for each in wanted.routes]
        return f"this user may not configure interface {self.name}; let root do it: {' && '.join(steps)}"

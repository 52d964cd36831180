"""What is asked of the kernel about interfaces, addresses and routes: rtnetlink(7), of the caller's network namespace.

Each call is a request and its answer on one socket, some microseconds. What fails raises OSError with the kernel's own
explanation where it gives one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from struct import Struct
from types import TracebackType
from typing import Final, NamedTuple, Self

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

# linux/netlink.h, linux/rtnetlink.h
_NEWLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _DELROUTE = 16, 18, 20, 21, 22, 24, 25
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_CAPPED, _ACK_TLVS = 0x100, 0x200
_SOL_NETLINK, _EXT_ACK, _STRICT_CHECK = 270, 11, 12
# linux/if_link.h, if_addr.h, rtnetlink.h: attributes
_LINK_MTU, _LINK_QUEUE, _LINK_FAMILIES, _LINK_GSO_MOST = 4, 13, 26, 41
_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_ADDR_ADDRESS, _ADDR_LOCAL, _ADDR_FLAGS, _ADDR_NODAD = 1, 2, 8, 0x02
_ROUTE_DST, _ROUTE_OIF, _ROUTE_METRIC = 1, 4, 6
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _SCOPE_UNIVERSE, _TYPE_UNICAST = 254, 4, 253, 0, 1
_UP = 1

_MESSAGE: Final = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK: Final = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which flags change
_ADDRESS: Final = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE: Final = Struct("=BBBBBBBBI")  # struct rtmsg: family, lengths, tos, table, protocol, scope, type, flags
_ATTRIBUTE: Final = Struct("=HH")
_U32: Final = Struct("=I")
_I32: Final = Struct("=i")
_ANSWER_OCTETS: Final = 64 << 10


class Link(NamedTuple):
    """An interface as the kernel describes it."""

    is_up: bool
    mtu: int


class Netlink:
    """A context manager: the socket lives as long as its block."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)  # a dump of one interface is of that one only
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # ---- interfaces -------------------------------------------------------------------------------------------------

    def link(self, index: int) -> Link:
        """Raises: OSError."""
        (answer,) = self._ask(_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0))
        flags = _LINK.unpack_from(answer)[3]
        attributes = dict(_attributes(answer[_LINK.size :]))
        return Link(bool(flags & _UP), _U32.unpack(attributes[_LINK_MTU])[0])

    def set_up(self, index: int, is_up: bool = True) -> None:
        """Raises: OSError."""
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, _UP if is_up else 0, _UP))

    def shape(self, index: int, mtu: int, queue_packets: int, gso_octets: int) -> None:
        """How much a packet, the queue before a reader, and a super-packet hold. Raises: OSError."""
        attributes = (
            _attribute(_LINK_MTU, _U32.pack(mtu))
            + _attribute(_LINK_QUEUE, _U32.pack(queue_packets))
            + _attribute(_LINK_GSO_MOST, _U32.pack(gso_octets))
        )
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, 0, 0) + attributes)

    def no_generated_addresses(self, index: int) -> None:
        """No link-local address that the kernel makes up by itself. Raises: OSError (also where IPv6 is off)."""
        mode = _attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
        families = _attribute(_LINK_FAMILIES, _attribute(socket.AF_INET6, mode))
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, 0, 0) + families)

    # ---- addresses --------------------------------------------------------------------------------------------------

    def addresses(self, index: int) -> list[Interface]:
        """Those of one interface, in the kernel's order. Raises: OSError."""
        found = []
        for answer in self._ask(_GETADDR, _DUMP, _ADDRESS.pack(0, 0, 0, 0, index)):
            _, length, _, _, of = _ADDRESS.unpack_from(answer)
            attributes = dict(_attributes(answer[_ADDRESS.size :]))
            octets = attributes.get(_ADDR_LOCAL) or attributes.get(_ADDR_ADDRESS)
            if of == index and octets:
                found.append(ip_interface((octets, length)))
        return found

    def add_address(self, index: int, address: Interface) -> None:
        """In use from the first moment on: nobody else is asked whether it is taken. Raises: OSError."""
        flags = _attribute(_ADDR_FLAGS, _U32.pack(_ADDR_NODAD if address.version == 6 else 0))
        self._ask(_NEWADDR, _ACK | _CREATE | _EXCL, _address(index, address) + flags)

    def remove_address(self, index: int, address: Interface) -> None:
        """Raises: OSError."""
        self._ask(_DELADDR, _ACK, _address(index, address))

    # ---- routes -----------------------------------------------------------------------------------------------------

    def add_route(self, index: int, to: Network, metric: int = 0) -> None:
        """Straight into an interface. Raises: OSError."""
        self._ask(_NEWROUTE, _ACK | _CREATE | _EXCL, _route(index, to, metric))

    def remove_route(self, index: int, to: Network, metric: int = 0) -> None:
        """Raises: OSError."""
        self._ask(_DELROUTE, _ACK, _route(index, to, metric))

    # ---- messages ---------------------------------------------------------------------------------------------------

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of all answers. Raises: OSError."""
        self._sequence += 1
        head = _MESSAGE.pack(_MESSAGE.size + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._socket.send(head + body)
        found: list[bytes] = []
        while True:
            for kind_of_answer, flags_of_answer, answer in _messages(self._socket.recv(_ANSWER_OCTETS), self._sequence):
                if kind_of_answer == _ERROR:
                    _raise_if_refused(flags_of_answer, answer)
                    return found
                if kind_of_answer == _DONE:
                    return found
                found.append(answer)
            if found and not flags & (_ACK | _DUMP):
                return found


def _messages(octets: bytes, sequence: int) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _MESSAGE.size <= len(octets):
        length, kind, flags, of, _ = _MESSAGE.unpack_from(octets, at)
        if of == sequence:
            yield kind, flags, octets[at + _MESSAGE.size : at + length]
        at += length + 3 & ~3


def _raise_if_refused(flags: int, answer: bytes) -> None:
    """An error message: a negative errno, the request's head (and body, unless capped), and maybe a text."""
    number = -_I32.unpack_from(answer)[0]
    if not number:
        return
    text = ""
    if flags & _ACK_TLVS:
        request_octets = _MESSAGE.size if flags & _CAPPED else _U32.unpack_from(answer, 4)[0]
        text = dict(_attributes(answer[4 + request_octets :])).get(1, b"").rstrip(b"\0").decode(errors="replace")
    raise OSError(number, f"{os.strerror(number)} ({text})" if text else os.strerror(number))


def _attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(octets):
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, octets[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _address(index: int, address: Interface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = _ADDRESS.pack(family, address.network.prefixlen, 0, _SCOPE_UNIVERSE, index)
    return head + _attribute(_ADDR_LOCAL, address.ip.packed) + _attribute(_ADDR_ADDRESS, address.ip.packed)


def _route(index: int, to: Network, metric: int) -> bytes:
    is_v4 = to.version == 4
    family, scope = (socket.AF_INET, _SCOPE_LINK) if is_v4 else (socket.AF_INET6, _SCOPE_UNIVERSE)
    head = _ROUTE.pack(family, to.prefixlen, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _TYPE_UNICAST, 0)
    attributes = _attribute(_ROUTE_DST, to.network_address.packed) + _attribute(_ROUTE_OIF, _U32.pack(index))
    return head + attributes + (_attribute(_ROUTE_METRIC, _U32.pack(metric)) if metric else b"")

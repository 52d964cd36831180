"""From addresses as people write them to those of sockets, for UDP."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tumpline.drivers.dial import Address, Candidate
from tumpline.drivers.links._udpcl_socket import SocketAddress
from tumpline.errors import TumplineError

ANY_V4 = "0.0.0.0"
Place = tuple[socket.AddressFamily, SocketAddress]


def is_any(host: str) -> bool:
    """Whether it stands for every address of this machine."""
    return host in ("", "::", ANY_V4, "*")


def places(address: Address, both: bool) -> list[Place]:
    """Where to bind. `both`: "::" stands for both families. Raises: TumplineError."""
    if both and is_any(address.host) and address.host != ANY_V4:
        any_v4: Place = (socket.AF_INET, (ANY_V4, address.port))
        return [(socket.AF_INET6, ("::", address.port, 0, 0)), any_v4] if _has_v6() else [any_v4]
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise TumplineError(f"cannot listen on {address}: {error.strerror}; write a numeric address") from error
    family, _, _, _, sockaddr = found[0]
    return [(family, sockaddr)]


def numeric(address: Address) -> Place:
    """Where to send. Raises: TumplineError."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM, flags=flags)
    except OSError as error:
        raise TumplineError(f"{address} is no numeric address; resolve the name first") from error
    family, _, _, _, sockaddr = found[0]
    return family, sockaddr


def first_routed(candidates: Sequence[Candidate]) -> SocketAddress:
    """The first that this machine has a way to, as far as its routes tell; else the first."""
    for family, sockaddr in candidates:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect(sockaddr)  # of UDP: nothing is sent
        except OSError:
            continue
        return sockaddr
    return candidates[0][1]


def interface_number(name: str | int) -> int:
    """Of a network interface, by its name or number; 0 for "". Raises: TumplineError."""
    if not name or isinstance(name, int):
        return name or 0
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        names = ", ".join(each for _, each in socket.if_nameindex())
        raise TumplineError(f"there is no network interface {name}; there are: {names}") from error


def in_use(address: Address, by: str) -> TumplineError:
    """What to say when a port is taken."""
    return TumplineError(f"{address} is in use {by}; choose another address in `listen`, or end what uses it")


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True

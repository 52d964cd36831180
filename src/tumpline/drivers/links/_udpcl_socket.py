"""A UDP socket that moves many datagrams at once: runs of one size go as one (UDP_SEGMENT), and come as one (UDP_GRO).

No datagram is fragmented on IPv4, nor shortened by what the kernel believes of a path: IP_MTU_DISCOVER is PROBE (RFC 8899
§3, "DPLPMTUD"), and what does not pass the interface is told with EMSGSIZE.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tumpline.drivers.dial import display_address
from tumpline.errors import TumplineError

SocketAddress = tuple[Any, ...]  # as the socket module has it: (host, port) or (host, port, flow, scope)

# Linux; the socket module of Python 3.11 has no names for these.
_UDP_SEGMENT, _UDP_GRO = 103, 104
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_IP_PKTINFO = 8
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
_IPV6_MULTICAST_ALL, _IP_MULTICAST_ALL = 29, 49
_IP_RECVTOS, _IP_RECVERR, _IPV6_RECVERR = 13, 11, 25
_MSG_ERRQUEUE = 0x2000
_MTU_DISCOVERY = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_MTU_DISCOVER),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER),
}
_ERRORS_WANTED = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_RECVERR),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_RECVERR),
}
_SEGMENTS_MOST: Final = 64  # UDP_MAX_SEGMENTS of the oldest kernels that have it
_RUN_OCTETS_MOST: Final = 65_000  # below the longest UDP datagram on either IP
_READ_OCTETS: Final = 1 << 16
_CMSG_OCTETS: Final = 256  # room for GRO's size, the mark and the local address
# struct sock_extended_err: errno, origin, type, code, pad, info (a router's MTU), data
_EXTENDED_ERROR = struct.Struct("IBBBBII")
_ORIGIN_LOCAL = 1
_ERRORS_MOST: Final = 64  # in a wake-up
_HEADERS_OCTETS = {socket.AF_INET: 28, socket.AF_INET6: 48}  # of IP and UDP, without options
_INT, _PKTINFO4, _PKTINFO6 = struct.Struct("i"), struct.Struct("i4s4s"), struct.Struct("16sI")
# What the system tells late, of a datagram that went (EMSGSIZE also of one that does not).
_ASYNCHRONOUS = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ECONNRESET,
        errno.EMSGSIZE,
        errno.EACCES,
        errno.EPROTO,
        errno.ENOPROTOOPT,
    }
)


class Received(NamedTuple):
    """What one read gave: datagrams of one sender with one mark."""

    remote: SocketAddress
    datagrams: list[bytes]
    mark: int
    local: Local | None  # where they came to; None: the socket has one address only
    is_multicast: bool


class Local(NamedTuple):
    """From where to send: an address of ours ("": the system's choice) and an interface (0: likewise)."""

    address: str = ""
    interface: int = 0


class Sent(NamedTuple):
    """What became of a batch. `gone` of the datagrams are on their way; the next one stopped it, for one of the reasons below,
    or there was none."""

    gone: int
    is_blocked: bool = False
    is_queue_full: bool = False  # of the interface: it takes more in a moment, but nothing tells when
    too_long: int = 0  # its octets, if it does not pass the interface
    error: str = ""


NOTHING: Final = Received((), [], 0, None, False)  # an error was told in the place of a datagram


class Buffers(NamedTuple):
    """Octets asked of the kernel, which has bounds of its own (net.core.rmem_max, wmem_max)."""

    receive: int = 8 << 20
    send: int = 4 << 20


class UdpSocket:
    """A bound socket. `close` it."""

    def __init__(
        self, family: socket.AddressFamily, address: SocketAddress, buffers: Buffers, *, marks: bool, ttl: int | None
    ) -> None:
        """`marks`: ECN bits are to be read. `ttl`: of multicast. Raises: OSError."""
        self.family = family
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._prepare(buffers, marks, ttl)
            self.sock.bind(address)
        except BaseException:
            self.sock.close()
            raise
        name = self.sock.getsockname()
        self.address = display_address(name)
        self.host, self.port = str(name[0]), int(name[1])
        self.is_wildcard = self.host in ("0.0.0.0", "::")
        if self.is_wildcard:
            self._ask_local()
        self._has_segment = self._has(_UDP_SEGMENT)
        self._scratch = memoryview(bytearray(_READ_OCTETS))
        self._mark = 0  # of what is sent
        self.groups: set[tuple[str, int]] = set()

    def _prepare(self, buffers: Buffers, marks: bool, ttl: int | None) -> None:
        sock, is_v6 = self.sock, self.family == socket.AF_INET6
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._try(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)  # Linux 4.20
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(*_MTU_DISCOVERY[self.family], _PMTUDISC_PROBE)
        sock.setsockopt(*_ERRORS_WANTED[self.family], 1)
        self._ask_buffer(_SO_RCVBUFFORCE, socket.SO_RCVBUF, buffers.receive)
        self._ask_buffer(_SO_SNDBUFFORCE, socket.SO_SNDBUF, buffers.send)
        if marks and is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        elif marks:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        self._multicast_options(ttl)
        self._try(socket.IPPROTO_UDP, _UDP_GRO, 1)  # Linux 5.0; without it datagrams come one by one

    def _ask_buffer(self, beyond: int, option: int, octets: int) -> None:
        """Beyond the system's bound (net.core.rmem_max, wmem_max) if we may, else up to it."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, beyond, octets)
        except PermissionError:
            self.sock.setsockopt(socket.SOL_SOCKET, option, octets)

    def _try(self, level: int, option: int, value: int) -> None:
        """What old kernels do not have, and one can do without."""
        try:
            self.sock.setsockopt(level, option, value)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise

    def _multicast_options(self, ttl: int | None) -> None:
        """What we send to a group does not come back; how far it goes is said by whoever configured it."""
        if self.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            if ttl is not None:
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
            return
        self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        if ttl is not None:
            self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)

    def _ask_local(self) -> None:
        if self.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def _has(self, option: int) -> bool:
        try:
            self.sock.getsockopt(socket.IPPROTO_UDP, option)
        except OSError:
            return False
        return True

    @property
    def buffer_octets(self) -> tuple[int, int]:
        """What the kernel gave for receiving and sending (it counts its own overhead: twice what was asked)."""
        return (
            self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
            self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        )

    def close(self) -> None:
        """Idempotent."""
        self.sock.close()

    # ---- groups ------------------------------------------------------------------------------------------------------

    def join(self, group: str, interface: int) -> None:
        """Take what is sent to a multicast group, on this interface (0: the system's choice). Raises: TumplineError."""
        try:
            if self.family == socket.AF_INET6:
                member = socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", interface)
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            else:
                request = socket.inet_aton(group) + bytes(4) + _INT.pack(interface)  # struct ip_mreqn
                self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # joined already
                where = f" on {socket.if_indextoname(interface)}" if interface else ""
                raise TumplineError(
                    f"cannot join the multicast group {group}{where}: {error.strerror}; name an interface that is up"
                ) from error
        self.groups.add((group, interface))

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def receive(self) -> Received | None:
        """The next read; None: nothing more for now. Errors about datagrams that we sent are passed over."""
        try:
            octets, ancillary, _, remote = self.sock.recvmsg_into([self._scratch], _CMSG_OCTETS)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _ASYNCHRONOUS:
                return NOTHING
            raise
        size, mark, local = octets, 0, None
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                size = _INT.unpack(data)[0]
            elif level == socket.IPPROTO_IP and kind == socket.IP_TOS:
                mark = data[0] & 3
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_TCLASS:
                mark = _INT.unpack(data)[0] & 3
            else:
                local = self._local(level, kind, data)
        return Received(remote, self._cut(octets, size), mark, local, local is not None and _is_group(local.address))

    def _cut(self, octets: int, size: int) -> list[bytes]:
        scratch = self._scratch
        if octets <= size:
            return [bytes(scratch[:octets])]
        return [bytes(scratch[at : min(at + size, octets)]) for at in range(0, octets, size)]

    def errors(self) -> Iterator[tuple[SocketAddress, int]]:
        """What ICMP said since the last time: about datagrams to whom, and if they were too long, the least length (of UDP
        payload) that is known not to pass, else 0."""
        for _ in range(_ERRORS_MOST):
            try:
                _, ancillary, _, remote = self.sock.recvmsg(0, _CMSG_OCTETS, _MSG_ERRQUEUE)
            except OSError:
                return  # nothing more, or the error itself is told a second time
            for level, kind, data in ancillary:
                if (level, kind) == _ERRORS_WANTED[self.family]:
                    number, origin, *_, mtu, _ = _EXTENDED_ERROR.unpack_from(data)
                    if origin != _ORIGIN_LOCAL:
                        too_long = number == errno.EMSGSIZE and mtu > _HEADERS_OCTETS[self.family]
                        yield remote, mtu - _HEADERS_OCTETS[self.family] + 1 if too_long else 0

    @staticmethod
    def _local(level: int, kind: int, data: bytes) -> Local | None:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            interface, _, address = _PKTINFO4.unpack(data)
            return Local(socket.inet_ntoa(address), interface)
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, interface = _PKTINFO6.unpack(data)
            return Local(socket.inet_ntop(socket.AF_INET6, address), interface)
        return None

    # ---- sending -----------------------------------------------------------------------------------------------------

    def send(self, datagrams: Sequence[bytes], remote: SocketAddress, mark: int, local: Local | None) -> Sent:
        """As many as go, in order."""
        self._set_mark(mark)
        source = [] if local is None else [self._pktinfo(local)]
        at = 0
        while at < len(datagrams):
            end = self._run_end(datagrams, at) if self._has_segment else at + 1
            problem = self._send_run(datagrams[at:end], remote, source)
            if problem in (errno.EINVAL, errno.EIO, errno.EMSGSIZE) and end > at + 1:
                end, problem = at + 1, self._send_run(datagrams[at : at + 1], remote, source)
            if problem:
                return _stopped(at, problem, len(datagrams[at]))
            at = end
        return Sent(at)

    def _run_end(self, datagrams: Sequence[bytes], at: int) -> int:
        """The end of a run that goes as one: of equal lengths, but that the last one may be shorter."""
        size, octets, end = len(datagrams[at]), 0, at
        most = min(len(datagrams), at + _SEGMENTS_MOST)
        while end < most and (length := len(datagrams[end])) <= size and octets + length <= _RUN_OCTETS_MOST:
            octets += length
            end += 1
            if length < size:
                break
        return max(end, at + 1)

    def _send_run(self, run: Sequence[bytes], remote: SocketAddress, ancillary: list[tuple[int, int, bytes]]) -> int:
        """Returns: 0, or the error's number."""
        if len(run) > 1:
            ancillary = [*ancillary, (socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(run[0])))]
        for _ in range(2):  # the first error may be that of an earlier datagram, told late
            try:
                self.sock.sendmsg(run, ancillary, 0, remote)
                return 0
            except OSError as error:
                problem = error.errno or errno.EIO
            if problem not in _ASYNCHRONOUS:
                break
        return problem

    def _set_mark(self, mark: int) -> None:
        """A call only where the mark changes: runs of data all have the same."""
        if mark == self._mark:
            return
        self._mark = mark
        if self.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, mark)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, mark)

    def _pktinfo(self, local: Local) -> tuple[int, int, bytes]:
        if self.family == socket.AF_INET6:
            address = socket.inet_pton(socket.AF_INET6, local.address or "::")
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(address, local.interface)
        address = socket.inet_aton(local.address or "0.0.0.0")
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(local.interface, address, bytes(4))


def _stopped(count: int, problem: int, octets: int) -> Sent:
    if problem in (errno.EAGAIN, errno.ENOBUFS):
        return Sent(count, is_blocked=True, is_queue_full=problem == errno.ENOBUFS)
    if problem == errno.EMSGSIZE:
        return Sent(count, too_long=octets)
    return Sent(count, error=errno.errorcode.get(problem, str(problem)))


def _is_group(address: str) -> bool:
    """Whether an address is one of multicast."""
    return address.startswith(("ff", "FF")) if ":" in address else 224 <= int(address.partition(".")[0]) <= 239


def is_group(remote: SocketAddress) -> bool:
    """Whether what is sent there goes to a multicast group."""
    return _is_group(str(remote[0]))

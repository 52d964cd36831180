"""One listening TCP port for all versions of TCPCL: the first five octets of a connection say who takes it.

Links register the version they speak. The connection is handed over, with what was read of it, once magic and version
have come; a version that nobody speaks goes to the highest that is spoken, whose answer tells the peer (RFC 9174 §4.3).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tumpline.drivers.accept import Acceptor
from tumpline.drivers.dial import Address, display_address
from tumpline.errors import TumplineError

MAGIC = b"dtn!"  # RFC 9174 §4.2
FIRST_OCTETS = len(MAGIC) + 1
BACKLOG = 1024  # connections that the kernel keeps for us; it caps this itself
ACCEPTS_MAX = 64  # in one wake-up: a flood must not starve the sessions
# Connections that have said nothing yet. When one more comes the oldest is dropped: a peer that speaks at once gets in
# however many others stay silent.
WAITING_MAX = 128
FIRST_S = 10.0  # a peer that says nothing for so long has lost its way

Handler = Callable[[socket.socket, tuple[str | int, ...], bytes], None]  # the socket is the handler's from then on


class Registration(NamedTuple):
    """One version's share of a listener."""

    listener: Listener
    version: int

    @property
    def address(self) -> str:
        """Where peers reach us, with the port that the system chose if 0 was asked for."""
        return self.listener.address

    def close(self) -> None:
        """Give it up; the last one closes the port."""
        self.listener.unregister(self.version)


class _Waiting:
    """A connection whose first octets have not come."""

    __slots__ = ("deadline", "first", "peer", "sock")

    def __init__(self, sock: socket.socket, peer: tuple[str | int, ...], deadline: float) -> None:
        self.sock = sock
        self.peer = peer
        self.deadline = deadline
        self.first = b""


class Listener:
    """A bound port. Made by `listen`."""

    def __init__(self, asked: Address, sock: socket.socket, rejected: Callable[[str, str], None]) -> None:
        self.asked = asked
        self.address = display_address(sock.getsockname())
        self._sock = sock
        self._rejected = rejected
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Handler] = {}
        self._waiting: dict[int, _Waiting] = {}  # by descriptor, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._acceptor = Acceptor(sock, ACCEPTS_MAX, self._welcome, self._exhausted)

    def register(self, version: int, handler: Handler) -> Registration:
        """Take the connections of a version. Raises: TumplineError."""
        if version in self._handlers:
            raise _in_use(self.asked, "by another link of this process")
        self._handlers[version] = handler
        return Registration(self, version)

    def unregister(self, version: int) -> None:
        """Idempotent."""
        self._handlers.pop(version, None)
        if not self._handlers and _bound().get(self.asked) is self:
            del _bound()[self.asked]
            self._close()

    def _close(self) -> None:
        self._acceptor.stop()
        self._sock.close()
        if self._timer is not None:
            self._timer.cancel()
        for waiting in list(self._waiting.values()):
            self._take(waiting).close()

    # ---- accepting ---------------------------------------------------------------------------------------------------

    def _exhausted(self, why: str) -> None:
        self._rejected("", f"cannot accept on {self.address}: {why}")

    def _welcome(self, sock: socket.socket, peer: tuple[str | int, ...]) -> None:
        sock.setblocking(False)
        if len(self._waiting) >= WAITING_MAX:
            oldest = next(iter(self._waiting.values()))
            self._take(oldest).close()
        waiting = _Waiting(sock, peer, self._loop.time() + FIRST_S)
        self._waiting[sock.fileno()] = waiting
        self._loop.add_reader(sock.fileno(), self._read, waiting)
        if self._timer is None:
            self._timer = self._loop.call_at(waiting.deadline, self._expire)

    def _take(self, waiting: _Waiting) -> socket.socket:
        """The connection waits no longer."""
        self._loop.remove_reader(waiting.sock.fileno())
        del self._waiting[waiting.sock.fileno()]
        return waiting.sock

    def _expire(self) -> None:
        self._timer = None
        for waiting in list(self._waiting.values()):
            if waiting.deadline > self._loop.time():
                self._timer = self._loop.call_at(waiting.deadline, self._expire)
                return
            self._take(waiting).close()
            self._rejected(display_address(waiting.peer), f"no contact header within {FIRST_S:g} s")

    # ---- the first octets --------------------------------------------------------------------------------------------

    def _read(self, waiting: _Waiting) -> None:
        try:
            # Not one octet more: behind the header TLS may follow, which wants the descriptor itself.
            octets = waiting.sock.recv(FIRST_OCTETS - len(waiting.first))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            octets = b""
        waiting.first += octets
        if not octets or not MAGIC.startswith(waiting.first[: len(MAGIC)]):
            self._take(waiting).close()
            if waiting.first:
                self._rejected(display_address(waiting.peer), "it does not speak TCPCL")
        elif len(waiting.first) == FIRST_OCTETS:
            self._hand_over(waiting)

    def _hand_over(self, waiting: _Waiting) -> None:
        handler = self._handlers.get(waiting.first[-1]) or self._handlers[max(self._handlers)]
        handler(self._take(waiting), waiting.peer, waiting.first)


_BOUND: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, Listener]] = WeakKeyDictionary()


def _bound() -> dict[Address, Listener]:
    """The listeners of the running loop."""
    return _BOUND.setdefault(asyncio.get_running_loop(), {})


def listen(address: Address, version: int, handler: Handler, rejected: Callable[[str, str], None]) -> Registration:
    """Listen on the address, or join the listener that another version has there.

    `rejected(peer address, why)` is told of connections that came to nothing. Raises: TumplineError with the remedy."""
    bound = _bound()
    listener = bound.get(address) if address.port else None
    if listener is None:
        listener = Listener(address, _bind(address), rejected)
        # With port 0 each asks for a port of its own: the key is the one it got.
        listener.asked = address if address.port else Address(address.host, listener_port(listener))
        bound[listener.asked] = listener
    return listener.register(version, handler)


def listener_port(listener: Listener) -> int:
    """The port that was bound."""
    return int(listener.address.rpartition(":")[2])


def _bind(address: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise TumplineError(f"cannot listen on {address}: {address.host} is no address of this machine") from error
    failure: OSError | None = None
    endpoints = [(family, sockaddr) for family, _, _, _, sockaddr in found]
    if address.host == "::":  # a kernel without IPv6 still listens everywhere
        endpoints.append((socket.AF_INET, ("0.0.0.0", address.port)))
    for family, sockaddr in endpoints:
        try:
            return _bind_one(family, sockaddr)
        except OSError as error:
            failure = failure or error
    assert failure is not None
    raise _bind_error(address, failure) from failure


def _bind_one(family: int, sockaddr: tuple[str | int | bytes, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and sockaddr[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(sockaddr)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_error(address: Address, error: OSError) -> TumplineError:
    if error.errno == errno.EADDRINUSE:
        return _in_use(address, "is another agent running?")
    if error.errno == errno.EACCES:
        return TumplineError(f"not allowed to listen on {address}: choose a port above 1023 as `listen`")
    if error.errno == errno.EADDRNOTAVAIL:
        return TumplineError(f"cannot listen on {address}: this machine has no such address; choose another `listen`")
    return TumplineError(f"cannot listen on {address}: {error.strerror}")


def _in_use(address: Address, guess: str) -> TumplineError:
    return TumplineError(
        f"port in use: something listens on {address} already ({guess}); stop it or choose another `listen`"
    )

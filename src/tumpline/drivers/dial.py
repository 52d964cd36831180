"""From an address as people write it to a connected TCP socket: names, both families, racing (RFC 8305)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from itertools import chain, zip_longest
from typing import NamedTuple

from tumpline.errors import TumplineError

# RFC 8305 §5: "One recommended value for a default delay is 250 milliseconds."
ATTEMPT_DELAY_S = 0.25
CANDIDATES_MAX = 16  # a hostile DNS answer may list hundreds of addresses
ANY_HOST = "::"


class DialError(TumplineError):
    """The address cannot be reached now."""


class Address(NamedTuple):
    """Where a TCP peer listens: a name or numeric address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Whether the host is a DNS name and no numeric address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


def addresses_of(setting: str | list[str]) -> list[str]:
    """What a configuration names: one address, or several."""
    return [setting] if isinstance(setting, str) else setting


def parse_address(text: str, default_port: int) -> Address:
    """`host`, `host:port`, `[v6]:port`, `v6`, `*:port` or `:port`. Raises: TumplineError saying what to write."""
    host, port = _split(text.strip())
    if port == "":
        port = str(default_port)
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise TumplineError(f'"{text}" is no address: the port must be 0 to 65535; write it as host:port or [v6]:port')
    if any(c in host for c in " /[]"):
        raise TumplineError(f'"{text}" is no address; write it as host:port or [v6]:port')
    return Address(ANY_HOST if host in ("", "*") else host, int(port))


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not (rest == "" or rest.startswith(":")):
            raise TumplineError(f'"{text}" is no address; write an IPv6 address with a port as [v6]:port')
        return host, rest[1:]
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def display_address(sockaddr: tuple[str | int, ...]) -> str:
    """A socket address as people write it; IPv4 within IPv6 is shown as IPv4."""
    host = str(sockaddr[0]).removeprefix("::ffff:") if "." in str(sockaddr[0]) else str(sockaddr[0])
    return str(Address(host, int(sockaddr[1])))


Candidate = tuple[socket.AddressFamily, tuple[str | int | bytes, ...]]


async def resolve(address: Address) -> list[Candidate]:
    """The socket addresses of `address`, families alternating. Raises: DialError."""
    numeric = not address.is_name
    flags = socket.AI_NUMERICHOST if numeric else 0
    try:
        if numeric:  # needs no server, therefore no thread
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
        else:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DialError(f"{address}: the name {address.host} cannot be resolved ({_words(error)})") from error
    usable: list[Candidate] = [(family, sockaddr[:4]) for family, _, _, _, sockaddr in found]
    return interleave(usable)[:CANDIDATES_MAX]


def interleave(candidates: list[Candidate]) -> list[Candidate]:
    """RFC 8305 §4: whichever family is first is followed by an address of the other family."""
    if not candidates:
        return []
    first = [c for c in candidates if c[0] == candidates[0][0]]
    other = [c for c in candidates if c[0] != candidates[0][0]]
    return [c for c in chain.from_iterable(zip_longest(first, other)) if c is not None]


async def dial(address: Address, timeout_s: float) -> socket.socket:
    """Connect to whichever of the address's endpoints answers first.

    The socket is non-blocking and the caller's. Raises: DialError with one sentence.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await race(await resolve(address), address)
    except TimeoutError:
        raise DialError(f"{address}: no answer within {timeout_s:g} s") from None


async def race(candidates: list[Candidate], address: Address, delay_s: float = ATTEMPT_DELAY_S) -> socket.socket:
    """RFC 8305 §5: one attempt after another, `delay_s` apart or as soon as one fails; the first to connect wins."""
    attempts = _Race()
    try:
        async with asyncio.TaskGroup() as group:
            for candidate in candidates:
                attempts.failed_one.clear()
                attempts.tasks.append(group.create_task(attempts.attempt(*candidate), name=f"dial {address}"))
                await attempts.head_start(delay_s)
                if attempts.winner is not None:
                    break
    except BaseException:
        if attempts.winner is not None:  # we were cancelled in the moment of success
            attempts.winner.close()
        raise
    if attempts.winner is None:
        raise DialError(f"{address}: {_summary(attempts.errors)}")
    return attempts.winner


class _Race:
    def __init__(self) -> None:
        self.winner: socket.socket | None = None
        self.errors: list[OSError] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.failed_one = asyncio.Event()

    async def head_start(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self.failed_one.wait(), delay_s)
        except TimeoutError:
            pass  # the attempt goes on beside the next one

    async def attempt(self, family: socket.AddressFamily, sockaddr: tuple[str | int | bytes, ...]) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._fail(error)
            return
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
        except OSError as error:
            sock.close()
            self._fail(error)
        except BaseException:
            sock.close()
            raise
        else:
            self._win(sock)

    def _fail(self, error: OSError) -> None:
        self.errors.append(error)
        self.failed_one.set()

    def _win(self, sock: socket.socket) -> None:
        if self.winner is not None:
            sock.close()
            return
        self.winner = sock
        self.failed_one.set()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()


def _summary(errors: list[OSError]) -> str:
    """What went wrong with all endpoints, each cause once."""
    return ", ".join(dict.fromkeys(_words(error) for error in errors)) or "it has no endpoint to connect to"


def _words(error: Exception) -> str:
    # asyncio words its connect errors as "[Errno 111] Connect call failed (...)": the plain cause reads better. Name
    # look-up has numbers of its own (negative), whose text is in the error.
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.args[-1] if error.args else error).lower()

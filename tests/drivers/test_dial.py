"""Addresses, and reaching them (RFC 8305)."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tumpline.drivers.dial import (
    Address,
    Candidate,
    DialError,
    dial,
    display_address,
    interleave,
    parse_address,
    race,
    resolve,
)
from tumpline.errors import TumplineError

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("relay.example:4557", Address("relay.example", 4557)),
        ("relay.example", Address("relay.example", 4556)),
        ("192.0.2.7:1", Address("192.0.2.7", 1)),
        ("[::1]:4556", Address("::1", 4556)),
        ("[2001:db8::1]", Address("2001:db8::1", 4556)),
        ("2001:db8::1", Address("2001:db8::1", 4556)),
        ("*:4000", Address("::", 4000)),
        (":4000", Address("::", 4000)),
    ],
)
def test_addresses_as_people_write_them(text: str, address: Address) -> None:
    assert parse_address(text, 4556) == address
    assert parse_address(str(address), 1) == address


@pytest.mark.parametrize("text", ["host:port", "host:70000", "[::1", "[::1]x", "a b:1", "http://host:1", "host:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(TumplineError, match="write"):
        parse_address(text, 4556)


@pytest.mark.parametrize(
    ("sockaddr", "text"),
    [
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("192.0.2.1", 5), "192.0.2.1:5"),
    ],
)
def test_socket_addresses_for_people(sockaddr: tuple[str | int, ...], text: str) -> None:
    assert display_address(sockaddr) == text


def _candidate(family: socket.AddressFamily, number: int) -> Candidate:
    return family, (str(number), 1)


def test_families_alternate() -> None:
    """RFC 8305 §4."""
    found = [_candidate(V6, 1), _candidate(V6, 2), _candidate(V6, 3), _candidate(V4, 4)]
    assert interleave(found) == [found[0], found[3], found[1], found[2]]
    assert interleave([]) == []


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_a_refused_endpoint_makes_room_at_once(server: socket.socket) -> None:
    """The next attempt does not wait out the delay when the one before has failed."""
    candidates: list[Candidate] = [(V4, ("127.0.0.1", _closed_port())), (V4, server.getsockname())]
    async with asyncio.timeout(20):
        sock = await race(candidates, Address("test", 1), delay_s=1e6)
    assert sock.getpeername() == server.getsockname()
    sock.close()


async def test_an_endpoint_that_is_silent_does_not_hold_up_the_next(server: socket.socket, monkeypatch: Any) -> None:
    """RFC 8305 §5: attempts run beside each other; the loser is cancelled and closed."""
    silent: Candidate = (V4, ("192.0.2.1", 9))
    loop = asyncio.get_running_loop()
    connect, cancelled = loop.sock_connect, []

    async def fake(sock: socket.socket, address: Any) -> None:
        if address != silent[1]:
            return await connect(sock, address)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(sock)
            raise

    monkeypatch.setattr(loop, "sock_connect", fake)
    async with asyncio.timeout(20):
        sock = await race([silent, (V4, server.getsockname())], Address("test", 1), delay_s=0.01)
    assert sock.getpeername() == server.getsockname()
    assert [lost.fileno() for lost in cancelled] == [-1]
    sock.close()


async def test_every_cause_is_named_once() -> None:
    port = _closed_port()
    candidates: list[Candidate] = [(V4, ("127.0.0.1", port)), (V4, ("127.0.0.1", port))]
    with pytest.raises(DialError, match=r"^test:1: connection refused$"):
        await race(candidates, Address("test", 1))


async def test_no_answer_in_time(monkeypatch: Any) -> None:
    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    with pytest.raises(DialError, match="no answer within"):
        await dial(Address("127.0.0.1", 1), timeout_s=0.01)


async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(DialError, match="cannot be resolved"):
        await resolve(Address("name.invalid", 1))


async def test_a_hostile_list_of_addresses_is_cut(monkeypatch: Any) -> None:
    async def many(*_: Any, **__: Any) -> list[Any]:
        return [(V4, None, None, "", ("192.0.2.1", i)) for i in range(500)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", many)
    assert len(await resolve(Address("name.example", 1))) == 16

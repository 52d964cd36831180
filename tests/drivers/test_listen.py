"""One port for all versions of TCPCL."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tumpline.drivers import accept
from tumpline.drivers import listen as module
from tumpline.drivers.dial import Address, parse_address
from tumpline.drivers.listen import Registration, listen
from tumpline.errors import TumplineError

ANY = Address("127.0.0.1", 0)


class Desk:
    """Takes connections as a link would."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.rejected: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.open: list[Registration] = []

    def listen(self, address: Address, version: int, name: str) -> Registration:
        def handler(sock: socket.socket, _peer: Any, first: bytes) -> None:
            sock.close()
            self.taken.put_nowait((name, first))

        self.open.append(listen(address, version, handler, lambda *why: self.rejected.put_nowait(why)))
        return self.open[-1]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    for registration in desk.open:
        registration.close()


async def greet(address: str, *parts: bytes) -> None:
    where = parse_address(address, 0)
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, tuple(where))
        for part in parts:
            await loop.sock_sendall(sock, part)


async def test_versions_share_a_port(desk: Desk) -> None:
    four = desk.listen(ANY, 4, "four")
    where = parse_address(four.address, 0)
    three = desk.listen(where, 3, "three")
    assert three.address == four.address
    await greet(four.address, b"dtn!\x04\x00")
    assert await desk.taken.get() == ("four", b"dtn!\x04")
    await greet(four.address, b"dtn!\x03more")
    assert await desk.taken.get() == ("three", b"dtn!\x03")
    await greet(four.address, b"dtn!\x09")  # nobody speaks it: the highest answers
    assert await desk.taken.get() == ("four", b"dtn!\x09")


async def test_the_port_closes_with_its_last_version(desk: Desk) -> None:
    four = desk.listen(ANY, 4, "four")
    where = parse_address(four.address, 0)
    three = desk.listen(where, 3, "three")
    four.close()
    four.close()
    await greet(three.address, b"dtn!\x04")
    assert await desk.taken.get() == ("three", b"dtn!\x04")
    three.close()
    with pytest.raises(ConnectionRefusedError):
        await greet(three.address)


async def test_one_version_twice(desk: Desk) -> None:
    four = desk.listen(ANY, 4, "four")
    with pytest.raises(TumplineError, match=r"port in use.*another link of this process.*choose another `listen`"):
        desk.listen(parse_address(four.address, 0), 4, "again")


async def test_a_port_that_another_process_has(desk: Desk) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(TumplineError, match=r"port in use.*is another agent running\?.*choose another `listen`"),
    ):
        desk.listen(Address(*other.getsockname()), 4, "four")


@pytest.mark.parametrize(
    ("address", "text"),
    [(Address("192.0.2.1", 4556), "no such address"), (Address("name.invalid", 1), "no address of this machine")],
)
async def test_an_address_that_is_not_ours(desk: Desk, address: Address, text: str) -> None:
    with pytest.raises(TumplineError, match=text):
        desk.listen(address, 4, "four")


async def test_every_address_means_both_families(desk: Desk) -> None:
    registration = desk.listen(Address("::", 0), 4, "four")
    port = registration.address.rpartition(":")[2]
    await greet(f"127.0.0.1:{port}", b"dtn!\x04")
    assert await desk.taken.get() == ("four", b"dtn!\x04")


async def test_silence_is_given_up(desk: Desk, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    registration = desk.listen(ANY, 4, "four")
    with socket.create_connection(parse_address(registration.address, 0)) as sock:
        address, why = await desk.rejected.get()
        assert why == "no contact header within 0.01 s"
        assert address.endswith(str(sock.getsockname()[1]))


async def test_without_descriptors_it_rests_and_goes_on(desk: Desk, monkeypatch: Any) -> None:
    monkeypatch.setattr(accept, "REST_S", 0.01)
    registration = desk.listen(ANY, 4, "four")
    acceptor = registration.listener._acceptor
    real = acceptor._listener
    failures = [OSError(errno.EMFILE, "Too many open files")]

    class Exhausted:
        def fileno(self) -> int:
            return real.fileno()

        def accept(self) -> Any:
            if failures:
                raise failures.pop()
            return real.accept()

    acceptor._listener = Exhausted()  # type: ignore[assignment]
    await greet(registration.address, b"dtn!\x04")
    assert await desk.taken.get() == ("four", b"dtn!\x04")
    assert "Too many open files" in (await desk.rejected.get())[1]

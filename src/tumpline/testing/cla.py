"""A TCPCL agent without a bus that remembers what it told, and a peer made by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from tumpline.drivers.dial import Address
from tumpline.node.cla.contact import Contact
from tumpline.node.cla.events import AgentEvent, SessionStateChanged
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.node.cla.tcpcl import TcpclAgent
from tumpline.wire.tcpcl4 import SessionInit, encode_init

HANG_S = 20.0  # nothing on loopback takes so long; only a test that would fail waits for it
CONTACT = b"dtn!\x04\x00"
PEER_INIT = encode_init(SessionInit(0, 1 << 20, 1 << 40, b"dtn://hand/"))
T = TypeVar("T")


class Recorded:
    """An agent and everything it told."""

    def __init__(self, settings: TcpclAgentSettings) -> None:
        self.events: list[AgentEvent] = []
        self._changed = asyncio.Event()
        self.agent = TcpclAgent(settings, self._tell)

    def _tell(self, event: AgentEvent) -> None:
        self.events.append(event)
        self._changed.set()

    def of(self, kind: type[T]) -> list[T]:
        """Events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[T], number: int = 1, fits: Callable[[T], bool] = lambda _: True) -> T:
        """The first (or `number`-th) event of that kind that fits."""
        async with asyncio.timeout(HANG_S):
            while len(found := [event for event in self.of(kind) if fits(event)]) < number:
                self._changed.clear()
                await self._changed.wait()
        return found[number - 1]

    async def established(self) -> Contact:
        """The first contact with a session, once it is there."""
        event = await self.until(SessionStateChanged, 1, lambda event: event.state == "established")
        return self.agent.contacts[event.contact]


async def settle(recorded: Recorded) -> None:
    """End it; it must have given back everything it held."""
    await recorded.agent.close()
    holdings = recorded.agent.holdings
    assert (holdings.queued.octets, holdings.received.octets, holdings.spool.room.octets) == (0, 0, 0)


class HandPeer:
    """A peer that takes connections, and says what it is told to say: nothing by itself."""

    def __init__(self, client: Recorded) -> None:
        self._client = client
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self.where = Address("127.0.0.1", self._server.getsockname()[1])

    async def connection(self) -> tuple[Contact, socket.socket]:
        """The agent connects."""
        contact = await self._client.agent.connect(self.where)
        sock, _ = await asyncio.get_running_loop().sock_accept(self._server)
        self._server.close()
        sock.setblocking(False)
        return contact, sock

    async def session(self) -> tuple[Contact, socket.socket]:
        """The agent connects and has a session."""
        contact, sock = await self.connection()
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, len(CONTACT))
        await loop.sock_sendall(sock, CONTACT + PEER_INIT)
        await self._client.established()
        return contact, sock

"""A hop between two ends on loopback that does to octets or datagrams what it is told: alters them, drops them, cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

HOST = "127.0.0.1"
READ_OCTETS = 1 << 16

# Of a stream from the client to the server: octets and where in the stream they stand; what is to go on instead. None
# ends the connection.
Change = Callable[[bytes, int], bytes | None]
# Of datagrams from the client to the server: the datagram and its number; those that are to go on instead.
ChangeDatagram = Callable[[bytes, int], list[bytes]]


@asynccontextmanager
async def tcp_relay(port: int, change: Change) -> AsyncIterator[str]:
    """The address of a relay to this port."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, back, change), name="relay, forth")
                tasks.create_task(_pump(there, writer, lambda data, _offset: data), name="relay, back")
        finally:
            writer.close()
            back.close()

    server = await asyncio.start_server(carry, HOST, 0)
    async with server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Change) -> None:
    offset = 0
    try:
        while data := await reader.read(READ_OCTETS):
            changed = change(data, offset)
            offset += len(data)
            if changed is None:
                break
            writer.write(changed)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.close()  # one end broke off: so does the other


@asynccontextmanager
async def udp_relay(port: int, change: ChangeDatagram) -> AsyncIterator[str]:
    """The address of a relay to this port, for one client."""
    relay = _Datagrams((HOST, port), change)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: relay, (HOST, 0))
    try:
        yield f"{HOST}:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: tuple[str, int], change: ChangeDatagram) -> None:
        self._server = server
        self._change = change
        self._client: Any = None
        self._count = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert self._transport is not None
        if addr == self._server:
            self._transport.sendto(data, self._client)
            return
        self._client = addr
        for each in self._change(data, self._count):
            self._transport.sendto(each, self._server)
        self._count += 1

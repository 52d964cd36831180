"""The bus without a socket: the machines of both ends, joined by calls of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

from tumpline.drivers.dbus import BusConnection
from tumpline.drivers.dbus.descriptors import Descriptor
from tumpline.machines.dbus import ClientConfig, ClientConnection, Outbox
from tumpline.machines.dbus_bus import Bus, BusConfig, Credentials

GUID = "00112233445566778899aabbccddeeff"
HERE = Credentials(os.getuid(), os.getpid())


class MemoryBus:
    """The very `Bus` of the embedded one; clients get what it queues for them in the next turn of the loop."""

    def __init__(self, config: BusConfig | None = None) -> None:
        self.bus = Bus(config or BusConfig(GUID, HERE, machine_id=GUID))
        self._ends: dict[int, _End] = {}

    async def open(self, credentials: Credentials = HERE) -> BusConnection:
        """A client. Raises: BusUnavailableError."""
        now = asyncio.get_running_loop().time()
        machine = ClientConnection(ClientConfig(credentials.uid), now)
        client = self.bus.accept(credentials, now)
        assert client is not None, "the bus is full"

        def connect(
            received: Callable[[memoryview, list[Descriptor]], None],
            broken: Callable[[str], None],
            _writable: Callable[[], None],
        ) -> _End:
            end = _End(self, client.number, machine.outbox, client.outbox, received, broken)
            self._ends[client.number] = end
            return end

        return await BusConnection.join(machine, connect)

    def turn(self) -> None:
        """Bring what the bus has for its clients."""
        for number in self.bus.take_written():
            self._ends[number].bring()
        for number, reason in self.bus.take_over():
            end = self._ends.pop(number)
            end.clear()
            end.broken(reason)


class _End:
    """A client's end."""

    def __init__(
        self,
        memory: MemoryBus,
        number: int,
        outbox: Outbox,
        inbox: Outbox,
        received: Callable[[memoryview, list[Descriptor]], None],
        broken: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._number = number
        self._outbox = outbox
        self._inbox = inbox
        self._received = received
        self.broken = broken
        self._loop = asyncio.get_running_loop()

    def flush(self) -> None:
        self._loop.call_soon(self._move)

    def close(self) -> None:
        self._loop.call_soon(self._leave)

    def bring(self) -> None:
        """What the bus has queued."""
        while (found := _taken(self._inbox)) is not None:
            self._received(memoryview(found[0]), found[1])

    def clear(self) -> None:
        self._inbox.clear()

    def _move(self) -> None:
        while (found := _taken(self._outbox)) is not None:
            self._memory.bus.receive(self._number, memoryview(found[0]), found[1])
            self._memory.turn()

    def _leave(self) -> None:
        self._memory.bus.lost(self._number, "the client has left")
        self._memory.turn()


def _taken(outbox: Outbox) -> tuple[bytes, list[Descriptor]] | None:
    """What one write would take, taken."""
    pieces, fds = outbox.front()
    if not pieces:
        return None
    found = cast("list[Descriptor]", list(fds))
    for each in found:
        each.retain()  # as the kernel does while they are under way
    data = b"".join(pieces)
    outbox.sent(len(data))
    return data, found

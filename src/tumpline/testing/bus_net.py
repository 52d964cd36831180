"""A bus and its clients, all of them machines, in virtual time: octets go across when the test says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tumpline.machines.contract import Handle
from tumpline.machines.dbus import Answered, ClientConfig, ClientConnection, Ended, Event, Joined, SignalReceived
from tumpline.machines.dbus.connection import BUS_NAME, BUS_PATH
from tumpline.machines.dbus_bus import Bus, BusConfig, Credentials
from tumpline.machines.dbus_bus.client import Client
from tumpline.wire.dbus import Kind, Message

GUID = "00112233445566778899aabbccddeeff"
HOST = Credentials(1000, 77)
CONFIG = BusConfig(GUID, HOST, machine_id=GUID)


class NetClient:
    """A client: the machine at its end, what the bus knows of it, and what it has seen."""

    def __init__(self, machine: ClientConnection, at_bus: Client) -> None:
        self.machine = machine
        self.at_bus = at_bus
        self.is_deaf = False  # reads nothing: what the bus queues for it stays there
        self.seen: list[Event] = []

    @property
    def name(self) -> str:
        """Its unique name."""
        return next(event.unique_name for event in self.seen if isinstance(event, Joined))

    @property
    def reason(self) -> str:
        """Why it was let go, "" while it was not."""
        return next((event.text for event in self.seen if isinstance(event, Ended)), "")

    def signals(self) -> list[tuple[Any, ...]]:
        """Those it has heard, each once: member and values."""
        heard = [event.message for event in self.seen if isinstance(event, SignalReceived)]
        self.seen = [event for event in self.seen if not isinstance(event, SignalReceived)]
        return [(message.member, *message.body_values()) for message in heard]


class BusNet:
    """All of it."""

    def __init__(self, config: BusConfig = CONFIG) -> None:
        self.now = 0.0
        self.bus = Bus(config)
        self.clients: dict[int, NetClient] = {}

    def connect(self, uid: int = HOST.uid, pid: int = 1) -> NetClient:
        """One more, not greeted yet."""
        at_bus = self.bus.accept(Credentials(uid, pid), self.now)
        assert at_bus is not None, "the bus is full"
        client = NetClient(ClientConnection(ClientConfig(uid), self.now), at_bus)
        self.clients[at_bus.number] = client
        return client

    def join(self, uid: int = HOST.uid) -> NetClient:
        """One more, with a name."""
        client = self.connect(uid)
        self.settle()
        client.signals()
        return client

    def leave(self, client: NetClient) -> None:
        """Its connection is over."""
        self.bus.lost(client.at_bus.number, "left")
        self.settle()

    def settle(self) -> None:
        """Bring everything across until nothing moves."""
        is_moving = True
        while is_moving:
            is_moving = False
            for client in list(self.clients.values()):
                is_moving |= self._up(client) | self._down(client)
        self._end()

    def _up(self, client: NetClient) -> bool:
        data, fds = taken(client.machine)
        if data:
            self.bus.receive(client.at_bus.number, memoryview(data), fds)
        return bool(data)

    def _down(self, client: NetClient) -> bool:
        data, fds = (b"", ()) if client.is_deaf else taken(client.at_bus)
        if data:
            client.machine.receive(memoryview(data), fds)
        client.seen += client.machine.events()
        return bool(data)

    def _end(self) -> None:
        self.bus.take_written()
        for number, reason in self.bus.take_over():
            client = self.clients.pop(number, None)
            if client is None:
                continue  # one that a test made without an end of its own
            self._down(client)
            client.at_bus.outbox.clear()
            client.machine.end(reason)
            client.seen += client.machine.events()

    # ---- what clients do ---------------------------------------------------------------------------------------------

    def call(self, client: NetClient, message: Message, fds: Iterable[Handle] = ()) -> int:
        """Send a call; its serial."""
        serial = client.machine.call(message, tuple(fds), 1e9, self.now)
        self.settle()
        return serial

    def ask(self, client: NetClient, member: str, signature: str = "", *arguments: Any) -> Any:
        """A method of the bus: its one value, None for none; of an error the last part of its name."""
        message = Message(Kind.CALL, 0, BUS_PATH, BUS_NAME, member, destination=BUS_NAME)
        answer = self.answer(client, self.call(client, message.with_body(signature, *arguments)))
        assert answer is not None, f"{member} is not answered"
        if answer.kind == Kind.ERROR:
            return answer.error_name.rpartition(".")[2]
        values = answer.body_values()
        return values[0] if values else None

    def answer(self, client: NetClient, serial: int) -> Message | None:
        """How a call was answered; None: not yet."""
        for event in client.seen:
            if isinstance(event, Answered) and event.serial == serial:
                return event.message
        return None

    def send(self, client: NetClient, message: Message, fds: Iterable[Handle] = ()) -> None:
        """Send what nobody answers."""
        client.machine.post(message, tuple(fds))
        self.settle()


def taken(end: ClientConnection | Client) -> tuple[bytes, tuple[Handle, ...]]:
    """What one write would take, taken; the reader of it holds the descriptors."""
    pieces, fds = end.outbox.front()
    for fd in fds:
        fd.retain()
    data = b"".join(pieces)
    end.outbox.sent(len(data))
    return data, fds

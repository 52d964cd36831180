"""The TCPCL agent on a bus, under the older agent's names: `/org/ietf/dtn/tcpcl/Agent`, `/org/ietf/dtn/tcpcl/Contact{N}`.

Beside its methods there are `send_bundle_fd` and `recv_bundle_pop_fd`: octets of any number, for callers of any user; and
`recv_bundle_hold`, `recv_bundle_accept`, `recv_bundle_refuse`, by which a node tells senders what became of their bundles.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from tumpline.drivers.dbus import BusConnection, BusError, Call, ErrorName, Interface, Method, Variant
from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.dial import Address
from tumpline.drivers.spool import file_to_send, open_to_send, raise_file_limit
from tumpline.machines.contract import FileRange
from tumpline.machines.effects import RefuseReason
from tumpline.node.cla import events
from tumpline.node.cla.contact import Contact
from tumpline.node.cla.holdings import QueueFullError
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.node.cla.tcpcl import TcpclAgent
from tumpline.ui.dbus.holders import Holders
from tumpline.ui.dbus.named_files import require_own_user, told

AGENT_PATH: Final = "/org/ietf/dtn/tcpcl/Agent"
AGENT: Final = "org.ietf.dtn.tcpcl.Agent"
CONTACT: Final = "org.ietf.dtn.tcpcl.Contact"
_INT_MOST: Final = (1 << 31) - 1  # numbers are of type i, as the older agent's are: larger ones are told as this


class Bus(Protocol):
    """Where objects are shown: a Presence, or another way to a connection."""

    @property
    def connection(self) -> BusConnection | None: ...

    def export(self, path: str, *interfaces: Interface) -> None: ...

    def unexport(self, path: str) -> None: ...

    def emit(self, path: str, interface: str, member: str, *arguments: Any) -> None: ...


class Stoppable(Protocol):
    """An agent that can be asked to end."""

    def shutdown(self) -> bool: ...

    def stop(self) -> None: ...


def contact_path(number: int) -> str:
    """Of the object of a connection."""
    return f"/org/ietf/dtn/tcpcl/Contact{number}"


async def serve_tcpcl(settings: TcpclAgentSettings, started: Callable[[TcpclAgent], None] = lambda _: None) -> None:
    """An agent on its bus, until somebody stops it: over the bus, or by SIGTERM (the first one: once its transfers are
    done). `started` is called when it has its name, which comes last: who sees the name knows that the agent listens.

    Raises: TumplineError with the remedy (no bus, name taken, port in use ...)."""
    raise_file_limit()
    presence = Presence(settings.bus_address, settings.bus_service, left=lambda _reason: on_bus.left())
    on_bus = TcpclOnBus(settings, presence)
    agent = on_bus.agent
    try:
        await agent.start()
        await presence.start()
        with sigterm_ends(agent):
            started(agent)
            await agent.ended()
    finally:
        try:
            await agent.close()
        finally:
            await presence.stop()


@contextmanager
def sigterm_ends(agent: Stoppable) -> Iterator[None]:
    """The first SIGTERM shuts the agent down, the second stops it."""
    asked: list[None] = []

    def ask() -> None:
        if asked:
            agent.stop()
        else:
            asked.append(None)
            agent.shutdown()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ask)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class TcpclOnBus:
    """The agent, and its objects on a bus."""

    def __init__(self, settings: TcpclAgentSettings, bus: Bus) -> None:
        """Raises: ConfigError, StorageError."""
        self.agent = TcpclAgent(settings, self._tell)
        self._bus = bus
        self._contacts = ContactMethods(self.agent)
        self._holders = Holders(bus, self.agent.hold)
        self._signals: dict[type[Any], Callable[[Any], None]] = {
            events.ConnectionOpened: self._opened,
            events.ConnectionClosed: lambda event: self._of_agent("connection_closed", event.contact),
            events.ContactRemoved: lambda event: self._bus.unexport(contact_path(event.contact)),
            events.SessionStateChanged: lambda event: self._of_contact("session_state_changed", event),
            events.SendStarted: lambda event: self._of_contact("send_bundle_started", event),
            events.SendProgressed: lambda event: self._of_contact("send_bundle_intermediate", event),
            events.SendFinished: lambda event: self._of_contact("send_bundle_finished", event),
            events.ReceiveStarted: self._receive_started,
            events.ReceiveProgressed: lambda event: self._of_contact("recv_bundle_intermediate", event),
            events.ReceiveFinished: lambda event: self._of_contact("recv_bundle_finished", event),
        }
        bus.export(AGENT_PATH, self._interface())

    def _interface(self) -> Interface:
        where = ("address", "port")
        return Interface(
            AGENT,
            {
                "get_connections": Method(self._get_connections, "", "ao"),
                "shutdown": Method(lambda _call: self.agent.shutdown(), "", "b"),
                "stop": Method(lambda _call: self.agent.stop()),
                "listen": Method(self._listen, "sq", "", where),
                "listen_stop": Method(self._listen_stop, "sq", "", where),
                "connect": Method(self._connect, "sq", "o", where),
                "recv_bundle_hold": Method(self._hold, "b", "", ("hold",)),
            },
            {"connection_opened": "o", "connection_closed": "o"},
        )

    # ---- methods -----------------------------------------------------------------------------------------------------

    def _get_connections(self, _call: Call) -> list[str]:
        return [contact_path(number) for number in self.agent.connections]

    def _listen(self, _call: Call, address: str, port: int) -> None:
        self.agent.listen(Address(address, port))

    def _listen_stop(self, _call: Call, address: str, port: int) -> None:
        self.agent.listen_stop(Address(address, port))

    async def _connect(self, _call: Call, address: str, port: int) -> str:
        contact = await self.agent.connect(Address(address, port))
        return contact_path(contact.number)

    async def _hold(self, call: Call, holds: bool) -> None:
        """While the caller is on the bus, senders hear that a bundle has come when it is accepted (or refused)."""
        if holds:
            await self._holders.add(call.sender)
        else:
            self._holders.remove(call.sender)

    def left(self) -> None:
        """The bus is gone."""
        self._holders.clear()

    # ---- signals -----------------------------------------------------------------------------------------------------

    def _tell(self, event: events.AgentEvent) -> None:
        self._signals[type(event)](event)

    def _of_agent(self, member: str, contact: int) -> None:
        self._bus.emit(AGENT_PATH, AGENT, member, contact_path(contact))

    def _of_contact(self, member: str, event: Any) -> None:
        """The fields of these events are the signal's values, in order."""
        self._bus.emit(contact_path(event.contact), CONTACT, member, *event[1:])

    def _opened(self, event: events.ConnectionOpened) -> None:
        self._bus.export(contact_path(event.contact), self._contacts.interface(self.agent.contacts[event.contact]))
        self._of_agent("connection_opened", event.contact)

    def _receive_started(self, event: events.ReceiveStarted) -> None:
        total = Variant("s", "") if event.octets is None else Variant("t", event.octets)
        path = contact_path(event.contact)
        self._bus.emit(path, CONTACT, "recv_bundle_started", event.transfer, total)


class ContactMethods:
    """What can be asked of a connection."""

    def __init__(self, agent: TcpclAgent) -> None:
        self._agent = agent

    def interface(self, contact: Contact) -> Interface:
        """Of one connection."""

        def of(run: Callable[..., Any], takes: str = "", gives: str = "", *names: str) -> Method:
            return Method(lambda call, *arguments: run(contact, call, *arguments), takes, gives, names)

        return Interface(
            CONTACT,
            {
                "get_session_state": of(lambda contact, _call: contact.state, "", "s"),
                "get_session_parameters": of(self._parameters, "", "a{sv}"),
                "is_secure": of(lambda contact, _call: contact.is_secure, "", "b"),
                "is_sess_idle": of(lambda contact, _call: contact.is_idle, "", "b"),
                "terminate": of(self._terminate, "y", "", "reason"),
                "close": of(self._close),
                "send_bundle_data": of(self._send_data, "ay", "s", "data", "transfer_id"),
                "send_bundle_file": of(self._send_file, "s", "s", "path", "transfer_id"),
                "send_bundle_fd": of(self._send_fd, "h", "s", "file", "transfer_id"),
                "send_bundle_get_queue": of(lambda contact, _call: contact.outgoing.queue, "", "as"),
                "recv_bundle_get_queue": of(lambda contact, _call: contact.incoming.queue, "", "as"),
                "recv_bundle_pop_data": of(self._pop_data, "s", "ay", "transfer_id", "data"),
                "recv_bundle_pop_file": of(self._pop_file, "ss", "", "transfer_id", "path"),
                "recv_bundle_pop_fd": of(self._pop_fd, "s", "h", "transfer_id", "file"),
                "recv_bundle_accept": of(self._accept, "s", "", "transfer_id"),
                "recv_bundle_refuse": of(self._refuse, "ss", "", "transfer_id", "reason"),
            },
            _CONTACT_SIGNALS,
        )

    def _parameters(self, contact: Contact, _call: Call) -> dict[str, Variant]:
        parameters = self._agent.parameters(contact)
        found = {} if parameters is None else parameters._asdict()
        return {name: _variant(value) for name, value in found.items() if value is not None}

    def _terminate(self, contact: Contact, _call: Call, reason: int) -> None:
        self._agent.terminate(contact, reason)

    def _close(self, contact: Contact, _call: Call) -> None:
        self._agent.close_contact(contact)

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _send_data(self, contact: Contact, _call: Call, data: bytes) -> str:
        with bounded():
            return contact.outgoing.send_data(data)

    async def _send_file(self, contact: Contact, call: Call, path: str) -> str:
        await require_own_user(call, "send_bundle_fd")
        with told(path):
            return self._send(contact, open_to_send(path))

    def _send_fd(self, contact: Contact, call: Call, index: int) -> str:
        try:
            fd = call.take_fd(index)
        except LookupError as error:
            raise BusError(ErrorName.INVALID_ARGS, str(error)) from error
        with told("the file that was passed"):
            return self._send(contact, file_to_send(fd, "the file that was passed"))

    def _send(self, contact: Contact, payload: FileRange) -> str:
        with bounded():
            return contact.outgoing.send_file(payload)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    async def _pop_data(self, contact: Contact, _call: Call, number: str) -> bytes:
        with told(f"bundle {number}"):
            return await contact.incoming.pop_data(number)

    async def _pop_file(self, contact: Contact, call: Call, number: str, path: str) -> None:
        await require_own_user(call, "recv_bundle_pop_fd")
        with told(path):
            await self._agent.pop_file(contact, number, path)

    def _pop_fd(self, contact: Contact, call: Call, number: str) -> int:
        with told(f"bundle {number}"):
            fd = contact.incoming.pop_fd(number)
        try:
            return call.give_fd(fd)
        finally:
            os.close(fd)

    def _accept(self, contact: Contact, _call: Call, number: str) -> None:
        self._agent.accept(contact, number)

    def _refuse(self, contact: Contact, _call: Call, number: str, reason: str) -> None:
        try:
            why = RefuseReason(reason)
        except ValueError:
            known = ", ".join(each.value for each in RefuseReason)
            raise BusError(
                ErrorName.INVALID_ARGS, f"{reason!r} is no reason to refuse; write one of: {known}"
            ) from None
        self._agent.refuse(contact, number, why)


_CONTACT_SIGNALS: Final = {
    "session_state_changed": "s",
    "send_bundle_started": "st",
    "send_bundle_intermediate": "st",
    "send_bundle_finished": "sts",
    "recv_bundle_started": "sv",
    "recv_bundle_intermediate": "st",
    "recv_bundle_finished": "sts",
}


@contextmanager
def bounded() -> Iterator[None]:
    """A full queue is told by the name that everybody knows."""
    try:
        yield
    except QueueFullError as error:
        raise BusError(ErrorName.LIMITS_EXCEEDED, str(error)) from error


def _variant(value: str | bool | int) -> Variant:
    if isinstance(value, bool):
        return Variant("b", value)
    return Variant("s", value) if isinstance(value, str) else Variant("i", min(value, _INT_MOST))

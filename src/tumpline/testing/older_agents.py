"""Convergence-layer agents that behave on the bus as the older demo agent's do, joined within the process.

What it was seen to do (docs/older-agent.md): bundles wait in memory until they are popped, and are told to the sender as
received long before; a fetched one is forgotten; the length of a transfer that begins is ""; whatever it does not have is
an unknown method; what breaks inside is an error of Python's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from tumpline.drivers.dbus import BusConnection, BusError, Call, Interface, Method, Variant

TCPCL_AGENT: Final = "org.ietf.dtn.tcpcl.Agent"
TCPCL_CONTACT: Final = "org.ietf.dtn.tcpcl.Contact"
UDPCL_AGENT: Final = "org.ietf.dtn.udpcl.Agent"
TCPCL_PATH: Final = "/org/ietf/dtn/tcpcl"
UDPCL_PATH: Final = "/org/ietf/dtn/udpcl/Agent"


def _python(name: str, text: str) -> BusError:
    return BusError(f"org.freedesktop.DBus.Python.{name}", text)


class OlderContact:
    """One end of a session within the process."""

    def __init__(self, agent: OlderTcpclAgent, number: int) -> None:
        self.agent = agent
        self.path = f"{TCPCL_PATH}/Contact{number}"
        self.peer: OlderContact | None = None
        self.state = "connecting"
        self.sending: dict[str, bytes] = {}
        self.received: dict[str, bytes] = {}
        self.hold = False  # nothing leaves
        self._queued = asyncio.Event()
        self._sent = 0
        agent.bus.export(self.path, Interface(TCPCL_CONTACT, self._methods(), CONTACT_SIGNALS))

    def _methods(self) -> dict[str, Method]:
        return {
            "get_session_state": Method(lambda _call: self.state, "", "s"),
            "get_session_parameters": Method(lambda _call: self._parameters(), "", "a{sv}"),
            "is_secure": Method(lambda _call: self.agent.is_secure, "", "b"),
            "is_sess_idle": Method(lambda _call: not self.sending, "", "b"),
            "terminate": Method(lambda _call, _reason: self.end(), "y"),
            "close": Method(lambda _call: self.end(), ""),
            "send_bundle_data": Method(self._send_data, "ay", "s"),
            "send_bundle_file": Method(self._send_file, "s", "s"),
            "send_bundle_get_queue": Method(lambda _call: list(self.sending), "", "as"),
            "recv_bundle_get_queue": Method(lambda _call: list(self.received), "", "as"),
            "recv_bundle_pop_data": Method(lambda _call, name: self._pop(name), "s", "ay"),
            "recv_bundle_pop_file": Method(self._pop_file, "ss"),
        }

    def _parameters(self) -> dict[str, Variant]:
        assert self.peer is not None
        told: dict[str, Variant] = {
            "peer_nodeid": Variant("s", self.peer.agent.node_id),
            "keepalive": Variant("i", 0),
            "peer_transfer_mru": Variant("i", (1 << 31) - 1),
            "peer_segment_mru": Variant("i", 10 << 20),
        }
        if self.agent.is_secure:
            told["authn_nodeid"] = Variant("s", self.peer.agent.node_id)
        return told

    def emit(self, member: str, *arguments: Any) -> None:
        self.agent.bus.emit(self.path, TCPCL_CONTACT, member, *arguments)

    def become(self, state: str) -> None:
        self.state = state
        self.emit("session_state_changed", state)

    # ---- sending and receiving ---------------------------------------------------------------------------------------

    def _send_data(self, _call: Call, data: bytes) -> str:
        self._sent += 1
        name = str(self._sent)
        self.sending[name] = bytes(data)
        self._queued.set()
        asyncio.get_running_loop().call_soon(self.work)
        return name

    async def has_queued(self, count: int) -> None:
        """So many wait to be sent."""
        while len(self.sending) < count:
            self._queued.clear()
            await self._queued.wait()

    def _send_file(self, call: Call, path: str) -> str:
        return self._send_data(call, Path(path).read_bytes())

    def work(self) -> None:
        """Send what waits, unless it is held."""
        while self.sending and not self.hold and self.peer is not None:
            name, data = next(iter(self.sending.items()))
            self.emit("send_bundle_started", name, len(data))
            self.peer.receive(name, data)
            self.emit("send_bundle_intermediate", name, len(data))
            del self.sending[name]
            self.emit("send_bundle_finished", name, len(data), "success")

    def receive(self, name: str, data: bytes) -> None:
        self.emit("recv_bundle_started", name, Variant("s", ""))
        self.emit("recv_bundle_intermediate", name, len(data))
        self.received[name] = data
        self.emit("recv_bundle_finished", name, len(data), "success")

    def _pop(self, name: str) -> bytes:
        if name not in self.received:
            raise _python("KeyError", repr(name))
        return self.received.pop(name)

    def _pop_file(self, _call: Call, name: str, path: str) -> None:
        Path(path).write_bytes(self._pop(name))

    # ---- ending ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The session ends in order, at both ends."""
        peer, self.peer = self.peer, None
        if self.state == "ending":
            return
        self.become("ending")
        for name, data in self.sending.items():
            self.emit("send_bundle_finished", name, len(data), "session terminating")
        self.sending.clear()
        self.agent.closed(self)
        if peer is not None:
            peer.end()


class OlderTcpclAgent:
    """`listeners` joins the agents that are to reach each other: host and port, and who is there."""

    def __init__(
        self,
        bus: BusConnection,
        node_id: str,
        listeners: dict[tuple[str, int], OlderTcpclAgent],
        *,
        secure: bool = True,
    ) -> None:
        self.bus = bus
        self.node_id = node_id
        self.is_secure = secure
        self.contacts: dict[str, OlderContact] = {}
        self._listeners = listeners
        self._count = 0
        methods = {
            "get_connections": Method(lambda _call: list(self.contacts), "", "ao"),
            "listen": Method(lambda _call, host, port: self._listeners.update({(host, port): self}), "sq"),
            "listen_stop": Method(lambda _call, host, port: self._listeners.pop((host, port), None) and None, "sq"),
            "connect": Method(self._connect, "sq", "o"),
            "shutdown": Method(lambda _call: True, "", "b"),
            "stop": Method(lambda _call: None),
        }
        bus.export(f"{TCPCL_PATH}/Agent", Interface(TCPCL_AGENT, methods, AGENT_SIGNALS))

    def _contact(self) -> OlderContact:
        contact = OlderContact(self, self._count)
        self._count += 1
        self.contacts[contact.path] = contact
        self.bus.emit(f"{TCPCL_PATH}/Agent", TCPCL_AGENT, "connection_opened", contact.path)
        return contact

    def _connect(self, _call: Call, host: str, port: int) -> str:
        other = self._listeners.get((host, port))
        if other is None:
            raise _python("ConnectionRefusedError", "[Errno 111] Connection refused")
        here, there = self._contact(), other._contact()
        here.peer, there.peer = there, here
        for each in (here, there):
            for state in ("contact-negotiating", "session-negotiating", "established"):
                each.become(state)
        return here.path

    def closed(self, contact: OlderContact) -> None:
        """With it goes whatever nobody has popped."""
        del self.contacts[contact.path]
        self.bus.emit(f"{TCPCL_PATH}/Agent", TCPCL_AGENT, "connection_closed", contact.path)
        self.bus.unexport(contact.path)

    def die(self) -> None:
        """What others see of its end."""
        for contact in list(self.contacts.values()):
            contact.end()


class OlderUdpclAgent:
    """`network` says who is at which address and port."""

    def __init__(
        self, bus: BusConnection, where: tuple[str, int], network: dict[tuple[str, int], OlderUdpclAgent]
    ) -> None:
        self.bus = bus
        self.where = where
        self.received: dict[str, bytes] = {}
        self.sent: list[tuple[bytes, dict[str, Variant]]] = []
        self._network = network
        self._names = 0
        network[where] = self
        methods = {
            "recv_bundle_get_queue": Method(lambda _call: list(self.received), "", "as"),
            "recv_bundle_pop_data": Method(lambda _call, name: self._pop(name), "s", "ay"),
            "recv_bundle_pop_file": Method(self._pop_file, "ss"),
            "send_bundle_data": Method(self._send, "aya{sv}", "s"),
            "stop": Method(lambda _call: None),
        }
        bus.export(UDPCL_PATH, Interface(UDPCL_AGENT, methods, UDPCL_SIGNALS))

    def emit(self, member: str, *arguments: Any) -> None:
        self.bus.emit(UDPCL_PATH, UDPCL_AGENT, member, *arguments)

    def _send(self, _call: Call, data: bytes, parameters: dict[str, Variant]) -> str:
        if "address" not in parameters:
            raise _python("KeyError", "'address'")
        self._names += 1
        name = str(self._names)
        self.sent.append((bytes(data), parameters))
        to = (parameters["address"].value, parameters["port"].value)
        asyncio.get_running_loop().call_soon(self._leave, name, bytes(data), to)
        return name

    def _leave(self, name: str, data: bytes, to: tuple[str, int]) -> None:
        self.emit("send_bundle_started", name, len(data))
        if to in self._network:
            self._network[to].receive(data, self.where)
        self.emit("send_bundle_finished", name, len(data), "success")

    def receive(self, data: bytes, source: tuple[str, int]) -> None:
        self._names += 1
        name = f"{self._names}"
        self.received[name] = data
        about = {"address": Variant("s", source[0]), "port": Variant("q", source[1])}
        self.emit("recv_bundle_finished", name, len(data), about)

    def _pop(self, name: str) -> bytes:
        if name not in self.received:
            raise _python("KeyError", repr(name))
        return self.received.pop(name)

    def _pop_file(self, _call: Call, name: str, path: str) -> None:
        Path(path).write_bytes(self._pop(name))


AGENT_SIGNALS: Final = {"connection_opened": "o", "connection_closed": "o"}
CONTACT_SIGNALS: Final = {
    "session_state_changed": "s",
    "send_bundle_started": "st",
    "send_bundle_intermediate": "st",
    "send_bundle_finished": "sts",
    "recv_bundle_started": "sv",
    "recv_bundle_intermediate": "st",
    "recv_bundle_finished": "sts",
}
UDPCL_SIGNALS: Final = {
    "polling_received": "xissq",
    "recv_bundle_finished": "sta{sv}",
    "send_bundle_started": "st",
    "send_bundle_finished": "sts",
}

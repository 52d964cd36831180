"""The UDPCL agent on a bus, under the older agent's names: `/org/ietf/dtn/udpcl/Agent`.

Beside its methods there are `send_bundle_file`, `send_bundle_fd`, `recv_bundle_pop_fd`, `shutdown`, `pmtud_start` with two
arguments, and the signal `pmtud_finished` with what was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from tumpline.drivers.dbus import BusError, Call, ErrorName, Interface, Method, Variant
from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.dial import Address
from tumpline.drivers.links._udpcl_endpoint import Group
from tumpline.drivers.spool import file_to_send, open_to_send
from tumpline.machines.contract import FileRange
from tumpline.node.cla import udpcl_events as events
from tumpline.node.cla.udpcl import SendTo, UdpclAgent
from tumpline.node.cla.udpcl_settings import UdpclAgentSettings
from tumpline.ui.dbus.named_files import require_own_user, told
from tumpline.ui.dbus.tcpcl import Bus, bounded, sigterm_ends

AGENT_PATH: Final = "/org/ietf/dtn/udpcl/Agent"
AGENT: Final = "org.ietf.dtn.udpcl.Agent"
SIGNALS: Final = {
    "polling_received": "xissq",
    "recv_bundle_finished": "sta{sv}",
    "send_bundle_started": "st",
    "send_bundle_finished": "sts",
    "pmtud_finished": "sqi",
}
_INT_MOST: Final = (1 << 31) - 1


async def serve_udpcl(settings: UdpclAgentSettings, started: Callable[[UdpclAgent], None] = lambda _: None) -> None:
    """An agent on its bus, until somebody stops it: over the bus, or by SIGTERM (the first one: once what waits has left).
    `started` is called when it has its name, which comes last: who sees the name knows that the agent listens.

    Raises: TumplineError with the remedy (no bus, name taken, port in use ...)."""
    presence = Presence(settings.bus_address, settings.bus_service)
    agent = UdpclOnBus(settings, presence).agent
    try:
        await agent.start()
        await presence.start()
        with sigterm_ends(agent):
            started(agent)
            await agent.ended()
    finally:
        await agent.close()
        await presence.stop()


class UdpclOnBus:
    """The agent, and its object on a bus."""

    def __init__(self, settings: UdpclAgentSettings, bus: Bus) -> None:
        """Raises: StorageError, MalformedError (the node ID)."""
        self.agent = UdpclAgent(settings, self._tell)
        self._settings = settings
        self._bus = bus
        self._signals: dict[type[Any], Callable[[Any], None]] = {
            events.PollingReceived: self._polled,
            events.BundleReceived: self._received,
            events.BundleSendStarted: lambda event: self._emit("send_bundle_started", *event),
            events.BundleSendFinished: lambda event: self._emit("send_bundle_finished", *event),
            events.PathMtuSearched: lambda event: self._emit("pmtud_finished", *event.asked, event.datagram_octets),
        }
        bus.export(AGENT_PATH, self._interface())

    def _interface(self) -> Interface:
        agent, where = self.agent, ("address", "port")
        return Interface(
            AGENT,
            {
                "shutdown": Method(lambda _call: agent.shutdown(), "", "b"),
                "stop": Method(lambda _call: agent.stop()),
                "listen": Method(self._listen, "sia{sv}", "", (*where, "options")),
                "listen_stop": Method(self._listen_stop, "sq", "", where),
                "pmtud_start": (
                    Method(self._search_path_mtu, "sqi", "", (*where, "stepcount")),
                    Method(self._search_path_mtu, "sq", "", where),
                ),
                "recv_bundle_get_queue": Method(lambda _call: agent.received_bundles.queue, "", "as"),
                "recv_bundle_pop_data": Method(self._pop_data, "s", "ay", ("transfer_id", "data")),
                "recv_bundle_pop_file": Method(self._pop_file, "ss", "", ("transfer_id", "path")),
                "recv_bundle_pop_fd": Method(self._pop_fd, "s", "h", ("transfer_id", "file")),
                "send_bundle_data": Method(self._send_data, "aya{sv}", "s", ("data", "tx_params", "transfer_id")),
                "send_bundle_file": Method(self._send_file, "sa{sv}", "s", ("path", "tx_params", "transfer_id")),
                "send_bundle_fd": Method(self._send_fd, "ha{sv}", "s", ("file", "tx_params", "transfer_id")),
            },
            SIGNALS,
        )

    # ---- listening, and the path MTU ---------------------------------------------------------------------------------

    def _listen(self, _call: Call, address: str, port: int, options: Mapping[str, Variant]) -> None:
        self.agent.listen(Address(address, _port(port)), _groups(options))

    def _listen_stop(self, _call: Call, address: str, port: int) -> None:
        self.agent.listen_stop(Address(address, port))

    async def _search_path_mtu(self, _call: Call, address: str, port: int, steps: int = 0) -> None:
        if steps < 0:
            raise _invalid(f"stepcount {steps} is below zero: say in how many steps sizes are divided")
        await self.agent.search_path_mtu(Address(address, port), steps)

    # ---- sending -----------------------------------------------------------------------------------------------------

    async def _send_data(self, _call: Call, data: bytes, parameters: Mapping[str, Variant]) -> str:
        where = send_to(parameters, self._settings)
        with bounded():
            return await self.agent.send_data(data, where)

    async def _send_file(self, call: Call, path: str, parameters: Mapping[str, Variant]) -> str:
        where = send_to(parameters, self._settings)
        await require_own_user(call, "send_bundle_fd")
        with told(path):
            return await self._send(open_to_send(path), where)

    async def _send_fd(self, call: Call, index: int, parameters: Mapping[str, Variant]) -> str:
        where = send_to(parameters, self._settings)
        try:
            fd = call.take_fd(index)
        except LookupError as error:
            raise _invalid(str(error)) from error
        with told("the file that was passed"):
            return await self._send(file_to_send(fd, "the file that was passed"), where)

    async def _send(self, payload: FileRange, where: SendTo) -> str:
        with bounded():
            return await self.agent.send_file(payload, where)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    async def _pop_data(self, _call: Call, number: str) -> bytes:
        with told(f"bundle {number}"):
            return await self.agent.received_bundles.pop_data(number)

    async def _pop_file(self, call: Call, number: str, path: str) -> None:
        await require_own_user(call, "recv_bundle_pop_fd")
        with told(path):
            await self.agent.pop_file(number, path)

    def _pop_fd(self, call: Call, number: str) -> int:
        with told(f"bundle {number}"):
            fd = self.agent.received_bundles.pop_fd(number)
        try:
            return call.give_fd(fd)
        finally:
            os.close(fd)

    # ---- signals -----------------------------------------------------------------------------------------------------

    def _tell(self, event: events.AgentEvent) -> None:
        self._signals[type(event)](event)

    def _emit(self, member: str, *arguments: Any) -> None:
        self._bus.emit(AGENT_PATH, AGENT, member, *arguments)

    def _polled(self, event: events.PollingReceived) -> None:
        interval_ms = min(event.interval_ms, _INT_MOST)
        self._emit("polling_received", event.dtn_ms, interval_ms, event.node_id, *event.source)

    def _received(self, event: events.BundleReceived) -> None:
        about = {
            "address": Variant("s", event.source.address),
            "port": Variant("q", event.source.port),
            "local_address": Variant("s", event.local.address),
            "local_port": Variant("q", event.local.port),
        }
        self._emit("recv_bundle_finished", event.transfer, event.octets, about)


# ---- what callers say ------------------------------------------------------------------------------------------------


def send_to(parameters: Mapping[str, Variant], settings: UdpclAgentSettings) -> SendTo:
    """The `tx_params` of a bundle. Other keys are passed over: the older bundle agent hands on its whole route.

    Raises: BusError (a value of another type, no address, no such port)."""
    address = _text(parameters, "address") or settings.default_to
    if not address:
        raise _invalid("tx_params name no address: where is the bundle to go?")
    return SendTo(
        Address(address, _number(parameters, "port", settings.default_port)),
        _text(parameters, "local_address"),
        _number(parameters, "local_port", 0),
        _number(parameters, "local_if", 0, _INT_MOST),
    )


def _text(parameters: Mapping[str, Variant], key: str) -> str:
    value = _value(parameters.get(key, ""))
    if not isinstance(value, str):
        raise _invalid(f"tx_params: {key} is {value!r}; write a text, such as 192.0.2.7")
    return value


def _number(parameters: Mapping[str, Variant], key: str, default: int, most: int = 65_535) -> int:
    value = _value(parameters.get(key, default))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _invalid(f"tx_params: {key} is {value!r}; write a number of 0 to {most}")
    return value


def _port(number: int) -> int:
    if not 0 <= number <= 65_535:
        raise _invalid(f"port {number} is none: 0 to 65535 are")
    return number


def _groups(options: Mapping[str, Variant]) -> list[Group]:
    """The groups of `multicast_member`. Raises: BusError."""
    members = _value(options.get("multicast_member", []))
    if not isinstance(members, list):
        raise _invalid("options: multicast_member is a list of {addr, iface}")
    found = []
    for member in map(_value, members):
        named = {key: _value(value) for key, value in member.items()} if isinstance(member, dict) else {}
        if not isinstance(named.get("addr"), str) or not isinstance(named.get("iface", ""), str):
            raise _invalid(
                "options: each of multicast_member names a group as addr, and may name an interface as iface"
            )
        found.append(Group(named["addr"], named.get("iface", "")))
    return found


def _value(value: Any) -> Any:
    """What is in variants, however deep they are."""
    while isinstance(value, Variant):
        value = value.value
    return value


def _invalid(text: str) -> BusError:
    return BusError(ErrorName.INVALID_ARGS, text)

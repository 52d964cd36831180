"""A convergence-layer agent on D-Bus as a link: the agent has the sessions, the node has the bundles.

The rules are `tumpline.machines.dbus_cl`; the bus is `_dbus_cl_attachment`, octets on their way are `_dbus_cl_bodies`; here is
what the machine wants done, and the timer. Each call under way is a task.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.dbus import BusError
from tumpline.drivers.dial import addresses_of, parse_address
from tumpline.drivers.links._api import LinkContext, LinkHost, LinkSpec, Sink
from tumpline.drivers.links._dbus_cl_attachment import Attachment
from tumpline.drivers.links._dbus_cl_bodies import Body, Workshop, body_of, fill, open_fetched, small, whole
from tumpline.drivers.links._dbus_cl_config import DbusClConfig, machine_config
from tumpline.drivers.links._units import release
from tumpline.drivers.payload import release as release_payload
from tumpline.drivers.payload import retain
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import MalformedError, StorageError, TumplineError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange
from tumpline.machines.dbus_cl import effects as fx
from tumpline.machines.dbus_cl.outgoing import Waiting
from tumpline.machines.dbus_cl.tcpcl import TcpclUser
from tumpline.machines.dbus_cl.udpcl import UdpclUser
from tumpline.machines.dbus_cl.user import AgentUser
from tumpline.machines.effects import Arrival, RefuseReason, Unit
from tumpline.wire.eid import Eid

DEFAULT_PORT = 4556  # RFC 9174 §8.1, RFC 7122: dtn-bundle, of TCP and UDP
SEND_TYPES = {fx.Way.DATA: "ay", fx.Way.FD: "h", fx.Way.FILE: "s"}
FILE_CALL_S = 600.0  # of a call during which gigabytes may be copied
MACHINES: dict[str, type[AgentUser]] = {"tcpcl": TcpclUser, "udpcl": UdpclUser}


class DbusClLink:
    """BundleLink over an agent. Made by SPEC.open."""

    host: LinkHost

    def __init__(self, config: DbusClConfig, context: LinkContext) -> None:
        self.name = context.name
        self._config = config
        self._context = context
        self._machine = MACHINES[config.cl](machine_config(config, context.name), context.random, self._new_path)
        self._workshop = Workshop(config.spool)
        self._tasks = TaskOwner(self._task_failed)
        self._agent = Attachment(config, self._machine.signals, context.random, self, self._tasks)
        self._units: dict[tuple[int, int], Unit] = {}  # by path and seq
        self._bodies: dict[int, Body] = {}  # by token
        self._sinks: dict[int, Sink] = {}  # room that was reserved
        self._reading = asyncio.Lock()  # units leave in the order in which they were offered, whatever holds them
        self._small: dict[int, list[Arrival]] = {}  # of this turn, by path
        self._is_turning = False
        self._is_stopped = False
        self._turn_asked = False
        self._alarm = Alarm(self._time_came)
        self._turned = asyncio.Event()
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            fx.Call: self._on_call,
            fx.Send: self._on_send,
            fx.Take: self._on_take,
            fx.Present: self._on_present,
            fx.Discard: self._on_discard,
            fx.PathRaised: lambda effect: self.host.path_up(effect.info),
            fx.PathLowered: lambda effect: self.host.path_down(effect.path, effect.reason),
            fx.UnitsAcked: self._on_acked,
            fx.UnitRefused: self._on_refused,
            fx.UnitsLost: self._on_lost,
            fx.UnitProgressed: lambda effect: self.host.progress(effect.path, effect.seq, effect.octets),
            fx.Noticed: lambda effect: self.notice(effect.name, **effect.fields),
        }

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: LinkHost) -> None:
        """The agent may come later: it is looked for until `stop`. Raises: TumplineError (an address is none)."""
        self.host = host
        for address in addresses_of(self._config.connect):
            self.connect(address)
        self._tasks.start(self._agent.keep(), f"{self.name} uses {self._config.service}")

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """End the sessions that we asked for; those of others stay the agent's, and what came over them waits there."""
        if graceful:
            self._machine.wind_down("the link is stopped", self._now())
            self._turn()
            try:
                async with asyncio.timeout(timeout_s):
                    while self._machine.is_busy:
                        self._turned.clear()
                        await self._turned.wait()
            except TimeoutError:
                self.notice("sessions_cut", after_s=timeout_s)
        self._machine.drop_all("the link is stopped", self._now())
        self._turn()
        self._is_stopped = True
        await self._tasks.stop()
        self._alarm.cancel()
        for sink in self._sinks.values():
            sink.abort()
        self._sinks.clear()
        self._workshop.close()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.notice("task_failed", task=name, reason=repr(error))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _new_path(self) -> int:
        return self.host.new_path()

    # ---- calls of the attachment -------------------------------------------------------------------------------------

    def attached(self, has_same_user: bool) -> None:
        """The agent is there."""
        self._machine.attached(has_same_user, self._now())
        self._turn()

    def detached(self, reason: str) -> None:
        """It is gone."""
        self._machine.detached(reason, self._now())
        self._turn()

    def signalled(self, path: str, member: str, values: tuple[Any, ...]) -> None:
        """It told something."""
        self._machine.signal(path, member, values, self._now())
        self._ask_turn()

    def notice(self, name: str, **fields: Any) -> None:
        """For people."""
        self.host.notice(name, link=self.name, **fields)

    # ---- one turn ----------------------------------------------------------------------------------------------------

    def _ask_turn(self) -> None:
        """Once for everything that happens in this turn of the loop."""
        if not self._turn_asked:
            self._turn_asked = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Do what the machine wants done; what that makes the host do is done too."""
        self._turn_asked = False
        if self._is_turning:
            return
        self._is_turning = True
        try:
            while (effects := self._machine.effects()) or self._small:
                for effect in effects:
                    self._handlers[type(effect)](effect)
                self._hand_over()
        finally:
            self._is_turning = False
        self._turned.set()
        if not self._is_stopped:
            self._alarm.set(self._machine.next_timeout())

    def _time_came(self) -> None:
        self._machine.handle_timeout(self._now())
        self._turn()

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], name: str, ended: Callable[[object], None] | None = None) -> None:
        """As a task; `ended` is called when it has ended, also before it began."""
        if self._is_stopped:
            work.close()
            return
        task = self._tasks.start(work, f"{self.name} {name}")
        if ended is not None:
            task.add_done_callback(ended)

    def _on_call(self, effect: fx.Call) -> None:
        self._begin(self._call(effect), effect.member)

    async def _call(self, effect: fx.Call) -> None:
        _, path, interface, member, signature, arguments, timeout_s = effect
        try:
            values = await self._agent.call(path, interface, member, signature, arguments, timeout_s)
        except BusError as error:
            self._failed(effect.token, error)
        else:
            self._replied(effect.token, values)

    def _replied(self, token: int, values: tuple[Any, ...]) -> None:
        self._machine.replied(token, values, self._now())
        self._ask_turn()

    def _failed(self, token: int, error: TumplineError) -> None:
        name = error.name if isinstance(error, BusError) else type(error).__name__
        self._machine.failed(token, fx.Failure(name, str(error)), self._now())
        self._ask_turn()

    # ---- units out ---------------------------------------------------------------------------------------------------

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Keep a session with this address, or (udpcl) a path to it."""
        where = parse_address(address, DEFAULT_PORT)
        self._machine.connect(address, where.host, where.port, peer, self._now())
        self._ask_turn()

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """Keep none any more; end the path."""
        self._machine.disconnect(address, path, reason, self._now())
        self._ask_turn()

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order."""
        for unit in units:
            self._units[path, unit.seq] = unit
        self._machine.offer(path, [Waiting(unit.seq, unit.length) for unit in units], self._now())
        self._ask_turn()

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if the agent does not have it yet."""
        self._machine.cancel(path, seq)
        self._ask_turn()

    def _on_send(self, effect: fx.Send) -> None:
        unit = self._units[effect.over, effect.seq]
        retain(unit.payload)  # the unit may be lost while the call is made
        self._begin(self._send(effect, unit), f"sends {effect.seq}", lambda _: release_payload(unit.payload))

    async def _send(self, effect: fx.Send, unit: Unit) -> None:
        try:
            values = await self._hand_to_agent(effect, unit)
        except TumplineError as error:
            self._failed(effect.token, error)
        else:
            self._replied(effect.token, values)

    async def _hand_to_agent(self, effect: fx.Send, unit: Unit) -> tuple[Any, ...]:
        """Raises: BusError, StorageError."""
        signature = SEND_TYPES[effect.way] + ("" if effect.parameters is None else "a{sv}")
        where = effect.path, effect.interface, f"send_bundle_{effect.way.value}", signature
        more = () if effect.parameters is None else (effect.parameters,)
        if effect.way is fx.Way.DATA:
            async with self._reading:
                is_file = isinstance(unit.payload, FileRange) and unit.length >= FILE_PAYLOAD_OCTETS
                data = await asyncio.to_thread(whole, unit) if is_file else whole(unit)
            return await self._agent.call(*where, (data, *more), fx.CALL_S)
        async with self._reading:
            path = self._workshop.new_path()
            fd = await asyncio.to_thread(self._workshop.write, unit, path)
        try:
            if effect.way is fx.Way.FILE:
                return await self._agent.call(*where, (path, *more), FILE_CALL_S)
            return await self._agent.call(*where, (0, *more), FILE_CALL_S, fds=[fd])
        finally:  # the agent has opened it
            os.close(fd)
            os.unlink(path)

    def _on_acked(self, effect: fx.UnitsAcked) -> None:
        self._end_units(effect.path, effect.seqs)
        self.host.acked(effect.path, effect.seqs)

    def _on_lost(self, effect: fx.UnitsLost) -> None:
        self._end_units(effect.path, effect.seqs)
        self.host.lost(effect.path, effect.seqs)

    def _on_refused(self, effect: fx.UnitRefused) -> None:
        self._end_units(effect.path, [effect.seq])
        self.host.refused(effect.path, effect.seq, effect.reason)

    def _end_units(self, path: int, seqs: Sequence[int]) -> None:
        for seq in seqs:
            release(self._units.pop((path, seq)))

    # ---- bundles in --------------------------------------------------------------------------------------------------

    def _on_take(self, effect: fx.Take) -> None:
        if effect.octets >= FILE_PAYLOAD_OCTETS and not self._reserve(effect.token, effect.over, effect.octets):
            self._machine.no_room(effect.token, self._now())
            return
        self._begin(self._take(effect), f"fetches {effect.id}")

    def _reserve(self, token: int, path: int, octets: int) -> bool:
        sink = self.host.reserve(path, octets)
        if isinstance(sink, RefuseReason):
            return False
        self._sinks[token] = sink
        return True

    async def _take(self, effect: fx.Take) -> None:
        try:
            body = await self._fetch(effect)
        except TumplineError as error:
            self._drop_sink(effect.token)
            self._failed(effect.token, error)
            return
        self._bodies[effect.token] = body
        if body.octets != effect.octets:
            self._drop_sink(effect.token)  # room for another length was reserved
        self._machine.popped(effect.token, body.octets)
        self._ask_turn()

    async def _fetch(self, effect: fx.Take) -> Body:
        """Raises: BusError, StorageError."""
        where = effect.path, effect.interface, f"recv_bundle_pop_{effect.way.value}"
        if effect.way is fx.Way.FILE:
            path = self._workshop.new_path()
            await self._agent.call(*where, "ss", (effect.id, path), FILE_CALL_S)
            return open_fetched(path)
        takes_fd = effect.way is fx.Way.FD
        (value,) = await self._agent.call(*where, "s", (effect.id,), FILE_CALL_S, takes_fd=takes_fd)
        return body_of(value) if takes_fd else Body(len(value), value)

    def _drop_sink(self, token: int) -> None:
        sink = self._sinks.pop(token, None)
        if sink is not None:
            sink.abort()

    def _on_present(self, effect: fx.Present) -> None:
        body, token = self._bodies[effect.token], effect.token
        if body.octets < FILE_PAYLOAD_OCTETS:
            self._small.setdefault(effect.over, []).append(Arrival(token, small(body)))
        elif token in self._sinks or self._reserve(token, effect.over, body.octets):
            self._begin(self._show(effect, body), f"stores {token}")
        else:
            self._machine.no_room(token, self._now())

    def _hand_over(self) -> None:
        small, self._small = self._small, {}
        for path, arrivals in small.items():
            self.host.received(path, arrivals)

    async def _show(self, effect: fx.Present, body: Body) -> None:
        token = effect.token
        sink = self._sinks[token]
        try:
            await fill(sink, body)
            arrival = sink.finish(token)
        except StorageError as error:
            self._drop_sink(token)
            self.notice("storage_failed", reason=str(error))
            self._machine.no_room(token, self._now())
        except MalformedError as error:
            self._drop_sink(token)
            self.notice("bundle_malformed", path=effect.over, reason=str(error))
            self._machine.refuse(token, RefuseReason.NOT_ACCEPTABLE, self._now())
        else:
            del self._sinks[token]
            self.host.received(effect.over, [arrival])
        self._ask_turn()

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:  # noqa: ARG002
        """These are stored."""
        self._machine.acknowledge(transfers, self._now())
        self._ask_turn()

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:  # noqa: ARG002
        """This one is not kept: shown again later, if that can help; the older agent's peer was told that it came."""
        self._machine.refuse(transfer, reason, self._now())
        self._ask_turn()

    def _on_discard(self, effect: fx.Discard) -> None:
        body = self._bodies.pop(effect.token, None)
        if body is not None:
            body.close()

    # ---- for people --------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        return {
            "kind": SPEC.scheme,
            "cl": self._config.cl,
            "service": self._config.service,
            "bus": self._agent.state,
            "agent": self._agent.owner,
            **self._machine.describe(),
        }


SPEC = LinkSpec(
    scheme="dbus_cl",
    summary="bundles over a convergence-layer agent on D-Bus, ours or the older one",
    config=DbusClConfig,
    open=DbusClLink,
)

"""Being on a bus with an agent: whenever there is a bus, and whoever owns the agent's name on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tumpline.drivers.dbus import BusConnection, BusError, ErrorName, MatchRule, Message, Subscription
from tumpline.drivers.links._dbus_cl_config import DbusClConfig
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import MalformedError, TumplineError
from tumpline.machines.backoff import Backoff
from tumpline.wire.dbus import Kind

BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"


class User(Protocol):
    """Who uses the agent."""

    def attached(self, has_same_user: bool) -> None:
        """The agent is there; `has_same_user`: it and we can open each other's files."""

    def detached(self, reason: str) -> None:
        """It is gone."""

    def signalled(self, path: str, member: str, values: tuple[Any, ...]) -> None:
        """It told something, with the signature that was asked for."""

    def notice(self, name: str, **fields: Any) -> None:
        """For people."""


class Attachment:
    """`keep` runs as a task of the link. `signals` are wanted: their signatures by interface and member."""

    def __init__(
        self,
        config: DbusClConfig,
        signals: Mapping[tuple[str, str], str],
        random: Callable[[], float],
        user: User,
        tasks: TaskOwner,
    ) -> None:
        self.state = "not joined yet"  # the bus, for people
        self.owner = ""  # the agent that is used
        self._config = config
        self._signals = signals
        self._random = random
        self._user = user
        self._tasks = tasks
        self._bus: BusConnection | None = None
        self._told_owner = ""  # of the agent's name, as the bus told last
        self._subscriptions: list[Subscription] = []

    # ---- the bus -----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Be on the bus, whenever there is one."""
        backoff = Backoff(self._random, self._config.retry_s_first, self._config.retry_s_max)
        while True:
            try:
                self._bus = await BusConnection.open(self._config.bus)
                self.state = "joined"
                backoff.reset()
                await self._use(self._bus)
            except TumplineError as error:
                self.state = str(error)
            finally:
                self._detach("the bus is gone")
                bus, self._bus = self._bus, None
                if bus is not None:
                    await bus.close()
            delay_s = backoff.next_delay_s()
            self._user.notice("bus_unavailable", reason=self.state, retry_s=round(delay_s, 3))
            await asyncio.sleep(delay_s)

    async def _use(self, bus: BusConnection) -> None:
        """Use whoever owns the agent's name, until the bus ends. Raises: BusError."""
        changed = asyncio.Event()

        def owner_changed(_message: Message, values: tuple[Any, ...]) -> None:
            self._told_owner = values[2]
            changed.set()

        service = self._config.service
        rule = MatchRule(Kind.SIGNAL, BUS, BUS, "NameOwnerChanged", BUS_PATH, arguments=((0, "", service),))
        await bus.subscribe(rule, owner_changed)
        self._tasks.start(_tell_when_closed(bus, changed), f"watches the bus of {service}")
        owner = await self._find_owner(bus)
        if not changed.is_set():  # what the bus tells by itself is newer than its answer
            self._told_owner = owner
        while bus.is_open:
            changed.clear()
            await self._follow(bus, self._told_owner)
            await changed.wait()
        self.state = await bus.closed()

    async def _find_owner(self, bus: BusConnection) -> str:
        """Who has the agent's name; if nobody, the bus may know how to start one."""
        try:
            return str((await bus.call(BUS, BUS_PATH, BUS, "GetNameOwner", "s", self._config.service))[0])
        except BusError:
            self._tasks.start(self._ask_to_start(bus), f"asks for {self._config.service}")
            return ""

    async def _ask_to_start(self, bus: BusConnection) -> None:
        try:
            await bus.call(BUS, BUS_PATH, BUS, "StartServiceByName", "su", self._config.service, 0)
        except BusError as error:
            self._user.notice("agent_missing", service=self._config.service, reason=error.text)

    # ---- the agent ---------------------------------------------------------------------------------------------------

    async def _follow(self, bus: BusConnection, owner: str) -> None:
        """Let go of an agent that is gone, and take up the one that is there."""
        if owner == self.owner:
            return
        self._detach(f"the agent {self._config.service} has left the bus")
        if not owner:
            return
        interfaces = dict.fromkeys(interface for interface, _ in self._signals)
        subscriptions = [
            await bus.subscribe(MatchRule(Kind.SIGNAL, owner, interface), self._signalled) for interface in interfaces
        ]
        try:
            uid = await bus.uid_of(owner)
        except BusError:  # gone already: the bus will say so
            uid = -1
        self.owner, self._subscriptions = owner, subscriptions
        self._user.attached(uid == os.getuid())

    def _detach(self, reason: str) -> None:
        if self.owner:
            self.owner = ""
            for subscription in self._subscriptions:
                subscription.cancel()
            self._user.detached(reason)

    def _signalled(self, message: Message, values: tuple[Any, ...]) -> None:
        expected = self._signals.get((message.interface, message.member))
        if message.sender == self.owner and message.signature == expected:
            self._user.signalled(message.path, message.member, values)

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str,
        arguments: tuple[Any, ...],
        timeout_s: float,
        *,
        fds: Sequence[int] = (),
        takes_fd: bool = False,
    ) -> tuple[Any, ...]:
        """Call the agent. `takes_fd`: the answer is a descriptor, the caller's from now on. Raises: BusError."""
        bus, owner = self._bus, self.owner
        if bus is None or not owner:
            raise BusError(ErrorName.DISCONNECTED, "the agent has left the bus")
        message = Message(Kind.CALL, 0, path, interface, member, destination=owner)
        try:
            message = message.with_body(signature, *arguments)
        except MalformedError as error:
            raise BusError(ErrorName.INVALID_ARGS, str(error)) from error
        answer = await bus.call_message(message, timeout_s=timeout_s, fds=fds)
        if takes_fd and len(answer.fds) == 1:
            return answer.fds
        for fd in answer.fds:
            os.close(fd)
        if takes_fd:
            raise BusError(
                ErrorName.FAILED, f"the agent's answer to {member} has {len(answer.fds)} descriptors, not one"
            )
        return answer.values


async def _tell_when_closed(bus: BusConnection, changed: asyncio.Event) -> None:
    await bus.closed()
    changed.set()

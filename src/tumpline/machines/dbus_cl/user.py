"""What every machine of this package is to its driver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tumpline.machines.dbus_cl.core import Config, Core
from tumpline.machines.dbus_cl.effects import Effect, Failure
from tumpline.machines.dbus_cl.outgoing import Waiting
from tumpline.machines.effects import RefuseReason
from tumpline.wire.eid import Eid


class AgentUser(ABC):
    """Facts and verbs in, `effects()` out; time is an argument."""

    agent_path: ClassVar[str]
    signals: ClassVar[dict[tuple[str, str], str]]  # that are wanted: signatures by interface and member

    def __init__(self, config: Config, random: Callable[[], float], new_path: Callable[[], int]) -> None:
        self._core = Core(config, random, new_path)

    # ---- machine -----------------------------------------------------------------------------------------------------

    def effects(self) -> list[Effect]:
        """What is to be done, in order; each is given once."""
        effects, self._core.effects = self._core.effects, []
        return effects

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        return self._core.timers.next()

    def handle_timeout(self, now: float) -> None:
        """Act on every deadline that has come."""
        self._core.timers.fire(now)

    # ---- calls and bundles -------------------------------------------------------------------------------------------

    def replied(self, token: int, values: tuple[Any, ...], now: float) -> None:
        """A call has its answer."""
        self._core.replied(token, values, now)

    def failed(self, token: int, failure: Failure, now: float) -> None:
        """A call came to nothing."""
        self._core.failed(token, failure, now)

    def popped(self, token: int, octets: int) -> None:
        """What was to be taken is here."""
        if token in self._core.takers:
            self._core.takers[token].popped(token, octets)

    def no_room(self, token: int, now: float) -> None:
        """The node cannot take it now."""
        if token in self._core.takers:
            self._core.takers[token].no_room(token, now)

    def acknowledge(self, transfers: Sequence[int], now: float) -> None:
        """The node keeps these."""
        for token in transfers:
            if token in self._core.takers:
                self._core.takers[token].acknowledged(token, now)

    def refuse(self, token: int, reason: RefuseReason, now: float) -> None:
        """The node does not keep this one."""
        if token in self._core.takers:
            self._core.takers[token].refused(token, reason, now)

    # ---- what each has of its own ------------------------------------------------------------------------------------

    @abstractmethod
    def attached(self, has_same_user: bool, now: float) -> None:
        """The agent is on the bus."""

    @abstractmethod
    def detached(self, reason: str, now: float) -> None:
        """The agent is gone, and with it what it had."""

    @abstractmethod
    def signal(self, target: str, member: str, values: tuple[Any, ...], now: float) -> None:
        """The agent, or one of its objects, tells something; `values` fit the signal's signature."""

    @abstractmethod
    def connect(self, address: str, host: str, port: int, peer: Eid | None, now: float) -> None:
        """Keep a path to this address."""

    @abstractmethod
    def disconnect(self, address: str | None, path: int | None, reason: str, now: float) -> None:
        """Keep none any more; end the path."""

    @abstractmethod
    def offer(self, path: int, units: Sequence[Waiting], now: float) -> None:
        """Send these in order."""

    @abstractmethod
    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if the agent does not have it yet."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether something is under way that a graceful end waits for."""

    @abstractmethod
    def wind_down(self, reason: str, now: float) -> None:
        """End what we asked for; nothing new begins."""

    @abstractmethod
    def drop_all(self, reason: str, now: float) -> None:
        """Everything ends here and now."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""

"""Units on their way to one object of an agent: some wait here, some are the agent's, each ends once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from tumpline.machines.dbus_cl.core import Core
from tumpline.machines.dbus_cl.effects import (
    DATA_OCTETS_MOST,
    Failure,
    Send,
    UnitProgressed,
    UnitRefused,
    UnitsLost,
    Way,
)
from tumpline.machines.effects import RefuseReason

SUCCESS: Final = "success"
# What the older agent says of transfers that nobody refused: they are to be sent again.
LOST: Final = frozenset({"session terminating", "unacknowledged"})
_REASONS: Final = {reason.value: reason for reason in RefuseReason}
SEND: Final = "send_bundle_"


class Waiting(NamedTuple):
    """A unit that was offered."""

    seq: int
    octets: int
    parameters: dict[str, Any] | None = None


class Ledger:
    """Transfer IDs of one object of the agent, and whose they are."""

    EARLY_MOST: Final = 1024

    def __init__(self) -> None:
        self.given: dict[str, Outgoing] = {}
        self.asked = 0  # handed over; their IDs are not known yet
        self._early: dict[str, str] = {}  # results that came before the reply with their ID

    def progressed(self, name: str, octets: int, now: float) -> None:
        """The agent tells how far a transfer is."""
        if name in self.given:
            self.given[name].progressed(name, octets, now)

    def finished(self, name: str, result: str, now: float) -> None:
        """A transfer of this ID has ended. What is not ours (an earlier node's, a person's) is nothing to us."""
        if name in self.given:
            self.given[name].finished(name, result, now)
        elif self.asked and len(self._early) < self.EARLY_MOST:
            self._early[name] = result

    def early(self, name: str) -> str | None:
        """The result that this transfer has had already."""
        result = self._early.pop(name, None)
        if not self.asked:
            self._early.clear()
        return result


class Outgoing:
    """`path` is the node's; `heard(now)` is called with each sign of life."""

    def __init__(self, core: Core, target: str, interface: str, ledger: Ledger, heard: Callable[[float], None]) -> None:
        self.path = -1
        self.ledger = ledger
        self._core = core
        self._target = target
        self._interface = interface
        self._heard = heard
        self._queue: deque[Waiting] = deque()
        self._asked: dict[int, Waiting] = {}  # by token: handed over, the agent has not said under which ID
        self._given: dict[str, Waiting] = {}  # by the agent's ID
        self._octets = 0  # of asked and given

    @property
    def is_busy(self) -> bool:
        """Whether the agent has units of ours."""
        return bool(self._asked or self._given)

    # ---- from the node -----------------------------------------------------------------------------------------------

    def offer(self, units: Sequence[Waiting], now: float) -> None:
        """Send these in order."""
        self._queue.extend(units)
        self.pump(now)

    def cancel(self, seq: int) -> None:
        """Do not send it, if the agent does not have it yet."""
        for unit in self._queue:
            if unit.seq == seq:
                self._queue.remove(unit)
                self._core.effects.append(UnitsLost(self.path, [seq]))
                return

    def pump(self, now: float) -> None:
        """Hand over as many as may be under way; something large goes when nothing else does."""
        if self._queue and not self.is_busy:
            self._heard(now)  # the agent's time begins
        config = self._core.config
        while self._queue and len(self._asked) + len(self._given) < config.units_most:
            if self._octets and self._octets + self._queue[0].octets > config.octets_most:
                return
            self._send(self._queue.popleft())

    def _send(self, unit: Waiting) -> None:
        core = self._core
        token = core.token()
        way = core.way(self._interface, SEND, unit.octets, DATA_OCTETS_MOST)
        self._asked[token] = unit
        self.ledger.asked += 1
        self._octets += unit.octets
        core.expect(token, lambda values, now: self._replied(token, values, now), self._failure_of(token, way))
        core.effects.append(Send(token, self._target, self._interface, way, self.path, unit.seq, unit.parameters))

    def _failure_of(self, token: int, way: Way) -> Callable[[Failure, float], None]:
        return lambda failure, now: self._failed(token, way, failure, now)

    # ---- from the agent ----------------------------------------------------------------------------------------------

    def _replied(self, token: int, values: tuple[Any, ...], now: float) -> None:
        """The agent has it, and calls it so."""
        unit = self._asked.pop(token, None)
        if unit is None:
            return  # it was lost meanwhile
        self._heard(now)
        self.ledger.asked -= 1
        name = str(values[0]) if values else ""
        self._given[name] = unit
        self.ledger.given[name] = self
        result = self.ledger.early(name)
        if result is not None:
            self.finished(name, result, now)

    def _failed(self, token: int, way: Way, failure: Failure, now: float) -> None:
        unit = self._asked.pop(token, None)
        if unit is None:
            return
        self.ledger.asked -= 1
        self._octets -= unit.octets
        if failure.is_unknown_method and way is not Way.DATA:
            self._core.lacking.add(SEND + way.value)
            self._queue.appendleft(unit)
        elif failure.is_gone:
            self._core.effects.append(UnitsLost(self.path, [unit.seq]))
        else:
            # Not lost: the node then tries others first, so that one that does not pass holds nobody else up.
            self._core.notice("unit_refused", path=self.path, reason=failure.text)
            reason = RefuseReason.NOT_ACCEPTABLE if failure.is_final else RefuseReason.NO_RESOURCES
            self._core.effects.append(UnitRefused(self.path, unit.seq, reason))
        self.pump(now)

    def progressed(self, name: str, octets: int, now: float) -> None:
        """The agent tells how far one of these is."""
        self._heard(now)
        unit = self._given[name]
        if octets:
            self._core.effects.append(UnitProgressed(self.path, unit.seq, min(octets, unit.octets)))

    def finished(self, name: str, result: str, now: float) -> None:
        """The transfer of this ID, one of these, has ended."""
        self._heard(now)
        unit = self._given.pop(name)
        del self.ledger.given[name]
        self._octets -= unit.octets
        if result == SUCCESS:
            self._core.acked(self.path, unit.seq)
        elif result in LOST:
            self._core.effects.append(UnitsLost(self.path, [unit.seq]))
        else:
            reason = _REASONS.get(result.lower().replace("_", " "), RefuseReason.RETRANSMIT)
            self._core.effects.append(UnitRefused(self.path, unit.seq, reason))
        self.pump(now)

    # ---- ending ------------------------------------------------------------------------------------------------------

    def lose_waiting(self) -> None:
        """Nothing new is handed over."""
        self._lose(list(self._queue))
        self._queue.clear()

    def lose_all(self) -> None:
        """Nobody will tell any more what became of them."""
        units = [*self._asked.values(), *self._given.values(), *self._queue]
        self.ledger.asked -= len(self._asked)
        for name in self._given:
            del self.ledger.given[name]
        self._asked.clear()
        self._given.clear()
        self._queue.clear()
        self._octets = 0
        self._lose(units)

    def _lose(self, units: list[Waiting]) -> None:
        if units:
            self._core.effects.append(UnitsLost(self.path, [unit.seq for unit in units]))

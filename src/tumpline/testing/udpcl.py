"""Two conversations in virtual time, over two directions that misbehave as told and carry datagrams up to some length."""

from __future__ import annotations

from collections import deque
from random import Random

from tumpline.machines.impairment import ImpairedLink, Impairment
from tumpline.machines.udpcl.conversation import Conversation, ConversationConfig
from tumpline.machines.udpcl.events import Event
from tumpline.machines.udpcl.feedback import CE
from tumpline.machines.udpcl.reassembly import Limits, Reassembly

STEPS_MOST = 2_000_000  # more is a machine that never comes to rest


class End:
    """One conversation and what came of it."""

    def __init__(self, name: str, config: ConversationConfig, limits: Limits, chance: Random) -> None:
        self.name = name
        self.reassembly = Reassembly(limits)
        self.machine = Conversation(config, self.reassembly, name, chance.random, 0.0)
        self.got: list[bytes] = []
        self.sent: list[int] = []  # tokens
        self.events: list[Event] = []
        self.datagrams: list[bytes] = []  # that were sent, in order
        self.held_most = 0  # octets of incomplete bundles


class Two:
    """Ends `a` and `b`. A datagram is carried with its mark in one octet before it."""

    def __init__(
        self,
        *,
        seed: int = 0,
        bad: Impairment | None = None,
        config: ConversationConfig | None = None,
        config_b: ConversationConfig | None = None,
        limits: Limits | None = None,
    ) -> None:
        chance = Random(seed)
        config = config or ConversationConfig()
        self.now = 0.0
        self.a = End("a", config, limits or Limits(), chance)
        self.b = End("b", config_b or config, limits or Limits(), chance)
        self.octets = 65_507  # what is longer does not pass
        self.tells = False  # and the sender's system says so (EMSGSIZE); else nobody does
        self.marked = 0.0  # share of datagrams that meet congestion
        self.chance = chance
        self._lines = {end: ImpairedLink(bad or Impairment(delay_s=0.02), chance.random) for end in (self.a, self.b)}

    def change(self, bad: Impairment) -> None:
        """From now on this befalls datagrams, in both directions."""
        for line in self._lines.values():
            line.change(bad, self.now)

    def other(self, end: End) -> End:
        return self.b if end is self.a else self.a

    # ---- time --------------------------------------------------------------------------------------------------------

    def until(self, end_s: float) -> None:
        """Let time pass."""
        for _ in range(STEPS_MOST):
            self._turns()
            at = self._next()
            if at is None or at > end_s:
                self.now = end_s
                self._turns()
                return
            self.now = max(self.now, at)
            for end in (self.a, self.b):
                self._arrive(end)
                due = end.machine.next_timeout()
                if due is not None and due <= self.now:
                    end.machine.handle_timeout(self.now)
                self._reassembly_due(end)
        raise AssertionError(f"still busy at {self.now} s")

    def _next(self) -> float | None:
        times = [line.next_timeout() for line in self._lines.values()]
        times += [end.machine.next_timeout() for end in (self.a, self.b)]
        times += [end.reassembly.next_timeout() for end in (self.a, self.b)]
        return min((at for at in times if at is not None), default=None)

    def _reassembly_due(self, end: End) -> None:
        end.held_most = max(end.held_most, end.reassembly.held_octets)
        at = end.reassembly.next_timeout()
        if at is not None and at <= self.now:
            end.reassembly.handle_timeout(self.now)

    # ---- datagrams ---------------------------------------------------------------------------------------------------

    def _turns(self) -> None:
        for end in (self.a, self.b):
            end.events += end.machine.events
            end.machine.events.clear()
            for batch in end.machine.poll(self.now):
                self._carry(end, batch.datagrams, batch.mark)
                end.sent += batch.tokens

    def _carry(self, end: End, datagrams: list[bytes], mark: int) -> None:
        waiting = deque(datagrams)
        while waiting:
            data = waiting.popleft()
            if len(data) <= self.octets:
                end.datagrams.append(data)
                seen = CE if mark and self.chance.random() < self.marked else mark
                self._lines[end].receive([bytes([seen]) + data], self.now)
            elif self.tells:
                waiting.extendleft(reversed(end.machine.message_too_long([data], len(data), self.now)))

    def _arrive(self, end: End) -> None:
        for data in self._lines[self.other(end)].due(self.now):
            end.got += end.machine.receive([data[1:]], self.now, mark=data[0] & 3)
        end.held_most = max(end.held_most, end.reassembly.held_octets)

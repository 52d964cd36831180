"""Asking an agent to open its interface, as older coordinators do: a few times, until it says that it has."""

from __future__ import annotations

from typing import Final

from tumpline.errors import MalformedError
from tumpline.machines.overlay.older import GENERATIONS, Say
from tumpline.wire.agent_json import ControlKind, Tun, control_kind_of, decode_control_untrusted, encode_control
from tumpline.wire.agent_keys import Direction, Topic, control_key, read_agent_key

ATTEMPTS: Final = 3  # as the older tool
PAUSE_S: Final = 1.0


class Starting:
    """Of one agent: `begin`, then its loop. `started` is what the agent said; `has_failed` when nothing came."""

    def __init__(self, asked: Tun) -> None:
        assert asked.name
        self.started: Tun | None = None
        self.has_failed = False
        self._name = asked.name
        self._asked = asked
        self._attempts = 0
        self._due: float | None = None
        self._outputs: list[Say] = []

    def bindings(self) -> tuple[str, ...]:
        """The keys under which the answer comes."""
        return tuple(control_key(each, Direction.FROM_AGENT, self._name, Topic.TUN_STARTED) for each in GENERATIONS)

    def begin(self, now: float) -> None:
        """Ask for the first time."""
        self._due = now
        self.handle_timeout(now)

    def next_timeout(self) -> float | None:
        """When to ask again, or to give up."""
        return self._due

    def handle_timeout(self, now: float) -> None:
        """Ask again, or give up."""
        if self._due is None or now < self._due:
            return
        if self._attempts == ATTEMPTS:
            self._due, self.has_failed = None, True
            return
        self._attempts += 1
        self._due = now + PAUSE_S
        for generation in GENERATIONS:
            key = control_key(generation, Direction.TO_AGENT, self._name, Topic.TUN_START)
            self._outputs.append(Say(key, encode_control(ControlKind.TUN_START, self._asked, generation)))

    def heard(self, routing_key: str, body: bytes | memoryview) -> None:
        """A message that came. Those of others, and malformed ones, are passed over: the next attempt may do better."""
        key = read_agent_key(routing_key)
        if key is None or key.name != self._name or key.direction is not Direction.FROM_AGENT:
            return
        try:
            kind, said = decode_control_untrusted(body, control_kind_of(routing_key, key.topic))
        except MalformedError:
            return
        if kind is ControlKind.TUN_STARTED and isinstance(said, Tun) and not self.has_failed:
            self.started, self._due = said, None

    def outputs(self) -> list[Say]:
        """What is to be published, in order; each is told once."""
        outputs, self._outputs = self._outputs, []
        return outputs

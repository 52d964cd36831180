"""Starting an interface as the older agents' users do: at once, or when a coordinator says so over the session.

What is said: that the agent is there, each time it has joined; that its interface is open, once it is and whenever somebody
asks it to open it again (coordinators ask in order to see who is there). Both generations are spoken, each under its keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.agent_json import (
    READY_DESCRIPTION,
    Component,
    ControlKind,
    Serial,
    Tun,
    addresses,
    control_kind_of,
    decode_control_untrusted,
    encode_control,
)
from tumpline.wire.agent_keys import COMPONENT_READY, SESSION_CONTROL, Direction, Topic, control_key, read_agent_key
from tumpline.wire.packet_json import Generation

GENERATIONS: Final = (Generation.V1, Generation.V0)
_ASKING: Final = (Topic.TUN_START, Topic.SERIAL_START, Topic.CONTROL)
_STARTS: Final = (ControlKind.TUN_START, ControlKind.SERIAL_START)


class Say(NamedTuple):
    """Publish this on the session's exchange."""

    routing_key: str
    body: bytes


class OpenTun(NamedTuple):
    """Open an interface with these addresses; then call `opened` or `ended`."""

    tun: Tun


class StartRefused(NamedTuple):
    """Somebody asked for something that cannot be."""

    reason: str


Output = Say | OpenTun | StartRefused


class State(Enum):
    """Of the interface."""

    WAITING = "waiting to be started"
    OPENING = "opening"
    OPEN = "open"


class Occasion(Enum):
    """What changes the state."""

    ASKED = "asked"
    OPENED = "opened"
    ENDED = "ended"  # could not be opened, or is gone


TRANSITIONS: Final = {
    (State.WAITING, Occasion.ASKED): State.OPENING,
    (State.WAITING, Occasion.OPENED): State.OPEN,  # at once, without being asked
    (State.WAITING, Occasion.ENDED): State.WAITING,
    (State.OPENING, Occasion.OPENED): State.OPEN,
    (State.OPENING, Occasion.ENDED): State.WAITING,
    (State.OPEN, Occasion.OPENED): State.OPEN,  # a probe that was unplugged, and is there again
    (State.OPEN, Occasion.ENDED): State.WAITING,
}


class Bootstrap:
    """Of one agent. `generations`: which older agents it speaks to; none: it says nothing, and hears nobody."""

    def __init__(self, name: str, generations: Sequence[Generation] = GENERATIONS) -> None:
        self.name = name
        self.state = State.WAITING
        self.malformed = 0
        self._generations = generations
        self._open: Tun | Serial | None = None
        self._outputs: list[Output] = []

    # ---- facts -------------------------------------------------------------------------------------------------------

    def bindings(self) -> tuple[str, ...]:
        """The keys under which we may be asked to start."""
        topics = (Topic.TUN_START, Topic.SERIAL_START)
        keys = (
            control_key(each, Direction.TO_AGENT, self.name, topic) for each in self._generations for topic in topics
        )
        return tuple(keys)

    def joined(self) -> None:
        """We are a member, for the first time or again."""
        ready = Component(self.name, READY_DESCRIPTION)
        for generation in self._generations:
            key = COMPONENT_READY if generation is Generation.V1 else SESSION_CONTROL
            self._outputs.append(Say(key, encode_control(ControlKind.COMPONENT_READY, ready, generation)))
        if self._open is not None:
            self._say_started(self._generations)

    def opened(self, what: Tun | Serial) -> None:
        """The interface is open."""
        self.state = TRANSITIONS[self.state, Occasion.OPENED]
        self._open = what
        self._say_started(self._generations)

    def ended(self) -> None:
        """It could not be opened, or is gone: it may be asked for again."""
        self.state = TRANSITIONS[self.state, Occasion.ENDED]
        self._open = None

    def heard(self, routing_key: str, body: bytes | memoryview) -> None:
        """A control message that came for us; those that are of no concern here are passed over."""
        key = read_agent_key(routing_key)
        if key is None or key.topic not in _ASKING or key.direction is not Direction.TO_AGENT:
            return
        if key.generation not in self._generations:
            return
        try:
            kind, asked = decode_control_untrusted(body, control_kind_of(routing_key, key.topic))
            if kind in _STARTS:
                self._start(asked, key.generation)
        except MalformedError as error:
            self.malformed += 1
            self._outputs.append(StartRefused(str(error)))

    def outputs(self) -> list[Output]:
        """What is to be done, in order; each is told once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # ---- what they lead to -------------------------------------------------------------------------------------------

    def _start(self, asked: object, generation: Generation) -> None:
        if self.state is State.OPEN:
            self._say_started((generation,))
        elif self.state is State.WAITING and isinstance(asked, Tun):
            if not addresses(asked):
                raise MalformedError("control message: it asks to start an interface, and gives it no address")
            self.state = TRANSITIONS[self.state, Occasion.ASKED]
            self._outputs.append(OpenTun(asked))

    def _say_started(self, generations: Sequence[Generation]) -> None:
        assert self._open is not None
        if isinstance(self._open, Tun):
            topic, kind = Topic.TUN_STARTED, ControlKind.TUN_STARTED
        else:
            topic, kind = Topic.SERIAL_STARTED, ControlKind.SERIAL_STARTED
        for generation in generations:
            key = control_key(generation, Direction.FROM_AGENT, self.name, topic)
            self._outputs.append(Say(key, encode_control(kind, self._open, generation)))

"""What comes out of a member: messages to publish, packets for the port, and what has happened."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from tumpline.machines.packets import PacketBatch
from tumpline.wire.amqp.content import Properties
from tumpline.wire.overlay import Hello


class Message(NamedTuple):
    """One that the queue delivered. `body` may be the driver's again after the call."""

    routing_key: str
    properties: Properties | None
    body: bytes | memoryview


class Received(Protocol):
    """What a member reads of a message: a `Message`, or a delivery of the driver's."""

    @property
    def routing_key(self) -> str: ...

    @property
    def body(self) -> bytes | memoryview: ...


class Publish(NamedTuple):
    """To be published on the session's exchange, transient. `pieces` stay as they are until they are sent."""

    routing_key: str
    pieces: tuple[bytes | memoryview, ...]
    properties: Properties | None = None
    is_mandatory: bool = False  # comes back (`returned`) if nobody's queue took it


class ToPort(NamedTuple):
    """To be written into the port of that kind."""

    batch: PacketBatch
    source: str = ""  # the member that sealed it; JSON does not say it of all packets
    is_flooded: bool = False


class Departure(Enum):
    """Why a member is not in the session any more."""

    SAID_SO = "said so"
    SILENT = "nothing heard for three intervals"
    RETURNED = "its queue is gone"
    RESTARTED = "it started anew"
    DISCONNECTED = "we are not connected"
    CROWDED_OUT = "too many members"


class MemberJoined(NamedTuple):
    """Somebody is there: `hello` is its announcement, None for an older agent."""

    name: str
    hello: Hello | None


class MemberChanged(NamedTuple):
    """It announced something else than before."""

    name: str
    hello: Hello


class MemberLeft(NamedTuple):
    """Somebody is gone, and with it all addresses."""

    name: str
    why: Departure


class KeyMismatch(NamedTuple):
    """Somebody of that name announces itself whom we do not believe; `reason` says why and what helps."""

    name: str
    reason: str


class AddressLearned(NamedTuple):
    """A packet told where an address is that nobody announced."""

    name: str
    address: bytes


class AddressConflict(NamedTuple):
    """Two members claim one address; `owner` has it, as far as we are concerned."""

    name: str
    owner: str
    address: bytes


class BindingsChanged(NamedTuple):
    """Our queue is to be bound to these as well, and not to those any more."""

    add: tuple[str, ...]
    remove: tuple[str, ...]


class BundleMessage(NamedTuple):
    """A piece of a bundle, or what a peer says about one."""

    source: str
    octets: memoryview


class ControlReceived(NamedTuple):
    """A control message of older agents, not looked into."""

    routing_key: str
    body: bytes


Event = (
    MemberJoined
    | MemberChanged
    | MemberLeft
    | KeyMismatch
    | AddressLearned
    | AddressConflict
    | BindingsChanged
    | BundleMessage
    | ControlReceived
)
Output = Publish | ToPort | Event

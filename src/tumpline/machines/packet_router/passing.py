"""Packets in, packets out: whom each one is for, and how it is written for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tumpline.errors import MalformedError
from tumpline.machines.impairment import Impairment
from tumpline.machines.overlay import Publish
from tumpline.machines.packet_router.directory import Agent, Directory
from tumpline.machines.packet_router.glance import glance_untrusted
from tumpline.machines.packet_router.impaired import Impairments, Way
from tumpline.machines.packet_router.keys import FORM_OF, FORMS, Form, Packets, Via, packets_of
from tumpline.machines.packet_router.outputs import JSON, SEALED, Output
from tumpline.machines.packet_router.shares import Message
from tumpline.machines.packet_router.topology import Topology
from tumpline.machines.packets import PacketKind
from tumpline.wire.amqp.content import Properties
from tumpline.wire.packet_json import Generation, Kind, Packet, decode_packet_untrusted, encode_packet
from tumpline.wire.router_talk import Learned
from tumpline.wire.slip import encode_slip

KEYS_MOST: Final = 8192  # routing keys whose meaning is remembered
ABSENT_S: Final = 5.0  # before it is tried again whether somebody is there; most are not
_SERIAL: Final = "serial"  # interface names by which older dumpers tell frames and packets apart
_TUN: Final = "tun0"
_SNIFFED, _INJECT = (f'"_type": "{kind.value}"'.encode() for kind in (Kind.SNIFFED, Kind.INJECT))


@dataclass(slots=True)
class Counters:
    """Of packets; a sealed batch counts as one."""

    received: int = 0
    passed: int = 0  # written to somebody, once for each
    flooded: int = 0  # of those received: for all
    malformed: int = 0
    lossy: int = 0  # dropped because `routing.lossy.link.start` asked for it
    unreachable: int = 0  # nobody there, or nobody whom the topology lets hear it
    returned: int = 0  # the broker found no queue for them
    own: int = 0  # for the agent it came from
    refused: int = 0  # no room for one agent more


@dataclass(slots=True)
class Passing:
    """The packets' part of a router."""

    directory: Directory
    topology: Topology | None
    impairments: Impairments
    outputs: list[Output]
    counters: Counters = field(default_factory=Counters)
    learned: list[Learned] = field(default_factory=list)  # to be told to other routers
    guesses: Mapping[bytes, Sequence[str]] = field(default_factory=dict)  # who may have an address nobody claimed
    lossy_left: int = 0
    _absent: dict[str, float] = field(default_factory=dict)  # keys of guesses, and when they may be tried again
    _reach: Mapping[str, Mapping[str, Impairment | None]] | None = None
    _meanings: dict[str, Packets | Via | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reach = None if self.topology is None else self.topology.reach()

    def take(self, messages: Sequence[Message], now: float) -> None:
        """Packets came."""
        meanings, counters = self._meanings, self.counters
        counters.received += len(messages)
        for message in messages:
            key = message.routing_key
            meaning = meanings[key] if key in meanings else self._meaning(key)
            try:
                if meaning is None:
                    counters.malformed += 1
                elif isinstance(meaning, Packets):
                    self._take_packet(meaning, bytes(message.body), now)
                else:
                    self._take_sealed(meaning, bytes(message.body), now)
            except MalformedError:
                counters.malformed += 1

    def due(self, now: float) -> None:
        """Impaired packets whose time has come."""
        for way, packet in self.impairments.due(now):
            target = self.directory.agents.get(way.target)
            if target is None:
                self.counters.unreachable += 1
            elif way.form is not None:
                self._write(target, way.key, _encoded(packet, way.form), JSON)
            else:
                self._write(target, way.key, packet, SEALED)

    def returned(self, routing_key: str, now: float) -> None:
        """The broker found no queue for it."""
        self.counters.returned += 1
        if len(self._absent) >= KEYS_MOST:
            self._absent.clear()
        self._absent[routing_key] = now + ABSENT_S

    def _meaning(self, key: str) -> Packets | Via | None:
        if len(self._meanings) >= KEYS_MOST:
            self._meanings.clear()
        meaning = self._meanings[key] = packets_of(key)
        return meaning

    # ---- older agents' packets ---------------------------------------------------------------------------------------

    def _take_packet(self, packets: Packets, body: bytes, now: float) -> None:
        source = self.directory.heard(packets.name, packets.form, now)
        if source is None:
            self.counters.refused += 1
            return
        source.packets_in += 1
        source.octets_in += len(body)
        if self._is_lost(source):
            return
        if packets.form.kind is PacketKind.FRAME:
            self._flood(source, packets.form, body, now)  # what a radio sends, all radios hear
            return
        addresses = glance_untrusted(body)
        if self.directory.learn(addresses.source, source, now):
            self.learned.append(Learned(addresses.source, source.name))
        owner = None if addresses.is_for_many else self.directory.owner(addresses.destination)
        if owner is source:
            self.counters.own += 1
        elif owner is not None and self._reaches(source, owner):
            self._pass(source, owner, packets.form, body, now)
        else:
            self._flood(source, packets.form, body, now)
            if owner is None and addresses.destination in self.guesses:
                self._guess(addresses.destination, packets.form, body, now)

    def _guess(self, destination: bytes, form: Form, body: bytes, now: float) -> None:
        """Older agents that have said nothing since we came: whoever has the address by the usual plan may be there."""
        for name in self.guesses[destination]:
            if name in self.directory.agents:
                continue
            for written in (form, *(other for other in FORMS if other.kind is form.kind and other is not form)):
                key = written.to_key(name)
                if self._absent.get(key, 0.0) <= now:
                    self.outputs.append(Publish(key, (_rewritten(body, written),), JSON, True))

    def _is_lost(self, source: Agent) -> bool:
        if not self.lossy_left:
            return False
        self.lossy_left -= 1
        self.counters.lossy += 1
        source.dropped += 1
        return True

    def _reaches(self, source: Agent, target: Agent) -> bool:
        return self._reach is None or target.name in self._reach.get(source.name, ())

    def _flood(self, source: Agent, form: Form, body: bytes, now: float) -> None:
        self.counters.flooded += 1
        targets = list(self._hearers(source, form.kind))
        if not targets:
            self.counters.unreachable += 1
        for target in targets:
            self._pass(source, target, form, body, now)

    def _hearers(self, source: Agent, kind: PacketKind) -> Iterator[Agent]:
        for target in self.directory:
            if target is source or kind not in target.kinds:
                continue
            if source.has_binary and target.has_binary:
                continue  # it has the sealed copy that the source sent to all members
            if self._reaches(source, target):
                yield target

    def _pass(self, source: Agent, target: Agent, form: Form, body: bytes, now: float) -> None:
        key = form.to_key(target.name) if target.is_assumed else target.targets[form.kind]
        if key is None:
            self.counters.unreachable += 1
            return
        impairment = self._impairment(source, target)
        if impairment is not None:
            packet, _, _ = decode_packet_untrusted(body)
            written = form if target.is_assumed else target.form(form.kind)
            self.impairments.receive(Way(source.name, target.name, key, written), impairment, packet.data, now)
            return
        if target.generation is not form.generation and not target.is_assumed:
            body = _rewritten(body, FORM_OF[form.kind, target.generation or Generation.V1])
        else:
            if not target.is_member:
                decode_packet_untrusted(body)  # an older agent dies of a number above 255: all of it is looked at
            if form.generation is Generation.V0:
                body = body.replace(_SNIFFED, _INJECT, 1)  # agents take no other
        self._write(target, key, body, JSON)

    def _impairment(self, source: Agent, target: Agent) -> Impairment | None:
        reach = None if self._reach is None else self._reach.get(source.name)
        return self.impairments.of(reach, target.name)

    # ---- sealed batches ----------------------------------------------------------------------------------------------

    def _take_sealed(self, via: Via, body: bytes, now: float) -> None:
        """Passed on as it is: only who shares its key could open it."""
        source = self.directory.is_there(via.source, now)
        target = self.directory.agents.get(via.destination)
        if source is None:
            self.counters.refused += 1
            return
        source.packets_in += 1
        source.octets_in += len(body)
        if self._is_lost(source):
            return
        if target is None or not self._reaches(source, target):
            self.counters.unreachable += 1
            return
        key = f"tumpline.packet.{via.destination}.{via.source}"
        impairment = self._impairment(source, target)
        if impairment is not None:
            self.impairments.receive(Way(source.name, target.name, key, None), impairment, body, now)
            return
        self._write(target, key, body, SEALED)

    def _write(self, target: Agent, key: str, body: bytes, properties: Properties) -> None:
        target.packets_out += 1
        target.octets_out += len(body)
        self.counters.passed += 1
        self.outputs.append(Publish(key, (body,), properties, True))


def _rewritten(body: bytes, form: Form) -> bytes:
    """In the other generation. Raises: MalformedError."""
    packet, _, _ = decode_packet_untrusted(body)
    return encode_packet(packet, form.generation, Kind.INJECT)


def _encoded(octets: bytes, form: Form) -> bytes:
    if form.kind is PacketKind.FRAME:
        return encode_packet(Packet(octets, _SERIAL, None, encode_slip(octets)), form.generation, Kind.INJECT)
    return encode_packet(Packet(octets, _TUN, None), form.generation, Kind.INJECT)

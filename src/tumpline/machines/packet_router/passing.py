"""Packets in: whom each one is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tumpline.errors import MalformedError
from tumpline.machines.packet_router.bridge import Opened
from tumpline.machines.packet_router.counters import Counters
from tumpline.machines.packet_router.directory import Agent, Directory
from tumpline.machines.packet_router.glance import Addresses, glance_untrusted
from tumpline.machines.packet_router.keys import FORM_OF, FORMS, Form, Packets, Via, packets_of
from tumpline.machines.packet_router.shares import Message
from tumpline.machines.packet_router.topology import Topology
from tumpline.machines.packet_router.writing import Writing
from tumpline.machines.packets import PacketKind
from tumpline.wire.ip_packet import decode_ip_untrusted
from tumpline.wire.packet_json import Generation, decode_packet_untrusted
from tumpline.wire.router_talk import Learned

KEYS_MOST: Final = 8192  # routing keys whose meaning is remembered
ABSENT_S: Final = 5.0  # before it is tried again whether somebody is there; most are not
Guesses = Mapping[bytes, Sequence[str]]  # agents that may have an address which nobody claimed


class Passing:
    """The packets' part of a router."""

    def __init__(
        self,
        directory: Directory,
        topology: Topology | None,
        guesses: Guesses,
        writing: Writing,
        counters: Counters,
        is_router: Callable[[str], bool],
    ) -> None:
        self.directory = directory
        self.topology = topology
        self.counters = counters
        self.writing = writing
        self.learned: list[Learned] = []  # to be told to other routers
        self.lossy_left = 0
        self._guesses = guesses
        self._is_router = is_router
        self._absent: dict[str, float] = {}  # keys of guesses, and when they may be tried again
        self._reach = None if topology is None else topology.reach()
        self._meanings: dict[str, Packets | Via | None] = {}

    def take(self, messages: Sequence[Message], now: float) -> None:
        """Packets came."""
        meanings, counters = self._meanings, self.counters
        counters.received += len(messages)
        for message in messages:
            key = message.routing_key
            meaning = meanings[key] if key in meanings else self.meaning(key)
            try:
                if meaning is None:
                    counters.malformed += 1
                elif isinstance(meaning, Packets):
                    self._take_packet(meaning, bytes(message.body), now)
                else:
                    self._take_sealed(meaning, bytes(message.body), now)
            except MalformedError:
                counters.malformed += 1

    def take_opened(self, opened: Opened, now: float) -> None:
        """What a member sent that takes nothing but sealed batches. Raises: MalformedError."""
        source = self.directory.agents.get(opened.source)
        if source is None or (opened.is_flooded and source.generation is not None):
            return  # the latter says it to older agents by itself
        form = FORM_OF[opened.kind, Generation.V1]
        for packet in opened.packets:
            self.counters.received += 1
            if not self._is_counted(source, len(packet)):
                continue
            addresses = _addresses_of(packet) if opened.kind is PacketKind.IP else None
            for target in self._targets(source, opened.kind, addresses):
                if not (opened.is_flooded and target.has_binary):
                    self.writing.packet(source.name, target, form, packet, now)
            if addresses is not None:
                self._guess(addresses, form, packet, now)

    def returned(self, routing_key: str, now: float) -> None:
        """The broker found no queue for it."""
        self.counters.returned += 1
        if len(self._absent) >= KEYS_MOST:
            self._absent.clear()
        self._absent[routing_key] = now + ABSENT_S

    def names_of(self, messages: Iterable[Message]) -> set[str]:
        """Whose packets these are."""
        meanings = map(self.meaning, {message.routing_key for message in messages})
        return {meaning.name for meaning in meanings if meaning is not None}

    def meaning(self, key: str) -> Packets | Via | None:
        """As `packets_of`, remembered."""
        if key in self._meanings:
            return self._meanings[key]
        if len(self._meanings) >= KEYS_MOST:
            self._meanings.clear()
        meaning = self._meanings[key] = packets_of(key)
        return meaning

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _take_packet(self, packets: Packets, body: bytes, now: float) -> None:
        form = packets.form
        source = self.directory.heard(packets.name, form, now)
        if source is None or not self._is_counted(source, len(body)):
            self.counters.refused += source is None
            return
        addresses = None
        if form.kind is PacketKind.IP:
            addresses = glance_untrusted(body)
            if addresses.is_from_one and self.directory.learn(addresses.source, source, now):
                self.learned.append(Learned(addresses.source, source.name))
        for target in self._targets(source, form.kind, addresses):
            self.writing.message(source.name, target, form, body, now)
        if addresses is not None and addresses.destination in self._guesses:
            self._guess(addresses, form, body, now)

    def _take_sealed(self, via: Via, body: bytes, now: float) -> None:
        """Passed on as it is: only who shares its key could open it."""
        source = self.directory.is_there(via.name, now)
        target = self.directory.agents.get(via.destination)
        if source is None or not self._is_counted(source, len(body)):
            self.counters.refused += source is None
        elif target is None and self._is_router(via.destination):
            self.writing.to_router(source.name, via.destination, body)
        elif target is None or not self._reaches(source, target):
            self.counters.unreachable += 1
        else:
            self.writing.sealed(source.name, target, body, now)

    def _is_counted(self, source: Agent, octets: int) -> bool:
        """It came. Returns: whether it goes on, for somebody may want the next ones to be lost."""
        source.packets_in += 1
        source.octets_in += octets
        if not self.lossy_left:
            return True
        self.lossy_left -= 1
        self.counters.lossy += 1
        source.dropped += 1
        return False

    # ---- whom it is for ----------------------------------------------------------------------------------------------

    def _targets(self, source: Agent, kind: PacketKind, addresses: Addresses | None) -> Iterable[Agent]:
        """What a radio sends (no addresses), all radios hear."""
        if addresses is not None and not addresses.is_for_many:
            owner = self.directory.owner(addresses.destination)
            if owner is source:
                self.counters.own += 1
                return ()
            if owner is not None and self._reaches(source, owner):
                return (owner,)
        self.counters.flooded += 1
        hearers = [target for target in self.directory if self._hears(target, source, kind)]
        self.counters.unreachable += not hearers
        return hearers

    def _hears(self, target: Agent, source: Agent, kind: PacketKind) -> bool:
        if target is source or kind not in target.kinds:
            return False
        if source.has_binary and target.has_binary:
            return False  # it has the sealed copy that the source sent to all members
        return self._reaches(source, target)

    def _reaches(self, source: Agent, target: Agent) -> bool:
        return self._reach is None or target.name in self._reach.get(source.name, ())

    def _guess(self, addresses: Addresses, form: Form, octets: bytes, now: float) -> None:
        """Older agents that have said nothing since we came: whoever has the address by the usual plan may be there."""
        names = self._guesses.get(addresses.destination, ())
        if not names or self.directory.owner(addresses.destination) is not None:
            return
        packet = octets if octets[:1] != b"{" else decode_packet_untrusted(octets)[0].data
        for name in names:
            for written in FORMS if name not in self.directory.agents else ():
                key = written.to_key(name)
                if written.kind is form.kind and self._absent.get(key, 0.0) <= now:
                    self.writing.guess(key, written, packet, now)


def _addresses_of(packet: bytes) -> Addresses:
    head = decode_ip_untrusted(packet)
    return Addresses(head.source, head.destination)

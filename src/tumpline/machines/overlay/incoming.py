"""From the session to the port: seals opened, JSON read, copies told from repetitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tumpline.errors import MalformedError
from tumpline.machines.overlay.addresses import AddressBook
from tumpline.machines.overlay.announcer import Announcer
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.copies import Copies, Way
from tumpline.machines.overlay.counters import Counters
from tumpline.machines.overlay.directory import Directory, Peer, Trust
from tumpline.machines.overlay.events import AddressLearned, BundleMessage, ControlReceived, Output, Received, ToPort
from tumpline.machines.overlay.outgoing import is_for_many
from tumpline.machines.overlay.routes import Routes, generations_of
from tumpline.machines.overlay.sealing import BrokenSealError, ReplayError
from tumpline.machines.packets import (
    RECORD_HEAD_OCTETS,
    PacketBatch,
    PacketKind,
    batch_of,
    batch_of_records,
    batch_untrusted,
)
from tumpline.wire.agent_json import (
    CONTROL_OCTETS_MOST,
    Tun,
    addresses,
    control_kind_of,
    decode_control_untrusted,
    network_behind,
)
from tumpline.wire.agent_keys import AgentKey, Direction, Topic, read_agent_key
from tumpline.wire.ip_packet import decode_ip_untrusted
from tumpline.wire.overlay import (
    SEAL_OCTETS,
    Claim,
    Kind,
    OverlayKey,
    Purpose,
    decode_hello_untrusted,
    decode_key_untrusted,
    decode_sealed_head_untrusted,
)
from tumpline.wire.packet_json import Generation, decode_packet_untrusted

KEYS_MOST: Final = 4096  # routing keys whose handler is remembered; strangers choose them
# A port's batch, and a bundle's segment, are at most this long; who says more says it in several messages.
SEALED_OCTETS_MOST: Final = (256 << 10) + SEAL_OCTETS
SOURCES_MOST: Final = 4096
SOURCE_S: Final = 30.0  # so often at most is noted that an address is still in use; it is kept for ten times as long
_PACKET_KINDS: Final = (PacketKind.IP, PacketKind.FRAME)  # quicker than to ask the enum
_KINDS: Final = {Topic.IP_PACKET: PacketKind.IP, Topic.FRAME: PacketKind.FRAME}
_WAYS: Final = {
    (Generation.V1, Direction.FROM_AGENT): Way.V1_FROM,
    (Generation.V1, Direction.TO_AGENT): Way.V1_TO,
    (Generation.V0, Direction.FROM_AGENT): Way.V0_FROM,
    (Generation.V0, Direction.TO_AGENT): Way.V0_TO,
}
Handler = Callable[[bytes | memoryview, float], None]


class Incoming:
    """Reads what the queue delivers."""

    def __init__(
        self,
        config: MemberConfig,
        directory: Directory,
        book: AddressBook,
        announcer: Announcer,
        counters: Counters,
        out: list[Output],
        learned: Callable[[], None],
    ) -> None:
        self._config = config
        self._directory = directory
        self._book = book
        self._announcer = announcer
        self._counters = counters
        self._out = out
        self._ways = Routes(config.name, config.formats, config.via)
        self._learned = learned  # an address has another owner than before
        self.copies = Copies()
        self._sources: dict[bytes, tuple[str, float]] = {}  # member, and until when nothing is to be learned of it
        self._handlers: dict[str, Handler] = {}
        self._fresh: list[bytes] = []  # packets of older agents that go to the port together
        self._fresh_kind = PacketKind.IP

    def received(self, messages: Sequence[Received], now: float) -> None:
        """These came, in this order."""
        handlers, counters = self._handlers, self._counters
        for message in messages:
            routing_key = message.routing_key
            handler = handlers.get(routing_key)
            try:
                (handler or self._remember(routing_key))(message.body, now)
            except BrokenSealError:
                counters.broken_seals += 1
            except ReplayError:
                counters.replays += 1
            except MalformedError:
                counters.malformed += 1
        self._flush_fresh()

    # ---- whose job a message is --------------------------------------------------------------------------------------

    def _remember(self, routing_key: str) -> Handler:
        handler = self._handler_of(routing_key)
        if len(self._handlers) >= KEYS_MOST:
            self._handlers.clear()
        self._handlers[routing_key] = handler
        return handler

    def _handler_of(self, routing_key: str) -> Handler:
        if not routing_key.startswith("tumpline."):
            return self._handler_of_older(routing_key)
        key = decode_key_untrusted(routing_key)
        if key.source == self._config.name:
            return _nothing  # our own
        match key.purpose:
            case Purpose.HELLO:
                return lambda body, now: self._hello(key.source, body, now)
            case Purpose.WHO:
                return self._who
            case Purpose.PACKET | Purpose.FLOOD | Purpose.BUNDLE:
                associated = key.associated
                return lambda body, now: self._sealed(key, associated, body, now)
        return _nothing

    def _handler_of_older(self, routing_key: str) -> Handler:
        key = read_agent_key(routing_key)
        is_own = key is not None and key.name == self._config.name
        if key is not None and (key.direction is Direction.FROM_AGENT) is is_own:
            return _nothing  # what we said ourselves, or what is for others
        if key is None or key.topic not in _KINDS:
            return lambda body, now: self._control(routing_key, key, body, now)
        packets = key
        return lambda body, now: self._older_packet(packets, body, now)

    # ---- ours --------------------------------------------------------------------------------------------------------

    def _hello(self, name: str, body: bytes | memoryview, now: float) -> None:
        said = decode_hello_untrusted(body)
        if said.hello.name != name:
            raise MalformedError(f"overlay: {name} announces {said.hello.name}")
        self._directory.heard(said, now)

    def _who(self, body: bytes | memoryview, now: float) -> None:
        if bytes(body) != self._config.name.encode():
            self._announcer.asked(now)

    def _sealed(self, key: OverlayKey, associated: bytes, body: bytes | memoryview, now: float) -> None:
        if len(body) > SEALED_OCTETS_MOST:
            raise MalformedError(f"overlay: a sealed message of {len(body)} octets")
        head = decode_sealed_head_untrusted(body)
        peer = self._directory.peers.get(key.source)
        if peer is None or peer.hello is None or peer.keys is None or peer.hello.instance != head.instance:
            self._counters.strangers += 1
            self._announcer.ask(now)
            return
        opener = peer.keys.flood_opener if key.purpose is Purpose.FLOOD else peer.keys.opener
        if opener is None:
            raise BrokenSealError("overlay: sealed for all, without a key of all")
        octets = opener.open(head, body, associated)
        peer.heard_at, peer.doubted_until = now, None
        if (head.kind == Kind.BUNDLE) is not (key.purpose is Purpose.BUNDLE):
            raise MalformedError(f"overlay: kind {head.kind} under {key.purpose}")
        if head.kind == Kind.BUNDLE:
            self._out.append(BundleMessage(key.source, octets))
        else:
            self._deliver_sealed(peer, batch_untrusted(_PACKET_KINDS[head.kind], octets), head.is_flooded, now)

    def _deliver_sealed(self, peer: Peer, batch: PacketBatch, is_flooded: bool, now: float) -> None:
        self._counters.messages_in += 1
        if batch.kind is PacketKind.IP:
            self._learn_all(peer, batch, now)
        if is_flooded:
            records = [record for record in batch.records() if self._is_for_us(record.packet, batch.kind)]
            fresh = [record for record in records if self.copies.is_new(record.packet, Way.FLOOD, now)]
            batch = batch_of_records(batch.kind, fresh)
        self._to_port(batch, peer.name, is_flooded)

    def _to_port(self, batch: PacketBatch, source: str = "", is_flooded: bool = False) -> None:
        if self._fresh:
            self._flush_fresh()  # they came before
        if batch.count and batch.kind in self._config.kinds:
            self._counters.packets_in += batch.count
            self._counters.octets_in += len(batch.octets)
            self._out.append(ToPort(batch, source, is_flooded))

    # ---- older agents ------------------------------------------------------------------------------------------------

    def _control(self, routing_key: str, key: AgentKey | None, body: bytes | memoryview, now: float) -> None:
        if len(body) > CONTROL_OCTETS_MOST:
            raise MalformedError(f"a control message of {len(body)} octets")
        self._out.append(ControlReceived(routing_key, bytes(body)))
        if key is not None and key.direction is Direction.FROM_AGENT:
            _, said = decode_control_untrusted(body, control_kind_of(routing_key, key.topic))
            peer = self._directory.heard_older(key.name, key.generation, now)
            if peer is not None and isinstance(said, Tun):
                self._book.claim(key.name, claims_of(said), Trust.OLDER)
                self._learned()

    def _older_packet(self, key: AgentKey, body: bytes | memoryview, now: float) -> None:
        kind = _KINDS[key.topic]
        if key.direction is Direction.FROM_AGENT and self._comes_better(key):
            self.copies.dropped += 1
            return
        packet = decode_packet_untrusted(body)[0].data
        source = decode_ip_untrusted(packet).source if kind is PacketKind.IP else b""
        self._counters.messages_in += 1
        if key.direction is Direction.FROM_AGENT:
            peer = self._directory.heard_older(key.name, key.generation, now) or self._directory.peers.get(key.name)
            if peer is not None and source:
                self._learn(peer, source, now)
        if not self._is_for_us(packet, kind):
            self._counters.for_others += 1
        elif self.copies.is_new(packet, _WAYS[key.generation, key.direction], now):
            if kind is not self._fresh_kind:
                self._flush_fresh()
                self._fresh_kind = kind
            self._fresh.append(packet)

    def _flush_fresh(self) -> None:
        fresh, self._fresh = self._fresh, []
        if fresh:
            self._to_port(batch_of(self._fresh_kind, fresh))

    def _comes_better(self, key: AgentKey) -> bool:
        """What a member of ours says to all in several formats we take in the one that it would choose for us alone."""
        peer = self._directory.peers.get(key.name)
        if peer is None or peer.hello is None:
            return False
        if self._ways.can_seal_for(peer):
            return True
        theirs = generations_of(peer.hello.formats)
        return key.generation is not next((one for one in self._ways.generations if one in theirs), key.generation)

    def _is_for_us(self, packet: bytes | memoryview, kind: PacketKind) -> bool:
        """Whether nobody else is known to have the address that it is for."""
        if kind is PacketKind.FRAME:
            return True
        destination = bytes(packet[24:40] if packet[0] >> 4 == 6 else packet[16:20])
        if len(destination) not in (4, 16):
            raise MalformedError("overlay: a packet without a whole head")
        return is_for_many(destination) or self._book.owner(destination) in (None, self._config.name)

    # ---- addresses ---------------------------------------------------------------------------------------------------

    def forget_sources(self) -> None:
        """Somebody came, went or changed: who has an address is to be looked up again."""
        self._sources.clear()

    def _learn_all(self, peer: Peer, batch: PacketBatch, now: float) -> None:
        last, sources, octets, at = b"", self._sources, batch.octets, 0
        for _ in range(batch.count):
            start, at = at + RECORD_HEAD_OCTETS, at + 4 + int.from_bytes(octets[at : at + 4], "little")
            if octets[start] >> 4 == 6:
                source = octets[start + 8 : min(start + 24, at)].tobytes()
            else:
                source = octets[start + 12 : min(start + 16, at)].tobytes()
            if source != last:
                last = source
                name, until = sources.get(source, ("", 0.0))
                if name != peer.name or until <= now:
                    self._learn(peer, source, now)

    def _learn(self, peer: Peer, source: bytes, now: float) -> None:
        if len(source) not in (4, 16) or is_for_many(source) or not any(source):
            return
        if not self._book.is_claimed(source) and self._book.learn(peer.name, source, now):
            self._out.append(AddressLearned(peer.name, source))
            self._learned()
        if len(self._sources) >= SOURCES_MOST:
            self._sources.clear()
        self._sources[source] = (peer.name, now + SOURCE_S)


def _nothing(_body: bytes | memoryview, _now: float) -> None:
    """A message that is not for us."""


def claims_of(tun: Tun) -> tuple[Claim, ...]:
    """What an older agent has, and what lies behind it."""
    claims = [Claim(each.ip.packed, each.network.prefixlen) for each in addresses(tun)]
    behind = network_behind(tun)
    if behind is not None:
        claims.append(Claim(behind.network_address.packed, behind.prefixlen))
    return tuple(claims)

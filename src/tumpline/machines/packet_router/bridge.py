"""For members that take nothing but sealed batches: what older agents send is sealed for them, what they send is opened.

The router is a translator to them (`Hello.is_translator`); nobody else seals anything for it.
"""

from __future__ import annotations

from typing import NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.overlay import MemberConfig, Publish
from tumpline.machines.overlay.older_packets import OlderPackets
from tumpline.machines.overlay.sealing import BrokenSealError, ReplayError
from tumpline.machines.packet_router.counters import Counters
from tumpline.machines.packet_router.outputs import SEALED
from tumpline.machines.packet_router.presence import Presence
from tumpline.machines.packet_router.shares import Message
from tumpline.machines.packets import PacketKind, batch_of, batch_untrusted
from tumpline.wire.overlay import Kind, OverlayKey, Purpose, decode_key_untrusted, decode_sealed_head_untrusted

SEALED_OCTETS_MOST = 512 << 10  # twice what a member seals at once


class Opened(NamedTuple):
    """Packets as they cross a wire."""

    source: str
    kind: PacketKind
    packets: list[bytes]
    is_flooded: bool  # the sender sent it to all members as well


class Bridge:
    """Seals and opens."""

    def __init__(self, config: MemberConfig, presence: Presence, counters: Counters) -> None:
        self._name = config.name
        self._presence = presence
        self._counters = counters
        self._older = OlderPackets(config, counters)

    def seal(self, target: str, kind: PacketKind, packet: bytes, now: float) -> Publish | None:
        """The message for that member; None: it is not there."""
        peer = self._presence.members.peers.get(target)
        if peer is None or peer.keys is None:
            return None
        if peer.since == self._presence.announcer.hello.sequence:
            self._presence.announcer.announce(now)  # it opens nothing of ours before that
        key = OverlayKey(Purpose.PACKET, target, self._name)
        sealed = peer.keys.sealer.seal(kind, batch_of(kind, [packet]).octets, key.associated)
        return Publish(str(key), sealed, SEALED, True)

    def open(self, message: Message) -> Opened | None:
        """What a member sent to us, or to all. Raises: MalformedError."""
        key = decode_key_untrusted(message.routing_key)
        if len(message.body) > SEALED_OCTETS_MOST:
            raise MalformedError(f"overlay: a sealed message of {len(message.body)} octets")
        head = decode_sealed_head_untrusted(message.body)
        peer = self._presence.members.peers.get(key.source)
        if peer is None or peer.keys is None or peer.hello is None or peer.hello.instance != head.instance:
            self._counters.unopened += 1
            return None
        opener = peer.keys.flood_opener if key.purpose is Purpose.FLOOD else peer.keys.opener
        try:
            octets = None if opener is None else opener.open(head, message.body, key.associated)
        except (BrokenSealError, ReplayError):
            octets = None
        if octets is None or head.kind == Kind.BUNDLE:
            self._counters.unopened += 1
            return None
        kind = PacketKind(head.kind)
        return Opened(key.source, kind, self._older.packets_of(batch_untrusted(kind, octets)), head.is_flooded)

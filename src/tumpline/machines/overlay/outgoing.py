"""From the port to the session: each packet in the one format and on the one way that its owner takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tumpline.machines.overlay.addresses import AddressBook
from tumpline.machines.overlay.announcer import Announcer
from tumpline.machines.overlay.config import MemberConfig, Via
from tumpline.machines.overlay.counters import Counters
from tumpline.machines.overlay.directory import Directory, Peer
from tumpline.machines.overlay.events import Output, Publish
from tumpline.machines.overlay.older_packets import OlderPackets, key_of
from tumpline.machines.overlay.routes import FLOODED, NOWHERE, Fate, Route, Router, Routes, formats_of, generations_of
from tumpline.machines.overlay.sealing import Secrets
from tumpline.machines.packets import RECORD_HEAD_OCTETS, PacketBatch, PacketKind, batch_of
from tumpline.wire import overlay as wire
from tumpline.wire.agent_keys import Direction
from tumpline.wire.overlay import OverlayKey, Purpose
from tumpline.wire.packet_json import Generation

ROUTES_MOST: Final = 65_536  # destinations that are remembered; the port's own stack chooses them
_LENGTH_OCTETS: Final = 4
# Where the destination stands, from the start of a record (RFC 8200 §3, RFC 791 §3.1).
_V6_FROM, _V6_TO = RECORD_HEAD_OCTETS + 24, RECORD_HEAD_OCTETS + 40
_V4_FROM, _V4_TO = RECORD_HEAD_OCTETS + 16, RECORD_HEAD_OCTETS + 20


class Outgoing:
    """Chooses and seals. `forget_routes` whenever somebody came, went or changed."""

    def __init__(
        self,
        config: MemberConfig,
        secrets: Secrets,
        directory: Directory,
        book: AddressBook,
        announcer: Announcer,
        counters: Counters,
        out: list[Output],
    ) -> None:
        self._config = config
        self._directory = directory
        self._book = book
        self._announcer = announcer
        self._counters = counters
        self._out = out
        self._flood_key = OverlayKey(Purpose.FLOOD, "", config.name)
        self._flood_sealer = secrets.flood_sealer()
        self._routes: dict[bytes, Route] = {}
        self._by_peer: dict[str, Route] = {}
        self._ways = Routes(config.name, config.formats, config.via)
        self._older = OlderPackets(config, counters)
        self.router = Router()

    def forget_routes(self) -> None:
        """They are looked up again."""
        self._routes.clear()
        self._by_peer.clear()

    def send(self, batch: PacketBatch, now: float) -> None:
        """What came out of the port."""
        self._counters.packets_out += batch.count
        self._counters.octets_out += len(batch.octets)
        if batch.kind is PacketKind.FRAME:  # a radio is heard by all
            self._flood(batch, now)
            return
        runs = self._runs(batch.octets)
        if len(runs) == 1:
            self._send_run(runs[0][0], batch, now)
        else:
            for route, group in _grouped(runs, batch):
                self._send_run(route, group, now)

    def send_to(self, peer: Peer, batch: PacketBatch, now: float) -> bool:
        """Sealed, for one member."""
        if not self._ways.can_seal_for(peer):
            return False
        key = OverlayKey(Purpose.PACKET, peer.name, self._config.name)
        self._send_sealed(Route(Fate.SEALED, str(key), peer, key.associated), batch, now)
        return True

    def send_bundle_message(self, peer: Peer, octets: bytes | memoryview, now: float) -> None:
        """A piece of a bundle, sealed for one member."""
        assert peer.keys is not None
        self._greet(peer, now)
        key = OverlayKey(Purpose.BUNDLE, peer.name, self._config.name)
        body = peer.keys.sealer.seal(wire.Kind.BUNDLE, octets, key.associated)
        self._out.append(Publish(str(key), body, None, True))

    # ---- which way ---------------------------------------------------------------------------------------------------

    def _runs(self, octets: memoryview) -> list[tuple[Route, int, int]]:
        """Records one behind the other that go the same way: the way, and where they begin and end."""
        routes, end = self._routes, len(octets)
        runs: list[tuple[Route, int, int]] = []
        at, start = 0, 0
        last: Route | None = None
        while at < end:
            after = at + _LENGTH_OCTETS + int.from_bytes(octets[at : at + _LENGTH_OCTETS], "little")
            if octets[at + RECORD_HEAD_OCTETS] >> 4 == 6:
                destination = octets[at + _V6_FROM : min(at + _V6_TO, after)].tobytes()
            else:
                destination = octets[at + _V4_FROM : min(at + _V4_TO, after)].tobytes()
            route = routes.get(destination)
            if route is None:
                route = self._look_up(destination)
            if route is not last:
                if last is not None:
                    runs.append((last, start, at))
                last, start = route, at
            at = after
        if last is not None:
            runs.append((last, start, end))
        return runs

    def _look_up(self, destination: bytes) -> Route:
        if len(self._routes) >= ROUTES_MOST:
            self._routes.clear()
        route = self._routes[destination] = self._route_to(destination)
        return route

    def _route_to(self, destination: bytes) -> Route:
        if len(destination) not in (4, 16):
            return NOWHERE  # no packet of IP
        if is_for_many(destination):
            return FLOODED
        name = self._book.owner(destination)
        if name is None:
            return FLOODED
        peer = self._directory.peers.get(name)
        if peer is None:
            return NOWHERE
        if name not in self._by_peer:  # one object for all addresses of a member: what goes to it goes together
            self._by_peer[name] = self._ways.towards(peer, PacketKind.IP, self.router)
        return self._by_peer[name]

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _send_run(self, route: Route, batch: PacketBatch, now: float) -> None:
        if route.fate is Fate.SEALED:
            self._send_sealed(route, batch, now)
        elif route.fate is Fate.OLDER:
            self._send_older(route, batch, now)
        elif route.fate is Fate.FLOODED:
            self._flood(batch, now)
        else:
            self._counters.nowhere += batch.count

    def _send_sealed(self, route: Route, batch: PacketBatch, now: float) -> None:
        peer = route.peer
        assert peer is not None
        assert peer.keys is not None
        self._greet(peer, now)
        body = peer.keys.sealer.seal(batch.kind, batch.octets, route.associated)
        self._counters.messages_out += 1
        self._out.append(Publish(route.key, body, None, True))

    def _send_older(self, route: Route, batch: PacketBatch, now: float) -> None:
        for packet in self._older.packets_of(batch):
            self._publish_older(route, packet, batch.kind, now)

    def _greet(self, peer: Peer, now: float) -> None:
        """Nobody can open what we seal before our announcement has come."""
        if peer.since == self._announcer.hello.sequence:
            self._announcer.announce(now)

    # ---- for all -----------------------------------------------------------------------------------------------------

    def _flood(self, batch: PacketBatch, now: float) -> None:
        packets = [packet for packet in self._older.packets_of(batch) if not self._is_hairpin(packet, batch.kind)]
        if not packets:
            return
        self._counters.flooded += len(packets)
        members = [peer for peer in self._directory.peers.values() if self._hears_floods(peer, batch.kind)]
        sealed = [peer for peer in members if self._ways.can_seal_for(peer)]
        if sealed:
            # Frames go with what the radio knows of them; none of them has been taken apart or left out.
            whole = batch if batch.kind is PacketKind.FRAME else batch_of(batch.kind, packets)
            self._flood_sealed(whole, sealed, now)
        for route in self._older_ways(batch.kind, [peer for peer in members if not self._ways.can_seal_for(peer)]):
            for packet in packets:
                self._publish_older(route, packet, batch.kind, now)

    def _hears_floods(self, peer: Peer, kind: PacketKind) -> bool:
        """Members that have a port for such packets (to others they would come back, and those would count as gone). Routers
        hear what we say in an older format; if we have none, there may be one that translates."""
        if peer.hello is None:
            return True
        if peer.hello.role is wire.Role.MEMBER:
            return kind in peer.hello.kinds
        return not self._ways.generations and self._ways.is_translated_by(peer)

    def _is_hairpin(self, packet: bytes | memoryview, kind: PacketKind) -> bool:
        """It came out of the overlay: flooding it back could go on for ever between members that forward."""
        if kind is PacketKind.FRAME:
            return False
        source = bytes(packet[8:24] if packet[0] >> 4 == 6 else packet[12:16])
        if len(source) not in (4, 16) or self._book.owner(source) in (None, self._config.name):
            return False
        self._counters.hairpins += 1
        return True

    def _flood_sealed(self, batch: PacketBatch, peers: list[Peer], now: float) -> None:
        for peer in peers:
            self._greet(peer, now)
        kind = batch.kind | wire.FLOODED
        if self._flood_sealer is not None and self._config.via is not Via.ROUTER:
            body = self._flood_sealer.seal(kind, batch.octets, self._flood_key.associated)
            self._out.append(Publish(str(self._flood_key), body))
            self._counters.messages_out += 1
            return
        for peer in peers:
            route = self._ways.towards(peer, batch.kind, self.router)
            if route.fate is Fate.SEALED and peer.keys is not None:
                body = peer.keys.sealer.seal(kind, batch.octets, route.associated)
                self._out.append(Publish(route.key, body, None, True))
                self._counters.messages_out += 1

    def _older_ways(self, kind: PacketKind, others: list[Peer]) -> list[Route]:
        """Where to publish so that all who read JSON hear it, as seldom as can be."""
        own, to_all, to_one = self._ways.generations, set[Generation](), list[Route]()
        for peer in others:
            theirs = generations_of(formats_of(peer))
            best = next((generation for generation in own if generation in theirs), None)
            if best is not None and (peer.hello is not None or self.router.passes_on(best, kind)):
                to_all.add(best)
            elif best is not None:
                key = key_of(best, Direction.TO_AGENT, peer.name, kind)
                to_one.append(Route(Fate.OLDER, key, None, b"", best, Direction.TO_AGENT))
        if own and (self.router.ours is not None or (self.router.is_older and not to_all)):
            to_all = {own[0]}  # a router of ours translates; an older one may know agents that we have not heard of
        return [
            Route(Fate.OLDER, self._key_for_all(generation, kind), None, b"", generation, Direction.FROM_AGENT)
            for generation in own
            if generation in to_all
        ] + to_one

    def _key_for_all(self, generation: Generation, kind: PacketKind) -> str:
        return key_of(generation, Direction.FROM_AGENT, self._config.name, kind)

    def _publish_older(self, route: Route, packet: bytes, kind: PacketKind, now: float) -> None:
        body = self._older.encode(packet, kind, route.generation, route.direction, now)
        self._counters.messages_out += 1
        # What is for a router of ours and comes back says that it is gone: members do not listen to that while it is there.
        is_mandatory = route.direction is Direction.TO_AGENT or self.router.ours is not None
        self._out.append(Publish(route.key, (body,), self._older.properties, is_mandatory))


def is_for_many(address: bytes) -> bool:
    """Multicast, or IPv4's limited broadcast."""
    if len(address) == 16:
        return address[0] == 0xFF
    return address[0] >> 4 == 14 or address == b"\xff" * 4


def _grouped(runs: list[tuple[Route, int, int]], batch: PacketBatch) -> Iterable[tuple[Route, PacketBatch]]:
    """The packets of each way together, in their order."""
    groups: dict[int, tuple[Route, list[memoryview]]] = {}
    for route, start, end in runs:
        groups.setdefault(id(route), (route, []))[1].append(batch.octets[start:end])
    for route, pieces in groups.values():
        octets = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        yield route, PacketBatch(batch.kind, octets, _count(octets))


def _count(octets: memoryview) -> int:
    at = count = 0
    while at < len(octets):
        at += _LENGTH_OCTETS + int.from_bytes(octets[at : at + _LENGTH_OCTETS], "little")
        count += 1
    return count

"""IP packets as bundles: which node a packet is for, how many travel together, and what of it is still worth delivering.

An ADU is one octet (the version) and the records of a batch (`packets`), super-packets included: what a TUN gives in one read
is cut by nobody on the way. Packets for one node are collected for a moment or until there are enough octets.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from struct import Struct
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.packets import RECORD_HEAD_OCTETS, PacketBatch, PacketKind, batch_untrusted

VERSION: Final = 1
AHEAD: Final = bytes([VERSION])  # of the records
ADDRESSES_MOST: Final = 4096  # remembered: what a scan of a network costs is bounded
_LENGTH: Final = Struct("<I")
# RFC 8200 §3, RFC 791 §3.1: where addresses stand in a packet.
_V6_SOURCE: Final = slice(8, 24)
_V6_DESTINATION: Final = slice(24, 40)
_V4_SOURCE: Final = slice(12, 16)
_V4_DESTINATION: Final = slice(16, 20)


class IpRoute(NamedTuple):
    """What lies behind a node."""

    network: IPv4Network | IPv6Network
    node: str  # node ID


class IpGatewayConfig(NamedTuple):
    """How packets become bundles, and which come out of bundles."""

    routes: tuple[IpRoute, ...]
    gather_s: float
    gather_octets: int
    stale_s: float  # older packets are not delivered
    checks_sources: bool  # a packet counts only if its source lies behind the node that sent it


@dataclass(slots=True)
class IpGatewayCounters:
    """Since the start."""

    packets_out: int = 0
    octets_out: int = 0
    bundles_out: int = 0
    packets_in: int = 0
    octets_in: int = 0
    bundles_in: int = 0
    no_route: int = 0  # packets that lie behind no node (multicast, too)
    dropped: int = 0  # packets for which the store had no room
    stale: int = 0  # bundles that came too late
    malformed: int = 0  # bundles that are none of ours
    spoofed: int = 0  # packets from a node that their source does not lie behind


class Outgoing(NamedTuple):
    """A payload for a node's gateway."""

    node: str
    payload: bytes
    packets: int


class _Gathered:
    """Records for one node that wait for more."""

    __slots__ = ("octets", "packets", "until")

    def __init__(self, until: float) -> None:
        self.octets = bytearray(AHEAD)
        self.packets = 0
        self.until = until


class IpGateway:
    """Without I/O. `take` gives what is to be sent, after `from_port` and `handle_timeout`."""

    def __init__(self, config: IpGatewayConfig) -> None:
        self.counters = IpGatewayCounters()
        self._config = config
        self._routes = sorted(config.routes, key=lambda route: route.network.prefixlen, reverse=True)
        self._nodes: dict[bytes, str | None] = {}  # by address
        self._gathered: dict[str, _Gathered] = {}
        self._ready: list[Outgoing] = []

    def node_of(self, address: bytes) -> str | None:
        """The node behind which an address lies: that of the longest prefix."""
        try:
            return self._nodes[address]
        except KeyError:
            return self._look_up(address)

    def _look_up(self, address: bytes) -> str | None:
        if len(self._nodes) >= ADDRESSES_MOST:
            self._nodes.clear()
        number = int.from_bytes(address, "big")
        bits = len(address) * 8
        node = next(
            (
                route.node
                for route in self._routes
                if route.network.max_prefixlen == bits
                and not (number ^ int(route.network.network_address)) >> (bits - route.network.prefixlen)
            ),
            None,
        )
        self._nodes[address] = node
        return node

    # ---- out ---------------------------------------------------------------------------------------------------------

    def from_port(self, batch: PacketBatch, now: float) -> None:
        """Packets for others. The octets are the port's again after the call."""
        octets, at = batch.octets, 0
        for _ in range(batch.count):
            after = at + 4 + _LENGTH.unpack_from(octets, at)[0]
            node = self.node_of(_destination(octets[at + RECORD_HEAD_OCTETS : after]))
            if node is None:
                self.counters.no_route += 1
            else:
                self._gather(node, octets[at:after], now)
            at = after
        if not self._config.gather_s:
            self.handle_timeout(now)

    def _gather(self, node: str, record: memoryview, now: float) -> None:
        most = self._config.gather_octets
        gathered = self._gathered.get(node)
        if gathered is not None and len(gathered.octets) + len(record) > most:
            self._finish(node)
            gathered = None
        if gathered is None:
            gathered = self._gathered[node] = _Gathered(now + self._config.gather_s)
        gathered.octets += record
        gathered.packets += 1
        self.counters.octets_out += len(record) - RECORD_HEAD_OCTETS
        if len(gathered.octets) >= most:
            self._finish(node)

    def _finish(self, node: str) -> None:
        gathered = self._gathered.pop(node)
        self.counters.packets_out += gathered.packets
        self.counters.bundles_out += 1
        self._ready.append(Outgoing(node, bytes(gathered.octets), gathered.packets))

    def take(self) -> list[Outgoing]:
        """What is to be sent now, in order."""
        ready, self._ready = self._ready, []
        return ready

    def next_timeout(self) -> float | None:
        """When something has waited long enough."""
        return min((gathered.until for gathered in self._gathered.values()), default=None)

    def handle_timeout(self, now: float) -> None:
        """That goes as it is."""
        for node in [node for node, gathered in self._gathered.items() if gathered.until <= now]:
            self._finish(node)

    # ---- in ----------------------------------------------------------------------------------------------------------

    def received(self, node: str, payload: bytes, age_s: float) -> PacketBatch | None:
        """Packets from another node's gateway, as the port takes them; None: nothing of it is of use."""
        if age_s > self._config.stale_s:
            self.counters.stale += 1
            return None
        try:
            batch = decode_payload_untrusted(payload)
        except MalformedError:
            self.counters.malformed += 1
            return None
        if self._config.checks_sources:
            batch = self._of_node(node, batch)
        if not batch.count:
            return None
        self.counters.bundles_in += 1
        self.counters.packets_in += batch.count
        self.counters.octets_in += len(batch.octets) - batch.count * RECORD_HEAD_OCTETS
        return batch

    def _of_node(self, node: str, batch: PacketBatch) -> PacketBatch:
        """The packets whose sources lie behind the node (as RFC 3704 §2.2 has it for routers)."""
        octets, at = batch.octets, 0
        good: list[memoryview] = []
        for _ in range(batch.count):
            after = at + 4 + _LENGTH.unpack_from(octets, at)[0]
            if self.node_of(_source(octets[at + RECORD_HEAD_OCTETS : after])) == node:
                good.append(octets[at:after])
            at = after
        if len(good) == batch.count:
            return batch
        self.counters.spoofed += batch.count - len(good)
        return PacketBatch(batch.kind, memoryview(b"".join(good)), len(good))


def decode_payload_untrusted(payload: bytes) -> PacketBatch:
    """The packets of an ADU. Raises: MalformedError."""
    if payload[:1] != AHEAD:
        raise MalformedError(f"packets in a bundle: version {payload[:1].hex() or 'missing'}, we know {VERSION}")
    return batch_untrusted(PacketKind.IP, memoryview(payload)[1:])


def _destination(packet: memoryview) -> bytes:
    return bytes(packet[_V6_DESTINATION] if packet[0] >> 4 == 6 else packet[_V4_DESTINATION])


def _source(packet: memoryview) -> bytes:
    return bytes(packet[_V6_SOURCE] if packet[0] >> 4 == 6 else packet[_V4_SOURCE])

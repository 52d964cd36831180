"""`--dump`: what a port gave and took, as pcapng for Wireshark, each packet once and with its direction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tumpline.drivers.capture_files import Bounds, open_capture
from tumpline.errors import MalformedError
from tumpline.machines.packets import NO_OFFLOAD, PacketBatch, PacketKind, Record
from tumpline.wire.dot15d4_tap import encode_tap
from tumpline.wire.pcapng import Direction, LinkType, interface, packet, section
from tumpline.wire.radio import NOTHING_KNOWN, RadioFacts, decode_facts_untrusted
from tumpline.wire.virtio_net import split

_RADIO_TYPES: Final = {
    LinkType.IEEE802_15_4_WITHFCS: "IEEE 802.15.4 with its FCS",
    LinkType.IEEE802_15_4_NOFCS: "IEEE 802.15.4",
    LinkType.IEEE802_15_4_TAP: "IEEE 802.15.4 with what the radio knows",
}
_Interface = tuple[LinkType, str]  # and the port's name
_Captured = tuple[LinkType, bytes | memoryview]
_OTHER: Final = {Direction.INBOUND: Direction.OUTBOUND, Direction.OUTBOUND: Direction.INBOUND}


class DumpConfig(NamedTuple):
    """Where to, and how much."""

    path: Path  # a file, or a pipe (mkfifo) for Wireshark to read
    bounds: Bounds = Bounds()
    by_version: bool = False  # IPv4 and IPv6 as link types 228 and 229 instead of both as 101


class Dump:
    """A capture that grows. What cannot be written is counted; a full disk ends no tunnel."""

    def __init__(self, config: DumpConfig, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Raises: ConfigError."""
        self._config = config
        self._clock_ns = clock_ns
        self._interfaces: dict[_Interface, int] = {}
        self._written = 0
        self._lost = 0
        self._target = open_capture(config.path, self._head, config.bounds)

    def _head(self) -> bytes:
        """The interfaces keep their numbers from one file to the next."""
        return section("tumpline") + b"".join(_interface(*key) for key in self._interfaces)

    def packets(self, batch: PacketBatch, direction: Direction, port: str) -> None:
        """INBOUND: it came out of the port."""
        if batch.kind is PacketKind.IP:
            # What comes out of a TUN device this machine has sent through it: tcpdump there calls that outbound.
            direction = _OTHER[direction]
        captured = _captured_frames(batch) if batch.kind is PacketKind.FRAME else self._captured_ip(batch)
        now_ns = self._clock_ns()
        known, new = self._interfaces, dict[_Interface, int]()
        blocks: list[bytes] = []
        for link_type, octets in captured:
            key = link_type, port
            number = known.get(key, new.get(key, -1))
            if number < 0:
                number = new[key] = len(known) + len(new)
                blocks.append(_interface(*key))
            blocks.append(packet(number, now_ns, octets, direction=direction))
        if self._target.write(b"".join(blocks)):
            # Only now: what is not written describes no interface, and others count by order.
            known.update(new)
            self._written += batch.count
        else:
            self._lost += batch.count

    def _captured_ip(self, batch: PacketBatch) -> Iterator[_Captured]:
        for record in batch.records():
            for octets in _on_a_wire(record):
                if self._config.by_version:
                    yield LinkType.IPV4 if octets[0] >> 4 == 4 else LinkType.IPV6, octets
                else:
                    yield LinkType.RAW_IP, octets

    def snapshot(self) -> dict[str, Any]:
        """For people."""
        return {"path": str(self._config.path), "packets": self._written, "lost": self._lost}

    def close(self) -> None:
        """Idempotent."""
        self._target.close()


def _on_a_wire(record: Record) -> Sequence[bytes | memoryview]:
    """A super-packet as the packets that it stands for, so that Wireshark finds lengths and checksums right."""
    if record.offload == NO_OFFLOAD:
        return (record.packet,)
    try:
        return split(record.offload, record.packet)
    except MalformedError:
        return (record.packet,)


def _captured_frames(batch: PacketBatch) -> Iterator[_Captured]:
    for offload, frame in batch.records():
        yield _captured_frame(decode_facts_untrusted(offload), frame)


def _captured_frame(facts: RadioFacts, frame: memoryview) -> _Captured:
    """The plainest link type that keeps all that is known."""
    if facts is NOTHING_KNOWN:
        return LinkType.IEEE802_15_4_NOFCS, frame
    whole = b"".join((frame, facts.fcs or b""))
    if facts._replace(fcs=None) == NOTHING_KNOWN:
        return LinkType.IEEE802_15_4_WITHFCS, whole
    return LinkType.IEEE802_15_4_TAP, encode_tap(facts) + whole


def _interface(link_type: LinkType, port: str) -> bytes:
    return interface(link_type, port, _RADIO_TYPES.get(link_type, "IP packets"))

"""A port without a device: a test, a demonstration or a program that embeds an agent is the machine behind it.

`put` sends packets to the overlay, as programs would; what comes from there is in `taken`, or goes to `on_taken`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import msgspec

from tumpline.drivers.ports._api import PortHost, PortSpec
from tumpline.errors import MalformedError
from tumpline.machines.packets import (
    BATCH_OCTETS_MOST,
    PACKET_OCTETS_MOST,
    RECORD_HEAD_OCTETS,
    PacketBatch,
    PacketKind,
    batch_of,
)
from tumpline.wire.virtio_net import split

_KINDS: Final = {"ip": PacketKind.IP, "frame": PacketKind.FRAME}


class MemoryPortConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Packets within this process."""

    name: str = "memory"
    """What it is called."""
    kind: str = "ip"
    """ip or frame."""
    addresses: list[str] = msgspec.field(default_factory=list)
    """What it says that it has."""
    mtu: Annotated[int, msgspec.Meta(ge=1280, le=65_535)] = 1500
    """What it says."""
    queue_packets: Annotated[int, msgspec.Meta(ge=1)] = 256
    """That wait while the port is paused, and that `taken` holds; more are dropped."""


class MemoryPort:
    """A `PacketPort`, and the machine behind it."""

    def __init__(self, config: MemoryPortConfig) -> None:
        self.name = config.name
        self.kind = _KINDS[config.kind]
        self.taken: deque[bytes] = deque(maxlen=config.queue_packets)  # from the overlay, as they cross a wire
        self.on_taken: Callable[[list[bytes]], None] | None = None  # in place of `taken`, a batch each time
        self._config = config
        self._host: PortHost | None = None
        self._is_paused = True
        self._waiting: deque[bytes] = deque()
        self._counts = dict.fromkeys(
            ("packets_out", "octets_out", "packets_in", "octets_in", "dropped", "malformed"), 0
        )

    async def start(self, host: PortHost) -> None:
        """Up at once."""
        self._host = host
        self._is_paused = False
        host.port_up(**self._facts())

    async def stop(self) -> None:
        """What waits is dropped."""
        self._counts["dropped"] += len(self._waiting)
        self._waiting.clear()
        self._host = None

    # ---- the machine behind it --------------------------------------------------------------------------------------

    def put(self, packets: Iterable[bytes]) -> None:
        """To the overlay, at once and in one batch, or into the queue while the port is paused."""
        if self._host is None:
            raise RuntimeError("the port is not started")
        room = self._config.queue_packets - len(self._waiting)
        for packet in packets:
            if not 0 < len(packet) <= PACKET_OCTETS_MOST:
                raise ValueError(f"a packet of {len(packet)} octets")
            if self._is_paused and room <= 0:
                self._counts["dropped"] += 1
            else:
                self._waiting.append(packet)
                room -= 1
        if not self._is_paused:
            self._flush()

    def put_batch(self, batch: PacketBatch) -> None:
        """Records as a TUN gives them, super-packets too. A paused port drops them."""
        if self._host is None or self._is_paused:
            self._counts["dropped"] += batch.count
            return
        self._counts["packets_out"] += batch.count
        self._counts["octets_out"] += len(batch.octets) - batch.count * RECORD_HEAD_OCTETS
        self._host.from_port(batch)

    def fail(self, reason: str) -> None:
        """As if the device had gone."""
        assert self._host is not None
        self._is_paused = True
        self._host.port_down(reason)

    def come_back(self) -> None:
        """And had come again. What was put meanwhile follows."""
        assert self._host is not None
        self._host.port_up(**self._facts())
        self.resume()

    def _flush(self) -> None:
        while self._waiting and not self._is_paused:
            packets, octets = [], 0
            while self._waiting and octets + RECORD_HEAD_OCTETS + len(self._waiting[0]) <= BATCH_OCTETS_MOST:
                packets.append(self._waiting.popleft())
                octets += RECORD_HEAD_OCTETS + len(packets[-1])
            self.put_batch(batch_of(self.kind, packets))

    # ---- the overlay's side -----------------------------------------------------------------------------------------

    def write(self, batch: PacketBatch) -> None:
        """Cut to what would cross a wire."""
        if self._host is None:
            self._counts["dropped"] += batch.count
            return
        packets: list[bytes] = []
        for offload, packet in batch.records():
            try:
                packets += split(offload, packet)
            except MalformedError:
                self._counts["malformed"] += 1
                continue
            self._counts["packets_in"] += 1
            self._counts["octets_in"] += len(packet)
        if self.on_taken is not None:
            self.on_taken(packets)
        else:
            self.taken.extend(packets)

    def pause(self) -> None:
        """What is put waits."""
        self._is_paused = True

    def resume(self) -> None:
        """And goes on."""
        if self._host is not None:
            self._is_paused = False
            self._flush()

    def _facts(self) -> dict[str, Any]:
        return {"name": self.name, "addresses": list(self._config.addresses), "mtu": self._config.mtu}

    def describe(self) -> dict[str, Any]:
        """As a TUN's."""
        is_open = self._host is not None
        return {**self._facts(), "is_open": is_open, "is_paused": self._is_paused, **self._counts}


SPEC = PortSpec("memory", "packets within this process", MemoryPortConfig, MemoryPort)

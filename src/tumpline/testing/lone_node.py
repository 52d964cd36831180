"""One node in virtual time, without links: a NodeMachine over a store of dictionaries, and a list of what it did.

node = LoneNode("dtn://relay/")
node.path_up(1, "dtn://rover/")
node.receive(1, bundle("dtn://ground/me", "dtn://rover/files"))
assert [unit.seq for unit in node.forwarded(1)] == [1]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeVar

from tumpline.machines.contract import FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import (
    Acknowledge,
    Arrival,
    Deliver,
    Delivery,
    Effect,
    Forward,
    Join,
    Notice,
    PathInfo,
    Refuse,
    RefuseReason,
    Split,
    Transact,
    Unit,
)
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.machines.routing._api import Strategy
from tumpline.machines.storage import (
    Add,
    AddResult,
    Expired,
    Forget,
    Fragments,
    Get,
    GetState,
    Listing,
    Load,
    NextExpiry,
    Operation,
    PutState,
    Recovered,
    Remember,
    Remove,
    Results,
)
from tumpline.wire.bundle7 import (
    Bundle,
    BundleHead,
    CanonicalBlock,
    PrimaryBlock,
    decode_bundle_untrusted,
    encode_bundle,
    payload_crc,
)
from tumpline.wire.eid import NULL, Eid

EPOCH_MS = 848_000_000_000  # a DTN time in November 2026, at which virtual time zero is
_E = TypeVar("_E")


def bundle(
    source: str,
    destination: str,
    payload: bytes = b"payload",
    *,
    flags: int = 0,
    sequence: int = 1,
    created_ms: int = EPOCH_MS,
    lifetime_ms: int = 3_600_000,
    report_to: str | None = None,
    blocks: tuple[CanonicalBlock, ...] = (),
    fragment: tuple[int, int] | None = None,
) -> bytes:
    """An encoded bundle; `fragment` is its offset and the total length."""
    offset, total = fragment if fragment is not None else (None, None)
    primary = PrimaryBlock(
        flags | (fragment is not None),
        2,
        Eid.parse(destination),
        Eid.parse(source),
        NULL if report_to is None else Eid.parse(report_to),
        created_ms,
        sequence,
        lifetime_ms,
        offset,
        total,
    )
    return encode_bundle(Bundle(primary, blocks, payload))


class DictStore:
    """What the operations mean, as plainly as it can be said (O(n) each)."""

    def __init__(self) -> None:
        self.bundles: dict[int, StoredBundle] = {}
        self.identities: dict[bytes, tuple[str, int]] = {}
        self.state: dict[tuple[str, str], bytes] = {}
        self.last_seq = 0

    def carry_out(self, operations: Sequence[Operation]) -> Results:
        return [self._one(operation) for operation in operations]

    def _one(self, operation: Operation) -> Any:
        match operation:
            case Add(bundle):
                return self._add(bundle)
            case Remove(seq):
                return self.bundles.pop(seq, None) is not None
            case Remember(key, source, until_ms):
                self.identities[key] = (source, until_ms)
            case Forget(now_ms):
                return self._forget(now_ms)
            case PutState(service, key, None):
                self.state.pop((service, key), None)
            case PutState(service, key, bytes(value)):
                self.state[service, key] = value
            case GetState(service, prefix):
                return {k: v for (s, k), v in self.state.items() if s == service and k.startswith(prefix)}
            case _:
                return self._query(operation)
        return None

    def _query(self, operation: Operation) -> Any:
        held = [self.bundles[seq] for seq in sorted(self.bundles)]
        match operation:
            case Load(destination, after, limit):
                return [each for each in held if each.destination == destination and each.seq > after][:limit]
            case Get(seqs):
                return [self.bundles[seq] for seq in seqs if seq in self.bundles]
            case Expired(now_ms, limit, octets):
                due = sorted((each for each in held if each.expires_ms <= now_ms), key=lambda each: each.expires_ms)
                before = accumulate((each.length for each in due), initial=0)
                return [each for each, octets_before in zip(due, before, strict=False) if octets_before < octets][
                    :limit
                ]
            case NextExpiry():
                return min((each.expires_ms for each in held), default=None)
            case Fragments(adu_key):
                mine = [each for each in held if each.adu_key == adu_key and each.fragment_offset >= 0]
                return sorted(mine, key=lambda each: (each.fragment_offset, each.seq))
            case Listing(after, limit):
                return [each for each in held if each.seq > after][:limit]
        raise AssertionError(operation)

    def _add(self, bundle: StoredBundle) -> AddResult:
        assert bundle.seq > self.last_seq, "numbers are never given twice, and grow"
        self.last_seq = bundle.seq
        keys = {each.key for each in self.bundles.values()} | self.identities.keys()
        if bundle.key in keys or bundle.adu_key in self.identities:
            return AddResult.DUPLICATE
        self.bundles[bundle.seq] = bundle
        return AddResult.STORED

    def _forget(self, now_ms: int) -> dict[str, int]:
        dropped: dict[str, int] = {}
        for key, (source, until_ms) in list(self.identities.items()):
            if until_ms < now_ms:
                del self.identities[key]
                dropped[source] = dropped.get(source, 0) + 1
        return dropped

    def recovered(self) -> Recovered:
        """What a machine that starts over this store is told."""
        queues: dict[str, tuple[int, int]] = {}
        remembered: dict[str, int] = {}
        for each in self.bundles.values():
            number, last = queues.get(each.destination, (0, 0))
            queues[each.destination] = (number + 1, max(last, each.seq))
        for source, _ in self.identities.values():
            remembered[source] = remembered.get(source, 0) + 1
        octets = sum(each.length for each in self.bundles.values())
        earliest = min((each.expires_ms for each in self.bundles.values()), default=None)
        return Recovered(self.last_seq, len(self.bundles), octets, queues, remembered, earliest)


class CountedHandle:
    """A file's octets, and how many readers it has."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.readers = 1

    def retain(self) -> None:
        assert self.readers > 0
        self.readers += 1

    def release(self) -> None:
        assert self.readers > 0, "released more often than retained"
        self.readers -= 1


def read(payload: Payload) -> bytes:
    """The octets of a payload that lies in memory or in a CountedHandle."""
    if isinstance(payload, Octets):
        return payload.data
    assert isinstance(payload.handle, CountedHandle)
    return payload.handle.data[payload.offset : payload.offset + payload.length]


class LoneNode:
    """A node whose store answers at once (unless `hold_store`), and whose other effects are listed in `log`."""

    def __init__(
        self,
        node_id: str = "dtn://here/",
        *,
        store: DictStore | None = None,
        clock: bool = True,
        routing: Strategy | None = None,
        **config: Any,
    ) -> None:
        self.now = 0.0
        self.log: list[Effect] = []
        self.store = DictStore() if store is None else store
        self.hold_store = False  # transactions wait in `waiting`
        self.fail_store = False
        self.store_most: int | None = None  # longer transactions fail
        self.waiting: list[Transact] = []
        self.transactions = 0
        self.machine = NodeMachine(NodeConfig(Eid.parse(node_id), **config), lambda: 0.5, routing)
        self._clock = clock
        self._transfer = 0

    # ---- driving ----------------------------------------------------------------------------------------------------

    def start(self) -> LoneNode:
        self.machine.set_clock(EPOCH_MS if self._clock else None, self.now)
        self.machine.start(self.store.recovered(), self.now)
        return self.settle()

    def settle(self) -> LoneNode:
        """Perform effects until there are no more."""
        while effects := self.machine.effects():
            for effect in effects:
                self._perform(effect)
        return self

    def _perform(self, effect: Effect) -> None:
        if not isinstance(effect, Transact):
            self.log.append(effect)
            if isinstance(effect, Split):
                crcs = [
                    payload_crc(effect.crc_type, prefix, read(effect.payload)[offset : offset + length])
                    for offset, length, prefix in effect.pieces
                ]
                self.machine.split_done(effect.seq, crcs, self.now)
            elif isinstance(effect, Join):
                joined = b"".join(read(payload)[offset : offset + length] for payload, offset, length in effect.ranges)
                self.machine.join_done(effect.token, Octets(joined), self.now)
        elif self.hold_store:
            self.waiting.append(effect)
        elif self.fail_store or (self.store_most is not None and len(effect.operations) > self.store_most):
            self.machine.store_failed(effect.token, "disk full", self.now)
        else:
            self._carry_out(effect)

    def _carry_out(self, effect: Transact) -> None:
        self.transactions += 1
        results = self.store.carry_out(effect.operations)
        self.machine.store_done(effect.token, results, self.now)

    def release_store(self) -> LoneNode:
        """The store answers again."""
        self.hold_store = False
        while self.waiting:
            self._carry_out(self.waiting.pop(0))
        return self.settle()

    def answer_store(self, transactions: int) -> LoneNode:
        """The store answers the oldest of the transactions that wait, and goes on holding back."""
        for effect in self.waiting[:transactions]:
            self.waiting.remove(effect)
            self._carry_out(effect)
        return self.settle()

    def run_until(self, when: float) -> LoneNode:
        """Let virtual time pass; every deadline is met on its time."""
        while (due := self.machine.next_timeout()) is not None and due <= when:
            self.now = max(self.now, due)
            self.machine.handle_timeout(self.now)
            self.settle()
        self.now = when
        return self

    # ---- facts ------------------------------------------------------------------------------------------------------

    @property
    def next_transfer(self) -> int:
        """The number that the next arrival will have."""
        return self._transfer + 1

    def path_up(self, path: int, peer: str | None, *, mru_octets: int = 1 << 40, **facts: Any) -> LoneNode:
        given: dict[str, Any] = {"link": "tcp", "address": f"192.0.2.{path}:4556", "authenticated": True, **facts}
        eid = None if peer is None else Eid.parse(peer)
        self.machine.path_up(PathInfo(path=path, peer=eid, mru_octets=mru_octets, **given), self.now)
        return self.settle()

    def path_down(self, path: int) -> LoneNode:
        self.machine.path_down(path, "gone", self.now)
        return self.settle()

    def receive(self, path: int, *bundles: bytes | Arrival) -> list[int]:
        """Bundles come whole; their transfer numbers."""
        arrivals = []
        for each in bundles:
            self._transfer += 1
            if isinstance(each, Arrival):
                arrivals.append(each._replace(transfer=self._transfer))
            else:
                arrivals.append(Arrival(self._transfer, each))
        self.machine.received(path, arrivals, self.now)
        self.settle()
        return [arrival.transfer for arrival in arrivals]

    def acked(self, path: int, *units: Unit) -> LoneNode:
        self.machine.acked(path, [unit.seq for unit in units], self.now)
        return self.settle()

    def refused(self, path: int, unit: Unit, reason: RefuseReason) -> LoneNode:
        self.machine.refused(path, unit.seq, reason, self.now)
        return self.settle()

    def lost(self, path: int, *units: Unit) -> LoneNode:
        self.machine.lost(path, [unit.seq for unit in units], self.now)
        return self.settle()

    # ---- what it did; each answer is given once --------------------------------------------------------------------

    def took(self, kind: type[_E]) -> list[_E]:
        """The effects of this kind since they were last asked for."""
        found: list[_E] = [effect for effect in self.log if isinstance(effect, kind)]
        self.log = [effect for effect in self.log if not isinstance(effect, kind)]
        return found

    def acknowledged(self) -> list[int]:
        return [transfer for effect in self.took(Acknowledge) for transfer in effect.transfers]

    def refusals(self) -> list[tuple[int, RefuseReason]]:
        return [(effect.transfer, effect.reason) for effect in self.took(Refuse)]

    def forwarded(self, path: int | None = None) -> list[Unit]:
        return [unit for effect in self.took(Forward) if path in (None, effect.path) for unit in effect.units]

    def deliveries(self, service: str | None = None) -> list[Delivery]:
        return [
            each for effect in self.took(Deliver) if service in (None, effect.service) for each in effect.deliveries
        ]

    def notices(self, name: str) -> list[dict[str, Any]]:
        """Fields of the notices of this name, all since the start."""
        return [effect.fields for effect in self.log if isinstance(effect, Notice) and effect.name == name]


def whole(unit: Unit) -> Bundle:
    """The bundle that a unit is; every CRC verified."""
    return decode_bundle_untrusted(unit.head + read(unit.payload) + unit.tail)


def arrival(data: bytes, head: BundleHead) -> Arrival:
    """The same bundle as it comes when its payload lies in a file."""
    end = head.payload_offset + head.payload_length
    payload = data[head.payload_offset : end]
    crc = payload_crc(head.payload_crc_type, head.payload_prefix, payload)
    handle = CountedHandle(payload)
    return Arrival(0, data[: head.payload_offset], FileRange(handle, 0, len(payload)), data[end:], crc)

"""Queues of stored bundles, and whoever empties them: memory holds a bounded window, the rest waits in the store.

A queue is all bundles for one destination. Its `cursor` is the number up to which every bundle was handed on or passed
over; what comes behind it is read from the store a page at a time. While the cursor stands at the end, a bundle that was
just stored is handed straight on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tumpline.machines.bpa.core import Core, Done, release_payload
from tumpline.machines.contract import StoredBundle
from tumpline.machines.storage import Add, AddResult, Load, Operation, Remove, Results
from tumpline.wire.bundle7 import BundleHead
from tumpline.wire.eid import Eid

PAGE_BUNDLES = 256  # most bundles read at once: 256 of 100 kB are 25 MB
# Fragments for this node wait apart until they are whole: this, then the destination, names their queue in the store.
REASSEMBLY = "reassembly:"
# Bundles from further back in a queue that are tried first after a pause: enough to find out, too few to be felt.
SCOUTS = 64
MAX_QUEUES = 16_384  # destinations remembered while nothing waits for them: strangers choose destinations
MAX_REJECTED = 65_536  # bundles for which neighbours that cannot take them are remembered

# (bundle, its decoded head if at hand, its queue, octets of the bundle): a plain tuple, as one is made for each bundle.
Entry = tuple[StoredBundle, BundleHead | None, "Queue", int]


class Consumer:
    """A neighbour or a local service: takes the bundles of its queues in order, a bounded number at a time."""

    def __init__(self, name: str, core: Core) -> None:
        self.name = name  # of a neighbour its node ID: compared with StoredBundle.previous
        self.ready: deque[Entry] = deque()
        self.ready_octets = 0
        self.behind: dict[Queue, None] = {}  # queues to read from, in turn
        self.loading = False
        self.scouts: deque[Entry] = deque()  # go first when this consumer takes bundles again
        self.scouting = False
        self.pushed_back: dict[Queue, None] = {}  # queues of bundles it refused for now, in turn
        self._most_bundles = core.config.window_bundles
        self._most_octets = core.config.window_octets

    @property
    def has_room(self) -> bool:
        """Whether one more bundle may wait in memory for this consumer."""
        return len(self.ready) < self._most_bundles and self.ready_octets < self._most_octets

    @property
    def is_hungry(self) -> bool:
        """Whether it is worth reading a page for it: half of its window is free and it can work now."""
        return len(self.ready) * 2 <= self._most_bundles and self.ready_octets * 2 <= self._most_octets

    def page_bundles(self, queue: Queue) -> int:
        """How many bundles of this queue to read, by their average size."""
        average = max(1, queue.octets // max(1, queue.bundles))
        by_octets = (self._most_octets - self.ready_octets) // average
        return max(1, min(PAGE_BUNDLES, self._most_bundles - len(self.ready), by_octets))

    @property
    def scout_limits(self) -> tuple[int, int]:
        """How many bundles, and octets, may go first: no more than fit into one window."""
        return max(1, min(SCOUTS, self._most_bundles // 2)), self._most_octets // 2

    def send_scouts(self) -> None:
        """The scouts stand at the head of what is ready."""
        self.ready_octets += sum(entry[3] for entry in self.scouts)
        self.ready.extendleft(reversed(self.scouts))
        self.scouts.clear()

    def pump(self, now: float) -> None:
        """Hand on what is ready, as far as windows allow."""
        raise NotImplementedError


class Queue:
    """All stored bundles for one destination."""

    __slots__ = (
        "bundles",
        "consumer",
        "cursor",
        "destination",
        "epoch",
        "hops",
        "is_closed",
        "last",
        "live",
        "name",
        "octets",
        "own",
        "reassembles",
        "scouted",
    )

    def __init__(self, name: str, destination: Eid, own: bool, is_closed: bool = False) -> None:
        self.name = name  # StoredBundle.destination
        self.destination = destination
        self.own = own  # an endpoint of this node
        self.is_closed = is_closed  # to what comes from other nodes
        self.reassembles = False  # fragments that wait for the rest of their ADU
        self.bundles = 0
        self.octets = 0
        self.last = 0  # number of the newest bundle
        self.cursor = 0
        self.scouted = 0  # number of the last bundle that was sent ahead as a scout
        self.epoch = 0  # changes when the cursor goes back: a page under way is then out of date
        self.hops: list[Eid] | None = None  # node IDs that lead there, best first; None: to be asked for
        self.live: list[Consumer] = []  # who can take its bundles now, best first
        self.consumer: Consumer | None = None  # the first of them


class Removal(NamedTuple):
    """Bundles on their way out of the store."""

    entries: list[Entry]

    def operations(self) -> list[Operation]:
        return [Remove(entry[0].seq) for entry in self.entries]

    def halves(self) -> tuple[Removal, Removal] | None:
        middle = len(self.entries) // 2
        return (Removal(self.entries[:middle]), Removal(self.entries[middle:])) if middle else None


class Queues:
    """All queues, the bundles of theirs that are in memory, and their removal."""

    def __init__(self, core: Core, find: Callable[[Queue], list[Consumer]]) -> None:
        self._core = core
        self._find = find
        self.by_destination: dict[Eid, Queue] = {}
        self.reassembling: dict[Eid, Queue] = {}
        self._by_hop: dict[Eid, dict[Queue, None]] = {}  # the queues whose `hops` have this node ID
        self.held: dict[int, Entry] = {}  # in memory: ready somewhere, or under way
        self._doomed: set[int] = set()  # removals the store has not confirmed
        self._rejected: dict[int, set[str]] = {}  # bundle -> consumers that cannot take it, as things are
        self._final: dict[int, set[str]] = {}  # bundle -> consumers that said never to send it again
        self.on_room: Callable[[float], None] = lambda _: None  # called when octets were freed

    def queue(self, destination: Eid) -> Queue:
        """The queue of this destination."""
        queue = self.by_destination.get(destination)
        if queue is None:
            self._drop_idle()
            names = self._core.names
            queue = Queue(str(destination), destination, names.is_own(destination), names.is_closed(destination))
            self.by_destination[destination] = queue
            self.evaluate(queue)
        return queue

    def reassembly_queue(self, destination: Eid) -> Queue:
        """The queue in which fragments for this local endpoint wait."""
        queue = self.reassembling.get(destination)
        if queue is None:
            queue = self.reassembling[destination] = Queue(REASSEMBLY + str(destination), destination, own=True)
            queue.reassembles = True
        return queue

    def named(self, name: str) -> Queue:
        """The queue that StoredBundle.destination names."""
        if name.startswith(REASSEMBLY):
            return self.reassembly_queue(Eid.parse(name.removeprefix(REASSEMBLY)))
        return self.queue(Eid.parse(name))

    def as_entry(self, bundle: StoredBundle) -> Entry:
        """A bundle that a query of the store gave."""
        return self.held.get(bundle.seq) or (bundle, None, self.named(bundle.destination), bundle.length)

    # ---- in -------------------------------------------------------------------------------------------------------

    def added(self, entries: list[Entry], results: Results, now: float) -> None:
        """Bundles that this node made: the first of `results` are those of their Adds."""
        stored: list[Entry] = []
        for entry, result in zip(entries, results, strict=False):
            if result is AddResult.STORED:
                stored.append(entry)
            else:
                self._core.quota.held -= entry[3]
                release_payload(entry[0].payload)
        self.stored(stored, now)

    def stored(self, entries: Iterable[Entry], now: float) -> None:
        """Bundles are stored, in order of their numbers: hand them on where nothing waits before them."""
        touched: dict[Consumer, None] = {}
        held = self.held
        for entry in entries:
            bundle, _, queue, octets = entry
            queue.bundles += 1
            queue.octets += octets
            caught_up = queue.cursor >= queue.last
            queue.last = seq = bundle.seq
            if not caught_up:
                continue
            consumer = queue.consumer
            if consumer is None or bundle.previous == consumer.name:
                consumer = self._pick(queue, bundle)
            if consumer is None:
                queue.cursor = seq
            elif consumer.has_room:
                queue.cursor = seq
                held[seq] = entry
                consumer.ready.append(entry)
                consumer.ready_octets += octets
                touched[consumer] = None
            else:
                consumer.behind[queue] = None
        for consumer in touched:
            consumer.pump(now)

    def recovered(self, name: str, bundles: int, last: int) -> Queue:
        """A queue that the store held when it was opened; its octets are not known one by one."""
        queue = self.named(name)
        queue.bundles, queue.last = bundles, last
        self.rewind(queue)
        return queue

    def _pick(self, queue: Queue, bundle: StoredBundle) -> Consumer | None:
        """The best that can take it: never the neighbour it came from, never one that cannot take it."""
        rejected = self._rejected.get(bundle.seq, ())
        for consumer in queue.live:
            if consumer.name != bundle.previous and consumer.name not in rejected:
                return consumer
        return None

    def hold(self, entry: Entry, consumer: Consumer) -> None:
        """Keep it in memory for this consumer."""
        self.held[entry[0].seq] = entry
        consumer.ready.append(entry)
        consumer.ready_octets += entry[3]

    # ---- reading pages ----------------------------------------------------------------------------------------------

    def pull(self, consumer: Consumer) -> None:
        """Read the next page for it, if it has room and anything waits."""
        if consumer.loading or not consumer.behind or not consumer.is_hungry:
            return
        queue = next(iter(consumer.behind))
        del consumer.behind[queue]
        consumer.behind[queue] = None  # the next page is another queue's
        consumer.loading = True
        limit = consumer.page_bundles(queue)
        load: list[Operation] = [Load(queue.name, queue.cursor, limit)]
        self._core.transact(load, (consumer, queue, queue.epoch, limit), self._loaded)

    def _loaded(self, context: tuple[Consumer, Queue, int, int], results: Results, now: float) -> None:
        consumer, queue, epoch, limit = context
        consumer.loading = False
        page: list[StoredBundle] = results[0]
        touched: dict[Consumer, None] = {consumer: None}
        if queue.epoch == epoch and self._take(queue, page, touched) and len(page) < limit:
            queue.cursor = max(queue.cursor, queue.last)
            consumer.behind.pop(queue, None)
        for each in touched:
            each.pump(now)
        self.pull(consumer)

    def _take(self, queue: Queue, page: list[StoredBundle], touched: dict[Consumer, None]) -> bool:
        """Give a page's bundles out. False: it stopped before one whose consumer has no room, which now reads on."""
        for bundle in page:
            if bundle.seq not in self.held and bundle.seq not in self._doomed:
                consumer = self._pick(queue, bundle)
                if consumer is not None:
                    if not consumer.has_room:
                        for each in queue.live:
                            each.behind.pop(queue, None)
                        consumer.behind[queue] = None
                        return False
                    self.hold((bundle, None, queue, bundle.length), consumer)
                    touched[consumer] = None
            queue.cursor = bundle.seq
        return True

    # ---- scouts -----------------------------------------------------------------------------------------------------

    def scout(self, consumer: Consumer) -> None:
        """A consumer that refuses the first of a queue may have room for one further back (see quota.py): each time it
        pauses, some that it was not offered yet are read, to be the first it is offered after the pause."""
        if consumer.scouting or consumer.scouts:
            return
        queue = next((each for each in consumer.pushed_back if each.bundles), None)
        if queue is None:
            return
        others = [each for each in consumer.pushed_back if each.bundles and each is not queue]
        consumer.pushed_back = dict.fromkeys([*others, queue])  # the next scouts are another queue's
        consumer.scouting = True
        load: list[Operation] = [Load(queue.name, queue.scouted, consumer.scout_limits[0])]
        self._core.transact(load, (consumer, queue), self._scouted)

    def _scouted(self, context: tuple[Consumer, Queue], results: Results, now: float) -> None:
        consumer, queue = context
        consumer.scouting = False
        page: list[StoredBundle] = results[0]
        most_bundles, most_octets = consumer.scout_limits
        octets = 0
        for bundle in page:
            queue.scouted = bundle.seq
            if bundle.seq in self.held or bundle.seq in self._doomed or self._pick(queue, bundle) is not consumer:
                continue
            self.held[bundle.seq] = entry = (bundle, None, queue, bundle.length)
            consumer.scouts.append(entry)
            octets += entry[3]
            if octets >= most_octets:
                break
        if not page or (len(page) < most_bundles and queue.scouted == page[-1].seq):
            queue.scouted = 0  # that was the end of the queue: begin again
        consumer.pump(now)

    # ---- back into the store ----------------------------------------------------------------------------------------

    def give_back(self, entries: Iterable[Entry]) -> None:
        """These leave memory and are read again in their order when somebody can take them."""
        for bundle, _, queue, _ in entries:
            if self.held.pop(bundle.seq, None) is not None:
                self.rewind(queue, bundle.seq - 1)

    def rewind(self, queue: Queue, cursor: int = 0) -> None:
        """Read the queue again from behind `cursor`."""
        queue.epoch += 1
        if not queue.bundles:
            queue.cursor = queue.last  # nothing to read: what comes next is handed straight on
            return
        queue.cursor = min(queue.cursor, cursor)
        if queue.consumer is not None:
            queue.consumer.behind[queue] = None

    def unload(self, consumer: Consumer) -> None:
        """Nothing waits in memory for this consumer any more."""
        entries, consumer.ready, consumer.ready_octets = consumer.ready, deque(), 0
        self.give_back(entries)

    def recall(self, consumer: Consumer) -> None:
        """Nor do scouts."""
        entries, consumer.scouts = consumer.scouts, deque()
        self.give_back(entries)
        self.unload(consumer)

    def reject(self, entry: Entry, consumer: Consumer, *, for_ever: bool = False) -> None:
        """This consumer cannot take this bundle: let another one, if there is any; else it stays in the store."""
        bundle, _, queue, _ = entry
        _note(self._rejected, bundle.seq, consumer.name)
        if for_ever:
            _note(self._final, bundle.seq, consumer.name)
        other = self._pick(queue, bundle)
        if other is not None and other.has_room:
            self.hold(entry, other)
            return
        self.held.pop(bundle.seq, None)
        if other is not None:
            self.rewind(queue, bundle.seq - 1)

    def never_again(self, seq: int) -> set[str]:
        """Names of the consumers that said never to send this bundle again."""
        return self._final.get(seq, set())

    def forgive(self, consumer: Consumer) -> None:
        """The consumer has changed (a new path, a new window): what it could not take is tried again."""
        for names in self._rejected.values():
            names.discard(consumer.name)

    # ---- who empties what ---------------------------------------------------------------------------------------------

    def evaluate(self, queue: Queue) -> None:
        """Find out anew who can take the bundles of this queue."""
        live = self._find(queue)
        if live == queue.live:
            return
        for consumer in queue.live:
            consumer.behind.pop(queue, None)
        queue.live = live
        queue.consumer = live[0] if live else None
        self.rewind(queue)

    def set_hops(self, queue: Queue, hops: list[Eid]) -> None:
        """These node IDs lead to its destination, best first."""
        queue.hops = hops
        for hop in hops:
            self._by_hop.setdefault(hop, {})[queue] = None

    def _forget_hops(self, queue: Queue) -> None:
        for hop in queue.hops or ():
            queues = self._by_hop[hop]
            del queues[queue]
            if not queues:
                del self._by_hop[hop]
        queue.hops = None

    def evaluate_of(self, consumer: Consumer, hops: Iterable[Eid]) -> None:
        """Whether this consumer, which goes by these node IDs, can be reached has changed, or what it can take: what waits
        in memory for it, and for those who share queues with it, is given out anew."""
        queues = dict.fromkeys(queue for hop in hops for queue in self._by_hop.get(hop, ()))
        touched = {consumer: None} | {each: None for queue in queues for each in queue.live}
        for each in touched:
            self.recall(each)
        for queue in queues:
            self.evaluate(queue)
        for each in touched:
            self.pull(each)

    def evaluate_all(self, consumers: Iterable[Consumer], *, routes_changed: bool = False) -> None:
        """Something changed about who can be reached: all that waits in memory goes back and is given out anew."""
        consumers = list(consumers)
        for consumer in consumers:
            self.recall(consumer)
        for queue in self.by_destination.values():
            if routes_changed:
                self._forget_hops(queue)
            self.evaluate(queue)
        for consumer in consumers:
            self.pull(consumer)

    # ---- out ----------------------------------------------------------------------------------------------------------

    def remove(self, entries: list[Entry]) -> None:
        """Delete bundles from the store."""
        if entries:
            self.doom(entries)
            self._core.transact_parts(Removal(entries), self._gone)

    def _gone(self, removal: Removal, results: Results, now: float) -> None:
        self.removed(removal.entries, results, now)

    def remove_with(self, entries: list[Entry], operations: list[Operation], context: Any, done: Done) -> None:
        """Delete bundles after further `operations`, all or nothing; `done(context, results, now)` must call `removed`."""
        self.doom(entries)
        self._core.transact(operations + Removal(entries).operations(), context, done)

    def replace(self, entries: list[Entry], made: list[Entry], done: Done) -> None:
        """Delete bundles and store others, which may have the same identities; `done((entries, made), results, now)`."""
        self.doom(entries)
        operations = Removal(entries).operations() + [Add(entry[0]) for entry in made]
        self._core.transact(operations, (entries, made), done)

    def doom(self, entries: list[Entry]) -> None:
        """Their removal is about to be asked of the store: nobody is given them any more."""
        doomed, held = self._doomed, self.held
        for entry in entries:
            seq = entry[0].seq
            doomed.add(seq)
            held.pop(seq, None)

    def is_doomed(self, seq: int) -> bool:
        """Whether its removal is under way."""
        return seq in self._doomed

    def removed(self, entries: list[Entry], _results: Results, now: float) -> None:
        """The store has forgotten these."""
        freed = 0
        doomed = self._doomed
        for bundle, _head, queue, octets in entries:
            doomed.discard(bundle.seq)
            queue.bundles -= 1
            queue.octets -= octets
            freed += octets
        if self._rejected:
            for entry in entries:
                self._rejected.pop(entry[0].seq, None)
                self._final.pop(entry[0].seq, None)
        self._core.quota.held -= freed
        self.on_room(now)

    # ---- for people -------------------------------------------------------------------------------------------------

    @property
    def bundles(self) -> int:
        """How many the store holds."""
        return sum(queue.bundles for queue in (*self.by_destination.values(), *self.reassembling.values()))

    def snapshot(self) -> list[dict[str, Any]]:
        """The queues in which something waits. Octets of bundles that an earlier run stored are not counted."""
        return [
            {
                "destination": str(queue.destination),
                "bundles": queue.bundles,
                "octets": max(0, queue.octets),
                "local": queue.own,
                "reassembly": queue.reassembles,
                "next": None if queue.consumer is None else queue.consumer.name,
            }
            for queue in (*self.by_destination.values(), *self.reassembling.values())
            if queue.bundles
        ]

    def _drop_idle(self) -> None:
        """Forget the queues in which nothing waits, once there are very many."""
        if len(self.by_destination) < MAX_QUEUES:
            return
        for destination, queue in list(self.by_destination.items()):
            if not queue.bundles and queue.cursor >= queue.last:
                for consumer in queue.live:
                    consumer.behind.pop(queue, None)
                self._forget_hops(queue)
                del self.by_destination[destination]


def _note(table: dict[int, set[str]], seq: int, name: str) -> None:
    """Remember a name for a bundle; of too many bundles the oldest is forgotten (and tried once more)."""
    if len(table) >= MAX_REJECTED and seq not in table:
        table.pop(next(iter(table)))
    table.setdefault(seq, set()).add(name)

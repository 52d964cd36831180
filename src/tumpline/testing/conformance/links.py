"""What every bundle link must hold, as checks that any pair of links can be put through.

    for check in checks_of(spec): await run(check, spec)

What holds for a link that acknowledges (`LinkSpec.acknowledges`) has its counterpart for one that sends and forgets.
A link that takes `listen` as others do needs no test of its own; `EXAMPLES` says how others are asked for a free address.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pkgutil
import random
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import msgspec

from tumpline.drivers import links
from tumpline.drivers.links._api import BundleLink, LinkContext, LinkSpec
from tumpline.errors import TumplineError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import RefuseReason, Unit
from tumpline.testing.recording import MemoryFile, RecordingHost
from tumpline.wire.eid import Eid

# Links that need more around them than an address: the tests of each run the checks themselves.
OF_THEIR_OWN = frozenset({"amqp", "dbus_cl"})
EXAMPLES: dict[str, dict[str, Any]] = {"memory": {"listen": "*"}}
ANY_PORT: dict[str, Any] = {"listen": "127.0.0.1:0"}
NODE_A, NODE_B = Eid.parse("dtn://a/"), Eid.parse("dtn://b/")
LARGE_OCTETS = 3_000_000  # several segments, several wake-ups


def registered() -> dict[str, LinkSpec]:
    """Every link of the folder that carries bundles and needs nothing but an address."""
    found = {}
    for module in sorted(pkgutil.iter_modules(links.__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            spec: LinkSpec = import_module(f"{links.__name__}.{module.name}").SPEC
            if "bundle" in spec.carries and spec.scheme not in OF_THEIR_OWN:
                found[spec.scheme] = spec
    return found


class Pair:
    """Two nodes' ends of one kind of link: b listens, a dials."""

    remedy = "listen"  # what helps against a taken address, as the error says it
    many = 2_000  # units that are no load

    def __init__(self, spec: LinkSpec, config_a: dict[str, Any], config_b: dict[str, Any]) -> None:
        self.spec = spec
        self._config_a, self._config_b = config_a, config_b
        self.a, self.b = RecordingHost(), RecordingHost()
        self.link_a = self.open("a", NODE_A, config_a)
        self.link_b = self.open("b", NODE_B, config_b)
        self.address = ""
        self.least = 0 if spec.acknowledges else 1  # octets of a unit
        self._seq = 0

    def open(self, name: str, node_id: Eid, config: dict[str, Any]) -> BundleLink:
        """A link, not started."""
        chance = random.Random(name).random
        return self.spec.open(msgspec.convert(config, self.spec.config), LinkContext(name, node_id, chance))

    async def start(self) -> None:
        """Both are started and a path is up at both ends."""
        await self.start_b()
        await self.link_a.start(self.a)
        self.a.acknowledge = self.link_a.acknowledge
        # Who is told nothing of the other end has to be told whom to expect there.
        self.link_a.connect(self.address, None if self.spec.acknowledges else NODE_B)
        await self.meet()

    async def start_b(self) -> None:
        await self.link_b.start(self.b)
        self.b.acknowledge = self.link_b.acknowledge
        self.address = self.link_b.describe()["listening"][0]

    async def restart_b(self) -> None:
        """A new b, with nothing remembered, where the old one listened."""
        self.b = RecordingHost()
        self.link_b = self.open("b", NODE_B, self.at(self.address))
        await self.start_b()

    async def meet(self) -> None:
        """A path is up at both ends."""
        await self.a.until(lambda: len(self.a.live) == 1, "a path at a")
        await self.b.until(lambda: len(self.b.live) == 1, "a path at b")

    def at(self, address: str) -> dict[str, Any]:
        """b's configuration, listening there."""
        return {**self._config_b, "listen": address}

    async def stop(self) -> None:
        await self.link_a.stop(graceful=False)
        await self.link_b.stop(graceful=False)

    @property
    def path_a(self) -> int:
        return self.a.live[-1]

    @property
    def path_b(self) -> int:
        return self.b.live[-1]

    def unit(self, data: bytes) -> Unit:
        """A unit in three parts; the middle is its payload."""
        self._seq += 1
        third = len(data) // 3
        return Unit(self._seq, data[:third], Octets(data[third : 2 * third]), data[2 * third :])

    def file_unit(self, file: MemoryFile, length: int, head: bytes = b"head", tail: bytes = b"tail") -> Unit:
        """A unit whose payload lies in a file."""
        self._seq += 1
        return Unit(self._seq, head, file.range(length), tail)

    def offer(self, *units: Unit) -> list[int]:
        """From a to b."""
        seqs = [unit.seq for unit in units]
        self.a.expect(self.path_a, seqs)
        self.link_a.offer(self.path_a, units)
        return seqs

    async def all_ended(self) -> None:
        """Every unit has ended, and if that does not say so: all that were acked have come."""
        await self.a.until(lambda: not self.a.waiting, "the end of every unit")
        if not self.spec.acknowledges:
            acked = sum(how == "acked" for how in self.a.ended.values())
            await self.b.until(lambda: len(self.b.arrivals) >= acked, f"{acked} arrivals")


Check = Callable[[Pair], Awaitable[None]]


async def run(
    check: Check, spec: LinkSpec, config_a: dict[str, Any] | None = None, config_b: dict[str, Any] | None = None
) -> None:
    """One check with a fresh pair."""
    config_b = {**EXAMPLES.get(spec.scheme, ANY_PORT), **(config_b or {})}
    await run_with(check, lambda: Pair(spec, config_a or {}, config_b))


async def run_with(check: Check, new_pair: Callable[[], Pair]) -> None:
    """One check. Afterwards nothing is left: no task, no descriptor, no handle."""
    gc.collect()
    descriptors, tasks = _descriptors(), asyncio.all_tasks()
    pair = new_pair()
    try:
        await pair.start()
        await check(pair)
    finally:
        await pair.stop()
    left = asyncio.all_tasks() - tasks
    assert not left, f"tasks are left: {left}"
    del pair
    gc.collect()
    assert _descriptors() == descriptors, "descriptors are left open"


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of this listing
    return found


# ---- the checks ------------------------------------------------------------------------------------------------------


async def paths_name_the_peer(pair: Pair) -> None:
    at_a, at_b = pair.a.up[pair.path_a], pair.b.up[pair.path_b]
    assert (at_a.peer, at_b.peer) == (NODE_B, NODE_A)
    assert (at_a.outbound, at_b.outbound) == (True, False)
    assert (at_a.link, at_b.link) == ("a", "b")
    assert at_a.authenticated  # nothing was asked for, or it is the configuration's word
    assert at_b.authenticated is pair.spec.acknowledges  # what a datagram claims is a hint
    assert at_a.mru_octets >= LARGE_OCTETS


async def small_units_arrive(pair: Pair) -> None:
    seqs = pair.offer(*(pair.unit(f"bundle {i}".encode()) for i in range(10)))
    await pair.all_ended()
    assert pair.b.data == [f"bundle {i}".encode() for i in range(10)]
    assert [pair.a.ended[seq] for seq in seqs] == ["acked"] * 10


async def both_directions(pair: Pair) -> None:
    pair.offer(pair.unit(b"from a"))
    unit = Unit(77, b"from", Octets(b" "), b"b")
    pair.b.expect(pair.path_b, [77])
    pair.link_b.offer(pair.path_b, [unit])
    await pair.all_ended()
    await pair.b.until(lambda: not pair.b.waiting)
    await pair.a.until(lambda: bool(pair.a.arrivals), "an arrival")
    assert (pair.b.data, pair.a.data) == ([b"from a"], [b"from b"])


async def zero_length_unit(pair: Pair) -> None:
    pair.offer(pair.unit(b""), pair.unit(b"next"))
    await pair.all_ended()
    assert pair.b.data == [b"", b"next"]


async def zero_length_unit_is_refused(pair: Pair) -> None:
    """Nothing would come of it, and nobody would hear that."""
    empty, following = pair.offer(pair.unit(b""), pair.unit(b"next"))
    await pair.all_ended()
    assert (pair.a.ended[empty], pair.a.ended[following]) == ("not acceptable", "acked")
    assert pair.b.data == [b"next"]


async def many_units_in_order(pair: Pair) -> None:
    sent = [random.Random(i).randbytes(max(i % 700, pair.least)) for i in range(pair.many)]
    seqs = pair.offer(*map(pair.unit, sent))
    await pair.all_ended()
    assert pair.b.data == sent
    assert pair.a.end_order == seqs
    assert len({arrival.transfer for _, arrival in pair.b.arrivals}) == pair.many


async def large_units(pair: Pair) -> None:
    content = random.Random(1).randbytes(LARGE_OCTETS)
    file = MemoryFile(content)
    in_memory = random.Random(2).randbytes(250_000)
    seqs = pair.offer(
        pair.unit(b"before"), pair.file_unit(file, len(content)), pair.unit(in_memory), pair.unit(b"after")
    )
    await pair.all_ended()
    assert pair.b.data == [b"before", b"head" + content + b"tail", in_memory, b"after"]
    assert [pair.a.ended[seq] for seq in seqs] == ["acked"] * 4
    await _freed(pair, file)


async def file_unit_without_head_or_tail(pair: Pair) -> None:
    file = MemoryFile(b"x" * 200_000)
    pair.offer(pair.file_unit(file, 200_000, b"", b""), pair.file_unit(file, pair.least, b"", b""))
    await pair.all_ended()
    assert pair.b.data == [b"x" * 200_000, b"x" * pair.least]
    await _freed(pair, file)


async def acknowledged_only_when_told(pair: Pair) -> None:
    pair.b.acknowledging = False
    first, second, third = pair.offer(*map(pair.unit, (b"1", b"2", b"3")))
    await pair.b.until(lambda: len(pair.b.arrivals) == 3)
    assert not pair.a.ended
    numbers = [arrival.transfer for _, arrival in pair.b.arrivals]
    pair.link_b.acknowledge(pair.path_b, [numbers[1]])
    await pair.a.until(lambda: second in pair.a.ended)
    assert set(pair.a.waiting) == {first, third}
    pair.link_b.acknowledge(pair.path_b, [numbers[2], numbers[0]])
    await pair.all_ended()
    assert set(pair.a.ended.values()) == {"acked"}


async def refused_units(pair: Pair) -> None:
    pair.b.acknowledging = False
    file = MemoryFile(b"f" * 400_000)
    seqs = pair.offer(pair.unit(b"1"), pair.unit(b"2"), pair.file_unit(file, 400_000))
    await pair.b.until(lambda: len(pair.b.arrivals) == 3)
    one, two, large = (arrival.transfer for _, arrival in pair.b.arrivals)
    pair.link_b.refuse(pair.path_b, one, RefuseReason.NOT_ACCEPTABLE)
    pair.link_b.refuse(pair.path_b, two, RefuseReason.COMPLETED)
    pair.link_b.refuse(pair.path_b, large, RefuseReason.NO_RESOURCES)
    await pair.all_ended()
    assert [pair.a.ended[seq] for seq in seqs] == ["not acceptable", "completed", "no resources"]
    await _freed(pair, file)


async def refused_before_it_arrives(pair: Pair) -> None:
    pair.b.refuse_sinks = RefuseReason.NO_RESOURCES
    file = MemoryFile(b"f" * LARGE_OCTETS)
    large, small = pair.offer(pair.file_unit(file, LARGE_OCTETS), pair.unit(b"small"))
    await pair.all_ended()
    assert (pair.a.ended[large], pair.a.ended[small]) == ("no resources", "acked")
    assert pair.b.data == [b"small"]
    await _freed(pair, file)


async def sink_that_fails(pair: Pair) -> None:
    pair.b.fail_sinks_at = 500_000
    file = MemoryFile(b"f" * LARGE_OCTETS)
    large, small = pair.offer(pair.file_unit(file, LARGE_OCTETS), pair.unit(b"small"))
    await pair.all_ended()
    assert (pair.a.ended[large], pair.a.ended[small]) == ("no resources", "acked")
    assert [sink.aborted for sink in pair.b.sinks] == [True]
    assert pair.b.data == [b"small"]
    await _freed(pair, file)


async def host_that_never_acknowledges(pair: Pair) -> None:
    """A flood must not fill the receiver: at some bound the link takes no more, and goes on once it is answered."""
    pair.b.acknowledging = False
    unit = b"x" * 90_000
    seqs = pair.offer(*(pair.unit(unit) for _ in range(900)))
    bound_octets = 64 << 20
    await pair.b.until(lambda: sum(map(len, pair.b.data)) > 20 << 20, "the first arrivals")
    await _quiet(pair.b)
    assert sum(map(len, pair.b.data)) < bound_octets
    assert not pair.a.ended
    pair.b.acknowledging = True
    pair.link_b.acknowledge(pair.path_b, [arrival.transfer for _, arrival in pair.b.arrivals])
    await pair.all_ended()
    assert len(pair.b.arrivals) == len(seqs)


async def host_that_never_acknowledges_loses_what_comes(pair: Pair) -> None:
    """The same, where the sender cannot be told: what comes beyond the bound is lost, and what comes later is taken."""
    pair.b.acknowledging = False
    pair.offer(*(pair.unit(b"x" * 90_000) for _ in range(900)))
    await pair.a.until(lambda: not pair.a.waiting, "the end of every unit")
    await _quiet(pair.b)
    assert 20 << 20 < sum(map(len, pair.b.data)) < 64 << 20
    pair.b.acknowledging = True
    pair.link_b.acknowledge(pair.path_b, [arrival.transfer for _, arrival in pair.b.arrivals])
    await _quiet(pair.b)
    pair.offer(pair.unit(b"after"))
    await pair.b.until(lambda: b"after" in pair.b.data, "what was sent afterwards")


async def acked_when_it_went(pair: Pair) -> None:
    """Whatever the other host says of it."""
    pair.b.acknowledging = False
    file = MemoryFile(b"f" * 400_000)
    seqs = pair.offer(pair.unit(b"1"), pair.unit(b"2"), pair.file_unit(file, 400_000))
    await pair.all_ended()
    assert [pair.a.ended[seq] for seq in seqs] == ["acked"] * 3
    one, two, large = (arrival.transfer for _, arrival in pair.b.arrivals)
    pair.link_b.refuse(pair.path_b, one, RefuseReason.NOT_ACCEPTABLE)
    pair.link_b.acknowledge(pair.path_b, [large, two])
    await _freed(pair, file)
    assert len(pair.a.ended) == 3


async def units_longer_than_the_link_takes_are_refused(pair: Pair) -> None:
    file = MemoryFile(b"")
    os.ftruncate(file.fd, pair.a.up[pair.path_a].mru_octets)
    long, short = pair.offer(pair.file_unit(file, pair.a.up[pair.path_a].mru_octets), pair.unit(b"short"))
    await pair.all_ended()
    assert (pair.a.ended[long], pair.a.ended[short]) == ("not acceptable", "acked")
    await _freed(pair, file)


async def cancelled_units_are_lost(pair: Pair) -> None:
    """What has not begun is not sent; either way the unit ends once."""
    file = MemoryFile(b"f" * LARGE_OCTETS)
    seqs = pair.offer(pair.file_unit(file, LARGE_OCTETS), pair.unit(b"cancelled"), pair.unit(b"kept"))
    pair.link_a.cancel(pair.path_a, seqs[1])
    pair.link_a.cancel(pair.path_a, 999_999)
    await pair.all_ended()
    assert [pair.a.ended[seq] for seq in seqs] == ["acked", "lost", "acked"]
    assert b"cancelled" not in pair.b.data
    await _freed(pair, file)


async def graceful_stop_finishes_what_began(pair: Pair) -> None:
    pair.b.acknowledging = False
    seqs = pair.offer(pair.unit(b"1"), pair.unit(b"2"))
    await pair.b.until(lambda: len(pair.b.arrivals) == 2)
    path_b, transfers = pair.path_b, [arrival.transfer for _, arrival in pair.b.arrivals]
    async with asyncio.TaskGroup() as group:
        group.create_task(pair.link_a.stop(graceful=True, timeout_s=20), name="graceful stop")
        await asyncio.sleep(0)  # it has begun
        pair.link_b.acknowledge(path_b, transfers)
    assert [pair.a.ended[seq] for seq in seqs] == ["acked", "acked"]
    assert not pair.a.live
    await pair.b.until(lambda: not pair.b.live, "the end of b's path")


async def graceful_stop_sends_what_was_offered(pair: Pair) -> None:
    file = MemoryFile(b"f" * LARGE_OCTETS)
    seqs = pair.offer(pair.unit(b"1"), pair.file_unit(file, LARGE_OCTETS))
    await pair.link_a.stop(graceful=True, timeout_s=20)
    assert [pair.a.ended[seq] for seq in seqs] == ["acked", "acked"]
    assert not pair.a.live
    await pair.b.until(lambda: len(pair.b.arrivals) == 2, "both units")
    await _freed(pair, file)


async def hard_stop_loses_what_was_not_sent(pair: Pair) -> None:
    file = MemoryFile(b"f" * LARGE_OCTETS)
    seqs = pair.offer(*(pair.file_unit(file, LARGE_OCTETS) for _ in range(10)))
    await pair.link_a.stop(graceful=False)
    assert {pair.a.ended[seq] for seq in seqs[1:]} == {"lost"}
    assert not pair.a.live
    file.release()
    assert file.readers == 0


async def hard_stop_loses_what_waits(pair: Pair) -> None:
    pair.b.acknowledging = False
    file = MemoryFile(b"f" * LARGE_OCTETS)
    seqs = pair.offer(pair.unit(b"1"), pair.file_unit(file, LARGE_OCTETS))
    await pair.b.until(lambda: len(pair.b.arrivals) == 1)
    await pair.link_a.stop(graceful=False)
    assert [pair.a.ended[seq] for seq in seqs] == ["lost", "lost"]
    assert not pair.a.live
    file.release()
    assert file.readers == 0
    await pair.b.until(lambda: not pair.b.live, "the end of b's path")
    assert all(sink.aborted or sink.finished for sink in pair.b.sinks)


async def peer_vanishes_and_comes_back(pair: Pair) -> None:
    pair.b.acknowledging = False
    lost = pair.offer(pair.unit(b"lost"))
    await pair.b.until(lambda: len(pair.b.arrivals) == 1)
    await pair.link_b.stop(graceful=False)
    await pair.a.until(lambda: not pair.a.live, "the end of a's path")
    assert [pair.a.ended[seq] for seq in lost] == ["lost"]
    await pair.restart_b()
    await pair.meet()
    assert len(pair.a.up) == 2
    pair.offer(pair.unit(b"again"))
    await pair.all_ended()
    assert pair.b.data == [b"again"]


async def peer_that_comes_back_goes_on(pair: Pair) -> None:
    """Nobody notices that it was away."""
    pair.offer(pair.unit(b"before"))
    await pair.all_ended()
    await pair.link_b.stop(graceful=False)
    await pair.restart_b()
    assert len(pair.a.live) == 1
    seqs = pair.offer(pair.unit(b"again"))
    await pair.b.until(lambda: pair.b.data == [b"again"])
    assert pair.a.ended[seqs[0]] == "acked"


async def disconnect_ends_our_path_for_good(pair: Pair) -> None:
    path = pair.path_a
    pair.link_a.connect(pair.address)  # once more: no second conversation
    pair.link_a.disconnect(pair.address, path, "the contact is over")
    pair.link_a.disconnect(pair.address, path, "the contact is over")
    await pair.a.until(lambda: not pair.a.live)
    assert pair.a.down == {path: "the contact is over"}
    assert not pair.link_a.describe()["dialling"]
    assert len(pair.a.up) == len(pair.b.up) == 1


async def disconnect_ends_the_path_for_good(pair: Pair) -> None:
    path = pair.path_a
    pair.link_a.connect(pair.address)  # once more: no second session
    pair.link_a.disconnect(pair.address, path, "the contact is over")
    pair.link_a.disconnect(pair.address, path, "the contact is over")
    await pair.a.until(lambda: not pair.a.live)
    await pair.b.until(lambda: not pair.b.live)
    assert pair.a.down == {path: "the contact is over"}
    assert not pair.link_a.describe()["dialling"]
    assert len(pair.a.up) == len(pair.b.up) == 1


async def a_path_that_is_down_loses_units(pair: Pair) -> None:
    path = pair.path_a
    pair.link_a.disconnect(pair.address, path, "the contact is over")
    await pair.a.until(lambda: not pair.a.live)
    file = MemoryFile(b"late")
    unit = pair.file_unit(file, 4)
    pair.a.expect(path, [unit.seq])
    pair.link_a.offer(path, [unit])
    await pair.all_ended()
    assert pair.a.ended[unit.seq] == "lost"
    pair.link_a.acknowledge(path, [1])
    pair.link_a.refuse(path, 1, RefuseReason.COMPLETED)
    pair.link_a.cancel(path, 1)
    await _freed(pair, file)


async def address_in_use_is_explained(pair: Pair) -> None:
    other = pair.open("c", NODE_B, pair.at(pair.address))
    error: TumplineError | None = None
    try:
        await other.start(RecordingHost())
    except TumplineError as raised:
        error = raised
    await other.stop(graceful=False)
    assert error is not None, "a second link could listen on the same address"
    assert pair.address in str(error)
    assert pair.remedy in str(error)


async def _freed(pair: Pair, file: MemoryFile) -> None:
    """The link gave its handles back; ours is the last."""
    await pair.a.until(lambda: True)
    for _ in range(100):  # a handle may stay until the loop has written what waits
        if file.readers == 1:
            break
        await asyncio.sleep(0)
    assert file.readers == 1, f"{file.readers - 1} handles were not released"
    file.release()


async def _quiet(host: RecordingHost) -> None:
    """Many turns of the loop bring nothing more."""
    idle = 0
    while idle < 200:
        before = len(host.arrivals)
        await asyncio.sleep(0)
        idle = idle + 1 if len(host.arrivals) == before else 0


# Of every link.
CHECKS: tuple[Check, ...] = (
    paths_name_the_peer,
    small_units_arrive,
    both_directions,
    many_units_in_order,
    large_units,
    file_unit_without_head_or_tail,
    cancelled_units_are_lost,
    a_path_that_is_down_loses_units,
    address_in_use_is_explained,
)
# Of links that acknowledge.
ACKNOWLEDGING: tuple[Check, ...] = (
    zero_length_unit,
    acknowledged_only_when_told,
    refused_units,
    refused_before_it_arrives,
    sink_that_fails,
    host_that_never_acknowledges,
    graceful_stop_finishes_what_began,
    hard_stop_loses_what_waits,
    peer_vanishes_and_comes_back,
    disconnect_ends_the_path_for_good,
)
# Of links that send and forget: their counterparts, in this order.
FORGETTING: tuple[Check, ...] = (
    zero_length_unit_is_refused,
    acked_when_it_went,
    units_longer_than_the_link_takes_are_refused,
    host_that_never_acknowledges_loses_what_comes,
    graceful_stop_sends_what_was_offered,
    hard_stop_loses_what_was_not_sent,
    peer_that_comes_back_goes_on,
    disconnect_ends_our_path_for_good,
)


def checks_of(spec: LinkSpec) -> tuple[Check, ...]:
    """What a link of this kind must hold."""
    return CHECKS + (ACKNOWLEDGING if spec.acknowledges else FORGETTING)

"""Conversations about bundles over a carrier in virtual time that loses, stalls and forgets."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest

from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.machines.effects import RefuseReason
from tumpline.machines.overlay.bundle_events import (
    SegmentReceived,
    SessionLowered,
    SessionRaised,
    TransferAborted,
    TransferFinished,
    TransferProgressed,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.overlay.bundles import MESSAGE_OCTETS, PATIENCE_S, Conversation, Phase
from tumpline.machines.overlay.numbered import FLIGHT_OCTETS_MOST, BodyRange
from tumpline.wire.overlay_bundles import (
    HEAD_OCTETS,
    MessageHead,
    MessageKind,
    Opening,
    encode_head,
    encode_start,
    encode_stored,
    segment_head,
    whole_head,
)

DELAY_S = 0.02
LARGE = FILE_PAYLOAD_OCTETS * 12


def opening(
    name: str, mru_octets: int = 1 << 40, unanswered_most: int = 1000, unanswered_octets_most: int = 32 << 20
) -> Opening:
    return Opening(f"dtn://{name}/", mru_octets, unanswered_most, unanswered_octets_most)


class End:
    """One member, and what its node would do."""

    def __init__(self, name: str, seed: int, **limits: int) -> None:
        self.name = name
        self.random = random.Random(f"{name} {seed}").random
        self.limits = limits
        self.storing = True
        self.refusing: Callable[[int], RefuseReason | None] = lambda _octets: None  # large ones, as they begin
        self.units: dict[int, bytes] = {}
        self.ended: dict[int, str] = {}
        self.end_order: list[int] = []
        self.came: list[bytes] = []
        self.unanswered: list[int] = []
        self.sessions: list[str] = []
        self.lowered: list[str] = []
        self.sinks: dict[int, bytearray] = {}
        self.aborted = 0
        self.progress: list[int] = []
        self.begin()

    def begin(self) -> None:
        """A life with nothing remembered."""
        self.conversation = Conversation(opening(self.name, **self.limits), self.random)
        self.is_up = False
        self.sinks.clear()
        self.unanswered.clear()

    def offer(self, data: bytes, inline: bool = True) -> int:
        token = len(self.units) + 1
        self.units[token] = data
        is_inline = inline and len(data) < FILE_PAYLOAD_OCTETS
        self.conversation.send(token, len(data), data if is_inline else None)
        return token

    def resolve(self, pieces: list[bytes | BodyRange]) -> bytes:
        octets = []
        for piece in pieces:
            if isinstance(piece, BodyRange):
                assert piece.token not in self.ended, "octets of a unit that has ended are asked for"
                piece = self.units[piece.token][piece.offset : piece.offset + piece.length]
            octets.append(piece)
        return b"".join(octets)

    def store(self) -> None:
        numbers, self.unanswered = self.unanswered, []
        self.conversation.acknowledge(numbers)

    def handle(self) -> None:
        handlers: dict[type[Any], Callable[[Any], None]] = {
            SessionRaised: self._raised,
            SessionLowered: self._lowered,
            TransfersReceived: self._received,
            TransferStarted: self._started,
            SegmentReceived: self._segment,
            TransferFinished: self._finished,
            TransferAborted: self._aborted,
            TransfersAcked: lambda event: self._end(event.tokens, "acked"),
            TransferRefused: lambda event: self._end([event.token], event.reason.value),
            TransfersLost: lambda event: self._end(event.tokens, "lost"),
            TransferProgressed: lambda event: self.progress.append(event.octets),
        }
        while events := self.conversation.events():
            for event in events:
                handlers[type(event)](event)
            if self.storing:
                self.store()

    def _raised(self, event: SessionRaised) -> None:
        assert not self.is_up
        self.is_up = True
        self.sessions.append(event.node_id)

    def _lowered(self, event: SessionLowered) -> None:
        assert self.is_up
        self.is_up = False
        assert set(self.units) == set(self.ended), "units without an end"
        assert not self.sinks
        self.unanswered.clear()
        self.lowered.append(event.reason)

    def _received(self, event: TransfersReceived) -> None:
        assert self.is_up
        self.came += [data for _, data in event.transfers]
        self.unanswered += [number for number, _ in event.transfers]

    def _started(self, event: TransferStarted) -> None:
        reason = self.refusing(event.octets)
        if reason is None:
            self.sinks[event.transfer] = bytearray()
        else:
            self.conversation.refuse(event.transfer, reason)

    def _segment(self, event: SegmentReceived) -> None:
        if event.transfer in self.sinks:
            self.sinks[event.transfer] += event.octets

    def _finished(self, event: TransferFinished) -> None:
        if event.transfer in self.sinks:
            self.came.append(bytes(self.sinks.pop(event.transfer)))
            self.unanswered.append(event.transfer)

    def _aborted(self, event: TransferAborted) -> None:
        self.aborted += self.sinks.pop(event.transfer, None) is not None

    def _end(self, tokens: list[int], how: str) -> None:
        assert tokens
        for token in tokens:
            assert token not in self.ended, f"unit {token} ended twice"
            self.ended[token] = how
            self.end_order.append(token)


class Net:
    """Two ends and what is on its way between them; the order is kept, some of it is lost."""

    def __init__(self, seed: int = 0, loss: float = 0.0, limits_b: dict[str, int] | None = None) -> None:
        self.now = 100.0
        self.chance = random.Random(seed)
        self.loss = loss
        self.a, self.b = End("a", seed), End("b", seed, **(limits_b or {}))
        self.way: list[tuple[float, int, End, bytes]] = []
        self.count = 0
        self.longest = 0
        self.is_cut = False

    def other(self, end: End) -> End:
        return self.b if end is self.a else self.a

    def turn(self, end: End) -> None:
        end.handle()
        while (pieces := end.conversation.pull(self.now)) is not None:
            octets = end.resolve(pieces)
            self.longest = max(self.longest, len(octets))
            self.count += 1
            if not self.is_cut and self.chance.random() >= self.loss:
                heapq.heappush(self.way, (self.now + DELAY_S, self.count, self.other(end), octets))
            end.handle()
        end.handle()

    def run(self, until: Callable[[], bool], limit_s: float = 900.0) -> None:
        """Time passes until the condition holds."""
        end_at = self.now + limit_s
        while not until():
            assert self.step(), f"nothing happens any more: {self.a.conversation.snapshot()}"
            assert self.now < end_at, f"not within {limit_s} s: {self.a.conversation.snapshot()}"

    def step(self) -> bool:
        """What is due next happens. False: nothing is."""
        self.turn(self.a)
        self.turn(self.b)
        times = [each.conversation.next_timeout() for each in (self.a, self.b)]
        times += [self.way[0][0]] if self.way else []
        due = [time for time in times if time is not None]
        if due:
            self.now = max(self.now, min(due))
            self._deliver()
            for end in (self.a, self.b):
                end.conversation.handle_timeout(self.now)
                self.turn(end)
        return bool(due)

    def _deliver(self) -> None:
        while self.way and self.way[0][0] <= self.now:
            _, _, end, octets = heapq.heappop(self.way)
            end.conversation.received([memoryview(octets)], self.now)
            self.turn(end)

    def pass_time(self, seconds: float) -> None:
        """Nothing is waited for."""
        end_at = self.now + seconds
        while self.now < end_at and self.step():
            pass

    def meet(self) -> None:
        self.a.conversation.open(self.now)
        self.run(lambda: self.a.is_up and self.b.is_up)


def bundle(seed: int, octets: int) -> bytes:
    return random.Random(seed).randbytes(octets)


def test_both_ends_learn_who_the_other_is() -> None:
    net = Net()
    net.meet()
    assert (net.a.sessions, net.b.sessions) == (["dtn://b/"], ["dtn://a/"])


def test_both_may_ask_at_once() -> None:
    net = Net()
    net.b.conversation.open(net.now)
    net.meet()
    net.pass_time(5)
    assert (len(net.a.sessions), len(net.b.sessions)) == (1, 1)
    assert not net.a.lowered
    assert net.count < 12


def test_small_bundles_travel_together_and_in_order() -> None:
    net = Net()
    net.meet()
    before = net.count
    sent = [bundle(i, i % 700) for i in range(500)]
    tokens = [net.a.offer(data, inline=bool(i % 3)) for i, data in enumerate(sent)]
    net.run(lambda: len(net.a.ended) == 500)
    assert net.b.came == sent
    assert net.a.end_order == tokens
    assert set(net.a.ended.values()) == {"acked"}
    assert net.count - before < 12


def test_long_bundles_are_cut_and_joined() -> None:
    net = Net()
    net.meet()
    sent = [b"before", bundle(1, LARGE), b"", bundle(2, FILE_PAYLOAD_OCTETS), bundle(3, FILE_PAYLOAD_OCTETS - 1), b"x"]
    for data in sent:
        net.a.offer(data)
    net.run(lambda: len(net.a.ended) == len(sent))
    assert net.b.came == sent
    assert set(net.a.ended.values()) == {"acked"}
    assert net.longest <= MESSAGE_OCTETS
    assert net.a.progress == sorted(net.a.progress[:-2]) + net.a.progress[-2:]
    assert LARGE in net.a.progress


def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    net = Net()
    net.b.storing = False
    net.meet()
    net.a.offer(b"small")
    net.a.offer(bundle(1, LARGE))
    net.run(lambda: len(net.b.came) == 2)
    net.pass_time(30)
    assert not net.a.ended
    net.b.store()
    net.run(lambda: len(net.a.ended) == 2)


def test_what_waits_for_the_store_is_bounded() -> None:
    net = Net(limits_b={"unanswered_most": 10, "unanswered_octets_most": 50_000})
    net.b.storing = False
    net.meet()
    for i in range(30):
        net.a.offer(bundle(i, 10_000))
    net.pass_time(20)
    assert len(net.b.came) == 5
    net.b.storing = True
    net.b.store()
    for _ in range(3):
        net.a.offer(b"tiny")
    net.run(lambda: len(net.a.ended) == 33)
    assert len(net.b.came) == 33


def test_one_that_is_longer_than_the_bound_goes_alone() -> None:
    net = Net(limits_b={"unanswered_octets_most": 1000})
    net.meet()
    sent = [bundle(i, 5000) for i in range(3)]
    for data in sent:
        net.a.offer(data)
    net.run(lambda: len(net.a.ended) == 3)
    assert net.b.came == sent


def test_refused_bundles_end_so() -> None:
    net = Net()
    net.b.storing = False
    net.meet()
    tokens = [net.a.offer(b"1"), net.a.offer(bundle(1, LARGE)), net.a.offer(b"3")]
    net.run(lambda: len(net.b.came) == 3)
    net.b.conversation.refuse(1, RefuseReason.NOT_ACCEPTABLE)
    net.b.conversation.refuse(2, RefuseReason.COMPLETED)
    net.b.conversation.acknowledge([3])
    net.run(lambda: len(net.a.ended) == 3)
    assert [net.a.ended[token] for token in tokens] == ["not acceptable", "completed", "acked"]


def test_one_that_is_refused_as_it_begins_is_not_sent_to_its_end() -> None:
    net = Net()
    net.b.refusing = lambda octets: RefuseReason.NO_RESOURCES
    net.meet()
    large, small = net.a.offer(bundle(1, 40_000_000)), net.a.offer(b"small")
    net.run(lambda: len(net.a.ended) == 2)
    assert (net.a.ended[large], net.a.ended[small]) == ("no resources", "acked")
    assert net.b.came == [b"small"]
    assert net.count < 150


def test_longer_than_the_peer_takes_is_refused_here() -> None:
    net = Net(limits_b={"mru_octets": 1000})
    net.meet()
    long, short = net.a.offer(bytes(1001)), net.a.offer(bytes(1000))
    net.run(lambda: len(net.a.ended) == 2)
    assert (net.a.ended[long], net.a.ended[short]) == ("not acceptable", "acked")


def test_cancelled_ones_are_lost_if_they_have_not_begun() -> None:
    net = Net(limits_b={"unanswered_most": 1})
    net.b.storing = False
    net.meet()
    first, second, third = (net.a.offer(data) for data in (b"1", b"2", b"3"))
    net.run(lambda: bool(net.b.came))
    net.a.conversation.cancel(first)
    net.a.conversation.cancel(second)
    net.a.conversation.cancel(99)
    net.b.storing = True
    net.b.store()
    net.run(lambda: len(net.a.ended) == 3)
    assert [net.a.ended[token] for token in (first, second, third)] == ["acked", "lost", "acked"]
    assert net.b.came == [b"1", b"3"]


@pytest.mark.parametrize("octets", [LARGE, 5000])
def test_a_payload_that_is_gone_costs_its_bundle_only(octets: int) -> None:
    net = Net()
    net.meet()
    gone, after = net.a.offer(bundle(1, octets), inline=False), net.a.offer(b"after")
    net.a.conversation.pull(net.now)  # cannot be made
    net.a.conversation.unreadable(gone, net.now)
    net.run(lambda: len(net.a.ended) == 2)
    assert (net.a.ended[gone], net.a.ended[after]) == ("not acceptable", "acked")
    assert net.b.came == [b"after"]
    assert not net.b.sinks


def test_a_payload_that_goes_while_it_is_sent_is_aborted_at_the_peer() -> None:
    net = Net()
    net.meet()
    gone, after = net.a.offer(bundle(1, 40_000_000)), net.a.offer(b"after")
    net.run(lambda: bool(net.b.sinks))
    net.a.conversation.unreadable(gone, net.now)
    net.run(lambda: len(net.a.ended) == 2)
    assert net.a.ended[after] == "acked"
    assert net.b.aborted == 1


@pytest.mark.parametrize("seed", range(20))
def test_losses_are_repeated(seed: int) -> None:
    net = Net(seed, loss=[0.02, 0.1, 0.3][seed % 3])
    net.meet()
    chance = random.Random(seed)
    sizes = [0, 10, 3000, 90_000, FILE_PAYLOAD_OCTETS, LARGE]
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    for i in range(60):
        end = chance.choice((net.a, net.b))
        data = bundle(i, chance.choice(sizes))
        sent[end.name].append(data)
        end.offer(data, inline=chance.random() < 0.7)
    net.run(lambda: len(net.a.ended) + len(net.b.ended) == 60, 3000)
    assert set(net.a.ended.values()) | set(net.b.ended.values()) == {"acked"}
    assert net.b.came == sent["a"]
    assert net.a.came == sent["b"]


def test_one_loss_costs_one_window_and_no_waiting() -> None:
    net = Net()
    net.meet()
    net.a.offer(bundle(1, 4_000_000))
    net.turn(net.a)
    del net.way[0]
    began = net.now
    net.run(lambda: bool(net.a.ended))
    assert net.now - began < 1.0
    assert 0 < net.a.conversation.snapshot()["repeated"] <= 16


@pytest.mark.parametrize("octets", [FLIGHT_OCTETS_MOST, 300_000])
def test_what_is_under_way_is_bounded(octets: int) -> None:
    net = Net()
    net.a.conversation.limit_flight(octets)
    net.meet()
    net.a.offer(bundle(1, 30_000_000))
    most = 0
    while not net.a.ended:
        most = max(most, sum(len(octets) for _, _, _, octets in net.way))
        net.step()
    assert octets // 2 < most <= octets + MESSAGE_OCTETS


def test_what_waits_for_a_slow_carrier_is_not_late() -> None:
    net = Net()
    net.meet()
    net.a.offer(b"waits")
    net.turn(net.a)
    net.now += PATIENCE_S
    net.a.conversation.wait_anew(net.now)
    net.a.conversation.handle_timeout(net.now)
    net.run(lambda: bool(net.a.ended))
    assert net.a.ended == {1: "acked"}
    assert net.a.conversation.snapshot()["repeated"] == 0


def test_an_interrupted_carrier_ends_nothing_if_it_comes_back() -> None:
    net = Net()
    net.meet()
    net.a.offer(bundle(1, 20_000_000))
    net.run(lambda: any(len(sink) > 2_000_000 for sink in net.b.sinks.values()))
    net.way.clear()
    for end in (net.a, net.b):
        end.conversation.pause(net.now)
        assert end.conversation.pull(net.now) is None
    net.now += PATIENCE_S - 1
    for end in (net.a, net.b):
        end.conversation.handle_timeout(net.now)
        end.conversation.resume(net.now)
    resumed_at = net.now
    net.run(lambda: bool(net.a.ended))
    assert net.now - resumed_at < 2.0, "it waited"
    assert net.a.ended == {1: "acked"}
    assert (len(net.a.sessions), len(net.b.sessions)) == (1, 1)


def test_a_carrier_that_stays_away_ends_the_session_and_a_new_one_follows() -> None:
    net = Net()
    net.meet()
    token = net.a.offer(bundle(1, 20_000_000))
    net.run(lambda: bool(net.b.sinks))
    net.way.clear()
    for end in (net.a, net.b):
        end.conversation.pause(net.now)
    net.now += PATIENCE_S
    for end in (net.a, net.b):
        end.conversation.handle_timeout(net.now)
        end.handle()
    assert net.a.ended == {token: "lost"}
    assert net.b.aborted == 1
    for end in (net.a, net.b):
        end.conversation.resume(net.now)
    net.run(lambda: net.a.is_up and net.b.is_up)


def test_silence_ends_the_session() -> None:
    net = Net()
    net.meet()
    net.is_cut = True
    net.a.offer(b"lost")
    began = net.now
    net.run(lambda: not net.a.is_up)
    assert PATIENCE_S <= net.now - began < 2 * PATIENCE_S
    assert net.a.ended == {1: "lost"}
    net.is_cut = False
    net.run(lambda: net.a.is_up and len(net.b.sessions) == 2)
    assert net.b.lowered == ["the peer began anew"]


def test_a_peer_that_forgot_everything_is_met_anew() -> None:
    net = Net()
    net.meet()
    net.b.begin()
    lost = net.a.offer(b"lost")
    net.run(lambda: len(net.a.sessions) == 2 and net.b.is_up)
    assert net.a.ended == {lost: "lost"}
    again = net.a.offer(b"again")
    net.run(lambda: again in net.a.ended)
    assert net.b.came == [b"again"]


def test_a_peer_that_comes_back_first_is_met_anew() -> None:
    net = Net()
    net.meet()
    net.b.begin()
    net.b.conversation.open(net.now)
    net.run(lambda: len(net.a.sessions) == 2 and net.b.is_up)
    assert net.a.lowered == ["the peer began anew"]
    net.a.offer(b"again")
    net.run(lambda: bool(net.a.ended))
    assert net.b.came == [b"again"]


def test_what_lay_in_a_queue_from_another_session_does_nothing() -> None:
    net = Net()
    net.meet()
    net.a.offer(b"old")
    net.turn(net.a)
    old = [octets for _, _, _, octets in net.way]
    net.way.clear()
    net.b.begin()
    net.b.conversation.open(net.now)
    net.run(lambda: len(net.a.sessions) == 2 and net.b.is_up)
    net.b.conversation.received([memoryview(octets) for octets in old], net.now)
    net.pass_time(5)
    assert net.b.came == []
    assert (net.a.is_up, net.b.is_up) == (True, True)


def test_repeated_messages_do_nothing_twice() -> None:
    net = Net()
    net.meet()
    net.a.offer(b"once")
    net.turn(net.a)
    copies = [octets for _, _, _, octets in net.way]
    net.b.conversation.received([memoryview(octets) for octets in copies + copies], net.now)
    net.run(lambda: bool(net.a.ended))
    assert net.b.came == [b"once"]


def test_a_session_ends_in_order() -> None:
    net = Net(limits_b={"unanswered_most": 2})
    net.b.storing = False
    net.meet()
    begun, large, waiting = net.a.offer(b"begun"), net.a.offer(bundle(1, LARGE)), net.a.offer(b"waiting")
    theirs = net.b.offer(b"theirs")
    net.run(lambda: len(net.b.came) == 2)
    net.a.conversation.close("the contact is over", net.now)
    net.pass_time(5)
    assert net.a.ended == {waiting: "lost"}
    assert net.a.is_up
    assert net.a.offer(b"late") == 4
    net.b.store()
    net.run(lambda: not net.a.is_up and not net.b.is_up)
    assert (net.a.ended[begun], net.a.ended[large], net.a.ended[4]) == ("acked", "acked", "lost")
    assert net.b.ended == {theirs: "acked"}
    assert net.a.lowered == ["the contact is over"]
    assert net.b.lowered == ["the peer ended the session: the contact is over"]
    net.pass_time(120)
    assert (len(net.a.sessions), len(net.b.sessions)) == (1, 1)
    assert net.a.conversation.phase is Phase.IDLE


@pytest.mark.parametrize("seed", range(10))
def test_an_ending_survives_losses(seed: int) -> None:
    net = Net(seed, loss=0.3)
    net.meet()
    net.a.offer(bundle(1, LARGE))
    net.b.offer(b"theirs")
    net.run(lambda: bool(net.b.sinks) or bool(net.b.came))
    net.a.conversation.close("the contact is over", net.now)
    net.run(lambda: not net.a.is_up and not net.b.is_up)
    assert net.a.ended == {1: "acked"}


def test_a_session_that_is_dropped_tells_its_peer() -> None:
    net = Net()
    net.meet()
    net.b.storing = False
    token = net.a.offer(b"unanswered")
    net.run(lambda: bool(net.b.came))
    net.b.conversation.drop("the link is stopped", net.now)
    net.run(lambda: not net.a.is_up)
    assert net.a.ended == {token: "lost"}
    assert net.a.lowered == ["the peer ended the session: the link is stopped"]


def test_a_stranger_who_asks_and_is_silent_is_forgotten() -> None:
    net = Net()
    net.a.conversation.open(net.now)
    net.turn(net.a)
    net._deliver()
    net.now = net.way[0][0]
    net._deliver()
    net.a.begin()  # whatever it hears, it has forgotten
    net.way.clear()
    net.is_cut = True
    net.run(lambda: net.b.conversation.phase is Phase.IDLE)
    assert not net.b.sessions


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(encode_stored([7]), id="an answer to what was never sent"),
        pytest.param(segment_head(5, 0), id="a segment of nothing"),
        pytest.param(whole_head(1, FILE_PAYLOAD_OCTETS) + bytes(FILE_PAYLOAD_OCTETS), id="a large one in one piece"),
        pytest.param(encode_start(1, 1 << 41), id="longer than we take"),
        pytest.param(encode_start(1, 1 << 20) + whole_head(2, 0), id="one within another"),
        pytest.param(whole_head(1, 0) + whole_head(1, 0), id="one number twice"),
    ],
)
def test_who_breaks_the_rules_loses_the_session(record: bytes) -> None:
    net = Net()
    net.meet()
    ours, theirs = net.a.conversation._session
    head = encode_head(MessageHead(MessageKind.DATA, theirs, ours, 1, 0))
    net.a.conversation.received([memoryview(head + record)], net.now)
    net.run(lambda: len(net.a.lowered) == 1)
    net.run(lambda: net.a.is_up and net.b.is_up and len(net.b.sessions) == 2)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        bytes(HEAD_OCTETS),
        b"\x01\x09" + bytes(HEAD_OCTETS),
        b"\x01\x01" + bytes(HEAD_OCTETS),
        b"\x01\x02" + b"\xff" * 60,
    ],
)
def test_malformed_messages_are_counted_and_dropped(octets: bytes) -> None:
    net = Net()
    net.meet()
    net.a.conversation.received([memoryview(octets)], net.now)
    net.a.offer(b"still")
    net.run(lambda: bool(net.a.ended))
    assert net.a.is_up
    assert net.b.came == [b"still"]


# ---- anything at any time --------------------------------------------------------------------------------------------


class Node:
    """What a node does with an end: what was not acknowledged is offered again in the next session."""

    def __init__(self, net: Net, end: End) -> None:
        self.net = net
        self.end = end
        self.pending: list[bytes] = []
        self.offers: dict[bytes, int] = {}
        self._tokens: dict[int, bytes] = {}

    def turn(self) -> None:
        """Note what ended; offer what is not under way."""
        for token in [token for token in self._tokens if token in self.end.ended]:
            data = self._tokens.pop(token)
            if self.end.ended[token] == "acked":
                self.pending.remove(data)
        if self.end.is_up:
            for data in self.pending:
                if data not in self._tokens.values():
                    self._tokens[self.end.offer(data)] = data
                    self.offers[data] = self.offers.get(data, 0) + 1

    def forget(self) -> None:
        """It starts anew, with what it has stored."""
        self.end.conversation.drop("killed", self.net.now)
        self.end.handle()
        self.end.begin()
        self.end.conversation.open(self.net.now)
        other = self.net.other(self.end)
        other.conversation.drop("the member started anew", self.net.now)
        other.conversation.open(self.net.now)


def trouble(net: Net, nodes: tuple[Node, Node], chance: random.Random) -> None:
    """One thing of those that happen to members and brokers."""
    both = [node.end.conversation for node in nodes]
    match chance.randrange(6):
        case 0:  # the broker was killed
            net.way.clear()
            for conversation in both:
                conversation.pause(net.now)
            net.now += chance.uniform(1, 1.2 * PATIENCE_S)
            for conversation in both:
                conversation.handle_timeout(net.now)
                conversation.resume(net.now)
        case 1:
            chance.choice(nodes).forget()
        case 2:
            conversation = chance.choice(both)
            conversation.close("over", net.now)
            net.pass_time(chance.uniform(0, 3))
            conversation.open(net.now)
        case 3:  # a queue was full
            del net.way[: chance.randrange(1 + len(net.way))]
        case 4:  # what lay in a queue comes late, in its order
            net.way = [(at + 2.0, number, end, octets) for at, number, end, octets in net.way]
        case _:
            net.loss = chance.choice([0.0, 0.05, 0.3])


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_all_is_stored_and_what_is_acknowledged_is(seed: int) -> None:
    chance = random.Random(seed)
    net = Net(seed)
    nodes = Node(net, net.a), Node(net, net.b)
    for node in nodes:
        sizes = [20, 500, FILE_PAYLOAD_OCTETS, 3 * FILE_PAYLOAD_OCTETS]
        node.pending = [chance.randbytes(chance.choice(sizes)) for _ in range(25)]
        node.end.conversation.open(net.now)
    for _ in range(12):
        for _ in range(chance.randrange(60)):
            net.step()
            for node in nodes:
                node.turn()
        trouble(net, nodes, chance)
    net.loss = 0.0
    for conversation in (net.a.conversation, net.b.conversation):
        conversation.open(net.now)
    quiet_at = net.now + 1000
    while any(node.pending for node in nodes):
        assert net.step(), "nothing happens any more"
        assert net.now < quiet_at, "it does not converge"
        for node in nodes:
            node.turn()
    for node in nodes:
        came = net.other(node.end).came
        assert set(came) == set(node.offers)
        assert all(came.count(data) <= times for data, times in node.offers.items()), "one offer came twice"

"""Behaviour discovery in virtual time, against a NAT that is what it was told to be."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count, pairwise, product
from random import Random

import pytest

from tumpline.machines.nat_behavior import (
    DEFAULT_TIMING,
    FILTER_BOTH,
    HAIRPIN,
    MAPPING,
    PORTS,
    SOCKETS,
    Dependence,
    NatBehavior,
    NatBehaviorMachine,
    Ports,
    Timing,
)
from tumpline.wire.stun import (
    Attr,
    ErrorCode,
    Kind,
    Message,
    TransportAddress,
    decode_stun_untrusted,
    encode_stun,
)

SERVER, OTHER = TransportAddress("192.0.2.1", 3478), TransportAddress("192.0.2.2", 3479)
OUTSIDE = "198.51.100.7"
LOCAL = [TransportAddress("10.0.0.5", 40_000 + 7 * number) for number in range(SOCKETS)]


def scope(of: Dependence, remote: TransportAddress) -> object:
    """The part of a remote endpoint that a mapping or filter looks at."""
    return {
        Dependence.ENDPOINT_INDEPENDENT: None,
        Dependence.ADDRESS: remote.host,
        Dependence.ADDRESS_AND_PORT: remote,
    }[of]


class World:
    """A NAT and an RFC 5780 server; every way takes `delay_s`, and `lost` says of each datagram whether it is."""

    def __init__(
        self,
        mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT,
        filtering: Dependence = Dependence.ENDPOINT_INDEPENDENT,
        hairpin: bool = False,
        next_port: Callable[[int], int] = lambda port: port,
        delay_s: float = 0.01,
        lost: Callable[[], bool] = lambda: False,
        server: Callable[[World, Message, TransportAddress, TransportAddress], None] | None = None,
    ) -> None:
        self.mapping, self.filtering, self.hairpin, self.next_port = mapping, filtering, hairpin, next_port
        self.delay_s, self.lost, self.server = delay_s, lost, server or World.answer
        self.outside: dict[tuple[int, object], int] = {}
        self.inside: dict[int, int] = {}
        self.permitted: set[tuple[int, object]] = set()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.now = 100.0
        self.sent: list[tuple[float, int, TransportAddress]] = []

    def run(self, timing: Timing = DEFAULT_TIMING, local: list[TransportAddress] = LOCAL) -> NatBehavior:
        ids = (number.to_bytes(12, "big") for number in count(1))
        self.machine = NatBehaviorMachine(SERVER, local, lambda: next(ids), self.now, timing)
        while self.machine.result is None:
            for socket, destination, data in self.machine.datagrams_to_send():
                self.sent.append((self.now, socket, destination))
                self.out(socket, destination, data)
            deadline = self.machine.next_timeout()
            assert deadline is not None, "it waits for nothing"
            if self.events and self.events[0][0] <= deadline:
                self.now, _, act = heapq.heappop(self.events)
                act()
            else:
                assert deadline >= self.now, "a deadline in the past"
                self.now = deadline
                self.machine.handle_timeout(self.now)
        assert self.machine.next_timeout() is None
        return self.machine.result

    def out(self, socket: int, destination: TransportAddress, data: bytes) -> None:
        key = (socket, scope(self.mapping, destination))
        if key not in self.outside:
            self.outside[key] = self.next_port(LOCAL[socket].port)
        port = self.outside[key]
        self.inside[port] = socket
        self.permitted.add((port, scope(self.filtering, destination)))
        source = TransportAddress(OUTSIDE, port)
        if destination.host == OUTSIDE:
            if self.hairpin:
                self.later(lambda: self.receive(self.inside[destination.port], data, source))
        elif not self.lost():
            self.later(lambda: self.server(self, decode_stun_untrusted(data), source, destination))

    def answer(self, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        change = request.get(Attr.CHANGE_REQUEST) or (False, False)
        other = TransportAddress(
            OTHER.host if asked.host == SERVER.host else SERVER.host,
            OTHER.port if asked.port == SERVER.port else SERVER.port,
        )
        origin = TransportAddress(other.host if change[0] else asked.host, other.port if change[1] else asked.port)
        told = ((Attr.MAPPED_ADDRESS, source), (Attr.XOR_MAPPED_ADDRESS, source), (Attr.OTHER_ADDRESS, other))
        self.reply(request, source, origin, *told)

    def reply(
        self,
        request: Message,
        source: TransportAddress,
        origin: TransportAddress,
        *told: tuple[int, object],
        kind: Kind = Kind.SUCCESS,
    ) -> None:
        data = encode_stun(Message(kind, request.method, request.transaction, told))
        if (source.port, scope(self.filtering, origin)) in self.permitted and not self.lost():
            self.later(lambda: self.receive(self.inside[source.port], data, origin))

    def receive(self, socket: int, data: bytes, source: TransportAddress) -> None:
        self.machine.receive_datagram(socket, data, source, self.now)

    def later(self, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + self.delay_s, next(self.order), act))


@pytest.mark.parametrize(("mapping", "filtering", "hairpin"), product(Dependence, Dependence, [False, True]))
def test_every_kind_is_known_by_its_behaviour(mapping: Dependence, filtering: Dependence, hairpin: bool) -> None:
    ports = count(50_000, 3)
    preserved = mapping is Dependence.ENDPOINT_INDEPENDENT
    world = World(mapping, filtering, hairpin, (lambda port: port) if preserved else lambda _: next(ports))
    found = world.run()
    assert (found.mapping, found.filtering, found.hairpin) == (mapping, filtering, hairpin)
    assert (found.ports, found.port_step) == ((Ports.PRESERVED, None) if preserved else (Ports.SEQUENTIAL, 3))
    assert (found.blocked, found.natted, found.alg, found.problem) == (False, True, False, "")
    assert found.rtt_s == pytest.approx(0.02)
    assert world.now - 100.0 < 2.5


def test_ports_without_a_pattern_are_random() -> None:
    ports = iter([41_000, 9_000, 62_000, 1_024, 33_333, 5_000, 47_000, 12_000])
    found = World(next_port=lambda _: next(ports)).run()
    assert (found.ports, found.port_step) == (Ports.RANDOM, None)


def test_without_a_nat_there_is_nothing_to_hairpin() -> None:
    local = [TransportAddress(OUTSIDE, address.port) for address in LOCAL]
    world = World(filtering=Dependence.ADDRESS_AND_PORT)
    found = world.run(local=local)
    assert (found.natted, found.mapping, found.filtering) == (False, *list(Dependence)[::2])
    assert found.hairpin is None
    assert not any(socket == HAIRPIN for _, socket, _ in world.sent)


def test_blocked_is_known_after_the_bound_and_four_requests() -> None:
    world = World(lost=lambda: True)
    found = world.run()
    assert found.blocked
    assert found.mapping is None
    assert "192.0.2.1:3478 does not answer: UDP is blocked, or nobody is there" in found.problem
    # RFC 8489 §6.2.1: 0, 500 and 1500 ms; 3500 ms would be behind the bound of 2500 ms.
    assert [round(at - 100.0, 3) for at, _, _ in world.sent] == [0.0, 0.5, 1.5]
    assert world.now == pytest.approx(102.5)


def test_the_intervals_of_the_standard_can_be_had() -> None:
    world = World(lost=lambda: True)
    world.run(Timing(test_s=60.0, requests=7, last_wait=16))
    assert [round(at - 100.0, 3) for at, _, _ in world.sent] == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert world.now == pytest.approx(139.5)


def test_a_measured_round_trip_shortens_the_waiting() -> None:
    """An answer that a filter eats is waited for 1.1 s: four requests after 0, 100, 300 and 700 ms, and 4 times 100 ms."""
    world = World(filtering=Dependence.ADDRESS_AND_PORT)
    world.run()
    times = [at for at, socket, _ in world.sent if socket == FILTER_BOTH]
    assert [round(at - times[0], 3) for at in times] == [0.0, 0.1, 0.3, 0.7]


def test_as_far_as_the_moon() -> None:
    """A round trip of 2.6 s, which the bound of a test must be told."""
    assert World(delay_s=1.3).run().blocked
    found = World(filtering=Dependence.ADDRESS, delay_s=1.3).run(Timing(test_s=12.0))
    assert (found.blocked, found.mapping) == (False, Dependence.ENDPOINT_INDEPENDENT)
    assert found.filtering is Dependence.ADDRESS


def test_no_more_than_ten_new_transactions_in_a_second() -> None:
    world = World(hairpin=True)
    world.run()
    assert len(world.sent) == 9
    starts = [at for at, _, _ in world.sent]
    # RFC 5780 §5. (Every request is answered at once, so each is a new transaction.)
    assert all(after - before >= 0.1 - 1e-9 for before, after in pairwise(starts))


@pytest.mark.parametrize("seed", range(10))
def test_lost_datagrams_change_nothing(seed: int) -> None:
    chance, ports = Random(seed), count(50_000)
    found = World(
        Dependence.ADDRESS_AND_PORT,
        Dependence.ADDRESS,
        next_port=lambda _: next(ports),
        lost=lambda: chance.random() < 0.1,
    ).run()
    assert (found.mapping, found.filtering) == (Dependence.ADDRESS_AND_PORT, Dependence.ADDRESS)
    assert found.ports is Ports.SEQUENTIAL


def test_a_server_with_one_address_is_said_so() -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        world.reply(request, source, asked, (Attr.XOR_MAPPED_ADDRESS, source))

    found = World(server=answer).run()
    assert (found.mapping, found.filtering, found.alg) == (None, None, None)
    assert found.mapped == TransportAddress(OUTSIDE, LOCAL[MAPPING].port)
    assert "192.0.2.1:3478 has no second address (RFC 5780 OTHER-ADDRESS)" in found.problem


@pytest.mark.parametrize("other", [SERVER, SERVER._replace(port=3479), SERVER._replace(host="192.0.2.2")])
def test_a_second_address_must_be_another_one(other: TransportAddress) -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        world.reply(request, source, asked, (Attr.XOR_MAPPED_ADDRESS, source), (Attr.OTHER_ADDRESS, other))

    found = World(server=answer).run()
    assert (found.mapping, found.filtering) == (None, None)
    assert "no second address" in found.problem


def test_a_second_address_that_cannot_be_reached_tells_nothing_of_filters() -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        if asked.host == SERVER.host and not request.get(Attr.CHANGE_REQUEST):
            World.answer(world, request, source, asked)

    found = World(server=answer).run()
    assert (found.mapping, found.filtering, found.ports) == (None, None, Ports.PRESERVED)
    assert found.problem == "192.0.2.1:3478 has a second address, but 192.0.2.2:3479 does not answer"


def test_a_server_that_answers_from_the_wrong_address_proves_no_open_filter() -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        World.answer(world, request._replace(attributes=()), source, asked)

    found = World(filtering=Dependence.ADDRESS_AND_PORT, server=answer).run()
    assert found.filtering is None
    assert found.mapping is Dependence.ENDPOINT_INDEPENDENT
    assert found.problem == "192.0.2.1:3478 answered from 192.0.2.1:3478, 192.0.2.2:3479 was asked for"


def test_a_server_that_refuses_is_said_so() -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        error = (Attr.ERROR_CODE, ErrorCode(420, "Unknown Attribute"))
        world.reply(request, source, asked, error, kind=Kind.ERROR)

    found = World(server=answer).run()
    assert not found.blocked
    assert found.problem == "192.0.2.1:3478 answers 420 Unknown Attribute"


def test_an_alg_that_rewrites_addresses_is_noticed() -> None:
    def answer(world: World, request: Message, source: TransportAddress, asked: TransportAddress) -> None:
        told = ((Attr.MAPPED_ADDRESS, LOCAL[MAPPING]), (Attr.XOR_MAPPED_ADDRESS, source), (Attr.OTHER_ADDRESS, OTHER))
        world.reply(request, source, asked, *told)

    assert World(server=answer).run().alg is True


def test_what_nobody_asked_for_is_ignored() -> None:
    machine = NatBehaviorMachine(SERVER, LOCAL, iter([b"a" * 12, b"c" * 12]).__next__, 0.0)
    (first,) = machine.datagrams_to_send()
    request = decode_stun_untrusted(first.data)
    told = ((Attr.XOR_MAPPED_ADDRESS, LOCAL[MAPPING]),)
    right = encode_stun(Message(Kind.SUCCESS, request.method, request.transaction, told))
    for socket, data in [
        (MAPPING, b"no STUN"),
        (MAPPING, right[:-1]),
        (MAPPING, right[:8] + b"b" * 12 + right[20:]),  # another transaction
        (HAIRPIN, right),  # another socket
        (MAPPING, first.data),  # no response
    ]:
        machine.receive_datagram(socket, data, SERVER, 0.1)
        assert machine.result is None
        assert machine.next_timeout() == 0.5
    machine.receive_datagram(MAPPING, right, SERVER, 0.1)
    assert [datagram.socket for datagram in machine.datagrams_to_send()] == [PORTS[0]]

"""Packets that become bundles, and bundles that become packets."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tumpline.errors import MalformedError
from tumpline.machines.ip_gateway import (
    ADDRESSES_MOST,
    IpGateway,
    IpGatewayConfig,
    IpRoute,
    Outgoing,
    decode_payload_untrusted,
)
from tumpline.machines.packets import PacketKind, batch_of

A, B, C = "dtn://a/", "dtn://b/", "dtn://c/"
ROUTES = ((A, "bbbb:1::/64"), (B, "bbbb:2::/64"), (C, "bbbb:2:0:0:1::/80"), (B, "10.2.0.0/16"), (C, "10.2.3.4/32"))


def gateway(**options: Any) -> IpGateway:
    routes = tuple(IpRoute(ip_network(network), node) for node, network in ROUTES)
    config = IpGatewayConfig(routes, gather_s=0.5, gather_octets=4000, stale_s=60.0, checks_sources=True)
    return IpGateway(config._replace(**options))


def packet(source: str, destination: str, octets: int = 100) -> bytes:
    """As far as a gateway looks: version, addresses, octets."""
    ends = ip_address(source).packed + ip_address(destination).packed
    head = (b"\x60" + bytes(7) if len(ends) == 32 else b"\x45" + bytes(11)) + ends
    return head + bytes(octets - len(head))


def packets_of(outgoing: Outgoing) -> list[bytes]:
    return [bytes(record.packet) for record in decode_payload_untrusted(outgoing.payload).records()]


@pytest.mark.parametrize(
    ("address", "node"),
    [
        ("bbbb:1::1", A),
        ("bbbb:2::1", B),
        ("bbbb:2:0:0:1::1", C),
        ("bbbb:3::1", None),
        ("ff02::1", None),
        ("10.2.255.255", B),
        ("10.2.3.4", C),
        ("10.3.0.1", None),
        ("0.0.0.0", None),
    ],
)
def test_the_longest_prefix_counts(address: str, node: str | None) -> None:
    assert gateway().node_of(ip_address(address).packed) == node


def test_packets_for_one_node_wait_for_each_other() -> None:
    machine = gateway()
    first = [packet("bbbb:1::1", "bbbb:2::1"), packet("10.1.0.1", "10.2.0.1"), packet("10.1.0.1", "10.2.3.4")]
    machine.from_port(batch_of(PacketKind.IP, first), 10.0)
    machine.from_port(batch_of(PacketKind.IP, first[:1]), 10.4)
    assert machine.take() == []
    assert machine.next_timeout() == 10.5
    machine.handle_timeout(10.49)
    assert machine.take() == []
    machine.handle_timeout(10.5)
    to_b, to_c = machine.take()
    assert (to_b.node, packets_of(to_b)) == (B, [first[0], first[1], first[0]])
    assert (to_c.node, packets_of(to_c)) == (C, [first[2]])
    assert machine.next_timeout() is None
    assert (machine.counters.packets_out, machine.counters.bundles_out, machine.counters.octets_out) == (4, 2, 400)


def test_enough_octets_go_at_once() -> None:
    machine = gateway()
    many = [packet("bbbb:1::1", "bbbb:2::1", 1000) for _ in range(10)]
    machine.from_port(batch_of(PacketKind.IP, many), 0.0)
    ready = machine.take()
    assert [outgoing.packets for outgoing in ready] == [3, 3, 3]
    assert all(len(outgoing.payload) <= 4000 for outgoing in ready)
    machine.handle_timeout(0.5)
    assert [outgoing.packets for outgoing in machine.take()] == [1]


def test_one_that_is_longer_goes_alone_and_in_its_place() -> None:
    machine = gateway()
    short, long = packet("bbbb:1::1", "bbbb:2::1"), packet("bbbb:1::1", "bbbb:2::1", 60_000)
    machine.from_port(batch_of(PacketKind.IP, [short, long, short]), 0.0)
    machine.handle_timeout(1.0)
    assert [packets_of(outgoing) for outgoing in machine.take()] == [[short], [long], [short]]


def test_without_waiting_those_that_come_together_go_together() -> None:
    machine = gateway(gather_s=0.0)
    machine.from_port(batch_of(PacketKind.IP, [packet("bbbb:1::1", "bbbb:2::1")] * 2), 0.0)
    machine.from_port(batch_of(PacketKind.IP, [packet("bbbb:1::1", "bbbb:2::1")]), 0.0)
    assert [outgoing.packets for outgoing in machine.take()] == [2, 1]
    assert machine.next_timeout() is None


def test_what_lies_behind_nobody_is_counted() -> None:
    machine = gateway()
    unroutable = [packet("bbbb:1::1", "ff02::2"), packet("bbbb:1::1", "cccc::1"), b"\x60", b"\x45\x00"]
    machine.from_port(batch_of(PacketKind.IP, unroutable), 0.0)
    assert machine.next_timeout() is None
    assert machine.counters.no_route == 4


def test_addresses_that_are_remembered_are_bounded() -> None:
    machine = gateway()
    chance = random.Random(1)
    for _ in range(2 * ADDRESSES_MOST):
        machine.node_of(chance.randbytes(16))
    assert len(machine._nodes) <= ADDRESSES_MOST
    assert machine.node_of(ip_address("bbbb:2::1").packed) == B


def sent(*packets: bytes) -> bytes:
    machine = gateway()
    machine.from_port(batch_of(PacketKind.IP, packets), 0.0)
    machine.handle_timeout(1.0)
    (outgoing,) = machine.take()
    return outgoing.payload


def test_what_went_in_comes_out() -> None:
    packets = [packet("bbbb:1::1", "bbbb:2::1", 40 + size) for size in range(5)]
    machine = gateway()
    batch = machine.received(A, sent(*packets), 1.0)
    assert batch is not None
    assert [bytes(record.packet) for record in batch.records()] == packets
    assert (machine.counters.packets_in, machine.counters.bundles_in, machine.counters.octets_in) == (5, 1, 210)


def test_what_is_stale_is_dropped() -> None:
    machine = gateway()
    assert machine.received(A, sent(packet("bbbb:1::1", "bbbb:2::1")), 60.1) is None
    assert machine.counters.stale == 1


def test_a_node_speaks_for_what_lies_behind_it_only() -> None:
    machine = gateway()
    good, spoofed = packet("bbbb:1::1", "bbbb:2::1"), packet("bbbb:2::9", "bbbb:2::1")
    batch = machine.received(A, sent(good, spoofed, good), 0.0)
    assert batch is not None
    assert [bytes(record.packet) for record in batch.records()] == [good, good]
    assert machine.received(C, sent(good), 0.0) is None
    assert machine.counters.spoofed == 2
    trusting = gateway(checks_sources=False)
    assert trusting.received(C, sent(good, spoofed), 0.0) is not None
    assert trusting.counters.spoofed == 0


@pytest.mark.parametrize(
    "payload", [b"", b"\x02", b"\x01\x00", b"\x01" + bytes(20), sent(packet("::1", "bbbb:2::"))[:-1]]
)
def test_what_is_none_of_ours_is_counted(payload: bytes) -> None:
    machine = gateway()
    assert machine.received(A, payload, 0.0) is None
    assert machine.counters.malformed == 1
    with pytest.raises(MalformedError):
        decode_payload_untrusted(payload)


def test_nothing_is_nothing() -> None:
    assert gateway().received(A, b"\x01", 0.0) is None

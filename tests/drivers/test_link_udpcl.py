"""UDPCL on real sockets: strangers, sizes, marks, names, groups. (DTLS: test_link_udpcl_dtls.py)"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from tumpline.drivers.dial import Address
from tumpline.drivers.links._udpcl_addresses import first_routed
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.drivers.links._udpcl_endpoint import Group, UdpclEndpoint
from tumpline.drivers.links._udpcl_socket import Buffers, Local, Received, Sent, SocketAddress, UdpSocket
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.links.udpcl import SPEC
from tumpline.errors import TumplineError
from tumpline.machines.udpcl.events import Event, PathMtuFound
from tumpline.testing.conformance.links import NODE_A, NODE_B, Pair
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import Extensions, encode_extensions

BUNDLE = b"\x9f" + bytes(60)
HANG_S = 20.0

PAIRS: list[Pair] = []
ENDPOINTS: list[UdpclEndpoint] = []


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    """Whatever a test opened is closed, also when it fails."""
    yield
    while PAIRS:
        await PAIRS.pop().stop()
    while ENDPOINTS:
        ENDPOINTS.pop().close()


async def started(config_a: dict[str, Any], config_b: dict[str, Any]) -> Pair:
    """Two links that know each other; b listens on any port of loopback unless told otherwise."""
    pair = Pair(SPEC, config_a, {"listen": "127.0.0.1:0", **config_b})
    PAIRS.append(pair)
    await pair.start()
    return pair


def stranger(address: str = "127.0.0.1") -> socket.socket:
    """A socket of somebody else."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.settimeout(HANG_S)
    return sock


# ---- links -----------------------------------------------------------------------------------------------------------


async def test_over_ipv6() -> None:
    pair = await started({}, {"listen": "[::1]:0"})
    pair.offer(pair.unit(BUNDLE), pair.unit(bytes(100_000)))
    await pair.all_ended()
    assert pair.b.data == [BUNDLE, bytes(100_000)]
    assert pair.b.up[pair.path_b].address.startswith("[::1]:")


async def test_a_wildcard_is_every_address_and_answers_come_from_the_one_that_was_asked() -> None:
    pair = await started({}, {"listen": "[::]:0"})
    listening = pair.link_b.describe()["listening"]
    assert [each.rpartition(":")[0] for each in listening] == ["[::]", "0.0.0.0"]
    port = int(listening[1].rpartition(":")[2])
    told = encode_extensions(Extensions(listen_ms=10_000, node_id=NODE_A)) + bytes(60)
    with stranger() as sock:
        await asyncio.get_running_loop().run_in_executor(None, sock.sendto, told, ("127.0.0.2", port))
        _, sender = await asyncio.get_running_loop().run_in_executor(None, sock.recvfrom, 2000)
    assert sender == ("127.0.0.2", port)


async def test_both_wildcards_can_be_listened_on_and_groups_joined_of_both() -> None:
    """As the older agent's files have it."""
    pair = await started({}, {})
    link = pair.open("c", NODE_B, {"listen": ["0.0.0.0:0"], "multicast": {"groups": ["224.0.1.20%lo"]}})
    await link.start(pair.a)
    port = link.describe()["listening"][0].rpartition(":")[2]
    await link.stop()
    both = {"listen": [f"0.0.0.0:{port}", f"[::]:{port}"], "multicast": {"groups": ["ff05::114%lo", "224.0.1.20%lo"]}}
    link = pair.open("c", NODE_B, both)
    await link.start(pair.a)
    assert link.describe()["listening"] == [f"0.0.0.0:{port}", f"[::]:{port}"]
    await link.stop()


async def test_the_path_mtu_is_found_used_and_told() -> None:
    """Older agent: what PMTUD found was seen by nobody."""
    pair = await started({}, {})
    await pair.a.until(lambda: any(name == "path_mtu_found" for name, _ in pair.a.notices), "a path MTU")
    (found,) = [fields for name, fields in pair.a.notices if name == "path_mtu_found"]
    assert found["is_confirmed"]
    assert found["datagram_octets"] > 65_400
    (session,) = pair.link_a.describe()["sessions"]
    assert session["path_mtu"] == "complete"
    assert session["datagram_octets"] == found["datagram_octets"] == pair.a.up[pair.path_a].segment_octets
    before = session["datagrams_sent"]
    pair.offer(pair.unit(b"\x9f" + bytes(59_999)))
    await pair.all_ended()
    assert pair.link_a.describe()["sessions"][0]["datagrams_sent"] - before <= 3


async def test_what_the_interface_does_not_take_goes_in_shorter_datagrams() -> None:
    """Older agent: the first EMSGSIZE ended all sending. The loopback interface takes 65,488 octets behind IPv6 and UDP."""
    at_once = {"datagram_octets": 65_507, "rate": "1 Gbit/s", "discover_path_mtu": False}
    pair = await started(at_once, {"listen": "[::1]:0"})
    sent = [b"\x9f" + random.Random(n).randbytes(65_500 + n) for n in range(4)]
    pair.offer(*map(pair.unit, sent))
    await pair.all_ended()
    assert sorted(pair.b.data) == sorted(sent)
    assert pair.link_a.describe()["sessions"][0]["datagram_octets"] < 65_488


async def test_marks_go_with_data_and_are_told_back() -> None:
    pair = await started({}, {})
    pair.offer(*(pair.unit(BUNDLE) for _ in range(20)))
    await pair.all_ended()
    (there,) = pair.link_b.describe()["sessions"]
    assert there["marks_received"]["ect1"] > 0
    assert there["marks_received"]["ce"] == 0


async def test_what_an_address_says_of_itself_makes_no_route_unless_it_is_trusted() -> None:
    pair = await started({}, {})
    assert not pair.b.up[pair.path_b].authenticated
    pair = await started({}, {"trust_node_ids": True})
    await pair.b.until(lambda: pair.b.up[pair.path_b].peer == NODE_A)
    assert pair.b.up[pair.path_b].authenticated


async def test_a_peer_of_version_1_takes_what_fits_a_datagram_until_it_shows_version_2() -> None:
    pair = Pair(SPEC, {"version": 1}, {"version": 1, "listen": "127.0.0.1:0"})
    PAIRS.append(pair)
    await pair.start_b()
    await pair.link_a.start(pair.a)
    pair.link_a.connect(pair.address, NODE_B)
    await pair.a.until(lambda: len(pair.a.live) == 1)
    assert pair.a.up[pair.path_a].mru_octets == 1200
    fits, does_not = pair.offer(pair.unit(BUNDLE), pair.unit(bytes(1201)))
    await pair.a.until(lambda: not pair.a.waiting)
    assert (pair.a.ended[fits], pair.a.ended[does_not]) == ("acked", "not acceptable")
    await pair.b.until(lambda: pair.b.data == [BUNDLE])
    # The peer shows itself: from b's address, a map to where a's datagrams came from.
    endpoint = pair.link_b.endpoint  # type: ignore[attr-defined]
    (talk,) = endpoint.talks.values()
    talk.socket.send([encode_extensions(Extensions(node_id=NODE_B))], talk.remote, 0, None)
    await pair.a.until(lambda: pair.a.up[pair.path_a].mru_octets > 1 << 20, "that version 2 was seen")


async def test_names_that_mean_nothing_are_told_and_tried_again() -> None:
    pair = await started({}, {})
    pair.link_a.connect("no-such-host.invalid:4556")
    await pair.a.until(lambda: any(name == "connection_failed" for name, _ in pair.a.notices), "a failure")
    failed = [each for each in pair.link_a.describe()["dialling"] if each["failures"]]
    assert "no-such-host.invalid" in failed[0]["last_failure"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"keepalive_s": 5.0}, "write 15 or more"),
        ({"rate": "fast"}, "rate: 'fast' is no rate"),
        ({"datagram_octets": 2000, "datagram_octets_most": 1500}, "longer than datagram_octets_most"),
        ({"version": 3}, "3"),
    ],
)
def test_mistakes_of_a_configuration_say_what_to_write(config: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(config, UdpclConfig)


def test_of_several_addresses_the_first_with_a_route_is_taken() -> None:
    nowhere = (socket.AF_INET, ("255.255.255.255", 1))  # which asks for leave to broadcast
    here = (socket.AF_INET, ("127.0.0.1", 1))
    assert first_routed([nowhere, here]) == here[1]
    assert first_routed([nowhere]) == nowhere[1]


# ---- endpoints -------------------------------------------------------------------------------------------------------


class Host:
    """EndpointHost that keeps what it is told."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.told: list[Event] = []
        self.over: list[str] = []
        self.sent_tokens: list[int] = []
        self.failures: list[str] = []
        self._changed = asyncio.Event()

    def received(self, talk: Talk, bundles: list[bytes]) -> None:
        self.got += bundles
        self._changed.set()

    def sent(self, talk: Talk, tokens: list[int]) -> None:
        self.sent_tokens += tokens
        self._changed.set()

    def failed(self, talk: Talk, tokens: list[int], reason: str) -> None:
        self.failures.append(reason)
        self._changed.set()

    def happened(self, talk: Talk, event: Event) -> None:
        self.told.append(event)
        self._changed.set()

    def forgotten(self, talk: Talk, reason: str) -> None:
        self.over.append(reason)
        self._changed.set()

    def notice(self, name: str, **fields: Any) -> None:
        self._changed.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def seen(condition: Any) -> None:
    """For what no host is told."""
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0)


def endpoint(host: Host, node_id: Eid | None = None, **config: Any) -> UdpclEndpoint:
    made = UdpclEndpoint(msgspec.convert(config, UdpclConfig), node_id, random.Random(1).random, host)
    ENDPOINTS.append(made)
    return made


def listening(host: Host, **config: Any) -> tuple[UdpclEndpoint, int]:
    made = endpoint(host, **config)
    return made, int(made.listen(Address("127.0.0.1", 0)).rpartition(":")[2])


async def test_strangers_are_bounded_and_garbage_makes_none() -> None:
    host = Host()
    made, port = listening(host, limits={"conversations": 5})
    socks = [stranger() for _ in range(12)]
    for sock in socks:
        sock.sendto(b"\xff\xff", ("127.0.0.1", port))
        sock.sendto(b"\x06old", ("127.0.0.1", port))
    for sock in socks:
        sock.sendto(BUNDLE, ("127.0.0.1", port))
        sock.close()
    await host.until(lambda: len(host.got) == 12)
    assert len(made.talks) == 5
    assert host.over == ["others came"] * 7
    assert (made.counts.garbage, made.counts.crowded_out) == (24, 7)


async def test_strangers_are_forgotten_when_they_are_silent() -> None:
    host = Host()
    made, port = listening(host, limits={"forget_s": 0.05})
    with stranger() as sock:
        sock.sendto(BUNDLE, ("127.0.0.1", port))
        await host.until(lambda: host.over)
    assert host.over == ["nothing was heard for a while"]
    assert not made.talks


async def test_incomplete_bundles_are_given_up_in_time_and_counted() -> None:
    """Older agent: they were kept for ever, and took their whole length at the first segment."""
    host = Host()
    made, port = listening(host, limits={"reassembly_s": 0.05})
    with stranger() as sock:
        sock.sendto(bytes.fromhex("a10284011a00f000000041ff"), ("127.0.0.1", port))  # 1 of 15 million octets
        await seen(lambda: made.reassembly.held_octets)
        assert made.reassembly.held_octets < 2000
        await seen(lambda: not made.reassembly.held_octets)
    assert made.reassembly.counts.timed_out == 1


async def test_nobody_listens_there_and_that_is_seen() -> None:
    host = Host()
    made = endpoint(host)
    with stranger() as sock:
        nowhere = sock.getsockname()
    talk = made.talk_with(Address(*nowhere))
    made.send(talk, [(1, BUNDLE)])
    await seen(lambda: talk.unreachable)
    made.send(talk, [(2, BUNDLE)])
    await host.until(lambda: host.sent_tokens == [1, 2])  # sent and forgotten


async def test_from_where_to_send_can_be_said() -> None:
    made, host = endpoint(Host()), Host()
    _, port = listening(host)
    with stranger() as sock:
        free = sock.getsockname()[1]
    talk = made.talk_with(Address("127.0.0.1", port), Address("127.0.0.3", free))
    made.send(talk, [(1, BUNDLE)])
    await host.until(lambda: host.got)
    (there,) = ENDPOINTS[1].talks.values()
    assert there.address == f"127.0.0.3:{free}"


async def test_listening_ends_and_begins_again() -> None:
    host = Host()
    made, port = listening(host)
    where = Address("127.0.0.1", port)
    with pytest.raises(TumplineError, match="nothing listens on"):
        made.listen_stop(where)  # it was asked for as port 0
    made.listen_stop(Address("127.0.0.1", 0))
    assert made.listening == []
    assert made.listen(where) == str(where)
    with pytest.raises(TumplineError, match="is in use by this endpoint itself"):
        made.listen(where)
    with pytest.raises(TumplineError, match="there is no network interface nope0; there are: lo"):
        made.listen(Address("127.0.0.1", 0), [Group("224.0.1.20", "nope0")])
    with pytest.raises(TumplineError, match="its own family"):
        made.listen(Address("127.0.0.1", 0), [Group("ff05::114", "lo")])
    assert made.listening == [str(where)]


class Sluggish:
    """A socket's `send` that takes a datagram at a time, each only after it was full for a moment."""

    def __init__(self, sending: UdpSocket, is_queue_full: bool) -> None:
        self.calls = 0
        self._send, self._is_queue_full = sending.send, is_queue_full
        sending.send = self.send  # type: ignore[method-assign]

    def send(self, datagrams: Sequence[bytes], remote: SocketAddress, mark: int, local: Local | None) -> Sent:
        self.calls += 1
        if self.calls % 2 or not datagrams:
            return Sent(0, is_blocked=True, is_queue_full=self._is_queue_full)
        done = self._send(datagrams[:1], remote, mark, local)
        return done if len(datagrams) == 1 else done._replace(is_blocked=True)


@pytest.mark.parametrize("is_queue_full", [False, True])
async def test_a_socket_that_is_full_is_waited_for_and_nothing_is_lost(is_queue_full: bool) -> None:
    host_a, host_b = Host(), Host()
    _, port = listening(host_b)
    made = endpoint(host_a)
    talk = made.talk_with(Address("127.0.0.1", port))
    sluggish = Sluggish(talk.socket, is_queue_full)
    made.send(talk, [(n, b"\x9f" + bytes([n]) * 1000) for n in range(10)])
    await host_b.until(lambda: len(host_b.got) == 10)
    assert host_b.got == [b"\x9f" + bytes([n]) * 1000 for n in range(10)]
    await host_a.until(lambda: len(host_a.sent_tokens) == 10)
    assert sluggish.calls < 60, "it was waited for, not asked again and again"


# ---- many datagrams at once ------------------------------------------------------------------------------------------


def test_what_is_sent_to_groups_goes_as_far_as_configured_and_does_not_come_back() -> None:
    for family, host, level, hops, loop in (
        (socket.AF_INET, "127.0.0.1", socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, socket.IP_MULTICAST_LOOP),
        (socket.AF_INET6, "::1", socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, socket.IPV6_MULTICAST_LOOP),
    ):
        opened = UdpSocket(family, (host, 0), Buffers(), marks=True, ttl=7)
        assert opened.sock.getsockopt(level, hops) == 7
        assert opened.sock.getsockopt(level, loop) == 0
        opened.close()


async def test_runs_of_datagrams_go_and_come_as_one() -> None:
    receiver, sender = (UdpSocket(socket.AF_INET, ("127.0.0.1", 0), Buffers(), marks=True, ttl=None) for _ in range(2))
    try:
        sent = [bytes([n]) * 1200 for n in range(100)] + [b"short"] + [bytes([n]) * (50 + n % 3) for n in range(50)]
        remote = receiver.sock.getsockname()
        assert sender.send(sent, remote, 2, None) == Sent(len(sent))
        reads: list[Received] = []
        while (read := receiver.receive()) is not None:
            reads.append(read)
        assert [data for read in reads for data in read.datagrams] == sent
        assert {read.mark for read in reads} == {2}
        assert len(reads) < len(sent) / 2
    finally:
        receiver.close()
        sender.close()


async def test_the_search_for_a_path_mtu_can_be_asked_for() -> None:
    """Older agent: pmtud_start told nobody its result."""
    host_a, host_b = Host(), Host()
    _, port = listening(host_b)
    made = endpoint(host_a, datagram_octets_most=9000, discover_path_mtu=False)
    talk = made.talk_with(Address("127.0.0.1", port))
    talk.machine.search_path_mtu(asyncio.get_running_loop().time(), 10)
    made.touch(talk)
    await host_a.until(lambda: any(isinstance(event, PathMtuFound) for event in host_a.told))
    (found,) = [event for event in host_a.told if isinstance(event, PathMtuFound)]
    assert found.is_confirmed
    assert 9000 - 780 <= found.datagram_octets <= 9000

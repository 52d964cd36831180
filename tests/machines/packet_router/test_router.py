"""One router, without a broker: what comes in under which key goes out to whom."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from tests.machines.packet_router.packets import FRAME, Sent, at, body, config, ip, sent

from tumpline.machines import overlay
from tumpline.machines.impairment import Impairment
from tumpline.machines.overlay import Member, Publish
from tumpline.machines.packet_router import (
    PacketRouter,
    RouterConfig,
    Subscribe,
    Topology,
    topology_of,
)
from tumpline.testing.overlay_exchange import claim
from tumpline.wire.agent_json import ControlKind, LossyLink, Serial, Tun, encode_control
from tumpline.wire.overlay import Format
from tumpline.wire.packet_json import Generation, Kind, decode_packet_untrusted

SHARE = "tumpline.router.shard.0"
LINK: list[dict[str, Any]] = [{"nodes": ["coap_client", "gateway"]}, {"nodes": ["gateway", "coap_server"]}]
PLAN: dict[str, Any] = {"configuration_id": "COAP_CFG_02", "topology": LINK, "addressing": []}


def message(routing_key: str, octets: bytes) -> overlay.Message:
    return overlay.Message(routing_key, None, octets)


def router(topology: Topology | None = None, impairment: Impairment | None = None) -> PacketRouter:
    made = PacketRouter(RouterConfig(config("router_a"), topology=topology, impairment=impairment), Random(1).random)
    made.joined(0.0)
    for output in made.outputs():
        if isinstance(output, Subscribe):
            made.subscribed(output.share)
    made.outputs()
    return made


def packet(machine: PacketRouter, key: str, octets: bytes, now: float = 1.0) -> list[Sent]:
    """What comes out when this comes in."""
    share = SHARE if machine.config.topology is None else f"{key}@packet_router"
    machine.packets(share, [message(key, octets)], now)
    return sent(machine)


def started(machine: PacketRouter, name: str, host: int, now: float = 0.5) -> None:
    tun = Tun(ipv6_prefix="bbbb", ipv6_host=str(host), ipv4_address=f"10.2.0.{host}")
    told = encode_control(ControlKind.TUN_STARTED, tun, Generation.V1)
    machine.told([message(f"fromAgent.{name}.ip.tun.started", told)], now)


def member(machine: PacketRouter, name: str, *addresses: str, formats: str = "binary v1", now: float = 0.5) -> Member:
    """It announces itself."""
    claims = tuple(claim(address) for address in addresses)
    spoken = tuple(Format(word) for word in formats.split())
    made = Member(config(name, formats=spoken, addresses=claims))
    made.joined(now)
    hear(machine, made, now)
    return made


def hear(machine: PacketRouter, said_by: Member, now: float) -> None:
    said = [each for each in said_by.outputs() if isinstance(each, Publish)]
    machine.told([message(each.routing_key, b"".join(each.pieces)) for each in said], now)
    machine.outputs()


def test_a_packet_goes_to_the_agent_that_has_its_destination_and_to_no_other() -> None:
    machine = router()
    for number, name in enumerate(("agent1", "agent2", "agent3"), 1):
        started(machine, name, number)
    octets = body(ip("bbbb::1", "bbbb::2"))
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets) == [
        ("toAgent.agent2.ip.tun.packet.raw", octets)
    ]


def test_ipv4_is_looked_at_alike() -> None:
    machine = router()
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    octets = body(ip("10.2.0.1", "10.2.0.2"))
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets) == [
        ("toAgent.agent2.ip.tun.packet.raw", octets)
    ]


def test_an_address_is_learned_from_the_packets_that_come_from_it() -> None:
    machine = router()
    for name in ("agent1", "agent2", "agent3"):
        packet(machine, f"fromAgent.{name}.ip.tun.packet.raw", body(ip(f"cccc::{name[-1]}", "ff02::1")))
    found = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip("cccc::1", "cccc::3")))
    assert [key for key, _ in found] == ["toAgent.agent3.ip.tun.packet.raw"]


def test_what_was_learned_is_forgotten_after_five_minutes_of_silence() -> None:
    machine = router()
    for name in ("agent1", "agent2", "agent3"):
        packet(machine, f"fromAgent.{name}.ip.tun.packet.raw", body(ip(f"cccc::{name[-1]}", "ff02::1")))
    machine.handle_timeout(400.0)
    found = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip("cccc::1", "cccc::3")), 400.0)
    assert len(found) == 2, "the owner is unknown again: all others hear it"


@pytest.mark.parametrize("destination", ["ff02::1", "bbbb::77", "224.0.0.1", "255.255.255.255"])
def test_what_is_for_many_or_for_nobody_known_goes_to_all_others_once(destination: str) -> None:
    machine = router()
    for number, name in enumerate(("agent1", "agent2", "agent3"), 1):
        started(machine, name, number)
    source = "bbbb::1" if ":" in destination else "10.2.0.1"
    found = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip(source, destination)))
    assert sorted(key.split(".")[1] for key, _ in found) == ["agent2", "agent3"]


def test_the_address_of_one_who_has_none_yet_is_not_learned() -> None:
    machine = router()
    started(machine, "agent1", 1)
    packet(machine, "fromAgent.agent2.ip.tun.packet.raw", body(ip("::", "ff02::1")))
    packet(machine, "fromAgent.agent2.ip.tun.packet.raw", body(ip("0.0.0.0", "255.255.255.255")))
    assert [agent["addresses"] for agent in machine.snapshot(2.0)["agents"] if agent["name"] == "agent2"] == [[]]


def test_an_older_agent_that_says_nothing_for_an_hour_is_forgotten() -> None:
    machine = router()
    started(machine, "agent1", 1, 1.0)
    started(machine, "agent2", 2, 3000.0)
    machine.handle_timeout(3700.0)
    assert list(machine.directory.agents) == ["agent2"]
    assert all(route.agent.name == "agent2" for route in machine.directory.routes.values())


def test_a_claimed_address_is_not_taken_by_whoever_sends_from_it() -> None:
    machine = router()
    member(machine, "owner", "bbbb::1/64")
    started(machine, "thief", 9)
    packet(machine, "fromAgent.thief.ip.tun.packet.raw", body(ip("bbbb::1", "bbbb::77")))
    started(machine, "agent2", 2)
    found = packet(machine, "fromAgent.agent2.ip.tun.packet.raw", body(ip("bbbb::2", "bbbb::1")))
    assert [key for key, _ in found] == ["toAgent.owner.ip.tun.packet.raw"]


def test_the_longest_prefix_decides() -> None:
    machine = router()
    member(machine, "far", "cccc::/32")
    member(machine, "near", "cccc:0:1::/64")
    started(machine, "agent1", 1)
    near = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip("bbbb::1", "cccc:0:1::5")))
    far = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip("bbbb::1", "cccc:0:2::5")))
    assert [near[0][0], far[0][0]] == ["toAgent.near.ip.tun.packet.raw", "toAgent.far.ip.tun.packet.raw"]


def test_between_generations_a_packet_is_written_anew() -> None:
    machine = router()
    octets = ip("bbbb::1", "bbbb::2")
    packet(machine, "data.tun.fromAgent.old", body(ip("bbbb::2", "ff02::1"), Generation.V0))
    ((key, written),) = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(octets))
    assert key == "data.tun.toAgent.old"
    decoded, generation, kind = decode_packet_untrusted(written)
    assert (decoded.data, generation, kind) == (octets, Generation.V0, Kind.INJECT)
    ((key, written),) = packet(machine, "data.tun.fromAgent.old", body(ip("bbbb::2", "bbbb::1"), Generation.V0))
    assert key == "toAgent.agent1.ip.tun.packet.raw"
    assert decode_packet_untrusted(written)[1] is Generation.V1


def test_a_frame_goes_to_all_other_radios_with_its_slip_octets() -> None:
    machine = router()
    serial = encode_control(ControlKind.SERIAL_STARTED, Serial(port="/dev/ttyUSB0"), Generation.V1)
    for name in ("probe1", "probe2"):
        machine.told([message(f"fromAgent.{name}.802154.serial.started", serial)], 0.5)
    started(machine, "agent1", 1)
    found = packet(machine, "fromAgent.probe1.802154.serial.packet.raw", FRAME)
    assert found == [("toAgent.probe2.802154.serial.packet.raw", FRAME)]


def test_a_sealed_batch_is_passed_on_unopened() -> None:
    machine = router()
    member(machine, "b", "bbbb::2/64", formats="binary")
    assert packet(machine, "tumpline.via.b.a", b"\x01sealed") == [("tumpline.packet.b.a", b"\x01sealed")]
    assert packet(machine, "tumpline.via.nobody.a", b"\x01sealed") == []
    assert machine.passing.counters.unreachable == 1


def test_members_that_have_the_sealed_copy_get_no_other() -> None:
    machine = router()
    member(machine, "a", "bbbb::1/64")
    member(machine, "b", "bbbb::2/64")
    started(machine, "agent3", 3)
    found = packet(machine, "fromAgent.a.ip.tun.packet.raw", body(ip("bbbb::1", "ff02::1")))
    assert [key for key, _ in found] == ["toAgent.agent3.ip.tun.packet.raw"]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"\xff" * 50,
        b'{"data": [96, 1]}',
        b'{"data": [255, 0]}',
        b'{"data": "96, 0"}',
        body(ip("bbbb::1", "bbbb::2")).replace(b"96,", b"300,", 1),
        body(ip("bbbb::1", "bbbb::2")).replace(b"187,187", b"-7,187"),
        body(ip("bbbb::1", "bbbb::2", 300)).replace(b",7]", b",300]"),
        body(ip("bbbb::1", "bbbb::2", 300)).replace(b",7]", b""),
    ],
)
def test_a_malformed_body_is_counted_and_harms_nobody(octets: bytes) -> None:
    machine = router()
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets) == []
    assert machine.passing.counters.malformed == 1
    assert len(packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(ip("bbbb::1", "bbbb::2")))) == 1


def test_blanks_between_numbers_mean_nothing() -> None:
    machine = router()
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    of_older = json.dumps(json.loads(body(ip("bbbb::1", "bbbb::2"))), sort_keys=True).encode()
    assert of_older.count(b", ") > 40
    passed_on = packet(machine, "fromAgent.agent1.ip.tun.packet.raw", of_older)
    assert passed_on == [("toAgent.agent2.ip.tun.packet.raw", of_older)]


def test_malformed_control_messages_are_counted() -> None:
    machine = router()
    keys = ("fromAgent.a.ip.tun.started", "control.session", "tumpline.router.other", "routing.lossy.link.start")
    machine.told([message(key, b"[not json") for key in keys], 1.0)
    assert machine.passing.counters.malformed == 4


def test_the_next_packets_are_dropped_on_demand() -> None:
    machine = router()
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    lossy = encode_control(ControlKind.LOSSY_LINK_START, LossyLink(2), Generation.V1)
    machine.told([message("routing.lossy.link.start", lossy)], 1.0)
    octets = body(ip("bbbb::1", "bbbb::2"))
    passed = [len(packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets)) for _ in range(4)]
    assert passed == [0, 0, 1, 1]
    assert machine.snapshot(1.0)["counters"]["lossy"] == 2


def test_an_agent_without_queue_is_forgotten_with_its_addresses() -> None:
    machine = router()
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    octets = body(ip("bbbb::1", "bbbb::2"))
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets)
    machine.returned("toAgent.agent2.ip.tun.packet.raw", 1.1)
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", octets) == []
    assert [agent["name"] for agent in machine.snapshot(2.0)["agents"]] == ["agent1"]


def test_an_agent_that_was_there_before_the_router_is_found_by_the_usual_plan() -> None:
    machine = PacketRouter(RouterConfig(config("r"), guesses={at("bbbb::2"): ("agent_2", "agent2")}), Random(1).random)
    machine.joined(0.0)
    machine.outputs()
    octets = body(ip("bbbb::1", "bbbb::2"))
    tried = packet(machine, "fromAgent.agent_1.ip.tun.packet.raw", octets)
    assert sorted(key for key, _ in tried) == [
        "data.tun.toAgent.agent2",
        "data.tun.toAgent.agent_2",
        "toAgent.agent2.ip.tun.packet.raw",
        "toAgent.agent_2.ip.tun.packet.raw",
    ]
    for key, _ in tried[1:]:
        machine.returned(key, 1.1)
    assert packet(machine, "fromAgent.agent_1.ip.tun.packet.raw", octets) == tried[:1]
    started(machine, "agent_2", 2)
    found = packet(machine, "fromAgent.agent_1.ip.tun.packet.raw", octets)
    assert found == [("toAgent.agent_2.ip.tun.packet.raw", octets)]


def test_a_member_is_gone_when_it_says_so_and_when_it_is_silent() -> None:
    machine = router()
    leaver = member(machine, "a", "bbbb::1/64")
    member(machine, "b", "bbbb::2/64")
    leaver.leave(1.0)
    hear(machine, leaver, 1.0)
    assert list(machine.directory.agents) == ["b"]
    machine.handle_timeout(40.0)
    assert not machine.directory.agents
    assert not machine.directory.routes


def test_it_says_hello_and_goodbye_as_the_older_router_does() -> None:
    machine = PacketRouter(RouterConfig(config("router_a")), Random(1).random)
    machine.joined(0.0)
    outputs = machine.outputs()
    ready = [
        each for each in outputs if isinstance(each, Publish) and each.routing_key == "testingtool.component.ready"
    ]
    assert b'"component": "packetrouting"' in ready[0].pieces[0]
    machine.leave()
    gone = [each for each in machine.outputs() if isinstance(each, Publish)]
    assert gone[0].routing_key == "testingtool.component.shutdown"
    assert b'"component": "packet_router"' in gone[0].pieces[0]


# ---- topologies ------------------------------------------------------------------------------------------------------


def test_a_topology_says_who_hears_whom_over_all_links_of_a_node() -> None:
    machine = router(topology_of(PLAN))
    for source, hearers in {
        "coap_client": ["agent_TT", "gateway"],
        "gateway": ["agent_TT", "coap_client", "coap_server"],
        "coap_server": ["agent_TT", "gateway"],
    }.items():
        found = packet(machine, f"fromAgent.{source}.ip.tun.packet.raw", body(ip("dddd::1", "ff02::1")))
        assert sorted(key.split(".")[1] for key, _ in found) == hearers


def test_within_a_link_a_packet_goes_to_its_owner_alone() -> None:
    plan = PLAN | {"addressing": [{"node": "gateway", "ipv6_prefix": "bbbb", "ipv6_host": 3}]}
    machine = router(topology_of(plan))
    found = packet(machine, "fromAgent.coap_client.ip.tun.packet.raw", body(ip("bbbb::1", "bbbb::3")))
    assert [key for key, _ in found] == ["toAgent.gateway.ip.tun.packet.raw"]


def test_a_node_that_was_never_heard_has_packets_in_the_form_in_which_they_come() -> None:
    machine = router(topology_of(PLAN))
    octets = body(ip("bbbb::1", "ff02::1"), Generation.V0)
    found = packet(machine, "data.tun.fromAgent.coap_client", octets)
    assert sorted(key for key, _ in found) == ["data.tun.toAgent.agent_TT", "data.tun.toAgent.gateway"]
    assert {decode_packet_untrusted(written)[2] for _, written in found} == {Kind.INJECT}


def test_a_topology_uses_the_queues_of_the_older_router() -> None:
    machine = PacketRouter(RouterConfig(config("router_a"), topology=topology_of(PLAN)), Random(1).random)
    machine.joined(0.0)
    shares = [each.share for each in machine.outputs() if isinstance(each, Subscribe)]
    assert "fromAgent.coap_client.ip.tun.packet.raw@packet_router" in shares
    assert len(shares) == 4 * 5


# ---- impairment ------------------------------------------------------------------------------------------------------


def test_impaired_packets_come_later_and_whole() -> None:
    machine = router(impairment=Impairment(delay_s=0.5))
    started(machine, "agent1", 1)
    started(machine, "agent2", 2)
    octets = ip("bbbb::1", "bbbb::2")
    assert packet(machine, "fromAgent.agent1.ip.tun.packet.raw", body(octets)) == []
    assert machine.next_timeout() == pytest.approx(1.5)
    machine.handle_timeout(1.5)
    ((key, written),) = sent(machine)
    assert key == "toAgent.agent2.ip.tun.packet.raw"
    assert decode_packet_untrusted(written)[0].data == octets


def test_a_link_of_a_topology_has_its_own_impairment() -> None:
    lossy = [LINK[0] | {"impair": {"loss": "100 %"}}, LINK[1]]
    machine = router(topology_of(PLAN | {"topology": lossy}))
    found = packet(machine, "fromAgent.gateway.ip.tun.packet.raw", body(ip("dddd::3", "ff02::1")))
    assert [key.split(".")[1] for key, _ in found] == ["coap_server"]

"""UDPCL on networks as they are: routers with a smaller MTU, links that lose and reorder, groups of multicast."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique

pytestmark = pytest.mark.usefixtures("nothing_left")

PATH = """
nets:
  near: {subnet4: 10.1.0.0/24, subnet6: "fd00:1::/64", mtu: 1500}
  far: {subnet4: 10.2.0.0/24, subnet6: "fd00:2::/64", mtu: 1400}
nodes:
  ground:
    nets: [near]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "[::]:4556"}]
        peers: [{id: "dtn://rover/", link: udpcl, address: "ROVER:4556"}]
  router: {nets: [near, far], forward: true}
  rover:
    nets: [far]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "[::]:4556"}]
        peers: [{id: "dtn://ground/", link: udpcl, address: "GROUND:4556"}]
"""
ADDRESSES = {4: ("10.1.0.1", "10.2.0.2"), 6: ("[fd00:1::1]", "[fd00:2::2]")}
# What a router says of packets that are too long is what path MTU discovery of old lives by; many drop it.
SILENT = """
table inet silent {
  chain output {
    type filter hook output priority 0;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}
"""
HEADERS_OCTETS = {4: 28, 6: 48}
HANG_S = 100.0  # a search that nobody helps takes 20 s


def session(lab: Lab, node: str) -> dict[str, Any]:
    """The conversation of a node's udpcl link."""
    with lab.client(node) as agent:
        (link,) = [each for each in agent.get("/v1/links")["links"] if each["kind"] == "udpcl"]
        (found,) = [each for each in link["sessions"] if each["outbound"]]
        return dict(found)


def found_size(lab: Lab, least: int, most: int) -> dict[str, Any]:
    """Wait until the path MTU that ground uses lies between."""
    deadline = time.monotonic() + HANG_S
    while True:
        seen = session(lab, "ground")
        if least <= seen["datagram_octets"] <= most and seen["path_mtu"] == "complete":
            return seen
        assert time.monotonic() < deadline, f"{seen['path_mtu']} at {seen['datagram_octets']}: {seen}"
        ping(lab, 1)


def ping(lab: Lab, count: int, size: int = 20_000) -> int:
    """How many bundles, each of several datagrams, came to rover's echo and back."""
    with lab.client("ground") as agent:
        asked = {"to": "dtn://rover/echo", "count": count, "size": size, "interval_s": 0.05, "timeout_s": 2.0}
        return int(list(agent.stream("/v1/ping", asked))[-1]["received"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("version", "is_silent"), [(4, False), (6, False), (4, True)])
def test_the_path_mtu_behind_a_router_is_found_and_found_again_when_it_falls(version: int, is_silent: bool) -> None:
    ground, rover = ADDRESSES[version]
    with Lab.of(PATH.replace("ROVER", rover).replace("GROUND", ground), name=unique("pmtu")) as lab:
        if is_silent:
            lab.exec("router", ["nft", SILENT])
        most = 1400 - HEADERS_OCTETS[version]
        before = found_size(lab, most - 16, most)
        assert before["version"] == 2
        assert ping(lab, 10) == 10
        lowered = 1300 if version == 6 else 1250
        assert lab.exec("router", ["ip", "link", "set", "far", "mtu", str(lowered)]).returncode == 0
        most = lowered - HEADERS_OCTETS[version]
        after = found_size(lab, most - 16, most)
        assert after["black_holes"] == 1
        assert ping(lab, 10) == 10


BAD = """
nets:
  wire:
    subnet4: 10.1.0.0/24
    impair: {delay: 5 ms, jitter: 2 ms, loss: 5 %, duplicate: 5 %, reorder: 10 %}
nodes:
  ground:
    nets: [wire]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "0.0.0.0:4556", rate: 20 Mbit/s}]
        peers: [{id: "dtn://rover/", link: udpcl, address: "10.1.0.2:4556"}]
  rover:
    nets: [wire]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "0.0.0.0:4556", limits: {reassembly_s: 2.0}}]
        peers: [{id: "dtn://ground/", link: udpcl, address: "10.1.0.1:4556"}]
"""


@pytest.mark.slow
def test_a_bad_path_costs_bundles_but_corrupts_none_and_keeps_nothing() -> None:
    with Lab.of(BAD, name=unique("bad")) as lab, lab.client("ground") as ground, lab.client("rover") as rover:
        meet(lab)
        list(ground.stream("/v1/source", {"to": "dtn://rover/sink", "count": 300, "size": 5000}))
        report, link = settled(rover)
        assert 100 < report["bundles"] < 300
        assert report["verified"] == report["bundles"]
        assert report["damaged"] == report["duplicates"] == 0
        transfers = link["transfers"]
        assert transfers["held_octets"] == 0
        assert transfers["timed_out"] > 0
        assert transfers["completed"] + transfers["timed_out"] <= 300
        assert transfers["late"] + transfers["overlapping"] > 0


def meet(lab: Lab) -> None:
    """Until a ping came back. Before it knows a neighbour's address Linux keeps few datagrams for it, and asks again only a
    second later (RFC 1122 §2.3.2): what is lost by that is not the path's doing."""
    deadline = time.monotonic() + HANG_S
    while not ping(lab, 1, size=100):
        assert time.monotonic() < deadline, session(lab, "ground")


def settled(rover: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the sink got, and the link's counts, when nothing is incomplete any more."""
    deadline = time.monotonic() + HANG_S
    while True:
        report = rover.get("/v1/sink")
        (link,) = [each for each in rover.get("/v1/links")["links"] if each["kind"] == "udpcl"]
        is_quiet = report["last_s"] is not None and report["last_s"] > 3.0
        if is_quiet and not link["transfers"]["held_octets"]:
            return report, link
        assert time.monotonic() < deadline, (report, link)


GROUPS = """
nets:
  wire: {subnet4: 10.1.0.0/24, subnet6: "fd00:1::/64"}
  other: {subnet4: 10.2.0.0/24, subnet6: "fd00:2::/64"}
nodes:
  ground:
    nets: [other, wire]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "[::]:4556"}]
        peers: [{id: "dtn://rover/", link: udpcl, address: "GROUP:4556"}]
  rover:
    nets: [other, wire]
    agent:
      tls: false
      store: memory
      config:
        links: [{}, {kind: udpcl, listen: "[::]:4556", multicast: {groups: ["224.0.1.20%wire", "ff05::114%wire"]}}]
        peers: [{id: "dtn://ground/", link: udpcl, address: "GROUND:4556"}]
"""


@pytest.mark.parametrize(
    ("group", "ground"), [("224.0.1.20%wire", "10.1.0.1"), ("[ff05::114%wire]", "[fd00:1::1]")], ids=["v4", "v6"]
)
def test_bundles_go_to_a_group_out_of_the_interface_that_was_named(group: str, ground: str) -> None:
    with Lab.of(GROUPS.replace("GROUP", group).replace("GROUND", ground), name=unique("group")) as lab:
        assert ping(lab, 3) == 3
        with lab.client("rover") as agent:
            (link,) = [each for each in agent.get("/v1/links")["links"] if each["kind"] == "udpcl"]
        heard = [each for each in link["sessions"] if each["bundles_received"]]
        assert len(heard) == 1
        assert heard[0]["marks_received"] == {"ect0": 0, "ect1": 0, "ce": 0}

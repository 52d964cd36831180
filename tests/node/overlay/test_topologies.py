"""Files of topologies: those that come with the program, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tumpline.errors import ConfigError
from tumpline.node.overlay.topologies import find_topology, read_topologies, shipped_topologies

OLDER_FILE = """
# -*- coding: utf-8 -*-
--- !configuration
configuration_id: A_CFG_01
uri: http://example.org/A_CFG_01
nodes:
  - one
  - two
addressing:
    - node: one
      ipv6_prefix : bbbb
      ipv6_host: 1
topology:
  - link_id : link_01
    capture_filter: udp
    special_mode: null
    nodes:
      - one
      - two
description:
  - node: one
    message:
      - Serves [bbbb::1]:5683
configuration_diagram: |+
  +---+
--- !configuration
configuration_id: A_CFG_02
nodes: [one, three]
topology: [{nodes: [one, three], impair: {delay: 20 ms, loss: 1 %}}]
"""


def test_the_configurations_that_many_know_are_there() -> None:
    names = {topology.configuration_id for topology in shipped_topologies()}
    assert names == {
        *("COAP_CFG_01", "COAP_CFG_02", "6LOWPAN_CFG_01", "6LOWPAN_CFG_02", "COMI_CFG_01"),
        *("LWM2M_CFG_01", "M2M_CFG_01", "M2M_CFG_02", "WOT_CFG_01", "DUMMY_CFG_01"),
    }


def test_a_node_on_two_links_reaches_both() -> None:
    reach = find_topology("COAP_CFG_02").reach()
    assert set(reach["gateway"]) == {"coap_client", "coap_server", "agent_TT"}
    assert set(reach["coap_client"]) == {"gateway", "agent_TT"}
    assert set(reach["agent_TT"]) == {"coap_client", "coap_server", "gateway"}


def test_an_older_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "configurations.yaml"
    path.write_text(OLDER_FILE)
    first, second = read_topologies(OLDER_FILE, "x")
    assert (first.configuration_id, first.links[0].capture_filter) == ("A_CFG_01", "udp")
    assert [(name, claim.address[-1]) for name, claim in first.addresses] == [("one", 1)]
    impairment = find_topology(f"{path}#A_CFG_02").links[0].impairment
    assert impairment is not None
    assert (impairment.delay_s, impairment.loss) == (0.02, 0.01)
    assert second.nodes == ("one", "three", "agent_TT")
    with pytest.raises(ConfigError, match=r"has several; write for example .*#A_CFG_01"):
        find_topology(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[1, 2]", "this is no table"),
        ("configuration_id: A", "A: topology: is no list"),
        ("configuration_id: A\ntopology: []", "A: topology: has no link"),
        ("topology: [{nodes: [a]}]", "configuration_id: is missing"),
        ("configuration_id: A\ntopology: [1]", r"topology\[0\]: is no table"),
        ("configuration_id: A\ntopology: [{nodes: [a.b]}]", r"topology\[0\].nodes: 'a.b' is no name"),
        ("configuration_id: A\ntopology: [{nodes: [a], impair: {delay: x}}]", r"topology\[0\].impair.delay"),
        ("configuration_id: A\ntopology: [{nodes: [a]}]\naddressing: [{node: a, ipv6_prefix: xx}]", "no IPv6 address"),
        ("configuration_id: A\ntopology: [{nodes: [a]}]\naddressing: [{}]", "names no node"),
        ("a: [1", ":1: "),
        ("a: &b [*b]", "aliases"),
        ("a: \x00", "write YAML"),
    ],
)
def test_mistakes_are_said_with_where_they_are(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_topologies(text, "file.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        find_topology(f"{tmp_path}/none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="is no text"):
        find_topology(f"{tmp_path}/binary.yaml")
    with pytest.raises(ConfigError, match="there are: COAP_CFG_01"):
        find_topology("nothing like it")

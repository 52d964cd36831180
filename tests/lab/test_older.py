"""Network files of the older agent become laboratories: what they say, what is said of them, what is refused."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import msgspec.inspect as mi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.lab.addresses import ports_of
from tumpline.lab.agent_config import agent_config
from tumpline.lab.model import AgentSection, LabFile
from tumpline.lab.names import hosts_file
from tumpline.lab.older.shape import OlderConfig, OlderNode, TxRoute
from tumpline.lab.read import load, loads
from tumpline.node.config.older.node import attached, bp_agent_configuration
from tumpline.node.config.older.patterns import Plain, pattern_of, plain_of
from tumpline.node.config.older.read import load_older
from tumpline.wire.eid import Eid

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "older-four-nodes.yaml"
NETS = """\
nets:
  wire: {subnet4: 10.9.1.0/24, subnet6: "fd09:1::/64"}
  cable: {subnet4: 10.9.2.0/24}
"""


def lab_of(**configs: str) -> LabFile:
    """Nodes on `wire`, the last one on `cable` too."""
    return loads(network(configs), "older.yaml")


def network(configs: Mapping[str, str]) -> str:
    nodes = ""
    for number, (name, config) in enumerate(configs.items()):
        nets = "wire, cable" if number == len(configs) - 1 else "wire"
        nodes += f"  {name}:\n    nets: [{nets}]\n    config:\n      tls_enable: true\n{indent(config, '      ')}\n"
    return f"{NETS}nodes:\n{nodes}"


def agent(lab: LabFile, node: str) -> AgentSection:
    found = lab.nodes[node].agent
    assert found is not None
    return found


def routes(lab: LabFile, node: str) -> list[tuple[str, str]]:
    return [(str(route.to), str(route.via)) for route in agent(lab, node).routes]


def mistakes(**configs: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        lab_of(**configs)
    return caught.value.problems


def test_the_example_is_a_laboratory() -> None:
    lab = load(EXAMPLE)
    assert lab.name == "older-four-nodes"
    assert {name: agent(lab, name).connect for name in lab.nodes} == {
        "harbour": ["lighthouse"],
        "lighthouse": [],
        "depot": ["lighthouse"],
        "hut": [],
    }
    assert routes(lab, "harbour") == [("*:**", "dtn://lighthouse/"), ("ipn:0.20.*", "dtn://lighthouse/")]
    assert routes(lab, "depot") == [("dtn:**", "dtn://lighthouse/"), ("ipn:0.20.*", "dtn://lighthouse/")]
    listening = {"kind": "udpcl", "listen": ["[::]:4556"], "connect": [], "trust_node_ids": True}
    assert agent(lab, "lighthouse").config == {"node": {"aliases": ["ipn:20.0"]}, "links": [{}, listening]}
    polling = {
        "kind": "udpcl",
        "listen": [],
        "connect": [],
        "trust_node_ids": True,
        "listen_s": "10s",
    }
    assert agent(lab, "hut").config == {
        "links": [{"listen": []}, polling],
        "peers": [{"id": "dtn://lighthouse/", "link": "udpcl", "address": "lighthouse.local:4556"}],
    }
    assert all(agent(lab, name).tls for name in lab.nodes)
    assert lab.nets["strait"].mtu == 1400
    assert len(lab.remarks) == 3


def test_the_example_of_discovery_is_a_laboratory() -> None:
    lab = load(EXAMPLE.with_name("older-discovery.yaml"))
    assert {name: agent(lab, name).connect for name in lab.nodes} == {
        "mill": ["bridge"],
        "bridge": ["ferry"],
        "ferry": [],
    }
    assert routes(lab, "mill") == [
        (pattern, "dtn://bridge/") for pattern in ("dtn://ferry/**", "ipn:0.31.*", "dtn://landing/**", "ipn:0.30.*")
    ]
    assert routes(lab, "ferry") == [("dtn://mill/**", "dtn://bridge/"), ("ipn:0.30.*", "dtn://bridge/")]
    assert routes(lab, "bridge") == [("ipn:0.31.*", "dtn://ferry/"), ("dtn://landing/**", "dtn://ferry/")]
    assert agent(lab, "ferry").config == {"node": {"aliases": ["ipn:31.0", "dtn://landing/"]}}
    assert not any(agent(lab, name).tls or agent(lab, name).key_log for name in lab.nodes)
    pings = [(each["ping"]["from"], each["ping"]["to"]) for each in lab.expect]
    assert pings == [("mill", "bridge"), ("bridge", "ferry"), ("mill", "ferry"), ("ferry", "mill")]


def test_addresses_and_names_are_as_the_file_wants_them() -> None:
    ports = ports_of(load(EXAMPLE))
    assert {port.node: port.addresses for port in ports if port.net == "shore"} == {
        "lighthouse": ["10.66.2.1", "fd66:2::1"],
        "depot": ["10.66.2.2", "fd66:2::2"],
        "hut": ["10.66.2.3"],
    }
    assert "10.66.2.1 lighthouse lighthouse. lighthouse.local lighthouse.shore\n" in hosts_file(ports, "hut")


def test_a_file_of_ours_is_not_taken_for_one_of_theirs() -> None:
    plain = loads("nets: {a: {subnet4: 10.1.0.0/24}}\nnodes: {n: {nets: [a]}}\n")
    assert plain.nodes["n"].agent is None
    with pytest.raises(ConfigError, match=r"nodes\.n\.config: there is no such key"):
        loads("nets: {a: {subnet4: 10.1.0.0/24}}\nnodes: {n: {nets: [a], agent: {}, config: {}}}\n")


def test_the_first_form_of_such_files_is_known_by_its_subnet() -> None:
    lab = loads("nets:\n  a: {subnet: 10.1.0.0/24}\nnodes:\n  n: {nets: [a]}\n  m:\n    nets: [a]\n    config:\n")
    assert lab.nets["a"].subnet4 == "10.1.0.0/24"
    assert [agent(lab, name).tls for name in lab.nodes] == [False, False]


@pytest.mark.parametrize(
    ("regex", "pattern"),
    [
        (".*", "*:**"),
        ("^.*$", "*:**"),
        ("", "*:**"),
        ("dtn:.*", "dtn:**"),
        ("dtn://", "dtn:**"),
        ("dtn://node001/.*", "dtn://node001/**"),
        ("^dtn://node001/", "dtn://node001/**"),
        ("dtn://node001/app.+", "dtn://node001/app**"),
        ("dtn://node001/app$", "dtn://node001/app"),
        (r"ipn:.*", "ipn:**"),
        (r"ipn:5\..*", "ipn:0.5.*"),
        (r"ipn:977000\.5\..*", "ipn:977000.5.*"),
        (r"ipn:5\.3$", "ipn:0.5.3"),
        (r"ipn:5.3$", "ipn:0.5.3"),
    ],
)
def test_regular_expressions_that_mean_a_beginning(regex: str, pattern: str) -> None:
    (plain,) = plain_of(regex)
    assert pattern_of(plain) == pattern


@pytest.mark.parametrize(
    "regex", ["dtn://node00[12]/.*", "dtn://(a|b)/.*", r"ipn:\d+\.1", ".*/files", "dtn://a/.*x", "a{2}", "\\"]
)
def test_those_that_mean_more_are_refused(regex: str) -> None:
    with pytest.raises(ConfigError, match=r"means more than a beginning; write .*dtn://node/"):
        plain_of(regex)


@pytest.mark.parametrize("regex", ["dtn://node001", r"ipn:5\.3", "ipn:5", "mailto:", "dtn://a/ b/"])
def test_beginnings_that_end_within_a_name_are_refused(regex: str) -> None:
    (plain,) = plain_of(regex)
    with pytest.raises(ConfigError, match=r"dtn://node/\.\*"):
        pattern_of(plain)


def test_alternatives_are_routes_of_their_own() -> None:
    assert plain_of("dtn://a/.*|dtn://b/x$") == [Plain("dtn://a/", False), Plain("dtn://b/x", True)]


def test_the_first_matching_route_wins_as_it_does_there() -> None:
    lab = lab_of(
        a=r"""bp_tx_routes:
  - {eid_pattern: "dtn://far/app$", next_nodeid: "dtn://c/", cl_type: tcpcl, address: 10.9.1.3}
  - {eid_pattern: "dtn:.*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: b.}
  - {eid_pattern: "dtn://c/.*", next_nodeid: "dtn://c/", cl_type: udpcl, address: c}""",
        b="",
        c="",
    )
    assert routes(lab, "a") == [("dtn://far/app", "dtn://c/"), ("dtn:**", "dtn://b/")]
    assert agent(lab, "a").connect == ["c", "b"]
    assert agent(lab, "a").config["peers"][0]["address"] == "c:4556"
    assert any("bp_tx_routes[2]: never used: a route before it" in each for each in lab.remarks)


def test_routes_that_cannot_be_are_told_with_their_lines() -> None:
    found = mistakes(
        a=r"""bp_tx_routes:
  - {eid_pattern: "dtn://[x]/", next_nodeid: "dtn://b/", cl_type: tcpcl, address: b}
  - {eid_pattern: ".*", next_nodeid: "dtn://bb/", cl_type: tcpcl, address: b}
  - {eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: c}
  - {eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: 192.0.2.1}
  - {eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: b, port: 4557}
  - {eid_pattern: ".*", next_nodeid: "dtn://a/", cl_type: tcpcl, address: a}
udpcl_polling: [{address: nobody}]
bp_rx_routes: [{eid_pattern: "ipn:.*", action: delete}]""",
        b="",
        c="",
    )
    assert [line.split(":", 2)[1] for line in found] == ["10", "11", "12", "13", "14", "15", "16", "17"]
    for line, words in zip(
        found,
        [
            "means more than",
            "did you mean 'dtn://b/'",
            "name one node",
            "'192.0.2.1' is no",
            "write 4556",
            "itself is no next hop",
            "'nobody'",
            "remove",
        ],
        strict=True,
    ):
        assert words in line, line


def test_nodes_without_a_net_together_are_told() -> None:
    route = 'bp_tx_routes: [{eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: b}]'
    text = f"{NETS}nodes:\n  a: {{nets: [wire], config: {{{route}}}}}\n  b: {{nets: [cable], config: {{}}}}\n"
    with pytest.raises(ConfigError, match=r"older.yaml:5: .*a and b have no net together; put both on one under nets"):
        loads(text, "older.yaml")


def test_a_node_that_nobody_could_reach_is_refused() -> None:
    (told,) = mistakes(a="tcpcl_listen: false", b="")
    assert "nobody could reach it, and nobody sends by UDPCL" in told


def test_who_does_not_listen_for_datagrams_is_reached_by_sessions() -> None:
    route = 'bp_tx_routes: [{eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: udpcl, address: b}]'
    lab = lab_of(a=route, b="udpcl_listen: false")
    assert agent(lab, "a").connect == ["b"]
    assert "b has udpcl_listen: false; this route goes by TCPCLv4" in lab.remarks[0]


def test_who_does_not_listen_dials() -> None:
    route = 'bp_tx_routes: [{eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: tcpcl, address: b}]'
    lab = lab_of(a=route, b="tcpcl_listen: false")
    assert agent(lab, "b").connect == ["a"]
    assert agent(lab, "a").connect == []


def test_further_node_ids_are_those_that_are_delivered() -> None:
    lab = lab_of(
        a="""bp_rx_routes:
  - {eid_pattern: "dtn://group/.*", action: deliver}
  - {eid_pattern: 'ipn:7\\..*', action: deliver}
  - {eid_pattern: "dtn://a/.*", action: deliver}
  - {eid_pattern: ".*", action: forward}"""
    )
    assert agent(lab, "a").config == {"node": {"aliases": ["dtn://group/", "ipn:7.0"]}}


def test_discovery_ends_with_shortest_ways() -> None:
    chain = "nets:\n" + "".join(f"  n{number}: {{subnet4: 10.{number}.0.0/24}}\n" for number in range(3)) + "nodes:\n"
    for name, nets in {"a": "n0", "b": "n0, n1", "c": "n1, n2", "d": "n2"}.items():
        chain += f"  {name}: {{nets: [{nets}], config: {{apps: {{sand: {{enable: true}}}}}}}}\n"
    lab = loads(chain)
    assert {name: agent(lab, name).connect for name in lab.nodes} == {"a": ["b"], "b": ["c"], "c": ["d"], "d": []}
    assert routes(lab, "a") == [("dtn://c/**", "dtn://b/"), ("dtn://d/**", "dtn://b/")]
    assert routes(lab, "b") == [("dtn://d/**", "dtn://c/")]


def test_parts_that_are_not_there_are_remarked_upon() -> None:
    lab = lab_of(
        a="""btpu_listen: [{ifname: wire}]
btpu_polling: [{address: "01:00:5e:90:00:04"}]
udpcl_lisen: true
apps:
  safe: {endpoint: "dtn://a/safe"}
  zeroconf: {enumerate: 1}
  clock: {}
  sand:""",
        b="bp_tx_routes: [{eid_pattern: '.*', next_nodeid: 'dtn://a/', cl_type: btpu, address: '02:00:00:00:00:01', mtu: 800}]",
    )
    wanted = [
        "btpu_listen: BTP-U",
        "nothing is polled",
        "did you mean",
        "SAFE",
        "nobody offers itself",
        "clock",
        "BTP-U",
    ]
    assert len(lab.remarks) == len(wanted)
    for words in wanted:
        assert any(words in each for each in lab.remarks), (words, lab.remarks)
    assert agent(lab, "b").connect == ["a"]


def test_tls_of_some_is_offered_by_them_and_demanded_by_nobody() -> None:
    text = f"{NETS}nodes:\n  a: {{nets: [wire], config: {{tls_enable: true}}}}\n  b: {{nets: [wire], config: {{}}}}\n"
    lab = loads(text)
    assert (agent(lab, "a").tls, agent(lab, "a").config) == (True, {"links": [{"tls": {"mode": "optional"}}]})
    assert (agent(lab, "b").tls, agent(lab, "b").config) == (False, {})


def test_what_is_no_network_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("nets:\n  a: {}\nnodes:\n  n:\n    nets: [b]\n    keys: {sign: {keytype: RSA}}\n", "older.yaml")
    assert [line.split(" ")[0] for line in caught.value.problems] == ["older.yaml:2:", "older.yaml:5:"]


# ---- whatever it says -------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["a", "b", "wire", ".*", "dtn://a/", "dtn://b/.*", "ipn:5.0", "10.9.1.2", "tcpcl", "udpcl", "", "x\n y"]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5000) | _WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS | st.integers(0, 3), inner, max_size=2),
    max_leaves=6,
)


def _tables(cls: type[Any]) -> st.SearchStrategy[Any]:
    names = [field.encode_name for field in mi.type_info(cls).fields]  # type: ignore[attr-defined]
    return st.dictionaries(st.sampled_from(names), _VALUES, max_size=4)


_ROUTES = st.lists(_tables(TxRoute) | _VALUES, max_size=3)
_CONFIGS = st.builds(lambda table, routes: table | {"bp_tx_routes": routes}, _tables(OlderConfig), _ROUTES)
_NODES = st.builds(
    lambda node, config: {"nets": ["wire"]} | node | {"config": config}, _tables(OlderNode), _CONFIGS | _VALUES
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_WORDS | st.integers(), _NODES | _VALUES, max_size=3), _VALUES)
def test_whatever_a_file_says_is_a_laboratory_or_told(nodes: dict[Any, Any], net: Any) -> None:
    value = {
        "nets": {"wire": {"subnet4": "10.9.1.0/24"}, "more": net},
        "nodes": nodes | {"z": {"nets": ["wire"], "keys": {}}},
    }
    try:
        lab = loads(yaml.safe_dump(value))
    except ConfigError:
        return
    assert set(lab.nodes) == {str(name) for name in value["nodes"]}


def test_datagrams_are_secured_with_the_keys_of_sessions(tmp_path: Path) -> None:
    route = 'bp_tx_routes: [{eid_pattern: ".*", next_nodeid: "dtn://b/", cl_type: udpcl, address: b}]'
    lab = lab_of(a=f"dtls_enable_tx: true\n{route}", b="")
    made = agent_config(lab, "a", agent(lab, "a"), tmp_path)
    tcpcl, udpcl = made["links"]
    assert udpcl["tls"] == {key: tcpcl["tls"][key] for key in ("ca", "cert", "key", "key_log")} | {"mode": "optional"}
    assert "tls" not in agent_config(lab, "b", agent(lab, "b"), tmp_path)["links"][1]


# ---- three agents in each node ---------------------------------------------------------------------------------------


def apart(**nodes: str) -> dict[str, dict[str, Any]]:
    """Sections of what the agents of each node are told."""
    made = loads(network(nodes), "older.yaml", apart=True)
    return {name: agent(made, name).apart for name in made.nodes}


def test_what_three_agents_of_a_node_are_told() -> None:
    made = apart(
        a=r"""udpcl_polling: [{address: b.local, interval_ms: 10000}]
bp_rx_routes: [{eid_pattern: "dtn://(x|y)/[0-9]+", action: delete}]
bp_tx_routes: [{eid_pattern: "dtn://b/.*", next_nodeid: "dtn://b/", cl_type: udpcl, address: b, port: 4556}]""",
        b="udpcl_listen: false",
        c="tcpcl_listen: false",
    )
    assert made["a"]["bp"]["rx_route_table"] == [
        {"eid_pattern": "dtn://(x|y)/[0-9]+", "action": "delete"},
        {"eid_pattern": "dtn://a/.*", "action": "deliver"},
        {"eid_pattern": ".*", "action": "forward"},
    ]
    # b takes no datagrams: what is sent there is lost, as it was there.
    route = {"eid_pattern": "dtn://b/.*", "next_nodeid": "dtn://b/", "cl_type": "udpcl", "address": "b", "port": 4556}
    assert made["a"]["bp"]["tx_route_table"][0] == route
    assert made["a"]["udpcl"]["polling"] == [{"address": "b.local", "port": 4556, "interval_ms": 10000}]
    assert made["a"]["udpcl"]["init_listen"][0]["multicast_member"] == [{"addr": "224.0.1.20", "iface": "wire"}]
    assert (made["b"]["udpcl"]["init_listen"], made["c"]["tcpcl"]["init_listen"]) == ([], [])
    assert made["a"]["tcpcl"]["tls_enable"]


def test_the_yaml_of_three_agents_is_one_that_they_take(tmp_path: Path) -> None:
    made = loads(EXAMPLE.read_text(), apart=True)
    for name in made.nodes:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(agent(made, name).apart))
        told = load_older(path)
        assert bp_agent_configuration(told).node.id == Eid.parse(f"dtn://{name}/")
        assert attached(told) == {"tcpcl": "org.ietf.dtn.node.tcpcl", "udpcl": "org.ietf.dtn.node.udpcl"}


def test_patterns_that_take_for_ever_are_refused_there_too() -> None:
    with pytest.raises(ConfigError, match="could take very long"):
        apart(a="bp_rx_routes: [{eid_pattern: '(a+)+', action: deliver}]")


def test_only_files_of_the_older_agent_know_three_agents() -> None:
    with pytest.raises(ConfigError, match="only the older agent's network files know three agents a node"):
        loads("nets: {a: {subnet4: 10.0.0.0/24}}\nnodes: {b: {nets: [a], agent: {}}}", apart=True)

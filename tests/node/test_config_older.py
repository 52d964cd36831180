"""The older agent's YAML: what it becomes, and every mistake that can be made in one."""

import re
from pathlib import Path
from typing import Any

import msgspec.inspect as mi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.drivers.dial import Address
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config, session_config
from tumpline.drivers.links._tls_config import TlsConfig
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.errors import ConfigError
from tumpline.machines.plan import Peer
from tumpline.machines.routing._api import Reception
from tumpline.node import ca
from tumpline.node.cla.udpcl_settings import Poll
from tumpline.node.config import Configuration, load, loads, show
from tumpline.node.config.older.agents import tcpcl_settings, udpcl_settings
from tumpline.node.config.older.links import tcpcl4_config
from tumpline.node.config.older.node import attached, bp_agent_configuration
from tumpline.node.config.older.read import load_older
from tumpline.node.config.older.sections import SECTIONS, TcpclSection
from tumpline.wire.bundle7 import STRICT
from tumpline.wire.eid import Eid

SERVER = """\
# As the older agent's README has them: one file for all agents of a node.
tcpcl:
    log_level: debug
    bus_addr: session
    bus_service: dtn.server.tcpcl
    node_id: dtn://server/

    tls_enable: False

    init_listen:
      - address: 127.0.0.2
udpcl:
btpu: {mtu_default: 1500}
bp:
    log_level: info
    bus_addr: session
    bus_service: dtn.server.bp
    node_id: dtn://server/

    rx_route_table:
      - eid_pattern: 'dtn://server/.*'
        action: deliver
      - eid_pattern: '.*/secret'
        action: delete
      - eid_pattern: '.*'
        action: forward
    tx_route_table:
      - {eid_pattern: 'dtn://client/.*', next_nodeid: 'dtn://client/', cl_type: tcpcl, address: 127.0.0.3}
      - {eid_pattern: 'dtn://.*', next_nodeid: 'dtn://client/', cl_type: tcpcl, address: 127.0.0.3, port: 4556}
      - {eid_pattern: 'ipn:.*', next_nodeid: 'ipn:7.0', cl_type: tcpcl, address: 'fd00::7', port: 4557}
      - {eid_pattern: 'ipn:9\\..*', next_nodeid: 'ipn:9.0', cl_type: tcpcl}
    sign_key_file: null
    integrity_include_chain: True
    apps:
      sand: {enable: False, endpoint: 'dtn://server/sand'}
      zeroconf: {offer: False, enumerate: False}
"""


def node(directory: Path, text: str) -> Configuration:
    path = directory / "server.yaml"
    path.write_text(text)
    return load(path)


def tcpcl(directory: Path, text: str) -> Tcpcl4Config:
    path = directory / "server.yaml"
    path.write_text("tcpcl:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    section = load_older(path).tcpcl
    assert section is not None
    return tcpcl4_config(section)


def problems(directory: Path, text: str) -> list[str]:
    path = directory / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [each.removeprefix(f"{path}:") for each in caught.value.problems]


def test_a_file_is_a_whole_node(tmp_path: Path) -> None:
    made = node(tmp_path, SERVER)
    assert (made.node.id, made.name, made.log.level) == (Eid.parse("dtn://server/"), "server", "debug")
    assert [(link.name, link.spec.scheme, link.config.listen) for link in made.links] == [
        ("tcpcl", "tcpcl4", ["127.0.0.2:4556"]),
        ("udpcl", "udpcl", []),
    ]
    assert made.peers == [
        Peer(Eid.parse("dtn://client/"), "tcpcl", "127.0.0.3:4556"),
        Peer(Eid.parse("ipn:7.0"), "tcpcl", "[fd00::7]:4557"),
    ]
    routing = made.routing.spec.open(made.routing.config)
    assert routing.reception(Eid.parse("dtn://a/secret")) is Reception.DELETE
    assert routing.reception(Eid.parse("dtn://server/secret")) is Reception.DELIVER
    assert routing.next_hops(Eid.parse("ipn:9.1")) == [Eid.parse("ipn:7.0")]  # the first that matches
    assert made.node.reports is True
    assert made.node.rules() == STRICT._replace(check_flags=False), "its challenges of node IDs ask for reports"
    (acme,) = (each.config for each in made.services if each.spec.name == "acme")
    assert (acme.record_types, acme.send_type) == ((255, 65536), 65536), "what it knows, and what there is now"
    assert [each.partition(".yaml:")[2] for each in made.remarks] == [
        "5: tcpcl.bus_service: not owned: in one process only bp is on the bus; run tcpcl-agent and bp-agent for both"
    ]


@pytest.mark.parametrize(
    ("node_id", "name"),
    [("ipn:12.0", "ipn-12"), ("dtn://~x/", "x"), (f"dtn://{'n' * 100}/", "n" * 64), ("dtn://a.b_c/", "a.b_c")],
)
def test_a_node_is_called_as_its_id_says(tmp_path: Path, node_id: str, name: str) -> None:
    assert node(tmp_path, f"bp: {{node_id: '{node_id}'}}").name == name


def test_it_can_be_shown_in_our_own_words(tmp_path: Path) -> None:
    made = node(tmp_path, SERVER)
    again = loads(show(made))
    assert (again.node.id, again.node.name, again.node.aliases) == (made.node.id, made.node.name, made.node.aliases)
    assert (again.peers, again.routing.config, again.log) == (made.peers, made.routing.config, made.log)
    assert [link.config for link in again.links] == [link.config for link in made.links]


def test_who_is_delivered_here_wholly_is_a_further_id(tmp_path: Path) -> None:
    routes = [
        ("dtn://a/.*|ipn:4\\..*", "deliver"),
        ("dtn://b/app$", "deliver"),
        (".*", "forward"),
        ("dtn://c/.*", "deliver"),
    ]
    table = [{"eid_pattern": pattern, "action": action} for pattern, action in routes]
    made = node(tmp_path, yaml.safe_dump({"bp": {"node_id": "dtn://server/", "rx_route_table": table}}))
    assert made.node.aliases == [Eid.parse("dtn://a/"), Eid.parse("ipn:4.0")]


def test_all_mistakes_in_one_run(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        """\
tcpcl:
  tls_enable: 3
  tls_versionn: 1.2
  tls_version: 1.1
  tls_cert_file: nope.pem
  keepalive_time: -1
  require_node_authn: true
  init_listen: [{address: 1.2.3.4:4556}]
  init_connect: [{port: 4556}]
udpcll: {}
bp:
  node_id: dtn://server/app
  cl_attach: {ltp: x}
  rx_route_table:
   - {eid_pattern: '(a+)+', action: deliver}
   - {eid_pattern: '[', action: deliverr}
  tx_route_table:
   - {eid_pattern: '.*', next_nodeid: 'dtn://client/', cl_type: udpcl}
""",
    )
    expected = """\
2: tcpcl.tls_enable: this is the value 3, and must be true or false
3: tcpcl.tls_versionn: there is no such key; did you mean 'tls_version'?
4: tcpcl.tls_version: 1.1 must not be used any more (RFC 8996); write '1.2', '1.3' or null
5: tcpcl.tls_cert_file: tls_key_file is missing; name both or neither
5: tcpcl.tls_cert_file: .*nope.pem does not exist; .*
6: tcpcl.keepalive_time: -1 is out of range; write a number from 0 to 65535
7: tcpcl.require_node_authn: no certificate can be checked; name a CA's PEM file: tls_ca_file: ca.pem
8: tcpcl.init_listen\\[0\\].address: '1.2.3.4:4556' is no address; write a name or an IP address, and the port under port
9: tcpcl.init_connect\\[0\\].address: missing; write the peer's name or IP address, such as 192.0.2.7
10: udpcll: there is no such section; did you mean 'udpcl'\\?
12: bp.node_id: dtn://server/app is an endpoint, not a node; write dtn://server/
13: bp.cl_attach.ltp: there is no such convergence layer; write tcpcl or udpcl
15: bp.rx_route_table\\[0\\].eid_pattern: '.*' could take very long .*
16: bp.rx_route_table\\[1\\].eid_pattern: '\\[' is no regular expression .*
16: bp.rx_route_table\\[1\\].action: 'deliverr' is none of the choices; did you mean 'deliver'\\?
18: bp.tx_route_table\\[0\\]: address is missing: UDPCL learns no address by itself; write address: 192.0.2.7
""".splitlines()
    assert len(told) == len(expected), "\n".join(told)
    for line, pattern in zip(told, expected, strict=True):
        assert re.fullmatch(
            pattern.replace("(RFC 8996)", r"\(RFC 8996\)").replace("'tls_version'?", r"'tls_version'\?"), line
        )


ABSENT = [
    (
        "bp",
        "verify_ca_file: ca.pem",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    (
        "bp",
        "sign_cert_file: c.pem",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    (
        "bp",
        "sign_key_file: c.key",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    (
        "bp",
        "encr_cert_file: c.pem",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    (
        "bp",
        "encr_key_file: c.key",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    (
        "bp",
        "accept_after_verify: true",
        "signing and encrypting bundles comes with BPSec, which is not part of this release",
    ),
    ("bp", "apps: {sand: {enable: true}}", "SAND is not part of this release"),
    ("bp", "apps: {nmp: {enable: true}}", "SAND is not part of this release"),
    ("bp", "apps: {safe: {endpoint: 'dtn://server/safe'}}", "SAFE is not part of this release"),
    ("bp", "apps: {zeroconf: {offer: true}}", "discovery by mDNS is not part of this release"),
    ("bp", "apps: {zeroconf: {enumerate: 5}}", "discovery by mDNS is not part of this release"),
    ("bp", "cl_attach: {btpu: dtn.server.btpu}", "BTP-U over Ethernet is not part of this release"),
    ("bp", "enable_test: [private_extensions]", "these extensions only test others' dissectors"),
    ("udpcl", "enable_test: [private_extensions]", "these extensions only test others' dissectors"),
    ("btpu", "init_listen: [{ifname: eth0}]", "BTP-U over Ethernet is not part of this release"),
    ("btpu", "polling: [{address: '01:00:5E:90:00:04'}]", "BTP-U over Ethernet is not part of this release"),
    ("btpu", "bus_service: dtn.server.btpu", "BTP-U over Ethernet is not part of this release"),
]


@pytest.mark.parametrize(("section", "line", "sentence"), ABSENT)
def test_what_is_not_there_is_refused_when_it_is_asked_for(
    tmp_path: Path, section: str, line: str, sentence: str
) -> None:
    text = f"{section}:\n  {line}\n" if section == "bp" else f"bp: {{node_id: 'dtn://server/'}}\n{section}:\n  {line}\n"
    text = text.replace("bp:\n", "bp:\n  node_id: dtn://server/\n")
    told = problems(tmp_path, text)
    assert len(told) == 1
    assert sentence in told[0]
    assert told[0].partition(":")[0] == str(len(text.splitlines()))


def test_a_route_by_a_layer_that_is_not_there(tmp_path: Path) -> None:
    route = "{eid_pattern: '.*', next_nodeid: 'dtn://client/', cl_type: %s, address: '01:00:5E:90:00:04'}"
    text = "bp:\n  node_id: dtn://server/\n  tx_route_table:\n  - " + route
    assert "bp.tx_route_table[0].cl_type: BTP-U over Ethernet is not part" in problems(tmp_path, text % "btpu")[0]
    assert (
        "cl_type: this file has no section tcpcl; write tcpcl: for its defaults"
        in problems(tmp_path, text % "tcpcl")[0]
    )


def test_keys_of_which_nothing_follows_are_remarked(tmp_path: Path) -> None:
    route = "{eid_pattern: '.*', next_nodeid: 'ipn:7.0', cl_type: udpcl, address: '::1', mtu: 800, local_if: 2, local_port: 4556}"
    made = node(
        tmp_path,
        f"""\
udpcl:
  ecn_feedback_min: 10
  polling: [{{address: '::1', local_port: 4556}}]
bp:
  node_id: dtn://server/
  tx_route_table: [{route}]
""",
    )
    places = [each.partition(".yaml:")[2].split(": ")[:2] for each in made.remarks]
    assert places == [
        ["2", "udpcl.ecn_feedback_min"],
        ["6", "bp.tx_route_table[0].mtu"],
        ["6", "bp.tx_route_table[0].local_if"],
        ["6", "bp.tx_route_table[0].local_port"],
        ["3", "udpcl.polling[0]"],
    ]


def test_nothing_said_is_not_asked_for(tmp_path: Path) -> None:
    text = yaml.safe_dump(
        {
            "btpu": {"mtu_default": 1500, "init_listen": [], "polling": [], "bus_addr": "session"},
            "bp": {
                "node_id": "dtn://server/",
                "sign_key_file": None,
                "enable_test": [],
                "apps": {"sand": None, "safe": {}, "zeroconf": {"offer": False}},
            },
        }
    )
    assert node(tmp_path, text).node.id == Eid.parse("dtn://server/")


def test_a_listen_that_is_no_list_is_taken_with_a_remark(tmp_path: Path) -> None:
    """As the older install script writes it."""
    made = node(tmp_path, "tcpcl:\n  init_listen:\n    address: 127.0.0.3\nbp: {node_id: 'dtn://server/'}\n")
    assert made.links[0].config.listen == ["127.0.0.3:4556"]
    assert [each.partition(".yaml:")[2] for each in made.remarks] == [
        "2: tcpcl.init_listen: this must be a list, and is taken as a list of one; write - before it"
    ]


# ---- the tcpcl section -----------------------------------------------------------------------------------------------


def test_defaults_of_a_session(tmp_path: Path) -> None:
    config = tcpcl4_config(TcpclSection())
    assert (config.listen, config.connect, config.keepalive_s, config.idle_s) == ([], [], 0, 0)
    assert (config.segment_mru, config.tls.mode) == (10 << 20, "off")


@pytest.mark.parametrize(
    ("text", "idle_s"),
    [("keepalive_time: 30\nidle_time: null", 60), ("keepalive_time: 30", 0), ("idle_time: 12.5", 12.5)],
)
def test_idle_time(tmp_path: Path, text: str, idle_s: float) -> None:
    assert tcpcl(tmp_path, text).idle_s == idle_s


@pytest.mark.parametrize(
    ("text", "first", "least", "most", "ack_s"),
    [
        ("{}", 1 << 20, 16 << 10, 8 << 20, 0.5),
        ("segment_size_tx_initial: 104857", 104857, 104857, 104857, 0.5),
        ("segment_size_tx_initial: 104857\nmodulate_target_ack_time: 0.2", 104857, 16 << 10, 8 << 20, 0.2),
        ("modulate_target_ack_time: 2", 1 << 20, 16 << 10, 8 << 20, 2.0),
        ("segment_size_tx_initial: 10485760\nmodulate_target_ack_time: 1", 10 << 20, 16 << 10, 10 << 20, 1.0),
    ],
)
def test_segments(tmp_path: Path, text: str, first: int, least: int, most: int, ack_s: float) -> None:
    session = session_config(tcpcl(tmp_path, text), "dtn://server/", "127.0.0.1", None, None)
    assert (session.segment_octets_first, session.segment_octets_least) == (first, least)
    assert (session.segment_octets_most, session.segment_ack_s) == (most, ack_s)


def test_extensions_to_try_peers_with(tmp_path: Path) -> None:
    assert tcpcl(tmp_path, "enable_test: [private_extensions]").test_extensions == "private"
    assert tcpcl(tmp_path, "enable_test: []").test_extensions == ""


def test_both_versions_of_ip_are_one_listener(tmp_path: Path) -> None:
    text = (
        "init_listen: [{address: 0.0.0.0}, {address: '::'}, {address: 0.0.0.0, port: 4557}, {address: '', port: 4558}]"
    )
    assert tcpcl(tmp_path, text).listen == ["[::]:4556", "0.0.0.0:4557", "[::]:4558"]


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    ca.init_ca(tmp_path)
    ca.issue(tmp_path, ["dtn://server/"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = "tls_ca_file: ca.pem\ntls_cert_file: server.pem\ntls_key_file: server.key\n"


@pytest.mark.parametrize(
    ("text", "mode", "authenticate"),
    [
        ("", "optional", "check"),
        ("require_tls: null", "optional", "check"),
        ("require_tls: true", "required", "check"),
        ("require_tls: true\nrequire_node_authn: true", "required", "node"),
        ("require_host_authn: true", "optional", "host"),
        ("require_host_authn: true\nrequire_node_authn: true", "optional", "both"),
        ("require_tls: false", "off", "node"),
        ("tls_enable: false", "off", "node"),
    ],
)
def test_tls(certified: Path, text: str, mode: str, authenticate: str) -> None:
    tls = tcpcl(certified, FILES + text).tls
    assert (tls.effective_mode, tls.authenticate) == (mode, authenticate)
    if mode != "off":
        assert tls.cert == str(certified / "server.pem")  # relative to the working directory, as there
        assert tls.allow_uri_san


def test_versions_and_ciphers(certified: Path) -> None:
    tls = tcpcl(certified, FILES + "tls_version: 1.2\ntls_ciphers: ECDHE+AESGCM\n").tls
    assert (tls.min_version, tls.ciphers) == ("1.2", "ECDHE+AESGCM")
    assert tcpcl(certified, FILES + "tls_version: '1.3'\n").tls.min_version == "1.3"
    with pytest.raises(ConfigError, match=r"tcpcl\.tls_ciphers: 'ROT13' names no cipher that OpenSSL has"):
        tcpcl(certified, FILES + "tls_ciphers: ROT13\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("require_tls: true", "require_tls: there is no tls_cert_file, and so no TLS; name it and tls_key_file"),
        ("require_tls: true\ntls_enable: false", "require_tls: tls_enable is false, so there can be no TLS"),
        ("require_host_authn: true", "require_host_authn: no certificate can be checked"),
        ("tls_cert_file: server.pem\ntls_key_file: ca.key", "tls_key_file: "),
        ("tls_key_file: server.key", "tls_key_file: tls_cert_file is missing; name both or neither"),
    ],
)
def test_tls_that_cannot_be(certified: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"tcpcl.{sentence}")):
        tcpcl(certified, text)


def test_remarks_on_tls(certified: Path) -> None:
    path = certified / "server.yaml"
    path.write_text("tcpcl:\n  tls_ca_file: ca.pem\n  tls_dhparam: dh.pem\n")
    told = [each.partition(".yaml:")[2] for each in load_older(path).remarks]
    assert told[0].startswith("2: tcpcl.tls_ca_file: not used: there is no tls_cert_file")
    assert told[1].startswith("3: tcpcl.tls_dhparam: passed over: keys are agreed on elliptic curves")
    path.write_text("tcpcl:\n  tls_cert_file: server.pem\n  tls_key_file: server.key\n")
    assert "without a CA no peer's certificate is checked" in load_older(path).remarks[0]


# ---- the udpcl section -----------------------------------------------------------------------------------------------


def udpcl(directory: Path, text: str) -> UdpclConfig:
    made = node(
        directory, "bp: {node_id: 'dtn://server/'}\nudpcl:\n" + "".join(f"  {each}\n" for each in text.splitlines())
    )
    (link,) = made.links
    assert isinstance(link.config, UdpclConfig)
    return link.config


def test_udpcl(tmp_path: Path) -> None:
    config = udpcl(
        tmp_path,
        """\
mtu_default: 1400
ecn_init: false
ecn_feedback: false
multicast: {ttl: 3}
init_listen:
  - {address: 0.0.0.0, multicast_member: [{addr: 224.0.1.20}]}
  - {address: '::1', port: 4557, multicast_member: [{addr: 'FF05::114', iface: eth0}]}
polling:
  - {address: relay.example, interval_ms: 10000}
  - {address: 192.0.2.7, port: 4557}
""",
    )
    assert config.listen == ["0.0.0.0:4556", "[::1]:4557"]
    assert config.connect == ["relay.example:4556", "192.0.2.7:4557"]
    assert (config.listen_s, config.datagram_octets, config.datagram_octets_most) == (10.0, 1400, 1400)
    assert (config.ecn, config.ecn_feedback) == (False, False)
    assert (config.multicast.groups, config.multicast.ttl) == (["224.0.1.20", "FF05::114%eth0"], 3)
    assert config.trust_node_ids  # as sessions without TLS are


def test_who_is_polled_and_sent_to_is_one_peer(tmp_path: Path) -> None:
    route = "{eid_pattern: '.*', next_nodeid: 'dtn://relay/', cl_type: udpcl, address: relay.example}"
    made = node(
        tmp_path,
        "udpcl: {polling: [{address: relay.example}, {address: other}]}\n"
        f"bp: {{node_id: 'dtn://server/', tx_route_table: [{route}]}}\n",
    )
    assert made.links[0].config.connect == ["other:4556"]
    assert made.peers == [Peer(Eid.parse("dtn://relay/"), "udpcl", "relay.example:4556")]


DTLS_FILES = FILES.replace("tls_", "dtls_")


@pytest.mark.parametrize(
    ("text", "mode", "authenticate", "believed"),
    [
        ("", "off", "node", True),
        (DTLS_FILES, "optional", "check", False),
        (DTLS_FILES + "require_tls: true", "required", "check", False),
        (DTLS_FILES + "dtls_enable_tx: false", "off", "node", True),
        (DTLS_FILES + "dtls_enable_tx: false\nrequire_tls: true", "required", "check", False),
        (DTLS_FILES.partition("\n")[2], "optional", "none", False),
    ],
)
def test_dtls(certified: Path, text: str, mode: str, authenticate: str, believed: bool) -> None:
    config = udpcl(certified, text or "{}")
    assert (config.tls.effective_mode, config.tls.authenticate) == (mode, authenticate)
    assert config.trust_node_ids is believed


def test_udpcl_without_anything(tmp_path: Path) -> None:
    assert udpcl(tmp_path, "{}") == UdpclConfig(listen_s=0, trust_node_ids=True, tls=TlsConfig(mode="off"))


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1", "1: this is no table; write sections: tcpcl, udpcl, btpu, bp"),
        ("", "1: bp: the section is missing"),
        ("bp: [", "correct the YAML there"),
        ("bp: 3", "1: bp: this is the value 3, and must be a table"),
        ("tcpcl:", "1: bp: the section is missing"),
        ("bp: {}", "1: bp: node_id is missing; write node_id: dtn://node/"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, sentence: str) -> None:
    assert any(sentence in told for told in problems(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_older(tmp_path)


@pytest.mark.parametrize("name", SECTIONS)
def test_each_key_is_documented_or_plain(name: str) -> None:
    """Every key of the older agent's own list is there (docs/older-agent.md has them in the same words)."""
    info = mi.type_info(SECTIONS[name])
    assert isinstance(info, mi.StructType)
    page = (Path(__file__).parent.parent.parent / "docs" / "older-agent.md").read_text()
    missing = [field.name for field in info.fields if f"`{field.name}`" not in page]
    assert not missing


_SCALARS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)
_KEYS = [(name, key) for name, kind in SECTIONS.items() for key in kind.__struct_fields__]


@settings(deadline=None)  # files, on a machine that others use
@given(said=st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8))
def test_whatever_is_written_becomes_a_node_or_sentences(
    said: dict[tuple[str, str], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data: dict[str, Any] = {}
    for (section, key), value in said.items():
        data.setdefault(section, {})[key] = value
    path = Path(tmp_path_factory.getbasetemp()) / "any.yaml"
    path.write_text(yaml.safe_dump(data))
    assert all(told.startswith(f"{path}:") for told in _mistakes(path))


def _mistakes(path: Path) -> list[str]:
    try:
        load(path)
    except ConfigError as error:
        return error.problems
    return []


# ---- buses, and the bundle agent alone -------------------------------------------------------------------------------


def test_the_bus_of_a_node(tmp_path: Path) -> None:
    made = node(tmp_path, SERVER)
    assert (made.bus.kind, made.bus.service) == ("session", "dtn.server.bp")
    assert made.log.format == "older"
    quiet = node(tmp_path, "bp: {node_id: 'dtn://server/'}")
    assert (quiet.bus.kind, quiet.log.level) == ("off", "info")
    elsewhere = node(tmp_path, "bp: {node_id: 'dtn://server/', bus_addr: 'unix:path=/run/x/bus'}")
    assert (elsewhere.bus.kind, elsewhere.bus.service) == ("unix:path=/run/x/bus", None)


def test_whom_a_bundle_agent_uses(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("udpcl:\n", "udpcl: {bus_service: dtn.server.udpcl}\n"))
    assert attached(load_older(path)) == {"tcpcl": "dtn.server.tcpcl", "udpcl": "dtn.server.udpcl"}
    path.write_text(path.read_text().replace("    rx_route", "    cl_attach: {tcpcl: dtn.other.tcpcl}\n    rx_route"))
    assert attached(load_older(path)) == {"tcpcl": "dtn.other.tcpcl", "udpcl": "dtn.server.udpcl"}


def test_a_bundle_agent_without_whom_its_routes_need(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("    bus_service: dtn.server.tcpcl\n", ""))
    with pytest.raises(
        ConfigError, match=r"cl_type: no agent carries it; write bus_service in section tcpcl, or cl_attach"
    ):
        bp_agent_configuration(load_older(path))


def test_what_the_tcpcl_agent_is_told(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(SERVER.replace("tls_enable: False", "stop_on_close: True"))
    section = load_older(path).tcpcl
    assert section is not None
    settings = tcpcl_settings(section)
    assert (settings.node_id, settings.stop_on_close) == ("dtn://server/", True)
    assert (settings.bus_address, settings.bus_service) == ("session", "dtn.server.tcpcl")
    assert settings.link.listen == ["127.0.0.2:4556"]


def test_forms_of_earlier_years_are_taken_with_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "client.yaml"
    path.write_text("""
    bp:
        node_id: dtn://client/
        cl_attach: dtn.tcpcl.Client
        tls_ca_file: testpki/ca.crt
        route_table:
           -  eid_pattern: "dtn://server/.*"
              next_nodeid: dtn://server/
              address: localhost
    """)
    read = load_older(path)
    assert read.bp is not None
    assert read.bp.cl_attach == {"tcpcl": "dtn.tcpcl.Client"}
    (route,) = read.bp.tx_route_table
    assert (route.cl_type, route.next_nodeid, route.address) == ("tcpcl", "dtn://server/", "localhost")
    keys = [remark.split(": ")[1] for remark in read.remarks]
    assert sorted(keys) == ["bp.cl_attach", "bp.route_table", "bp.tls_ca_file"]


def test_what_the_udpcl_agent_is_told(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(
        """\
udpcl:
  bus_addr: system
  node_id: dtn://server/
  default_tx_address: relay.example
  default_tx_port: 4557
  mtu_default: 1400
  polling:
    - {address: 192.0.2.7, interval_ms: 10000, local_address: 192.0.2.1}
    - {address: relay.example, port: 4558}
"""
    )
    section = load_older(path).udpcl
    assert section is not None
    settings = udpcl_settings(section)
    assert settings.polls == (
        Poll(Address("192.0.2.7", 4556), 10.0, Address("192.0.2.1", 0)),
        Poll(Address("relay.example", 4558), 60.0, None),
    )
    assert (settings.default_to, settings.default_port) == ("relay.example", 4557)
    assert (settings.bus_address, settings.bus_service, settings.node_id) == ("system", "", "dtn://server/")
    assert (settings.link.datagram_octets_most, settings.link.connect) == (1400, [])

"""Configurations: what they become, and every mistake that can be made in one."""

import os
import re
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import ConfigError, MalformedError
from tumpline.machines.node import NodeConfig
from tumpline.machines.plan import Peer, Route
from tumpline.node import ca
from tumpline.node.config import Configuration, effective, load, loads, schema, show, template
from tumpline.node.config.write import HIDDEN, shown, toml_text
from tumpline.node.keys import replace_file
from tumpline.node.registry import load_registry
from tumpline.wire.bundle7 import LENIENT, STRICT
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

WORKING = """\
[node]
id = "dtn://ground/"
aliases = ["ipn:12.0"]
state_dir = "state"

[store]
kind = "sqlite"
quota_bytes = "10 GiB"

[[links]]
kind = "tcpcl4"
listen = "[::]:4556"
connect = ["relay.example:4556"]
tls = { mode = "required", ca = "ca.pem", cert = "ground.pem", key = "ground.key", authenticate = "node" }

[[links]]
kind = "memory"
name = "inside"
listen = "ground"

[[peers]]
id = "ipn:7.0"
link = "tcpcl4"
address = "192.0.2.7:4556"

[[routes]]
to = "dtn://rover/**"
via = "dtn://relay/"

[[contacts]]
peer = "dtn://rover/"
start = "+30s"
duration = "10m"
rate = "128 kbit/s"

[services.echo]
[control]
[bus]
kind = "off"
[log]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a CA, and a node's certificate and key."""
    ca.init_ca(tmp_path)
    ca.issue(tmp_path, ["dtn://ground/"])
    return tmp_path


def configured(directory: Path, text: str = WORKING) -> Configuration:
    path = directory / "ground.toml"
    path.write_text(text)
    return load(path)


def test_a_working_file(directory: Path) -> None:
    configuration = configured(directory)
    assert configuration.name == "ground"
    assert configuration.node.id == Eid.parse("dtn://ground/")
    assert configuration.state_dir == directory / "state"
    assert configuration.store.spec.scheme == "sqlite"
    assert [(link.name, link.spec.scheme, link.connect) for link in configuration.links] == [
        ("tcpcl4", "tcpcl4", ["relay.example:4556"]),
        ("inside", "memory", []),
    ]
    assert configuration.links[0].config.tls.cert == str(directory / "ground.pem")
    assert configuration.peers == [Peer(Eid.parse("ipn:7.0"), "tcpcl4", "192.0.2.7:4556")]
    assert configuration.routes == [Route(EidPattern.parse("dtn://rover/**"), Eid.parse("dtn://relay/"))]
    assert configuration.contacts[0].after_ms == 30_000
    assert configuration.contacts[0].contact.rate_bps == 128_000
    assert "echo" in [service.spec.name for service in configuration.services]
    assert configuration.where("links", 0, "tls", "mode") == f"{directory / 'ground.toml'}:14"
    assert not (directory / "state").exists()  # reading changes nothing


def test_what_the_machine_is_told(directory: Path) -> None:
    node = NodeConfig(**configured(directory).node_config)
    assert node.aliases == (Eid.parse("ipn:12.0"),)
    assert node.quota_octets == 10 << 30
    assert (node.strictness, node.reports.enabled, node.max_lifetime_ms) == (STRICT, False, None)


def test_everything_about_the_node_can_be_said() -> None:
    text = """
    [node]
    id = "ipn:12.0"
    name = "mine"
    reports = { enabled = true, per_s = 2, burst = 5, lifetime_s = "1h" }
    strictness = { base = "lenient", canonical = true, check_flags = true }
    previous_node = false
    fragment = false
    hop_limit = 9
    max_lifetime_s = "7d"
    window_bundles = 10
    window_octets = "1 MiB"
    identities_per_source = 7
    retry_s_min = 0.5
    retry_s_max = "2m"
    """
    configuration = loads(text)
    node = NodeConfig(**configuration.node_config)
    assert (configuration.name, configuration.node.hop_limit) == ("mine", 9)
    assert (node.reports.enabled, node.reports.per_s, node.reports.lifetime_ms) == (True, 2.0, 3_600_000)
    assert node.strictness == LENIENT._replace(canonical=True, check_flags=True)
    assert (node.previous_node, node.fragment, node.max_lifetime_ms) == (False, False, 604_800_000)
    assert (node.window_bundles, node.window_octets, node.identities_per_source) == (10, 1 << 20, 7)
    assert (node.retry_s_min, node.retry_s_max) == (0.5, 120.0)


def test_the_least_configuration() -> None:
    configuration = loads('[node]\nid = "dtn://a/"\n')
    assert configuration.store.spec.scheme == "sqlite"
    assert configuration.store.section.quota_bytes == 10 << 30
    assert configuration.routing.spec.scheme == "static"
    always = {name for name, spec in load_registry().services.parts.items() if spec.always}
    assert {service.spec.name for service in configuration.services} == always
    assert (configuration.path, configuration.name) == (None, "node")


def test_links_of_one_kind_get_names_of_their_own() -> None:
    text = '[node]\nid = "dtn://a/"\n' + '[[links]]\nkind = "memory"\n' * 3
    assert [link.name for link in loads(text).links] == ["memory", "memory-2", "memory-3"]


def test_control_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    text = '[node]\nid = "dtn://a/"\nstate_dir = "st"\n[control]\nsocket = "here.sock"\n'
    configuration = configured(tmp_path, text)
    assert configuration.control_sockets() == [
        tmp_path / "tumpline" / "ground.sock",
        tmp_path / "st" / "control.sock",
        tmp_path / "here.sock",
    ]


def test_the_default_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    text = '[node]\nid = "dtn://a/"\nname = "n"\n'
    assert loads(text).state_dir == Path("/somewhere/tumpline/n")
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/home/me")
    assert loads(text).state_dir == Path("/home/me/.local/state/tumpline/n")


# ---- mistakes --------------------------------------------------------------------------------------------------------------

NODE = '[node]\nid = "dtn://a/"\n'
LINK = f'{NODE}[[links]]\nkind = "tcpcl4"\n'
PEER = '[[peers]]\nid = "ipn:7.0"\nlink = "tcpcl4"\n'
CONTACT = f'{NODE}[[contacts]]\npeer = "dtn://b/"\n'

MISTAKES = [
    ("", "1: node: the section is missing; write [node]"),
    ("[nod]\n", "1: nod: there is no such section; did you mean 'node'?"),
    (f'id = "dtn://a/"\n{NODE}', "1: id: there is no such key outside of the sections"),
    ("node = 5\n", "1: node: this is the value 5, and must be a table"),
    ("[node]\n", '1: node: id is missing; write id = "dtn://node/"'),
    ("[node]\nid = 12\n", "2: node.id: this is the value 12, and must be text in quotes"),
    ('[node]\nid = "ground"\n', "2: node.id: 'ground' is no endpoint ID: write dtn://node/service"),
    ('[node]\nid = "dtn://ground"\n', "2: node.id: dtn://ground is not of the form"),
    ('[node]\nid = "dtn://ground/x"\n', "2: node.id: dtn://ground/x is an endpoint, not a node; write dtn://ground/"),
    ('[node]\nid = "dtn:none"\n', "2: node.id: dtn:none names no node"),
    ('[node]\nid = "ipn:1.2.3.4"\n', "2: node.id: ipn:1.2.3.4 is not of the form"),
    (f"{NODE}aliasses = []\n", "3: node.aliasses: there is no such key; did you mean 'aliases'?"),
    (f'{NODE}aliases = ["ipn:12.0",\n"ipn:12.7"]\n', "4: node.aliases[1]: ipn:12.7 is an endpoint, not a node; write ipn:12.0"),
    (f'{NODE}aliases = "ipn:12.0"\n', "3: node.aliases: this is the text 'ipn:12.0', and must be a list; write ["),
    (f'{NODE}aliases = ["dtn://a/"]\n', "3: node.aliases: an ID is there twice; write each once"),
    (f'{NODE}name = "a/b"\n', "3: node.name: 'a/b' is not allowed; write text that matches"),
    (f'{NODE}fragment = "yes"\n', "3: node.fragment: this is the text 'yes', and must be true or false"),
    (f"{NODE}hop_limit = 0\n", "3: node.hop_limit: 0 is out of range; write a number from 1 to 255"),
    (f"{NODE}hop_limit = 256\n", "3: node.hop_limit: 256 is out of range; write a number from 1 to 255"),
    (f"{NODE}hop_limit = true\n", "3: node.hop_limit: this is the value true, and must be a whole number"),
    (f"{NODE}window_bundles = 1.5\n", "3: node.window_bundles: this is the value 1.5, and must be a whole number"),
    (f'{NODE}window_octets = "64 MX"\n', "3: node.window_octets: '64 MX' is no size; write"),
    (f'{NODE}max_lifetime_s = "soon"\n', "3: node.max_lifetime_s: 'soon' is no duration; write for example"),
    (f"{NODE}max_lifetime_s = 0\n", "3: node.max_lifetime_s: 0 is out of range; write a number above 0"),
    (f"{NODE}retry_s_min = 100\n", "3: node.retry_s_min: longer than retry_s_max; write a smaller one"),
    (f'{NODE}strictness = "strikt"\n', "3: node.strictness: 'strikt' is none of the choices; did you mean 'strict'?"),
    (f"{NODE}strictness = {{ canonicle = true }}\n", "3: node.strictness.canonicle: there is no such key; did you mean"),
    (f"{NODE}[node.reports]\nburst = 0\n", "4: node.reports.burst: 0 is out of range"),
    (f"{NODE}state_dir = []\n", "3: node.state_dir: this is a list, and must be text in quotes"),
    (f'{NODE}[store]\nkind = "sqllite"\n', "4: store.kind: there is no store 'sqllite'; did you mean 'sqlite'?"),
    (f"{NODE}[store]\nkind = 5\n", "4: store.kind: this is the value 5, and must be text"),
    (f'{NODE}[store]\nquota = "1 GiB"\n', "4: store.quota: there is no such key; did you mean 'quota_bytes'?"),
    (f'{NODE}[store]\nquota_bytes = "-1"\n', "4: store.quota_bytes: '-1' is no size"),
    (f"{NODE}[store]\nquota_bytes = 0\n", "4: store.quota_bytes: 0 is out of range"),
    (f"{NODE}[[store]]\n", "3: store: this is a list, and must be a table"),
    (f'{NODE}[routing]\nkind = "magic"\n', "4: routing.kind: there is no routing strategy 'magic'; write one of:"),
    (f'{NODE}[links]\nkind = "tcpcl4"\n', "3: links: this must be a list of tables; write [[links]] with two brackets"),
    (f'{NODE}[[links]]\nlisten = ":1"\n', "3: links[0]: kind is missing; write kind ="),
    (f'{NODE}[[links]]\nkind = "tcpcl5"\n', "4: links[0].kind: there is no link 'tcpcl5'; did you mean 'tcpcl4'?"),
    (f'{NODE}links = ["tcpcl4"]\n', "3: node.links: there is no such key"),
    (f"{LINK}keepalive = 5\n", "5: links[0].keepalive: there is no such key; did you mean 'keepalive_s'?"),
    (f"{LINK}nmae = 5\n", "5: links[0].nmae: there is no such key; did you mean 'name'?"),
    (f'{LINK}listen = "[::]:99999"\n', '5: links[0].listen: "[::]:99999" is no address: the port must be 0 to 65535'),
    (f'{LINK}connect = ["a:1",\n "[::"]\n', '5: links[0].connect: "[::" is no address'),
    (f"{LINK}listen = 4556\n", "5: links[0].listen: this is the value 4556, and must be text; write"),
    (f'{LINK}tls = {{ mode = "requird" }}\n', "5: links[0].tls.mode: 'requird' is none of the choices; did you mean 'required'?"),
    (f'{LINK}tls = {{ key_log = "a\\u0000b" }}\n', "5: links[0].tls.key_log: a path has no NUL character; write"),
    (f'{NODE}state_dir = "\\u0000"\n', "3: node.state_dir: a path has no NUL character; write"),
    (f'{LINK}tls = {{ cert = "no.pem" }}\n', "5: links[0].tls.cert: "),
    (f'{LINK}[links.tls]\nmode = "required"\nca = "no.pem"\n', "7: links[0].tls.ca: "),
    (f'{LINK}[links.tls]\nmode = "required"\n', "5: links[0].tls.cert: missing; name a PEM file"),
    (f'{LINK}listen = ":1"\n[[links]]\nkind = "tcpcl4"\nlisten = ":1"\n', "8: links[1].listen: :1 is listened on already (line"),
    (f'{LINK}name = "x"\n[[links]]\nkind = "memory"\nname = "x"\n', "8: links[1].name: 'x' is the name of another link"),
    (f'{LINK}{PEER}', "5: peers[0]: address is missing; write address ="),
    (f'{LINK}{PEER}address = "h:x"\n', '8: peers[0].address: "h:x" is no address'),
    (f'{NODE}{PEER}address = "h:1"\n', "5: peers[0].link: no link is called 'tcpcl4'; write [[links]] with kind = \"tcpcl4\""),
    (f'{LINK}[[peers]]\nid = "ipn:7.1"\nlink = "tcpcl"\naddress = "h"\n', "6: peers[0].id: ipn:7.1 is an endpoint"),
    (f'{LINK}[[peers]]\nid = "ipn:7.0"\nlink = "tcpcl"\naddress = "h"\n', "7: peers[0].link: no link is called"),
    (f'{NODE}[[routes]]\nto = "dtn://b/**"\n', '3: routes[0]: via is missing; write via = "dtn://node/"'),
    (f'{NODE}[[routes]]\nto = "bogus"\nvia = "dtn://b/"\n', "4: routes[0].to: "),
    (f'{NODE}[[routes]]\nto = "ipn:**"\nvia = "dtn://b/x"\n', "5: routes[0].via: dtn://b/x is an endpoint"),
    (f'{NODE}[[routes]]\nto = "ipn:**"\nvia = "dtn://b/"\npriority = "low"\n', "6: routes[0].priority: this is"),
    (f'{NODE}[[contacts]]\nduration = "1m"\n', "3: contacts[0]: peer is missing"),
    (f'{CONTACT}start = "+30x"\n', "5: contacts[0].start: '+30x' is no start; write \"+30s\""),
    (f'{CONTACT}start = "30s"\n', "5: contacts[0].start: '30s' is no start"),
    (f'{CONTACT}start = "2030-01-31T12:00:00"\n', "5: contacts[0].start: 2030-01-31T12:00:00 has no time zone; write"),
    (f"{CONTACT}start = 2030-01-31T12:00:00\n", "5: contacts[0].start: 2030-01-31T12:00:00 has no time zone"),
    (f'{CONTACT}start = "cron: */5 * * *"\n', "5: contacts[0].start: "),
    (f'{CONTACT}start = "cron: */5 * * * *"\n', "3: contacts[0].duration: missing; windows by cron have a length"),
    (f'{CONTACT}cron = "61 * * * *"\n', "5: contacts[0].cron: '61' is no minute; write a number from 0 to 59"),
    (f'{CONTACT}cron = "* * * * *"\nstart = "+1s"\n', "5: contacts[0].cron: start is there too; write only one of them"),
    (f'{CONTACT}duration = "10"\n', "5: contacts[0].duration: '10' is no duration"),
    (f'{CONTACT}duration = "0s"\n', "5: contacts[0].duration: '0s' is no time at all"),
    (f'{CONTACT}rate = "fast"\n', "5: contacts[0].rate: 'fast' is no rate"),
    (f'{CONTACT}rate = "0"\n', "5: contacts[0].rate: a rate of 0 carries nothing"),
    (f'{CONTACT}link = "radio"\n', "5: contacts[0].link: no link is called 'radio'"),
    (f"{NODE}[services.ecko]\n", "3: services.ecko: there is no service 'ecko'; did you mean 'echo'?"),
    (f"{NODE}[services.echo]\nloud = true\n", "4: services.echo.loud: there is no such key; remove it"),
    (f"{NODE}[services]\necho = true\n", "4: services.echo: this is the value true, and must be a table"),
    (f"{NODE}[[services]]\n", "3: services: this must be a table; write [services.echo]"),
    (f'{NODE}[control]\nlisten = "127.0.0.1:1"\n', "3: control.token_file: missing; TCP is open"),
    (f'{NODE}[control]\nlisten = "h:port"\ntoken_file = "t"\n', '4: control.listen: "h:port" is no address'),
    (f'{NODE}[bus]\nkind = "sesion"\n', "4: bus.kind: 'sesion' is no bus; did you mean 'session'? Or write an address"),
    (f'{NODE}[bus]\nservice = "agent"\n', "4: bus.service: 'agent' is no name on a bus; write two words or more"),
    (f"{NODE}[bus]\nkidn = 1\n", "4: bus.kidn: there is no such key; did you mean 'kind'?"),
    (f"bus = 1\n{NODE}", "1: bus: this is the value 1, and must be a table"),
    (f"{NODE}[web]\n", "3: web: the dashboard in the browser is not part of this release; remove the section"),
    (f"{NODE}[metrics]\n", "3: metrics: the metrics endpoint is not part of this release"),
    (f"{NODE}[security]\n", "3: security: BPSec is not part of this release"),
    (f"{NODE}[mesh]\n", "3: mesh: the UDP mesh is not part of this release"),
    (f'{NODE}[log]\nlevel = "loud"\n', "4: log.level: 'loud' is none of the choices; write one of: debug, error, info, warning"),
    (f'{NODE}[log]\nformat = 1\n', "4: log.format: the value 1 is none of the choices"),
    (f"{NODE}id = 1\n", "3: this is not TOML: cannot overwrite a value; remove one of the two keys"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "start"), MISTAKES, ids=[start.split(";")[0] for _, start in MISTAKES])
def test_a_mistake(text: str, start: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    with pytest.raises(ConfigError) as raised:
        configured_at(path, text)
    matching = [problem for problem in raised.value.problems if problem.startswith(f"{path}:{start}")]
    assert len(matching) == 1, raised.value.problems
    assert raised.value.exit_code == 2


def configured_at(path: Path, text: str) -> Configuration:
    path.write_text(text)
    return load(path)


def test_most_mistakes_are_one_mistake(tmp_path: Path) -> None:
    """One wrong line must not be told as several, except where it is."""
    more = 0
    for text, _ in MISTAKES:
        with pytest.raises(ConfigError) as raised:
            configured_at(tmp_path / "c.toml", text)
        more += len(raised.value.problems) > 1
    assert more <= 6


def test_all_mistakes_of_a_file_are_told_in_one_run_in_order(tmp_path: Path) -> None:
    text = """\
[node]
id = "dtn://ground/x"
aliasses = ["ipn:12.0"]
retry_s_max = "1 fortnight"
oops
[store]
kind = "sqllite"
quota_bytes = "10 GiX"
[[links]]
kind = "tcpcl4"
listen = "[::]:99999"
tls = { mode = "requird", cert = "ground.pem" }
[[peers]]
id = "ipn:7.0"
link = "udpcl"
address = "192.0.2.7:4556"
[[contacts]]
peer = "dtn://rover/"
start = "+30x"
rate = "128 kbaud"
[web]
"""
    with pytest.raises(ConfigError) as raised:
        configured_at(tmp_path / "c.toml", text.replace("oops\n", ""))
    lines = [int(problem.split(":")[1]) for problem in raised.value.problems]
    assert lines == sorted(lines)
    assert lines == [2, 3, 4, 6, 7, 10, 11, 11, 14, 18, 19, 20]


def test_a_wrong_line_hides_none_of_the_others(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        configured_at(tmp_path / "c.toml", '[node]\nid = dtn://ground/\nfragment = 5\n[store]\nkind = "x"\n')
    assert [problem.split(":")[1] for problem in raised.value.problems] == ["2", "3", "5"]  # and no "id is missing"


def test_certificates_are_looked_at(directory: Path) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    ca.init_ca(directory / "old", now=past)
    ca.issue(directory / "old", ["dtn://ground/"], now=past)
    text = WORKING.replace('"ground.pem"', '"old/ground.pem"')
    with pytest.raises(ConfigError) as raised:
        configured(directory, text)
    expired, mismatch = raised.value.problems
    assert ":14: links[0].tls.cert: " in expired
    assert (
        f"expired on 2020-12-31 00:00:00 UTC; renew it with `tumpline cert renew {directory}/old/ground.pem" in expired
    )
    assert ":14: links[0].tls.key: " in mismatch


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist; `tumpline config init"),
        (b"[node]\nid = '\xff'\n", ":2: this is not UTF-8 text"),
        (b"#" * ((4 << 20) + 1), "is larger than 4 MiB"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        load(tmp_path / "c.toml")


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(tmp_path)


# ---- shown, described, written ----------------------------------------------------------------------------------------------


def test_what_is_shown_has_the_same_effect(directory: Path) -> None:
    first = configured(directory)
    again = loads(show(first), directory / "elsewhere.toml")
    for field in ("name", "store", "links", "peers", "routes", "contacts", "services", "control", "log"):
        assert getattr(again, field) == getattr(first, field), field
    assert again.node_config == first.node_config
    assert effective(again) == effective(first)
    assert 'keepalive_s = "1m"' in show(first)  # a default


def test_cron_and_times_are_shown_so_that_they_can_be_read() -> None:
    text = NODE + "".join(
        f'[[contacts]]\npeer = "dtn://b/"\nduration = "1m"\n{line}\n'
        for line in ('cron = "*/5 * * * *"', "start = 2030-01-31T12:00:00Z", 'start = "2030-01-31T12:00:00+01:00"')
    )
    first = loads(text)
    assert [each.contact for each in loads(show(first)).contacts] == [each.contact for each in first.contacts]
    assert first.contacts[0].contact.cron == "*/5 * * * *"
    assert first.contacts[1].contact.start_ms == 949_406_400_000


def test_secrets_are_not_shown() -> None:
    table = {"token": "s3cret", "proxy_password": "s3cret", "token_file": "t", "tokens_per_s": 5, "secret": ""}
    assert shown(table) == {
        "token": HIDDEN,
        "proxy_password": HIDDEN,
        "token_file": "t",
        "tokens_per_s": 5,
        "secret": "",
    }


@pytest.mark.parametrize("node_id", ["dtn://ground/", "ipn:12.0", "ipn:977000.4.0"])
def test_the_template_works(tmp_path: Path, node_id: str) -> None:
    configuration = configured_at(tmp_path / "c.toml", template(node_id))
    assert configuration.node.id == Eid.parse(node_id)
    assert configuration.links[0].config.listen == "127.0.0.1:4556"


def test_every_line_of_the_template_works(directory: Path) -> None:
    text = template("dtn://ground/")
    lines = [
        line[1:] if line.startswith("#") and not line.startswith(("# ", "##")) else line for line in text.splitlines()
    ]
    configuration = configured(directory, "\n".join(lines))
    assert len(configuration.contacts) == len(configuration.peers) == len(configuration.routes) == 1
    assert configuration.control.token_file == directory / "control.token"


def test_the_template_is_for_a_node() -> None:
    with pytest.raises(MalformedError):
        template("ground")
    with pytest.raises(ConfigError, match="is an endpoint"):
        template("dtn://ground/x")


def test_the_schema_has_every_part_and_key() -> None:
    found = schema()
    properties = found["properties"]
    registry = load_registry()
    assert [choice["properties"]["kind"]["const"] for choice in properties["links"]["items"]["oneOf"]] == list(
        registry.links.parts
    )
    assert set(properties["services"]["properties"]) == set(registry.services.parts)
    assert properties["node"]["required"] == ["id"]
    assert found["required"] == ["node"]
    assert "name" in properties["links"]["items"]["oneOf"][0]["properties"]
    quota = properties["store"]["oneOf"][0]["properties"]["quota_bytes"]
    assert quota["default"] == "10 GiB"
    assert {"type": "string"} in quota["anyOf"]
    assert found["additionalProperties"] is False


def test_every_key_is_described() -> None:
    def walk(table: dict[str, object], where: str) -> None:
        for key, value in table.get("properties", {}).items():  # type: ignore[attr-defined]
            assert value.get("description") or "properties" in value or "oneOf" in value, f"{where}.{key}"

    properties = schema()["properties"]
    for name in ("node", "control", "log"):
        walk(properties[name], name)
    for choice in properties["links"]["items"]["oneOf"]:
        walk(choice, "links")


def test_files_are_written_by_rename_with_their_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    replace_file(path, b"one")
    inode = path.stat().st_ino
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != inode
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


# ---- whatever a file says, it is a configuration or has mistakes --------------------------------------------------------------

KEYS = [
    "kind",
    "id",
    "name",
    "listen",
    "tls",
    "cert",
    "mode",
    "reports",
    "strictness",
    "start",
    "link",
    "aliases",
    "odd",
]
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "tcpcl4", "memory", "dtn://a/", "+5s", "10 GiB", "cron: * * * * *", "[", "\x00", "ü", "/dev/null"]
    ),
    st.just(datetime(2030, 1, 1, tzinfo=UTC)),
    st.just(datetime(2030, 1, 1)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
NAMES = [
    "node",
    "store",
    "routing",
    "links",
    "peers",
    "routes",
    "contacts",
    "services",
    "control",
    "bus",
    "log",
    "web",
    "x",
]


@given(
    st.dictionaries(
        st.sampled_from(NAMES), VALUES | st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES), max_size=2)
    )
)
def test_any_file_is_a_configuration_or_has_mistakes(data: dict[str, object]) -> None:
    for problem in problems_of(toml_text(data)):
        assert re.match(r"configuration:\d+: \S", problem), problem


def problems_of(text: str) -> list[str]:
    try:
        loads(text)
    except ConfigError as error:
        return error.problems
    return []


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_what_is_shown_is_toml(data: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(data)) == data

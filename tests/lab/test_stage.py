"""A laboratory's stage: keys as OpenSSL sees them, configurations that can be read, a compose file that says the same."""

import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from tumpline.errors import ConfigError, StateError
from tumpline.lab.addresses import ports_of
from tumpline.lab.compose import compose
from tumpline.lab.read import load, loads
from tumpline.lab.ready import ready_file, ready_names
from tumpline.lab.stage import Stage, lab_text
from tumpline.node import ca
from tumpline.node.config.read import loads as read_config

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "older-four-nodes.yaml"
# https://github.com/compose-spec/compose-spec: the keys of a service and a network that are used here.
SERVICE = {"image", "build", "hostname", "init", "cap_add", "networks", "environment", "volumes", "command"}
NETWORK = {"driver", "driver_opts", "enable_ipv6", "ipam"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(tmp_path_factory.mktemp("stage"), load(EXAMPLE))
    made.make_keys()
    made.write()
    return made


def openssl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=30, check=False)


# ---- keys -----------------------------------------------------------------------------------------------------------


def test_openssl_accepts_every_certificate_for_what_it_is(stage: Stage) -> None:
    for node in stage.lab.nodes:
        keys = stage.node(node) / "keys"
        for use in ca.Use:
            purposes = [["-purpose", "sslserver"], ["-purpose", "sslclient"]] if use is ca.Use.TRANSPORT else [[]]
            for purpose in purposes:
                file = keys / f"node-{use.value}.pem"
                done = openssl("verify", "-x509_strict", *purpose, "-CAfile", keys / "ca.pem", file)
                assert done.stdout == f"{file}: OK\n", done.stderr
        for use in (ca.Use.SIGN, ca.Use.ENCRYPT):
            file = keys / f"node-{use.value}.pem"
            assert openssl("verify", "-purpose", "sslserver", "-CAfile", keys / "ca.pem", file).returncode != 0


@pytest.mark.parametrize(
    ("use", "usage", "purposes"),
    [
        (
            "transport",
            "Digital Signature",
            "1.3.6.1.5.5.7.3.35, TLS Web Server Authentication, TLS Web Client Authentication",
        ),
        ("sign", "Digital Signature", "1.3.6.1.5.5.7.3.35"),
        ("encrypt", "Key Agreement", "1.3.6.1.5.5.7.3.35"),
    ],
)
def test_certificates_say_what_they_are_for_and_whose(stage: Stage, use: str, usage: str, purposes: str) -> None:
    file = stage.node("lighthouse") / "keys" / f"node-{use}.pem"
    said = openssl("x509", "-in", file, "-noout", "-text").stdout
    assert f"X509v3 Key Usage: critical\n                {usage}\n" in said
    assert f"X509v3 Extended Key Usage: \n                {purposes}\n" in said
    names = "othername: 1.3.6.1.5.5.7.8.11::dtn://lighthouse/, othername: 1.3.6.1.5.5.7.8.11::ipn:20.0"
    hosts = ", DNS:lighthouse, DNS:lighthouse.local" if use == "transport" else ""
    assert f"                {names}{hosts}\n" in said
    assert "ASN1 OID: prime256v1" in said


def test_the_ca_is_limited_to_the_nodes_of_the_file(stage: Stage, tmp_path: Path) -> None:
    directory = stage.directory / "ca"
    said = openssl("x509", "-in", directory / "ca.pem", "-noout", "-text").stdout
    assert "X509v3 Name Constraints: critical\n                Permitted:\n                  DNS:harbour\n" in said
    assert "CA:TRUE, pathlen:0" in said
    assert "ASN1 OID: prime256v1" in said
    stranger = ca.issue(directory, ["dtn://pirate/"], ["pirate.example"], out=tmp_path, name="pirate")
    assert "permitted subtree violation" in openssl("verify", "-CAfile", directory / "ca.pem", stranger.cert).stderr


def test_a_renewed_certificate_is_for_the_same_use(stage: Stage, tmp_path: Path) -> None:
    for use, words in (
        (ca.Use.SIGN, "Digital Signature"),
        (ca.Use.ENCRYPT, "Key Agreement"),
        (ca.Use.TRANSPORT, "TLS Web"),
    ):
        issued = ca.issue(stage.directory / "ca", ["dtn://hut/"], out=tmp_path, name=use.value, use=use)
        before = openssl("x509", "-in", issued.cert, "-noout", "-ext", "keyUsage,extendedKeyUsage").stdout
        ca.renew(stage.directory / "ca", issued.cert)
        assert openssl("x509", "-in", issued.cert, "-noout", "-ext", "keyUsage,extendedKeyUsage").stdout == before
        assert words in before


def test_keys_are_for_their_owner_alone_and_made_anew_each_time(tmp_path: Path) -> None:
    made = Stage(tmp_path, load(EXAMPLE))
    with pytest.raises(StateError, match="has no keys for harbour; make them first"):
        made.write()
    made.make_keys()
    key = tmp_path / "hut" / "keys" / "node-transport.key"
    first = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    made.make_keys()
    assert key.read_bytes() != first
    assert made.complete() is False
    assert Stage(tmp_path / "other", load(EXAMPLE)).complete() is True


# ---- configurations and containers ----------------------------------------------------------------------------------


def test_a_laboratory_of_a_stage_uses_its_keys(stage: Stage) -> None:
    lab = load(stage.file)
    assert lab == stage.staged()
    assert lab.nodes["hut"].agent is not None
    link = lab.nodes["hut"].agent.config["links"][0]
    assert link["listen"] == []
    assert link["tls"]["cert"] == str(stage.node("hut") / "keys" / "node-transport.pem")
    assert link["tls"]["key_log"] == str(stage.key_log("hut"))


@pytest.mark.parametrize("name", ready_names())
def test_laboratories_written_as_text_read_as_the_same(name: str) -> None:
    file = ready_file(name)
    assert file is not None
    lab = load(file)
    assert loads(lab_text(lab), name=lab.name) == lab


def test_configurations_of_containers_can_be_read(stage: Stage) -> None:
    for node in stage.lab.nodes:
        text = (stage.node(node) / "etc" / f"{node}.toml").read_text()
        here = read_config(text.replace("/etc/tumpline/keys", str(stage.node(node) / "keys")))
        assert str(here.node.id) == f"dtn://{node}/"
        assert str(here.node.state_dir) == "/var/lib/tumpline/state"
        assert 'key_log = "/var/log/dtn/tlskeylog"' in text


def test_the_compose_file_says_what_the_laboratory_is(stage: Stage) -> None:
    value = yaml.safe_load(stage.compose.read_text())
    assert set(value) == {"name", "services", "networks"}
    assert list(value["services"]) == list(stage.lab.nodes)
    for name, service in value["services"].items():
        assert set(service) <= SERVICE
        assert service["environment"] == {"SSLKEYLOGFILE": "/var/log/dtn/tlskeylog"}
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            assert rest == "" or (stage.directory / source).is_dir(), volume
        assert service["command"][-1] == f"/etc/tumpline/conf/{name}.toml"
    hut = value["services"]["hut"]["networks"]
    assert hut == {"shore": {"aliases": ["hut.local"], "ipv4_address": "10.66.2.3"}}


def test_networks_have_the_bridges_that_wireshark_shows(stage: Stage) -> None:
    networks = yaml.safe_load(stage.compose.read_text())["networks"]
    for name, network in networks.items():
        assert set(network) <= NETWORK
        assert network["driver_opts"]["com.docker.network.bridge.name"] == f"br-{name}"
        _check_pools(network, {each for port in ports_of(stage.lab) if port.net == name for each in port.addresses})
    assert networks["strait"]["driver_opts"]["com.docker.network.driver.mtu"] == "1400"
    assert "enable_ipv6" not in networks["strait"]
    assert networks["shore"]["enable_ipv6"] is True


def _check_pools(network: dict[str, Any], nodes: set[str]) -> None:
    for pool in network["ipam"]["config"]:
        assert ip_address(pool["gateway"]) in ip_network(pool["subnet"])
        assert pool["gateway"] not in nodes


def test_the_image_is_built_from_a_release_or_a_checkout(stage: Stage, tmp_path: Path) -> None:
    assert "pip install --no-cache-dir tumpline==" in (stage.directory / "Containerfile").read_text()
    made = Stage(tmp_path, load(EXAMPLE))
    made.complete(tmp_path)
    assert "COPY --from=source . /usr/src/tumpline" in (tmp_path / "Containerfile").read_text()
    build = yaml.safe_load(made.compose.read_text())["services"]["hut"]["build"]
    assert build == {"context": ".", "dockerfile": "Containerfile", "additional_contexts": {"source": str(tmp_path)}}


def test_what_containers_cannot_be_is_refused() -> None:
    lab = loads("""
name: hard
nets:
  lan: {subnet4: 10.0.1.0/24}
  wan: {subnet4: 10.0.2.0/24, impair: {loss: 0.1}}
nodes:
  home: {nets: [lan, wan], nat: {kind: symmetric, outside: wan}}
  inner: {nets: {lan: {impair: {delay_ms: 1}}}, firewall: stateful, run: [["true"]]}
""")
    with pytest.raises(ConfigError) as caught:
        compose(lab)
    parts = [line.split(": ")[1] for line in caught.value.problems]
    assert parts == ["nets.wan.impair", "nodes.home.nat", "nodes.inner.run", "nodes.inner.firewall", "nodes.inner.nets"]
    assert all(line.endswith("; use `tumpline lab up`") for line in caught.value.problems)


def test_an_agent_without_tls_has_no_keys_in_its_configuration(tmp_path: Path) -> None:
    lab = loads("nets: {a: {subnet4: 10.1.0.0/24}}\nnodes: {n: {nets: [a], keys: {}}, bare: {nets: [a]}}\n")
    stage = Stage(tmp_path, lab)
    stage.complete()
    config = read_config((tmp_path / "n" / "etc" / "n.toml").read_text())
    assert "keys" not in repr(config.raw["links"])
    stage.remove()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bare", "ca", "n"]

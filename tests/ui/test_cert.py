"""A private CA and certificates, judged by OpenSSL and by the link's own eyes."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tumpline.drivers.x509 import peer_certificate


@pytest.fixture
def certs(tmp_path: Path, tumpline: Any) -> Path:
    assert tumpline("cert", "quick", "ground", "ipn:12.0", "--directory", str(tmp_path / "certs")).code == 0
    return tmp_path / "certs"


def _node_ids(path: Path) -> tuple[str, ...]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return peer_certificate(certificate.public_bytes(Encoding.DER)).node_ids


def test_one_command_makes_everything(tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("cert", "quick", "ground", "relay", "rover", "--directory", str(tmp_path), "--json")
    assert said.code == 0
    for name, made in zip(("ground", "relay", "rover"), said.value["certificates"], strict=True):
        assert made["node_id"] == f"dtn://{name}/"
        assert _node_ids(Path(made["cert"])) == (f"dtn://{name}/",)
        assert Path(made["key"]).stat().st_mode & 0o777 == 0o600
        tls = tomllib.loads(made["config"])["tls"]
        assert tls["authenticate"] == "node"
        assert [Path(tls[key]).is_file() for key in ("ca", "cert", "key")] == [True, True, True]


def test_what_is_printed_can_be_pasted(certs: Path, tumpline: Any) -> None:
    said = tumpline("cert", "quick", "rover", "--directory", str(certs))
    assert tomllib.loads(said.out)["tls"]["mode"] == "required"
    assert "ca.key" in said.err


def test_openssl_agrees(certs: Path) -> None:
    for name in ("ground", "ipn-12"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", f"{name}.pem"]
        done = subprocess.run(command, cwd=certs, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == f"{name}.pem: OK", done.stderr


def test_a_later_node_joins_the_same_ca(certs: Path, tumpline: Any) -> None:
    before = (certs / "ca.pem").read_bytes()
    assert tumpline("cert", "quick", "rover", "--directory", str(certs)).code == 0
    assert (certs / "ca.pem").read_bytes() == before


def test_nothing_is_overwritten_unasked(certs: Path, tumpline: Any) -> None:
    before = (certs / "ground.pem").read_bytes()
    said = tumpline("cert", "quick", "ground", "--directory", str(certs))
    assert said.code == 2
    assert "ground.pem exists" in said.err
    assert (certs / "ground.pem").read_bytes() == before
    assert tumpline("cert", "init", str(certs)).code == 2
    assert tumpline("cert", "quick", "ground", "--directory", str(certs), "--force").code == 0
    assert (certs / "ground.pem").read_bytes() != before


@pytest.mark.parametrize("node", ["dtn:none", "dtn://ground/files", "ipn:12.7", "x://y"])
def test_what_is_no_node_id_leaves_no_file(node: str, tmp_path: Path, tumpline: Any) -> None:
    said = tumpline("cert", "quick", "ground", node, "--directory", str(tmp_path / "certs"))
    assert said.code in (1, 2)
    assert said.err.startswith("tumpline: ")
    assert not (tmp_path / "certs").exists()


def test_step_by_step_with_hosts(tmp_path: Path, tumpline: Any) -> None:
    directory = str(tmp_path / "ca")
    assert tumpline("cert", "init", directory, "--name", "ours").code == 0
    options = ["--directory", directory, "--host", "relay.example", "--host", "192.0.2.1"]
    assert tumpline("cert", "issue", "relay", "ipn:7.0", *options).code == 0
    said = tumpline("cert", "show", f"{directory}/relay.pem", "--json")
    assert said.value["node_ids"] == ["dtn://relay/", "ipn:7.0"]
    assert said.value["dns_names"] == ["relay.example"]
    assert said.value["ip_addresses"] == ["192.0.2.1"]
    assert said.value["issuer"] == "CN=ours"


def test_a_key_that_never_travels(certs: Path, tmp_path: Path, tumpline: Any) -> None:
    assert tumpline("cert", "request", "rover", "--directory", str(tmp_path / "rover")).code == 0
    shown = tumpline("cert", "show", str(tmp_path / "rover" / "rover.csr"), "--json").value
    assert shown["node_ids"] == ["dtn://rover/"]
    assert tumpline("cert", "sign", str(tmp_path / "rover" / "rover.csr"), "--directory", str(certs)).code == 0
    assert _node_ids(tmp_path / "rover" / "rover.pem") == ("dtn://rover/",)


def test_renewed_in_its_place(certs: Path, tumpline: Any) -> None:
    before = (certs / "ground.pem").read_bytes()
    assert tumpline("cert", "renew", str(certs / "ground.pem"), "--directory", str(certs), "--days", "9").code == 0
    assert (certs / "ground.pem").read_bytes() != before
    assert tumpline("cert", "show", str(certs / "ground.pem"), "--json").value["days_left"] == 8


def test_show_of_something_else(tmp_path: Path, tumpline: Any) -> None:
    (tmp_path / "text").write_text("no certificate")
    said = tumpline("cert", "show", str(tmp_path / "text"))
    assert said.code == 2
    assert "no certificate" in said.err

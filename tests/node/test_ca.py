"""The private CA against OpenSSL: the profile of RFC 9174 §4.4.2."""

import re
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tumpline.drivers.x509 import peer_certificate
from tumpline.errors import ConfigError, TumplineError
from tumpline.node import ca
from tumpline.node.keys import examine, load_identity


def openssl(*arguments: object) -> str:
    return subprocess.run(
        ["openssl", *map(str, arguments)], check=True, capture_output=True, text=True, timeout=30
    ).stdout


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    ca.init_ca(tmp_path / "ca", "test CA")
    return tmp_path / "ca"


def test_openssl_verifies_in_strict_mode(authority: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/", "ipn:12.0"], ["relay.example"], ["192.0.2.7", "2001:db8::7"])
    for purpose in ("sslclient", "sslserver"):
        answer = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority / "ca.pem", issued.cert)
        assert answer.strip() == f"{issued.cert}: OK"


def test_openssl_refuses_a_certificate_of_another_ca(authority: Path, tmp_path: Path) -> None:
    ca.init_ca(tmp_path / "other")
    issued = ca.issue(authority, ["dtn://ground/"])
    with pytest.raises(subprocess.CalledProcessError):
        openssl("verify", "-x509_strict", "-CAfile", tmp_path / "other" / "ca.pem", issued.cert)


def test_openssl_shows_the_profile(authority: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/", "ipn:12.0"], ["relay.example"], ["192.0.2.7"])
    text = openssl("x509", "-in", issued.cert, "-noout", "-text")
    for eid in ("dtn://ground/", "ipn:12.0"):  # OpenSSL has had a name for the OID since 3.2
        assert re.search(rf"othername: ?(1\.3\.6\.1\.5\.5\.7\.8\.11|.*[Bb]undle ?EID):+ ?{re.escape(eid)}", text)
    assert "DNS:relay.example" in text
    assert "IP Address:192.0.2.7" in text
    assert "1.3.6.1.5.5.7.3.35" in text or "Bundle Security" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature\n" in text
    assert "ASN1 OID: prime256v1" in text
    assert "CA:TRUE, pathlen:0" in openssl("x509", "-in", authority / "ca.pem", "-noout", "-text")


def test_openssl_reads_the_node_id_as_an_ia5_string(authority: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"])
    listing = openssl("asn1parse", "-in", issued.cert)
    names = next(line for line in listing.splitlines() if "X509v3 Subject Alternative Name" in line)
    octets = next(line for line in listing.split(names)[1].splitlines() if "OCTET STRING" in line)
    inside = openssl("asn1parse", "-in", issued.cert, "-strparse", octets.split(":")[0].strip())
    assert "1.3.6.1.5.5.7.8.11" in inside or "id-on-bundleEID" in inside
    assert "IA5STRING         :dtn://ground/" in inside


def test_the_link_reads_what_was_issued(authority: Path) -> None:
    long_name = "dtn://" + "n" * 300 + "/"
    issued = ca.issue(authority, ["dtn://ground/", "ipn:12.0", long_name], ["relay.example"], ["2001:db8::7"])
    der = x509.load_pem_x509_certificate(issued.cert.read_bytes()).public_bytes(Encoding.DER)
    facts = peer_certificate(der)
    assert facts.node_ids == ("dtn://ground/", "ipn:12.0", long_name)
    assert facts.dns_names == ("relay.example",)
    assert facts.ip_addresses == ("2001:db8::7",)


def test_mutual_tls_in_strict_mode(authority: Path) -> None:
    sides = [ca.issue(authority, [f"dtn://{name}/"]) for name in ("ground", "relay")]
    contexts = []
    for kind, issued in zip((ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER), sides, strict=True):
        context = ssl.SSLContext(kind)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(authority / "ca.pem")
        assert issued.key is not None
        context.load_cert_chain(issued.cert, issued.key)
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[0].wrap_bio(to_client, to_server)
    server = contexts[1].wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = server.getpeercert(binary_form=True)
    assert der is not None
    assert peer_certificate(der).node_ids == ("dtn://ground/",)


def test_files_are_private(authority: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"], out=authority / "nodes")
    assert issued.key is not None
    assert stat.S_IMODE(issued.key.stat().st_mode) == 0o600
    assert stat.S_IMODE((authority / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(authority.stat().st_mode) == 0o700
    assert sorted(path.name for path in (authority / "nodes").iterdir()) == ["ground.key", "ground.pem"]


def test_nothing_is_overwritten(authority: Path) -> None:
    ca.issue(authority, ["dtn://ground/"])
    with pytest.raises(ConfigError, match=r"ground\.pem exists"):
        ca.issue(authority, ["dtn://ground/"])
    with pytest.raises(ConfigError, match=r"ca\.pem exists"):
        ca.init_ca(authority)
    ca.issue(authority, ["dtn://ground/"], overwrite=True)


def test_a_request_is_signed_for_the_names_it_asks_for(authority: Path, tmp_path: Path) -> None:
    made = ca.request(tmp_path / "node", ["ipn:7.0"], ["rover.example"])
    assert "Subject Alternative Name" in openssl("req", "-in", made.cert, "-noout", "-text", "-verify")
    assert ca.inspect(made.cert)["node_ids"] == ["ipn:7.0"]
    signed = ca.sign(authority, made.cert)
    assert signed.cert == tmp_path / "node" / "ipn-7.pem"
    assert made.key is not None
    identity = load_identity(signed.cert, made.key, authority / "ca.pem")
    names = peer_certificate(identity.certificate.public_bytes(Encoding.DER))
    assert (names.node_ids, names.dns_names) == (("ipn:7.0",), ("rover.example",))
    with pytest.raises(ConfigError, match="exists"):
        ca.sign(authority, made.cert)


def test_a_request_whose_signature_is_wrong_is_refused(authority: Path, tmp_path: Path) -> None:
    made = ca.request(tmp_path, ["ipn:7.0"])
    asked = x509.load_pem_x509_csr(made.cert.read_bytes())
    der = bytearray(asked.public_bytes(Encoding.DER))
    der[-1] ^= 1
    made.cert.write_bytes(x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM))
    with pytest.raises(ConfigError, match="not signed with the key it names"):
        ca.sign(authority, made.cert)


def test_renewal_keeps_names_and_key(authority: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=400)
    ca.init_ca(authority.parent / "old", now=past)
    old = ca.issue(authority.parent / "old", ["dtn://ground/"], ["relay.example"], now=past)
    assert not ca.inspect(old.cert)["valid"]
    renewed = ca.renew(authority.parent / "old", old.cert)
    facts = ca.inspect(renewed.cert)
    assert (facts["valid"], facts["node_ids"], facts["dns_names"]) == (True, ["dtn://ground/"], ["relay.example"])
    assert old.key is not None
    load_identity(renewed.cert, old.key, authority.parent / "old" / "ca.pem")


def test_renewal_with_a_new_key(authority: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"])
    assert issued.key is not None
    before = issued.key.read_bytes()
    ca.renew(authority, issued.cert, key=issued.key)
    assert issued.key.read_bytes() != before
    load_identity(issued.cert, issued.key, authority / "ca.pem")


def test_inspect_tells_people_everything(authority: Path) -> None:
    facts = ca.inspect(ca.issue(authority, ["dtn://ground/"], days=30).cert)
    assert facts["kind"] == "node"
    assert facts["issuer"] == "CN=test CA"
    assert facts["days_left"] == 29
    assert facts["key"] == "ECDSA secp256r1"
    assert ca.inspect(authority / "ca.pem")["kind"] == "ca"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (ca.Names([]), "at least one node"),
        (ca.Names(["dtn://ground/files"]), "is an endpoint, not a node; write dtn://ground/"),
        (ca.Names(["ground"]), "no endpoint ID"),
        (ca.Names(["dtn:none"]), "names no node"),
        (ca.Names(["ipn:1.0"], ["bad name"]), "is no DNS name"),
        (ca.Names(["ipn:1.0"], [], ["300.1.1.1"]), "is no IP address"),
    ],
)
def test_bad_names(authority: Path, names: ca.Names, sentence: str) -> None:
    with pytest.raises(TumplineError, match=sentence):
        ca.issue(authority, *names)


def test_without_a_ca(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem does not exist"):
        ca.issue(tmp_path, ["dtn://ground/"])


def test_a_node_is_no_ca(authority: Path, tmp_path: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"])
    assert issued.key is not None
    (tmp_path / "ca.pem").write_bytes(issued.cert.read_bytes())
    (tmp_path / "ca.key").write_bytes(issued.key.read_bytes())
    with pytest.raises(ConfigError, match="is no CA"):
        ca.issue(tmp_path, ["dtn://relay/"])


# ---- what is wrong with the files of an identity -------------------------------------------------------------------------


def sentences(cert: Path, key: Path | None, authority: Path | None) -> dict[str, str]:
    return {mistake.field: mistake.sentence for mistake in examine(cert, key, authority)[1]}


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    found = sentences(tmp_path / "a.pem", tmp_path / "a.key", tmp_path / "ca.pem")
    assert set(found) == {"cert", "key", "ca"}
    assert all("does not exist; `tumpline cert" in sentence for sentence in found.values())


def test_the_key_of_another_certificate(authority: Path) -> None:
    ground, relay = ca.issue(authority, ["dtn://ground/"]), ca.issue(authority, ["dtn://relay/"])
    assert "is not the key of the certificate" in sentences(ground.cert, relay.key, None)["key"]


def test_an_expired_certificate_says_when_and_how_to_renew(tmp_path: Path) -> None:
    past = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    ca.init_ca(tmp_path, now=past)
    issued = ca.issue(tmp_path, ["dtn://ground/"], days=10, now=past)
    sentence = sentences(issued.cert, issued.key, None)["cert"]
    assert "expired on 2020-01-12 03:04:05 UTC" in sentence
    assert f"`tumpline cert renew {issued.cert} --directory {tmp_path}`" in sentence


def test_a_certificate_of_the_future(tmp_path: Path) -> None:
    future = datetime.now(UTC) + timedelta(days=10)
    ca.init_ca(tmp_path, now=future)
    issued = ca.issue(tmp_path, ["dtn://ground/"], now=future)
    assert "clock" in sentences(issued.cert, issued.key, None)["cert"]


def test_an_expired_ca(tmp_path: Path) -> None:
    past = datetime(2010, 1, 1, tzinfo=UTC)
    path = ca.init_ca(tmp_path / "old", now=past)
    ca.init_ca(tmp_path / "new")
    issued = ca.issue(tmp_path / "new", ["dtn://ground/"])
    assert "expired on 20" in sentences(issued.cert, issued.key, path)["ca"]


def test_files_that_are_something_else(authority: Path, tmp_path: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"])
    other = tmp_path / "other.pem"
    other.write_text("no PEM")
    assert "holds no certificate" in sentences(other, issued.key, None)["cert"]
    assert "holds no private key" in sentences(issued.cert, other, None)["key"]
    assert "holds no certificate" in sentences(issued.cert, issued.key, other)["ca"]
    assert "is a directory" in sentences(tmp_path, issued.key, None)["cert"]


def test_an_encrypted_key(authority: Path, tmp_path: Path) -> None:
    issued = ca.issue(authority, ["dtn://ground/"])
    encrypted = tmp_path / "encrypted.key"
    openssl("pkcs8", "-topk8", "-in", issued.key, "-out", encrypted, "-passout", "pass:x")
    assert "is encrypted; remove the passphrase" in sentences(issued.cert, encrypted, None)["key"]


def test_load_identity_raises_everything(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_identity(tmp_path / "a.pem", tmp_path / "a.key")
    assert len(raised.value.problems) == 2

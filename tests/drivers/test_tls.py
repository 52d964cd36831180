"""TLS failures in words, contexts that follow their files."""

import ssl
from pathlib import Path

import pytest

from tumpline.drivers.tls import TlsContexts, TlsFiles, Verify, explain, make_context
from tumpline.drivers.x509 import peer_certificate
from tumpline.errors import MalformedError, TumplineError
from tumpline.testing.certificates import Authority


def _error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] text")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "our certificate has expired; `tumpline cert renew a.pem`"),
        (_error("TLSV1_ALERT_UNKNOWN_CA"), "does not know the CA of our certificate"),
        (_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "set tls.cert and tls.key"),
        (_error("TLSV1_ALERT_PROTOCOL_VERSION"), "tls.min_version"),
        (_error("TLSV1_ALERT_USER_CANCELLED"), "the peer ended the handshake: user cancelled"),
        (_error("WRONG_VERSION_NUMBER"), "does not speak TLS"),
        (_error("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "gave no certificate"),
        (_error("BAD_LENGTH"), "bad length"),
        (ssl.SSLEOFError(8, "EOF occurred"), "closed the connection during the handshake"),
        (ConnectionResetError(104, "reset"), "closed the connection during the handshake"),
        (TimeoutError("too slow"), "too slow"),
    ],
)
def test_failures_are_explained(error: Exception, text: str) -> None:
    assert text in explain(error, "a.pem")


@pytest.mark.parametrize(
    ("code", "text"), [(10, "has expired"), (9, "not valid yet"), (20, "not in our tls.ca"), (99, "odd thing")]
)
def test_what_is_wrong_with_a_certificate(code: int, text: str) -> None:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_code, error.verify_message = code, "odd thing"
    assert text in explain(error, "a.pem")


def test_contexts_follow_their_files(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    tls = ca.issue("a")
    contexts = TlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL))
    first = contexts.context(True)
    assert contexts.context(True) is first
    assert contexts.context(False) is not first
    ca.issue("a")
    assert contexts.context(True) is not first


def test_both_sides_demand_a_certificate(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("a")
    files = TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL, min_version="1.3")
    for server_side in (True, False):
        context = make_context(files, server_side)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert make_context(files._replace(verify=Verify.NOTHING), True).verify_mode is ssl.CERT_OPTIONAL
    assert make_context(files._replace(verify=Verify.NOTHING), False).verify_mode is ssl.CERT_NONE


def test_an_encrypted_key_is_refused_without_asking(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    tls = Authority(tmp_path).issue("a")
    key = serialization.load_pem_private_key(Path(tls["key"]).read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    pkcs8 = serialization.PrivateFormat.PKCS8
    Path(tls["key"]).write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, secret))
    with pytest.raises(TumplineError, match="is encrypted; write it without a passphrase"):
        make_context(TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL), True)


def test_the_names_in_a_certificate(tmp_path: Path) -> None:
    long = "dtn://" + "n" * 300 + "/"
    tls = Authority(tmp_path).issue("a", ["dtn://a/", long, "ipn:12.0"], ["a.example"], ["192.0.2.1", "::1"])
    found = peer_certificate(ssl.PEM_cert_to_DER_cert(Path(tls["cert"]).read_text()))
    assert found.node_ids == ("dtn://a/", long, "ipn:12.0")
    assert found.dns_names == ("a.example",)
    assert found.ip_addresses == ("192.0.2.1", "::1")
    assert found.uris == ()


def test_a_certificate_without_names_or_sense(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("a")
    der = ssl.PEM_cert_to_DER_cert(Path(tls["cert"]).read_text())
    assert peer_certificate(der).node_ids == ()
    for broken in (b"", b"\x30", der[:-20], der[:40] + b"\xff" * 40 + der[80:]):
        with pytest.raises(MalformedError):
            peer_certificate(broken)

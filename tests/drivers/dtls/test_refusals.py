"""Who is refused, and what people read about it, on both sides."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.probe import Versions, probe
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.errors import TumplineError
from tumpline.testing.certificates import Authority
from tumpline.testing.dtls import DtlsPair, established

MakeContexts = Callable[..., DtlsContexts]


def _contexts(tls: dict[str, str], verify: bool = True) -> DtlsContexts:
    return DtlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], Verify.ALL if verify else Verify.NOTHING))


def _failures(client: DtlsContexts, server: DtlsContexts) -> tuple[str, str]:
    """What the client and the server say."""
    pair = DtlsPair(client, server)
    pair.handshake()
    assert pair.server is not None
    assert not pair.client.is_established
    assert not pair.server.is_established
    return pair.client.failure, pair.server.failure


def _bad(ca: Authority, directory: Path, fault: str) -> dict[str, str]:
    if fault == "other CA":
        return Authority(directory, "other").issue("b", ["dtn://b/"]) | {"ca": ca.file}
    if fault == "expired":
        return ca.issue("b", ["dtn://b/"], valid=-timedelta(days=1))
    return ca.issue("b", ["dtn://b/"], purposes=[ExtendedKeyUsageOID.CODE_SIGNING])


@pytest.mark.parametrize(
    ("fault", "we_say", "they_say"),
    [
        ("other CA", "comes from a CA that is not in our tls.ca", "it does not know the CA of our certificate"),
        ("expired", "has expired; renew it there with `tumpline cert renew`", "`tumpline cert renew .*b.pem`"),
        ("other purpose", "extended key usage lacks clientAuth or serverAuth", "our certificate is not made for TLS"),
    ],
)
@pytest.mark.parametrize("bad_side", ["client", "server"])
def test_certificates_that_do_not_hold(tmp_path: Path, fault: str, we_say: str, they_say: str, bad_side: str) -> None:
    ca = Authority(tmp_path)
    good, bad = _contexts(ca.issue("a", ["dtn://a/"])), _contexts(_bad(ca, tmp_path, fault))
    if bad_side == "client":
        theirs, ours = _failures(bad, good)
    else:
        ours, theirs = _failures(good, bad)
    assert ours.startswith("the peer's certificate ")
    assert we_say in ours
    assert theirs.startswith("the peer ended the handshake: ")
    assert re.search(they_say, theirs)


def test_a_client_without_certificate(contexts: MakeContexts) -> None:
    client, server = _failures(contexts("a", certificate="", key=""), contexts("b"))
    assert server == "the peer gave no certificate; it needs tls.cert and tls.key"
    assert "it wants another certificate than ours, or one at all" in client


def test_without_verification_anybody_may_come(contexts: MakeContexts) -> None:
    client, server = established(
        contexts("a", certificate="", key="", verify=Verify.NOTHING, ca=""), contexts("b", verify=False, ca="")
    )
    assert server.peer_certificate() is None
    assert client.peer_certificate() is not None


# ---- files -----------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("a")
    other = Authority(tmp_path, "other").issue("b")
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM")
    for change, text in (
        ({"cert": str(tmp_path / "missing.pem")}, "cannot read .*missing.pem: No such file"),
        ({"key": other["key"]}, "b.key does not belong to the certificate tls.cert .*a.pem"),
        ({"key": str(junk)}, "junk.pem is no usable PEM file"),
        ({"cert": str(junk)}, "junk.pem or tls.key .* is no usable PEM file"),
        ({"ca": str(junk)}, "tls.ca .*junk.pem holds no PEM certificate"),
    ):
        with pytest.raises(TumplineError, match=text):
            _contexts(tls | change).context(True)


def test_an_encrypted_key_is_refused_without_asking(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    tls = Authority(tmp_path).issue("a")
    key = serialization.load_pem_private_key(Path(tls["key"]).read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    pkcs8 = serialization.PrivateFormat.PKCS8
    Path(tls["key"]).write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, secret))
    with pytest.raises(TumplineError, match="is encrypted; write it without a passphrase"):
        _contexts(tls).context(False)


def test_contexts_follow_their_files(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    contexts = _contexts(ca.issue("a"))
    first = contexts.context(True)
    assert contexts.context(True) is first
    ca.issue("a")
    assert contexts.context(True) is not first


def test_ciphers_that_nobody_knows(contexts: MakeContexts) -> None:
    with pytest.raises(TumplineError, match=r"tls\.ciphers: OpenSSL knows none of 'ROT13'"):
        contexts("a", ciphers="ROT13").context(False)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_what_the_library_speaks() -> None:
    found = probe()
    state = "available" if found.dtls13 else "unavailable"
    assert f"DTLS 1.2; DTLS 1.3: {state} (OpenSSL {found.openssl})" in str(found)
    assert found.openssl[0].isdigit()
    assert str(Versions("")) == "no pyOpenSSL"


def test_version_13_is_refused_where_it_is_not(contexts: MakeContexts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumpline.drivers.dtls.context.probe", lambda: Versions("26.0", "4.0.3"))
    with pytest.raises(TumplineError, match=r'DTLS 1.3: unavailable \(OpenSSL 4.0.3\); write "1.2"'):
        contexts("a", min_version="1.3")

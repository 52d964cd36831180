"""A private CA for a few nodes, and certificates as RFC 9174 §4.4.2 profiles them.

A CA is a directory with `ca.pem` (give it to every node) and `ca.key` (give it to nobody). Files are written by rename,
0600, so that agents which run see the old pair or the new one; nothing that exists is overwritten unless asked to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tumpline.drivers.x509 import BUNDLE_EID, peer_certificate
from tumpline.errors import ConfigError, MalformedError
from tumpline.machines.authenticate import PeerCertificate
from tumpline.node.keys import key_pem, load_identity, new_key, read_file, replace_file
from tumpline.node.names import check_node_id, file_name
from tumpline.node.state import make_private
from tumpline.wire.eid import Eid

CA_CERT: Final = "ca.pem"
CA_KEY: Final = "ca.key"
CA_DAYS: Final = 3650
NODE_DAYS: Final = 365
# RFC 9174 Appendix B: id-kp-bundleSecurity.
BUNDLE_SECURITY: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")
# Clocks of nodes without a network differ: a certificate made now must be valid for the others at once.
_BACKDATED = timedelta(hours=1)
_PUBLIC_MODE = 0o644
_IA5_STRING = 0x16
_DNS_NAME = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


class Use(Enum):
    """What a node's key is for."""

    TRANSPORT = "transport"  # TLS of its links
    SIGN = "sign"  # integrity of its bundles
    ENCRYPT = "encrypt"  # keys agreed upon for its bundles


class Names(NamedTuple):
    """Whom a certificate names."""

    node_ids: Sequence[str]
    dns_names: Sequence[str] = ()
    ips: Sequence[str] = ()


class Issued(NamedTuple):
    """Where a certificate and its key lie now. After `sign`, the key is where it was made: `key` is None."""

    cert: Path
    key: Path | None


# ---- the CA ------------------------------------------------------------------------------------------------------------


def init_ca(
    directory: Path,
    name: str = "tumpline CA",
    days: int = CA_DAYS,
    now: datetime | None = None,
    *,
    only_dns: Sequence[str] = (),
) -> Path:
    """Make a CA; returns the certificate that every node needs. Raises: ConfigError (there is one), StateError.

    `only_dns`: host names that certificates of this CA may have, for the uses of nodes alone; none: it is not limited."""
    make_private(directory)
    for file in (CA_CERT, CA_KEY):
        if (directory / file).exists():
            raise ConfigError(f"{directory / file} exists; choose another directory, or remove it if no node uses it")
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = _builder(subject, subject, key.public_key(), key.public_key(), days, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(None), critical=True)
    if only_dns:
        # Not of node IDs: OpenSSL knows no constraint on otherName and refuses all certificates below such a CA
        # ("unsupported name constraint type").
        constraints = x509.NameConstraints([x509.DNSName(each) for each in only_dns], None)
        builder = builder.add_extension(constraints, critical=True)  # RFC 5280 §4.2.1.10: "MUST mark ... as critical"
        builder = builder.add_extension(x509.ExtendedKeyUsage(_purposes(Use.TRANSPORT)), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    _write(directory / CA_KEY, key_pem(key), 0o600)
    _write(directory / CA_CERT, _pem(certificate), _PUBLIC_MODE)
    return directory / CA_CERT


def issue(
    directory: Path,
    node_ids: Sequence[str],
    dns_names: Sequence[str] = (),
    ips: Sequence[str] = (),
    *,
    out: Path | None = None,
    name: str | None = None,
    days: int = NODE_DAYS,
    overwrite: bool = False,
    now: datetime | None = None,
    use: Use = Use.TRANSPORT,
) -> Issued:
    """Make a key and a certificate for a node with the CA in `directory`: `out`/`name`.pem and .key.

    `out` is the CA's directory and `name` is the node's unless given. Raises: ConfigError, MalformedError, StateError."""
    names = checked_names(Names(node_ids, dns_names, ips))
    issued = _places(out or directory, name or file_name(names.node_ids[0]), overwrite)
    key = new_key()
    certificate = _signed(directory, names, key.public_key(), days, now, use)
    assert issued.key is not None
    # The key first: whoever sees the new certificate finds its key.
    _write(issued.key, key_pem(key), 0o600)
    _write(issued.cert, _pem(certificate), _PUBLIC_MODE)
    return issued


def request(
    out: Path,
    node_ids: Sequence[str],
    dns_names: Sequence[str] = (),
    ips: Sequence[str] = (),
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> Issued:
    """Make a key and a signing request on the node itself, so that the key never travels: `out`/`name`.csr and .key.

    Raises: ConfigError, MalformedError, StateError."""
    names = checked_names(Names(node_ids, dns_names, ips))
    made = _places(out, name or file_name(names.node_ids[0]), overwrite, suffix=".csr")
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(names))
    signed = builder.add_extension(_alternative_names(names), critical=False).sign(key, hashes.SHA256())
    assert made.key is not None
    _write(made.key, key_pem(key), 0o600)
    _write(made.cert, signed.public_bytes(serialization.Encoding.PEM), _PUBLIC_MODE)
    return made


def sign(
    directory: Path,
    csr: Path,
    *,
    out: Path | None = None,
    days: int = NODE_DAYS,
    overwrite: bool = False,
    now: datetime | None = None,
) -> Issued:
    """Sign a request with the CA in `directory`, for the names it asks for (look at them first: `inspect`).

    The certificate goes to `out` (default: beside the request, .pem). Raises: ConfigError, MalformedError."""
    asked = _request(csr)
    names = checked_names(_names_of(asked.extensions))
    target = out or csr.with_suffix(".pem")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; name another file, or say that it may be overwritten")
    _write(target, _pem(_signed(directory, names, asked.public_key(), days, now)), _PUBLIC_MODE)
    return Issued(target, None)


def renew(
    directory: Path, cert: Path, *, days: int = NODE_DAYS, key: Path | None = None, now: datetime | None = None
) -> Issued:
    """Issue a certificate anew for the same names, in its place by rename. `key`: make a new key too, in that file.

    Sessions go on with the old one. Raises: ConfigError, MalformedError."""
    old = _certificate(cert)
    names = checked_names(_names_of(old.extensions))
    fresh = new_key() if key is not None else None
    public = fresh.public_key() if fresh is not None else old.public_key()
    renewed = _pem(_signed(directory, names, public, days, now, _use_of(old)))
    if fresh is not None and key is not None:
        _write(key, key_pem(fresh), 0o600)
    _write(cert, renewed, _PUBLIC_MODE)
    return Issued(cert, key)


def inspect(path: Path, now: datetime | None = None) -> dict[str, Any]:
    """What a certificate or a signing request says, for people. Raises: ConfigError, MalformedError."""
    data = read_file(path)
    if b"CERTIFICATE REQUEST-----" in data:
        asked = _request(path)
        return {"kind": "request", "file": str(path), **_named(_names_of(asked.extensions))}
    certificate = _certificate(path)
    moment = now or datetime.now(UTC)
    left = certificate.not_valid_after_utc - moment
    return {
        "kind": "ca" if _is_ca(certificate) else "node",
        "file": str(path),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        **_named(peer_certificate(certificate.public_bytes(serialization.Encoding.DER))),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "days_left": left.days,
        "valid": certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc,
        "serial": f"{certificate.serial_number:x}",
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "key": _key_words(certificate.public_key()),
    }


# ---- certificates ------------------------------------------------------------------------------------------------------


def _signed(
    directory: Path,
    names: Names,
    public: PublicKeyTypes,
    days: int,
    now: datetime | None,
    use: Use = Use.TRANSPORT,
) -> x509.Certificate:
    authority = load_identity(directory / CA_CERT, directory / CA_KEY, now=now)
    issuer, key = authority.certificate, authority.key
    if not _is_ca(issuer) or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{directory / CA_CERT} is no CA of tumpline; `tumpline cert init` makes one")
    builder = _builder(_subject(names), issuer.subject, public, key.public_key(), days, now)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(use), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(use)), critical=False)
        .add_extension(_alternative_names(names), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: PublicKeyTypes,
    authority: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime | None,
) -> x509.CertificateBuilder:
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    if days < 1:
        raise ConfigError(f"{days} days are no time; write at least 1")
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ConfigError("the request's key is not ECDSA; make it with `tumpline cert request`")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _BACKDATED)
        .not_valid_after(moment + timedelta(days=days))
        # RFC 9174 §4.4.2: both key identifiers; OpenSSL's strict mode (Python 3.13's default) demands them.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
    )


def _purposes(use: Use) -> list[x509.ObjectIdentifier]:
    # RFC 9174 §4.4.2: "SHOULD contain the key purpose id-kp-bundleSecurity"; TLS libraries ask for the others.
    tls = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH] if use is Use.TRANSPORT else []
    return [BUNDLE_SECURITY, *tls]


def _key_usage(use: Use | None) -> x509.KeyUsage:
    """None: a CA's."""
    return x509.KeyUsage(
        digital_signature=use in (Use.TRANSPORT, Use.SIGN),
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=use is Use.ENCRYPT,
        key_cert_sign=use is None,
        crl_sign=use is None,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(names: Names) -> x509.Name:
    # For people's eyes only: identity is in subjectAltName (RFC 9174 §4.4.2). X.520 has 64 characters at most.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.node_ids[0][:64])])


def _alternative_names(names: Names) -> x509.SubjectAlternativeName:
    entries: list[x509.GeneralName] = [x509.OtherName(BUNDLE_EID, _ia5_string(eid)) for eid in names.node_ids]
    entries += [x509.DNSName(each) for each in names.dns_names]
    entries += [x509.IPAddress(ip_address(each)) for each in names.ips]
    return x509.SubjectAlternativeName(entries)


def _ia5_string(text: str) -> bytes:
    """DER (X.690 §8.1.3): lengths from 128 upwards are preceded by how many octets they take."""
    data = text.encode("ascii")
    if len(data) < 0x80:
        return bytes([_IA5_STRING, len(data)]) + data
    length = len(data).to_bytes(2 if len(data) > 0xFF else 1)
    return bytes([_IA5_STRING, 0x80 | len(length)]) + length + data


# ---- names -------------------------------------------------------------------------------------------------------------


def checked_names(names: Names) -> Names:
    """The same in canonical form. Raises: MalformedError, ConfigError saying what to write."""
    if not names.node_ids:
        raise ConfigError("a certificate names at least one node; write for example dtn://ground/")
    eids = [Eid.parse(each) for each in names.node_ids]
    for eid in eids:
        check_node_id(eid)
    for each in names.dns_names:
        if not _DNS_NAME.fullmatch(each) or len(each) > 253:
            raise ConfigError(f"{each!r} is no DNS name; write for example relay.example")
    return Names([str(eid) for eid in eids], list(names.dns_names), [_ip(each) for each in names.ips])


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ConfigError(f"{text!r} is no IP address; write for example 192.0.2.7 or 2001:db8::7") from None


def _names_of(extensions: x509.Extensions) -> Names:
    try:
        entries = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names([])
    others = [other.value for other in entries.get_values_for_type(x509.OtherName) if other.type_id == BUNDLE_EID]
    node_ids = [_ia5_text(each) for each in others]
    ips = [str(each) for each in entries.get_values_for_type(x509.IPAddress)]
    return Names(node_ids, entries.get_values_for_type(x509.DNSName), ips)


def _ia5_text(der: bytes) -> str:
    text = der[2 + (der[1] & 0x7F if der[1:2] >= b"\x80" else 0) :].decode("ascii", "replace")
    if len(der) < 2 or not text.isascii() or der != _ia5_string(text):
        raise MalformedError("a node ID in it is no IA5String; make the request anew")
    return text


def _named(names: Names | PeerCertificate) -> dict[str, Any]:
    ips = names.ips if isinstance(names, Names) else names.ip_addresses
    return {"node_ids": list(names.node_ids), "dns_names": list(names.dns_names), "ip_addresses": list(ips)}


# ---- files -------------------------------------------------------------------------------------------------------------


def _places(out: Path, name: str, overwrite: bool, suffix: str = ".pem") -> Issued:
    make_private(out)
    places = Issued(out / f"{name}{suffix}", out / f"{name}.key")
    for place in places:
        if place is not None and place.exists() and not overwrite:
            raise ConfigError(f"{place} exists; choose another name, or say that it may be overwritten")
    return places


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        replace_file(path, data, mode)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another directory") from error


def _request(path: Path) -> x509.CertificateSigningRequest:
    try:
        asked = x509.load_pem_x509_csr(read_file(path))
    except ValueError:
        raise ConfigError(f"{path} is no signing request; `tumpline cert request` makes one") from None
    if not asked.is_signature_valid:
        raise ConfigError(f"{path} is not signed with the key it names; make it anew with `tumpline cert request`")
    return asked


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_file(path))
    except ValueError:
        raise ConfigError(
            f"{path} is no certificate; name a PEM file that begins -----BEGIN CERTIFICATE-----"
        ) from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _use_of(certificate: x509.Certificate) -> Use:
    try:
        if certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_agreement:
            return Use.ENCRYPT
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return Use.SIGN if list(purposes) == _purposes(Use.SIGN) else Use.TRANSPORT
    except x509.ExtensionNotFound:
        return Use.TRANSPORT


def _key_words(key: PublicKeyTypes) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")


__all__ = [
    "Issued",
    "Names",
    "Use",
    "checked_names",
    "file_name",
    "init_ca",
    "inspect",
    "issue",
    "renew",
    "request",
    "sign",
]

"""A private certificate authority: two files in a directory, and the certificates that it signs.

Certificates follow the profile of RFC 9174 §4.4.2, so any TCPCLv4 implementation takes them; they carry what strict
verifiers ask for too (key identifiers, key usage).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tumpline.errors import StateError, TumplineError
from tumpline.wire.eid import Eid

CA_CERT, CA_KEY = "ca.pem", "ca.key"
CA_DAYS = 3650
CERT_DAYS = 365
# Nodes whose clocks differ a little can use a fresh certificate at once.
_CLOCK_SKEW = timedelta(hours=1)
BUNDLE_EID = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")  # id-on-bundleEID, RFC 9174 §9.8
BUNDLE_SECURITY = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")  # id-kp-bundleSecurity, RFC 9174 §9.8
# TLS libraries refuse a certificate that has purposes and not theirs.
_PURPOSES = (BUNDLE_SECURITY, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_IA5_STRING = 0x16


class FileThereError(TumplineError):
    """A file of that name is there already; nothing is overwritten unasked."""


class Issued(NamedTuple):
    """Where a certificate and its key were written."""

    cert: Path
    key: Path


class Authority:
    """A CA that can sign. Make one with `create`, or take up one with `open`."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.directory = directory
        self.cert = directory / CA_CERT
        self._key = key
        self._certificate = certificate

    @classmethod
    def create(cls, directory: Path, name: str = "tumpline private CA", days: int = CA_DAYS) -> Self:
        """A new CA in `directory`, which is made. Raises: FileThereError (there is one), OSError."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _begin(subject, subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(is_ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        directory.mkdir(parents=True, exist_ok=True)
        _write(directory / CA_KEY, _key_octets(key), 0o600, force=False)
        _write(directory / CA_CERT, certificate.public_bytes(serialization.Encoding.PEM), 0o644, force=False)
        return cls(directory, key, certificate)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The CA in `directory`. Raises: StateError with the remedy."""
        try:
            key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate((directory / CA_CERT).read_bytes())
        except FileNotFoundError as error:
            raise StateError(f"{error.filename} is not there: make a CA with `tumpline cert init {directory}`") from error
        except (ValueError, TypeError) as error:
            raise StateError(f"the CA in {directory} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StateError(f"{directory / CA_KEY} is no elliptic-curve key, so it was not made here")
        return cls(directory, key, certificate)

    @classmethod
    def exists(cls, directory: Path) -> bool:
        """Whether there is one that can sign."""
        return (directory / CA_KEY).exists()

    def issue(
        self,
        node_ids: Sequence[Eid],
        hosts: Sequence[str] = (),
        days: int = CERT_DAYS,
        file: str | None = None,
        force: bool = False,
    ) -> Issued:
        """A fresh key and a certificate for one node, beside the CA, named `file` or after the first node ID.

        Raises: FileThereError (unless `force`), OSError."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            # RFC 9174 §4.4.2 identifies peers by subjectAltName alone; with an empty subject it has to be critical
            # (RFC 5280 §4.2.1.6).
            _begin(x509.Name([]), self._certificate.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(_names(node_ids, hosts)), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_PURPOSES), critical=False)
            .add_extension(_usage(is_ca=False), critical=True)
            .add_extension(_authority_identifier(self._certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = self.directory / (file or file_stem(node_ids[0]))
        issued = Issued(stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key"))
        _write(issued.key, _key_octets(key), 0o600, force)
        _write(issued.cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644, force)
        return issued


def file_stem(node_id: Eid) -> str:
    """What files of a node are called: `ground` for dtn://ground/, `ipn-12.0` for ipn:12.0."""
    text = str(node_id).removeprefix("dtn://").strip("/")
    return "".join(letter if letter.isalnum() or letter in ".-_" else "-" for letter in text)


def _begin(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _names(node_ids: Sequence[Eid], hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.OtherName(BUNDLE_EID, _ia5_string(str(eid))) for eid in node_ids]
    return names + [_host_name(host) for host in hosts]


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _ia5_string(text: str) -> bytes:
    """DER (X.690 §8.1.3): one octet of length below 128, else the number of length octets and these."""
    data = text.encode("ascii")
    if len(data) < 128:
        return bytes((_IA5_STRING, len(data))) + data
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes((_IA5_STRING, 0x80 | len(length))) + length + data


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_octets(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int, force: bool) -> None:
    """Create the file with that mode from its first moment."""
    if force:
        path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise FileThereError(f"{path} is there already: remove it, or replace it with --force") from None
    with os.fdopen(descriptor, "wb") as target:
        target.write(data)

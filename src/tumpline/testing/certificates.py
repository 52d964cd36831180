"""A certificate authority for tests: keys and certificates as the TCPCLv4 profile has them (RFC 9174 §4.4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BUNDLE_EID = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")  # id-on-bundleEID
BUNDLE_SECURITY = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.35")  # id-kp-bundleSecurity
TLS_PURPOSES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH, BUNDLE_SECURITY)


class Authority:
    """One self-signed CA whose files lie in a directory."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tumpline test {name}")])
        public = self._key.public_key()
        certificate = (
            _builder(self._name, self._name, public, timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = str(directory / f"{name}.pem")
        Path(self.file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        node_ids: Sequence[str] = (),
        hosts: Sequence[str] = (),
        ips: Sequence[str] = (),
        valid: timedelta = timedelta(days=1),
        purposes: Sequence[x509.ObjectIdentifier] = TLS_PURPOSES,
    ) -> dict[str, str]:
        """A certificate and its key, as `tls` of a link names them. A negative `valid` makes it expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name([]), self._name, key.public_key(), valid)
        names: list[x509.GeneralName] = [x509.OtherName(BUNDLE_EID, _ia5_string(text)) for text in node_ids]
        names += [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(ip_address(ip)) for ip in ips]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        builder = builder.add_extension(_key_usage(is_ca=False), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        return self._write(name, certificate, key)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
        cert_file, key_file = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return {"ca": self.file, "cert": str(cert_file), "key": str(key_file)}


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, valid: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(is_ca: bool) -> x509.KeyUsage:
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


def _ia5_string(text: str) -> bytes:
    data = text.encode("ascii")
    if len(data) < 128:
        return bytes([0x16, len(data)]) + data
    length = len(data).to_bytes(2)
    return b"\x16\x82" + length + data

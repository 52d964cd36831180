"""What a certificate names (RFC 9174 §4.4.1, RFC 5280 §4.2.1.6)."""

from __future__ import annotations

from cryptography import x509

from tumpline.errors import MalformedError
from tumpline.machines.authenticate import PeerCertificate

BUNDLE_EID = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.11")  # id-on-bundleEID, RFC 9174 Appendix B
_IA5_STRING = 0x16


def peer_certificate(der: bytes) -> PeerCertificate:
    """The subjectAltName entries. Raises: MalformedError (it cannot be parsed)."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        # RFC 9174 §4.4.2: "SHALL reject as invalid version 1 and version 2 end-entity certificates".
        if certificate.version is not x509.Version.v3:
            raise MalformedError("the certificate is of version 1; RFC 9174 wants version 3")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return PeerCertificate()
    except (ValueError, TypeError) as error:
        raise MalformedError(f"the certificate cannot be parsed: {error}") from error
    others = names.get_values_for_type(x509.OtherName)
    return PeerCertificate(
        node_ids=tuple(_ia5_text(other.value) for other in others if other.type_id == BUNDLE_EID),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        ip_addresses=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _ia5_text(der: bytes) -> str:
    """A DER IA5String. Raises: MalformedError."""
    length, start = (der[1], 2) if len(der) > 1 else (0, 0)
    if length & 0x80:  # long form: so many octets of length
        start = 2 + (length & 0x7F)
        length = int.from_bytes(der[2:start])
    if len(der) < 2 or der[0] != _IA5_STRING or start + length != len(der):
        raise MalformedError("the certificate's bundleEID is no IA5String")
    try:
        return der[start:].decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError("the certificate's bundleEID is no IA5String") from None

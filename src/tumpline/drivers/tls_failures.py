"""What went wrong in a handshake of TLS or DTLS, as sentences that say whose part it is."""

from __future__ import annotations

# OpenSSL's X509_V_ERR_*: what we found wrong with the peer's certificate.
_PEER_CERTIFICATE = {
    9: "is not valid yet; compare the clocks of both machines",
    10: "has expired; renew it there with `tumpline cert renew`",
    18: "is self-signed and not in our tls.ca",
    19: "comes from a CA that is not in our tls.ca",
    20: "comes from a CA that is not in our tls.ca",
    21: "comes from a CA that is not in our tls.ca",
    23: "was revoked",
    26: "is not made for TLS: its extended key usage lacks clientAuth or serverAuth",
}

# TLS alerts: what the peer found wrong with us.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "our certificate has expired; `tumpline cert renew {certificate}`",
    "UNKNOWN_CA": "it does not know the CA of our certificate; its tls.ca must contain that CA",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "CERTIFICATE_REVOKED": "our certificate was revoked",
    "UNSUPPORTED_CERTIFICATE": "our certificate is not made for TLS: its extended key usage lacks clientAuth or serverAuth",
    "CERTIFICATE_REQUIRED": "it wants a certificate and we gave none; set tls.cert and tls.key",
    "PROTOCOL_VERSION": "it does not speak a TLS version that we allow (tls.min_version)",
    "HANDSHAKE_FAILURE": "no common cipher, or it wants another certificate than ours, or one at all (tls.cert, tls.key)",
    "DECRYPT_ERROR": "our signature does not fit our certificate",
    "ACCESS_DENIED": "its policy denies us",
    "INTERNAL_ERROR": "it had an internal error",
}

# What our own library refused.
_OWN = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer gave no certificate; it needs tls.cert and tls.key",
    "UNSUPPORTED_PROTOCOL": "the peer does not speak a TLS version that we allow (tls.min_version)",
    "NO_SHARED_CIPHER": "the peer offers no cipher that we allow",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS here",
    "UNEXPECTED_EOF_WHILE_READING": "the peer closed the connection during the handshake",
}


def explain_certificate(code: int, message: str) -> str:
    """A certification path that does not hold. `code`: OpenSSL's; `message`: its words for it."""
    return f"the peer's certificate {_PEER_CERTIFICATE.get(code, f'is not valid: {message}')}"


def explain_reason(reason: str, certificate: str) -> str:
    """OpenSSL's reason, as "TLSV1_ALERT_UNKNOWN_CA". `certificate`: the file of ours. "" for no reason."""
    if reason in _OWN:
        return _OWN[reason]
    _, is_alert, alert = reason.partition("ALERT_")
    if is_alert:
        fault = _ALERTS.get(alert, alert.lower().replace("_", " ")).format(certificate=certificate)
        return f"the peer ended the handshake: {fault}"
    return reason.lower().replace("_", " ")

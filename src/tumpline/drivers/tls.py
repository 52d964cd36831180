"""TLS for stream links: contexts from files that may be replaced while we run, and failures in words people understand."""

from __future__ import annotations

import os
import ssl
from enum import Enum
from typing import NamedTuple

from tumpline.errors import TumplineError

# BCP 195 (RFC 9325 §4.2): forward secrecy and authenticated encryption only. TLS 1.3 has nothing else.
TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Verify(Enum):
    """Of which peers the certificate must lead to our CA."""

    ALL = "all"  # of all: one must be there
    GIVEN = "given"  # of those who show one (every server does)
    NOTHING = "nothing"


class TlsFiles(NamedTuple):
    """What TLS is configured with. Paths; "" where there is none."""

    certificate: str
    key: str
    ca: str
    verify: Verify  # whose certificate path ends the handshake if it does not lead to `ca`
    min_version: str = "1.2"
    key_log: str = ""  # beside SSLKEYLOGFILE of the environment
    ciphers: str = ""  # of TLS 1.2, if not TLS12_CIPHERS


class TlsContexts:
    """The contexts of one link. A handshake begins with the files as they are then; sessions keep what they began with."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._made: dict[bool, tuple[object, ssl.SSLContext]] = {}

    @property
    def certificate(self) -> str:
        """The file of ours."""
        return self._files.certificate

    def context(self, server_side: bool) -> ssl.SSLContext:
        """Raises: TumplineError naming the file and the remedy."""
        stamp = tuple(_stamp(path) for path in (self._files.certificate, self._files.key, self._files.ca))
        made = self._made.get(server_side)
        if made is not None and made[0] == stamp:
            return made[1]
        context = make_context(self._files, server_side)
        self._made[server_side] = stamp, context
        return context


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced or written."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def make_context(files: TlsFiles, server_side: bool) -> ssl.SSLContext:
    """Raises: TumplineError naming the file and the remedy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = VERSIONS[files.min_version]
    context.set_ciphers(files.ciphers or TLS12_CIPHERS)
    # Names are compared by the session, by the rules of RFC 9174 §4.4.4; here the path is verified.
    context.check_hostname = False
    context.verify_mode = _verify_mode(files, server_side)
    if server_side:
        context.num_tickets = 0  # sessions are not resumed: a ticket would outlive the certificate
    _load_own(context, files)
    if files.ca:
        _load_ca(context, files.ca)
    key_log = files.key_log or os.environ.get("SSLKEYLOGFILE", "")
    if key_log:
        context.keylog_filename = key_log
    return context


def _verify_mode(files: TlsFiles, server_side: bool) -> ssl.VerifyMode:
    if files.verify is Verify.ALL or (files.verify is Verify.GIVEN and not server_side):
        return ssl.CERT_REQUIRED
    # RFC 9174 §4.4.3: the passive entity SHALL request a certificate; one that is given must still be valid, but without
    # a CA nothing can be.
    return ssl.CERT_OPTIONAL if server_side and files.ca else ssl.CERT_NONE


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    for path in (files.certificate, files.key):
        _check_readable(path)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except _EncryptedKeyError:
        raise TumplineError(f"tls.key {files.key} is encrypted; write it without a passphrase, mode 0600") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"tls.key {files.key} does not belong to the certificate tls.cert {files.certificate}"
            raise TumplineError(f"{text}; name the key that was made with it") from None
        raise TumplineError(f"tls.cert {files.certificate} or tls.key {files.key} is no usable PEM file") from error


def _load_ca(context: ssl.SSLContext, path: str) -> None:
    _check_readable(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise TumplineError(f"tls.ca {path} holds no PEM certificate") from error


def _check_readable(path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TumplineError(f"tls: cannot read {path}: {error.strerror}") from error


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKeyError  # without this OpenSSL would ask on the terminal


# ---- failures --------------------------------------------------------------------------------------------------------

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
    "HANDSHAKE_FAILURE": "no common cipher, or it wants a certificate of another kind",
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


def explain(error: Exception, certificate: str) -> str:
    """What went wrong with TLS, as a sentence that says whose part it is. `certificate`: the file of ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _PEER_CERTIFICATE.get(error.verify_code, f"is not valid: {error.verify_message}")
        return f"the peer's certificate {fault}"
    if not isinstance(error, ssl.SSLError):
        return (
            "the peer closed the connection during the handshake" if isinstance(error, ConnectionError) else str(error)
        )
    reason = getattr(error, "reason", None) or ""  # not every way to make one sets it
    if isinstance(error, ssl.SSLEOFError):
        reason = "UNEXPECTED_EOF_WHILE_READING"
    if reason in _OWN:
        return _OWN[reason]
    _, is_alert, alert = reason.partition("ALERT_")
    if is_alert:
        fault = _ALERTS.get(alert, alert.lower().replace("_", " ")).format(certificate=certificate)
        return f"the peer ended the handshake: {fault}"
    return reason.lower().replace("_", " ") or str(error)

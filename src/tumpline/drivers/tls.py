"""TLS for stream links: contexts from files that may be replaced while we run, and failures in words people understand."""

from __future__ import annotations

import ssl

from tumpline.drivers.tls_failures import explain_certificate, explain_reason
from tumpline.drivers.tls_files import (
    TLS12_CIPHERS,
    Contexts,
    TlsFiles,
    Verify,
    encrypted_key,
    mismatched_key,
    unusable_ca,
    unusable_pair,
)

__all__ = ["VERSIONS", "TlsContexts", "TlsFiles", "Verify", "explain", "make_context"]

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class TlsContexts(Contexts[ssl.SSLContext]):
    """The contexts of one link, of Python's own TLS."""

    def _make(self, server_side: bool) -> ssl.SSLContext:
        return make_context(self._files, server_side)


def make_context(files: TlsFiles, server_side: bool) -> ssl.SSLContext:
    """Raises: TumplineError naming the file and the remedy."""
    files.check_readable()
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
        _load_ca(context, files)
    key_log = files.key_log_path()
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
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except _EncryptedKeyError:
        raise encrypted_key(files) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise mismatched_key(files) from None
        raise unusable_pair(files) from error


def _load_ca(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        context.load_verify_locations(cafile=files.ca)
    except ssl.SSLError as error:
        raise unusable_ca(files) from error


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKeyError  # without this OpenSSL would ask on the terminal


def explain(error: Exception, certificate: str) -> str:
    """What went wrong with TLS, as a sentence that says whose part it is. `certificate`: the file of ours."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return explain_certificate(error.verify_code, error.verify_message)
    if not isinstance(error, ssl.SSLError):
        return (
            "the peer closed the connection during the handshake" if isinstance(error, ConnectionError) else str(error)
        )
    reason = getattr(error, "reason", None) or ""  # not every way to make one sets it
    if isinstance(error, ssl.SSLEOFError):
        reason = "UNEXPECTED_EOF_WHILE_READING"
    return explain_reason(reason, certificate) or str(error)

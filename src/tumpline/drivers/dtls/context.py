"""OpenSSL's contexts for DTLS: certificates and keys from files, cookies, secrets for Wireshark."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from tumpline.drivers.dtls.probe import DTLS_1_3, probe
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
from tumpline.errors import TumplineError

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | dsa.DSAPrivateKey
)
DTLS_1_2: Final = 0xFEFD
VERSIONS: Final = {"1.2": DTLS_1_2, "1.3": DTLS_1_3}
COOKIE_S: Final = 60.0  # a cookie is good for so long, and as long again at most
COOKIE_OCTETS: Final = 16  # HelloVerifyRequest has 44 octets then: less than any ClientHello
_SECRET_OCTETS: Final = 32
assert SSL.OP_COOKIE_EXCHANGE is not None, "pyOpenSSL 26 needs an OpenSSL that has it"
_OPTIONS: Final = (
    SSL.OP_NO_QUERY_MTU  # without it set_ciphertext_mtu says nothing: a memory BIO is asked, and knows nothing
    | SSL.OP_COOKIE_EXCHANGE
    | SSL.OP_NO_TICKET  # sessions are not resumed: a ticket would outlive the certificate
    | SSL.OP_NO_RENEGOTIATION  # new keys come by a new association, beside the old one
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)


class Peer:
    """What OpenSSL's callbacks know of a connection: its app data. (Not the session: that would be a circle.)"""

    def __init__(self, address: bytes, period: int = 0) -> None:
        self.address = address  # ours and theirs: what a cookie is bound to
        self.period = period  # now, in COOKIE_S
        self.verify_error = 0  # X509_V_ERR_*


class DtlsContexts(Contexts[SSL.Context]):
    """The contexts of one link, and the secret of its cookies. `chance` gives octets that nobody can guess."""

    def __init__(self, files: TlsFiles, chance: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__(files)
        if files.min_version == "1.3" and not (versions := probe()).dtls13:
            text = f'tls.min_version "1.3": DTLS 1.3: {versions.dtls13_text}'
            raise TumplineError(f'{text}; write "1.2", or install a pyOpenSSL whose OpenSSL has it')
        self._secret = chance(_SECRET_OCTETS)

    def cookie(self, address: bytes, period: int) -> bytes:
        """RFC 6347 §4.2.1: made of the address and a secret, so that nothing has to be kept; and of the time, so that none
        can be gathered for later."""
        return hmac.digest(self._secret, period.to_bytes(8) + address, hashlib.sha256)[:COOKIE_OCTETS]

    def _make(self, server_side: bool) -> SSL.Context:
        files = self._files
        files.check_readable()
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(VERSIONS[files.min_version])
        context.set_options(_OPTIONS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        try:
            context.set_cipher_list((files.ciphers or TLS12_CIPHERS).encode())
        except SSL.Error:
            raise TumplineError(
                f"tls.ciphers: OpenSSL knows none of {files.ciphers!r}; see `openssl ciphers`"
            ) from None
        context.set_verify(_verify_mode(files, server_side), _verify)
        _load_own(context, files)
        _load_ca(context, files)
        context.set_cookie_generate_callback(self._make_cookie)
        context.set_cookie_verify_callback(self._verify_cookie)
        if files.key_log_path():
            context.set_keylog_callback(_key_logger(files.key_log_path()))
        return context

    def _make_cookie(self, connection: SSL.Connection) -> bytes:
        peer: Peer = connection.get_app_data()
        return self.cookie(peer.address, peer.period)

    def _verify_cookie(self, connection: SSL.Connection, cookie: bytes) -> bool:
        peer: Peer = connection.get_app_data()
        periods = range(max(0, peer.period - 1), peer.period + 1)
        return any(hmac.compare_digest(cookie, self.cookie(peer.address, period)) for period in periods)


def _verify_mode(files: TlsFiles, server_side: bool) -> int:
    """As for TLS: RFC 9174 §4.4.3 has the server ask for a certificate; one that is given must be valid."""
    if files.verify is Verify.ALL or (files.verify is Verify.GIVEN and not server_side):
        return SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    return SSL.VERIFY_PEER if server_side and files.ca else SSL.VERIFY_NONE


def _verify(connection: SSL.Connection, _certificate: crypto.X509, code: int, _depth: int, ok: int) -> bool:
    """Keeps what OpenSSL found. Anything but a bool would end the handshake without a reason."""
    peer = connection.get_app_data()
    if not ok and not peer.verify_error:
        peer.verify_error = code
    return bool(ok)


def _load_own(context: SSL.Context, files: TlsFiles) -> None:
    if not files.certificate:
        return
    try:
        context.use_certificate_chain_file(files.certificate)
        context.use_privatekey(_private_key(files))
        context.check_privatekey()
    except SSL.Error as error:
        if "mismatch" in reason_of(error):
            raise mismatched_key(files) from None
        raise unusable_pair(files) from error


def _private_key(files: TlsFiles) -> PrivateKey:
    """Raises: TumplineError."""
    try:
        key = load_pem_private_key(Path(files.key).read_bytes(), None)
    except TypeError:
        raise encrypted_key(files) from None
    except ValueError as error:
        raise unusable_pair(files) from error
    if not isinstance(key, PrivateKey):
        raise unusable_pair(files)  # such as one that only agrees on keys
    return key


def _load_ca(context: SSL.Context, files: TlsFiles) -> None:
    if not files.ca:
        return
    try:
        context.load_verify_locations(files.ca)
    except SSL.Error as error:
        raise unusable_ca(files) from error


def _key_logger(path: str) -> Callable[[SSL.Connection, bytes], None]:
    def write(_connection: SSL.Connection, line: bytes) -> None:
        # A handshake is rare enough to open the file each time; and one that cannot be written stops no handshake.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "ab", buffering=0) as file:
                file.write(line + b"\n")

    return write


def reason_of(error: SSL.Error) -> str:
    """OpenSSL's words, as "tlsv1 alert unknown ca"; "" if it has none."""
    entries = error.args[0] if error.args else ()
    return str(entries[0][-1]) if isinstance(entries, list | tuple) and entries else ""

"""The files that TLS and DTLS are configured with, and contexts that follow them when they are replaced."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from tumpline.errors import TumplineError

# BCP 195 (RFC 9325 §4.2): forward secrecy and authenticated encryption only. TLS 1.3 has nothing else.
TLS12_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

Context = TypeVar("Context")


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
    ciphers: str = ""  # of version 1.2, in OpenSSL's words; "" for those above

    def key_log_path(self) -> str:
        """Where secrets go; "" for nowhere."""
        return self.key_log or os.environ.get("SSLKEYLOGFILE", "")

    def check_readable(self) -> None:
        """Raises: TumplineError naming the file."""
        for path in filter(None, (self.certificate, self.key, self.ca)):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise TumplineError(f"tls: cannot read {path}: {error.strerror}") from error


class Contexts(ABC, Generic[Context]):
    """The contexts of one link. A handshake begins with the files as they are then; sessions keep what they began with."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._made: dict[bool, tuple[object, Context]] = {}

    @property
    def certificate(self) -> str:
        """The file of ours."""
        return self._files.certificate

    def context(self, server_side: bool) -> Context:
        """Raises: TumplineError naming the file and the remedy."""
        stamp = tuple(_stamp(path) for path in (self._files.certificate, self._files.key, self._files.ca))
        made = self._made.get(server_side)
        if made is not None and made[0] == stamp:
            return made[1]
        context = self._make(server_side)
        self._made[server_side] = stamp, context
        return context

    @abstractmethod
    def _make(self, server_side: bool) -> Context:
        """Raises: TumplineError naming the file and the remedy."""


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced or written."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def encrypted_key(files: TlsFiles) -> TumplineError:
    """An agent asks nobody for a passphrase."""
    return TumplineError(f"tls.key {files.key} is encrypted; write it without a passphrase, mode 0600")


def mismatched_key(files: TlsFiles) -> TumplineError:
    """The key belongs to another certificate."""
    text = f"tls.key {files.key} does not belong to the certificate tls.cert {files.certificate}"
    return TumplineError(f"{text}; name the key that was made with it")


def unusable_pair(files: TlsFiles) -> TumplineError:
    """Neither is what it should be."""
    return TumplineError(f"tls.cert {files.certificate} or tls.key {files.key} is no usable PEM file")


def unusable_ca(files: TlsFiles) -> TumplineError:
    """No certificate in there."""
    return TumplineError(f"tls.ca {files.ca} holds no PEM certificate")

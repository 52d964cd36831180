"""Which versions of DTLS the installed library speaks."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

DTLS_1_3: Final = 0xFEFC  # RFC 9147 §5.3; 1.2 is 0xFEFD: the numbers count down


class Versions(NamedTuple):
    """What a machine has; "" for a library that is not installed."""

    py_openssl: str
    openssl: str = ""
    dtls13: bool = False

    def __str__(self) -> str:
        if not self.py_openssl:
            return "no pyOpenSSL"
        return f"pyOpenSSL {self.py_openssl}: DTLS 1.2; DTLS 1.3: {self.dtls13_text}"

    @property
    def dtls13_text(self) -> str:
        """Whether version 1.3 is there, and in what."""
        return f"{'available' if self.dtls13 else 'unavailable'} (OpenSSL {self.openssl})"


def probe() -> Versions:
    """Asks the library by configuring it."""
    try:
        from OpenSSL import SSL
    except ImportError:
        return Versions("")
    name = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split(" ")
    try:
        SSL.Context(SSL.DTLS_METHOD).set_min_proto_version(DTLS_1_3)
        dtls13 = True
    except SSL.Error:
        dtls13 = False
    return Versions(_version("pyOpenSSL"), name[1] if len(name) > 1 else name[0], dtls13)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"

"""Configuration of security, the same for TLS and DTLS."""

from __future__ import annotations

from typing import Literal

import msgspec

from tumpline.drivers.tls_files import TlsFiles, Verify


class TlsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """TLS of a tcpcl4 link (RFC 9174 §4.4), DTLS of a udpcl link (draft-ietf-dtn-udpcl)."""

    mode: Literal["required", "optional", "off", ""] = ""
    """`required`, `optional` (as the peer likes), `off`. Default: required once `cert` is given, else off."""
    ca: str = ""
    """PEM file with the certificates of the CAs that may vouch for peers."""
    cert: str = ""
    """PEM file with our certificate, followed by those of intermediate CAs."""
    key: str = ""
    """PEM file with the private key of `cert`, without passphrase."""
    authenticate: Literal["node", "host", "both", "check", "none"] = "node"
    """What the peer's certificate must prove: its node ID, its host name or address, both, or nothing; with `check` it
    need not be there, but what it says must be right."""
    allow_uri_san: bool = False
    """Accept a URI entry of a certificate as its node ID (older implementations have no bundleEID entry)."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version to speak. (DTLS 1.3 needs a library that has it: `tumpline doctor`.)"""
    ciphers: str = ""
    """Ciphers of version 1.2 to allow, in OpenSSL's words; default: those with forward secrecy and authenticated encryption."""
    key_log: str = ""
    """File for TLS secrets, for Wireshark; the environment's SSLKEYLOGFILE is honoured too."""

    @property
    def effective_mode(self) -> str:
        return self.mode or ("required" if self.cert else "off")


def tls_problems(tls: TlsConfig) -> list[str]:
    """What is missing, and what to write."""
    if tls.effective_mode == "off":
        return []
    problems = [f"tls.{name}: missing; name a PEM file" for name in ("cert", "key") if not getattr(tls, name)]
    if tls.authenticate != "none" and not tls.ca:
        problems.append(
            'tls.ca: missing; name the PEM file of the CA that vouches for peers (or authenticate = "none")'
        )
    return problems


def asks_for_proof(tls: TlsConfig) -> bool:
    """Whether a peer's claim to its node ID counts only with a certificate."""
    return tls.effective_mode != "off" and tls.authenticate not in ("check", "none")


def tls_files(tls: TlsConfig) -> TlsFiles:
    """The files, and what goes with them."""
    verify = {"none": Verify.NOTHING, "check": Verify.GIVEN}.get(tls.authenticate, Verify.ALL)
    return TlsFiles(tls.cert, tls.key, tls.ca, verify, tls.min_version, tls.key_log, tls.ciphers)

"""Keys of the overlay, from files: the session's given key, and a member's identity."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from tumpline.drivers.directories import sync_directory
from tumpline.errors import ConfigError

KEY_OCTETS: Final = 32
PASSPHRASE_CHARACTERS_LEAST: Final = 12  # whoever records the session may try at leisure
# scrypt (RFC 7914) with some 32 MiB and a tenth of a second. The salt has to be the same for all members, who share nothing
# but the passphrase: use a key of 32 octets where that matters.
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20}
_SALT: Final = b"tumpline overlay 1"


def read_key(path: Path, option: str = "--key") -> bytes:
    """The session's key: 32 octets, as they are or in hexadecimal or Base64, else a passphrase. Raises: ConfigError."""
    content = _read(path, option)
    if (key := _octets(content)) is not None:
        return key
    try:
        passphrase = content.decode().strip()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{option} {path}: {len(content)} octets that are no text; a key has {KEY_OCTETS}, or is a passphrase"
        ) from None
    if len(passphrase) < PASSPHRASE_CHARACTERS_LEAST:
        raise ConfigError(
            f"{option} {path}: a passphrase needs {PASSPHRASE_CHARACTERS_LEAST} characters at least; "
            f"`openssl rand -hex {KEY_OCTETS} > {path}` makes a key"
        )
    return hashlib.scrypt(passphrase.encode(), salt=_SALT, dklen=KEY_OCTETS, **_SCRYPT)


def _octets(content: bytes) -> bytes | None:
    """The key that stands there in one of the three ways."""
    # By chance 32 octets are never all printable: who wrote so many letters wrote a passphrase.
    if len(content) == KEY_OCTETS and not (content.isascii() and content.decode().isprintable()):
        return content
    text = content.strip()
    for decode in (binascii.unhexlify, lambda each: base64.b64decode(each, validate=True)):
        try:
            key = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(key) == KEY_OCTETS:
            return key
    return None


def read_identity(path: Path, option: str = "--identity") -> bytes:
    """The secret of an identity in a file, which is made (0600) if it is not there. Raises: ConfigError."""
    if not path.exists():
        try:
            _write_private(path, secrets.token_hex(KEY_OCTETS).encode() + b"\n")
        except OSError as error:
            raise ConfigError(f"{option} {path}: {error.strerror}; name a file that can be written") from error
    identity = _octets(_read(path, option))
    if identity is None:
        raise ConfigError(f"{option} {path}: no key of {KEY_OCTETS} octets; remove it, and one is made")
    return identity


def _write_private(path: Path, content: bytes) -> None:
    """Durably, for our eyes only. Raises: OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def new_identity() -> bytes:
    """One that lasts as long as the process."""
    return secrets.token_bytes(KEY_OCTETS)


def read_pins(peers: tuple[str, ...], option: str = "--peer") -> dict[str, bytes]:
    """`NAME=KEY` (public, hexadecimal or Base64), by name. Raises: ConfigError."""
    pins: dict[str, bytes] = {}
    for peer in peers:
        name, equals, text = peer.partition("=")
        key = _octets(text.encode())
        if not name or not equals or key is None:
            raise ConfigError(f"{option} {peer}: write NAME=KEY; `tumpline tunnel status` of that agent shows its key")
        pins[name] = key
    return pins


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}; name a file that can be read") from error

"""Private files and TLS identities: written by rename, readable by their owner, checked before they are used."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from tumpline.errors import ConfigError
from tumpline.node.state import make_private

KEYS = "keys"  # within a state directory


_HOW_TO_MAKE = {
    "ca": "`tumpline cert init` makes a CA, or name the file you have",
    "cert": "`tumpline cert issue NODE-ID` makes one, or name the file you have",
    "key": "`tumpline cert issue NODE-ID` makes one, or name the file you have",
}


class Identity(NamedTuple):
    """A certificate, its private key, and who vouches for others."""

    certificate: x509.Certificate
    chain: list[x509.Certificate]  # intermediate CAs, as the file has them
    key: PrivateKeyTypes
    ca: list[x509.Certificate]


class Mistake(NamedTuple):
    """What is wrong with one of the three files: `field` is "cert", "key" or "ca"."""

    field: str
    sentence: str


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh private key: ECDSA on P-256, which every TLS library speaks."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as it lies in a file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that others see the old content or the new, never a part, and so that it outlives a power cut.

    Raises: OSError."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        os.unlink(name)
        raise
    _sync_directory(path.parent)


def read_file(path: Path) -> bytes:
    """Raises: ConfigError saying what is wrong with the file."""
    mistakes: list[Mistake] = []
    data = _read("file", path, mistakes)
    if data is None:
        raise ConfigError(mistakes[0].sentence)
    return data


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def key_dir(state_dir: Path) -> Path:
    """Where a node's keys lie, made (mode 0700) if it is not there. Raises: StateError."""
    return make_private(state_dir / KEYS)


def load_identity(cert: Path, key: Path, ca: Path | None = None, now: datetime | None = None) -> Identity:
    """The identity that the files make. Raises: ConfigError with everything that is wrong with them."""
    identity, mistakes = examine(cert, key, ca, now)
    if identity is None:
        raise ConfigError([f"{mistake.field}: {mistake.sentence}" for mistake in mistakes])
    return identity


def examine(
    cert: Path | None, key: Path | None, ca: Path | None = None, now: datetime | None = None
) -> tuple[Identity | None, list[Mistake]]:
    """The identity that the files make, or what is wrong with them. None: not configured."""
    moment = now or datetime.now(UTC)
    mistakes: list[Mistake] = []
    certificates = _certificates("cert", cert, mistakes)
    private = _private_key(key, mistakes)
    authorities = _certificates("ca", ca, mistakes)
    if certificates and cert is not None:
        mistakes += _validity("cert", certificates[0], cert, moment)
    if authorities and ca is not None and all(authority.not_valid_after_utc < moment for authority in authorities):
        mistakes += _validity("ca", authorities[0], ca, moment)
    if (
        certificates
        and private is not None
        and _public_octets(private.public_key()) != _public_octets(certificates[0].public_key())
    ):
        mistakes.append(
            Mistake("key", f"{key} is not the key of the certificate {cert}; name the key that was made with it")
        )
    if mistakes or not certificates or private is None:
        return None, mistakes
    return Identity(certificates[0], certificates[1:], private, authorities), []


def _read(field: str, path: Path | None, mistakes: list[Mistake]) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except FileNotFoundError:
        mistakes.append(Mistake(field, f"{path} does not exist; {_HOW_TO_MAKE.get(field, 'name the file you have')}"))
    except IsADirectoryError:
        mistakes.append(Mistake(field, f"{path} is a directory; name a PEM file"))
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        mistakes.append(Mistake(field, f"{path} cannot be read ({words}); {_remedy(path)}"))
    return None


def _remedy(path: Path) -> str:
    try:
        is_ours = path.stat().st_uid == os.geteuid()
    except OSError:  # its directory is closed to us
        is_ours = False
    return f"`chmod 600 {path}`" if is_ours else f"`chown $USER {path}`, or run as its owner"


def _certificates(field: str, path: Path | None, mistakes: list[Mistake]) -> list[x509.Certificate]:
    data = _read(field, path, mistakes)
    if data is None:
        return []
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        mistakes.append(
            Mistake(field, f'{path} holds no certificate; name a PEM file that begins "-----BEGIN CERTIFICATE-----"')
        )
        return []


def _private_key(path: Path | None, mistakes: list[Mistake]) -> PrivateKeyTypes | None:
    data = _read("key", path, mistakes)
    if data is None:
        return None
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError:
        what = "is encrypted; remove the passphrase (`openssl pkey -in OLD -out NEW`) and give it mode 0600"
    except Exception as error:  # ValueError, UnsupportedAlgorithm and others, by the library's version
        what = (
            f'holds no private key ({type(error).__name__}); name a PEM file that begins "-----BEGIN PRIVATE KEY-----"'
        )
    mistakes.append(Mistake("key", f"{path} {what}"))
    return None


def _validity(field: str, certificate: x509.Certificate, path: Path, now: datetime) -> list[Mistake]:
    if certificate.not_valid_after_utc < now:
        when = _when(certificate.not_valid_after_utc)
        return [Mistake(field, f"{path} expired on {when}; {_renewal(field, path)}")]
    if certificate.not_valid_before_utc > now:
        when = _when(certificate.not_valid_before_utc)
        return [Mistake(field, f"{path} is not valid before {when}; check this machine's clock, or issue a new one")]
    return []


def _when(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _renewal(field: str, path: Path) -> str:
    if field == "ca":
        return "make a new CA with `tumpline cert init` and issue the nodes' certificates anew"
    directory = path.parent if (path.parent / "ca.key").exists() else "CA-DIRECTORY"
    return f"renew it with `tumpline cert renew {path} --directory {directory}`"


def _public_octets(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

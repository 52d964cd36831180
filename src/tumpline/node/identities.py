"""The identities that a configuration uses, and how they stand: read from the file itself, so that it answers too where
the configuration cannot be loaded because of them."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tumpline.errors import ConfigError, TumplineError
from tumpline.node import ca
from tumpline.node.keys import examine

TRANSPORT = "transport"  # TLS of links; keys never serve two purposes


class UsedIdentity(NamedTuple):
    """One certificate with its key, and where it is used."""

    purpose: str
    used_by: str
    cert: str
    key: str
    node_ids: list[str]
    not_after: str | None
    days_left: int | None
    problems: list[str]


def used_identities(file: Path, now: datetime | None = None) -> list[UsedIdentity]:
    """Those of every link with a certificate, in the file's order. Raises: ConfigError (not readable, no TOML)."""
    moment = now or datetime.now(UTC)
    links = _table(file).get("links", [])
    found = [link for link in links if isinstance(link, dict) and isinstance(link.get("tls"), dict)]
    return [_used(link, file.absolute().parent, moment) for link in found if link["tls"].get("cert")]


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}; `tumpline config check {file}` shows where") from error


def _used(link: dict[str, Any], base: Path, now: datetime) -> UsedIdentity:
    tls = link["tls"]
    cert, key = base / str(tls["cert"]), base / str(tls.get("key", ""))
    authority = base / str(tls["ca"]) if tls.get("ca") else None
    _, mistakes = examine(cert, key, authority, now)
    said = _inspected(cert, now)
    return UsedIdentity(
        TRANSPORT,
        str(link.get("name") or link.get("kind", "?")),
        str(cert),
        str(key),
        list(said.get("node_ids", [])),
        said.get("not_after"),
        said.get("days_left"),
        [f"{mistake.field}: {mistake.sentence}" for mistake in mistakes],
    )


def _inspected(cert: Path, now: datetime) -> dict[str, Any]:
    """What the certificate says; nothing where it cannot be read (`examine` says why)."""
    try:
        return ca.inspect(cert, now)
    except TumplineError:
        return {}

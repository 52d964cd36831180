"""One contact: from what a person writes to what the node's machine is told."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, NamedTuple

from msgspec import Meta

from tumpline.errors import ConfigError
from tumpline.machines.cron import Cron
from tumpline.machines.plan import Contact
from tumpline.node.config.model import NodeId, Section
from tumpline.node.names import check_node_id
from tumpline.node.units import parse_duration_ms, parse_rate, parse_time_ms
from tumpline.wire.eid import Eid

CRON = "cron:"


def read_start(value: str) -> tuple[int | None, int | None]:
    """(milliseconds after the plan's first start, DTN time in ms), of which one is None. Raises: ConfigError."""
    text = value.strip()
    if text.startswith(CRON):
        Cron.parse(text.removeprefix(CRON))
        return None, None
    if text[:4].isdecimal():
        return None, parse_time_ms(text)
    try:
        return parse_duration_ms(text[1:] if text.startswith("+") else ""), None
    except ConfigError:
        raise ConfigError(
            f'{value!r} is no start; write "+30s" (from the first start of this plan), a time such as '
            '"2030-01-31T12:00:00Z", or "cron: */5 * * * *"'
        ) from None


def read_duration(text: str) -> int:
    """Milliseconds, not 0. Raises: ConfigError."""
    duration_ms = parse_duration_ms(text)
    if not duration_ms:
        raise ConfigError(f'{text!r} is no time at all; write for example "10m"')
    return duration_ms


def read_rate(text: str) -> int:
    """Bits a second, not 0. Raises: ConfigError."""
    rate_bps = parse_rate(text)
    if not rate_bps:
        raise ConfigError('a rate of 0 carries nothing; write for example "128 kbit/s", or remove the contact')
    return rate_bps


Start = Annotated[str, Meta(extra={"check": read_start})]
Duration = Annotated[str, Meta(extra={"check": read_duration})]
Rate = Annotated[str, Meta(extra={"check": read_rate})]
CronText = Annotated[str, Meta(extra={"check": Cron.parse})]


class ContactSection(Section, frozen=True):
    """When a peer can be reached. A peer with any contact is reachable inside its windows only."""

    peer: NodeId
    """Its node ID."""
    start: Start | None = None
    """"+30s" from the first start of this plan, an RFC 3339 time, or "cron: */5 * * * *" (UTC). Default: since ever."""
    duration: Duration | None = None
    """How long, "10m". Default: without end."""
    rate: Rate | None = None
    """How fast at most, "128 kbit/s". Default: not limited."""
    cron: CronText | None = None
    """Instead of start: a window at each minute that the expression names (UTC)."""
    link: str | None = None
    """Over this link only. Default: over any."""


class Planned(NamedTuple):
    """A contact as configured. `after_ms`: it begins so long after the plan's first start, which `contact` cannot say."""

    contact: Contact
    start: str  # as written, for people and for `remove`
    after_ms: int | None = None

    @property
    def digest(self) -> str:
        """Names what the contact says, whatever the order of the file."""
        said = [str(self.contact.peer), self.after_ms, *self.contact[1:]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def planned(section: ContactSection) -> tuple[Planned | None, list[tuple[str, str]]]:
    """The contact of a section; or, as (key, sentence), why its values do not fit each other.

    Raises: ConfigError (a value that is wrong by itself; the checker has excluded that for those of a file)."""
    cron, start = section.cron, section.start
    if cron is not None and start is not None:
        return None, [("cron", "start is there too; write only one of them")]
    if start is not None and start.startswith(CRON):
        cron, start = start.removeprefix(CRON).strip(), None
    if cron is not None and section.duration is None:
        return None, [("duration", 'missing; windows by cron have a length: write duration = "10m"')]
    if cron is not None:
        Cron.parse(cron)
    after_ms, start_ms = read_start(start) if start is not None else (None, None)
    duration_ms = None if section.duration is None else read_duration(section.duration)
    rate_bps = None if section.rate is None else read_rate(section.rate)
    contact = Contact(section.peer, start_ms, duration_ms, rate_bps, cron, section.link)
    return Planned(contact, start_text(section), after_ms), []


def start_text(section: ContactSection) -> str:
    """The start as a person wrote it; contacts are removed by it."""
    if section.cron is not None:
        return f"{CRON} {section.cron}"
    return section.start or ""


def contact_from_text(
    peer: str, start: str = "", duration: str = "", rate: str | None = None, link: str | None = None
) -> Planned:
    """A contact as a person gives it on the command line. Raises: MalformedError, ConfigError."""
    eid = Eid.parse(peer)
    check_node_id(eid)
    section = ContactSection(
        peer=eid, start=start or None, duration=duration or None, rate=rate or None, link=link or None
    )
    each, wrong = planned(section)
    if each is None:
        raise ConfigError([f"{key}: {sentence}" for key, sentence in wrong])
    return each

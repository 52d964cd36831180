"""The contact plan of a running agent, and when its "+30s" was.

"+30s" counts from the first start of this plan and is kept over restarts: the moment a contact was first seen lies in
`plan.json` below the state directory, under a digest of what the contact says. A contact that is changed is a new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from tumpline.errors import StateError
from tumpline.machines.plan import Contact
from tumpline.node.config.contact import ContactSection, Planned, contact_from_text, start_text
from tumpline.node.config.edit import Editor, needed
from tumpline.node.keys import replace_file
from tumpline.wire.eid import Eid

PLAN_FILE = "plan.json"


class Plan:
    """The contacts of a running agent."""

    def __init__(
        self, state_dir: Path, configured: Iterable[Planned], now_ms: Callable[[], int], editor: Editor | None = None
    ) -> None:
        self._file = state_dir / PLAN_FILE
        self._now_ms = now_ms  # DTN time
        self._editor = editor
        self._first_seen = _read(self._file)
        self._planned = list(configured)
        self._write()

    @property
    def contacts(self) -> list[Contact]:
        """All of them, with every start known."""
        return [self._resolved(each) for each in self._planned]

    def add(
        self,
        peer: str,
        start: str,
        duration: str,
        rate: str | None = None,
        link: str | None = None,
        save: bool = False,
    ) -> Contact:
        """One more contact, as a person gives it; "+30s" counts from now. Raises: MalformedError, ConfigError, StateError."""
        each = contact_from_text(peer, start, duration, rate, link)
        if save:
            said = {"peer": peer, "start": start, "duration": duration, "rate": rate, "link": link}
            needed(self._editor).append("contacts", {key: value for key, value in said.items() if value})
        self._first_seen.pop(each.digest, None)
        self._planned.append(each)
        self._write()
        return self._resolved(each)

    def remove(self, peer: str, start: str | None = None, save: bool = False) -> list[Contact]:
        """Forget the peer's contacts (only those with that `start` as it was written, if given). Returns them."""
        eid = Eid.parse(peer)
        gone = [each for each in self._planned if each.contact.peer == eid and start in (None, each.start)]
        contacts = [self._resolved(each) for each in gone]
        if save:
            needed(self._editor).drop("contacts", lambda table: _same(table, eid, start))
        self._planned = [each for each in self._planned if each not in gone]
        self._write()
        return contacts

    def _resolved(self, each: Planned) -> Contact:
        if each.after_ms is None:
            return each.contact
        return each.contact._replace(start_ms=self._first_seen[each.digest] + each.after_ms)

    def _write(self) -> None:
        """Keep the moments of the contacts that are in the plan, and forget the others. Raises: StateError."""
        relative = [each.digest for each in self._planned if each.after_ms is not None]
        now = {digest: self._first_seen.get(digest, self._now_ms()) for digest in relative}
        changed, self._first_seen = now != self._first_seen, now
        if not changed:
            return
        try:
            replace_file(self._file, json.dumps({"first_seen_dtn_ms": now}, indent=1).encode() + b"\n")
        except OSError as error:
            raise StateError(f"{self._file} cannot be written: {os.strerror(error.errno or 0).lower()}") from error


def _read(path: Path) -> dict[str, int]:
    try:
        return dict(msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, int]])["first_seen_dtn_ms"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}") from error
    except (msgspec.DecodeError, KeyError) as error:
        raise StateError(f"{path} is damaged ({error}); remove it: relative contacts begin anew") from error


def _same(table: dict[str, Any], peer: Eid, start: str | None) -> bool:
    section = ContactSection(
        peer=Eid.parse(table["peer"]),
        start=_said(table.get("start")),
        cron=table.get("cron"),
        duration=table.get("duration"),
    )
    return section.peer == peer and start in (None, start_text(section))


def _said(start: Any) -> str | None:
    """TOML has a notation of its own for times."""
    return start if start is None or isinstance(start, str) else str(start.isoformat())

"""What an attachment tells besides the events of its member."""

from __future__ import annotations

from typing import Any, NamedTuple


class SessionJoined(NamedTuple):
    """We are a member (again)."""


class SessionLost(NamedTuple):
    """We were a member, and the connection ended; another is tried by itself."""

    reason: str


class SessionAway(NamedTuple):
    """No connection came about, and nothing is tried for a while."""

    reason: str
    retry_s: float


class SessionFailed(NamedTuple):
    """The attachment cannot go on."""

    error: BaseException


class Congested(NamedTuple):
    """The broker takes less than it is given: ports are paused."""


class Drained(NamedTuple):
    """It took what waited: ports go on."""


class OlderRouterSeen(NamedTuple):
    """An older router began, or ended, to pass on what we say."""

    is_there: bool


class PortUp(NamedTuple):
    """A port is there (again)."""

    name: str
    facts: dict[str, Any]


class PortDown(NamedTuple):
    """A port is gone (unplugged, deleted); it says when it is back."""

    name: str
    reason: str

"""The one stream of what happens: control's clients and the log read the same records."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import WatchedFileHandler
from typing import Any, Final

from tumpline.errors import ConfigError
from tumpline.machines.effects import Notice
from tumpline.node.config.model import LogSection

log = logging.getLogger("tumpline.node")

# A warning that says the same again is logged once in so long; the event stream and a `debug` log have every one.
REPEATED_S = 60.0
REPEATS_MAX = 256  # warnings that are remembered: strangers can cause as many different ones as they like

# What an operator should see without asking for it; the rest is for `-v` and the event stream.
LOUD = ("failed", "refused", "terminated", "malformed", "exceeded", "denied", "full")


class EventStream:
    """Tells every notice to its subscribers and to the log."""

    def __init__(self, time: Callable[[], float] = time.monotonic) -> None:
        self._subscribers: list[Callable[[Notice], None]] = []
        self._repeats = Repeats(time)

    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        """From now on, until the returned function is called."""
        self._subscribers.append(callback)

        def end() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return end

    def notice(self, name: str, fields: dict[str, Any]) -> None:
        """Something happened."""
        notice = Notice(name, fields)
        for callback in list(self._subscribers):
            callback(notice)
        level = logging.WARNING if name.endswith(LOUD) else logging.DEBUG if "progressed" in name else logging.INFO
        if fields.get("clean"):  # a session that ended in order
            level = logging.INFO
        if level == logging.WARNING and self._repeats.is_repeated(name, fields):
            level = logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, name, extra={"fields": fields})


class Repeats:
    """Which warnings were given a moment ago: a peer that cannot be reached, or a full disk, is one line and no flood."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._told: dict[tuple[Any, ...], float] = {}  # when, oldest first

    def is_repeated(self, name: str, fields: dict[str, Any]) -> bool:
        """Whether the same was told within REPEATED_S; if not, it is told now."""
        key, now = _sameness(name, fields), self._time()
        if now - self._told.get(key, -REPEATED_S) < REPEATED_S:
            return True
        self._told.pop(key, None)
        if len(self._told) >= REPEATS_MAX:
            del self._told[next(iter(self._told))]
        self._told[key] = now
        return False


def _sameness(name: str, fields: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two warnings the same: not the numbers of paths, transfers and ephemeral ports."""
    address = str(fields.get("address", ""))
    if name != "connection_failed":  # only where we dial, the port says who it is
        address = address.rpartition(":")[0]
    return name, fields.get("link"), address, *(fields.get(each) for each in ("reason", "error", "why"))


@contextmanager
def log_to(section: LogSection) -> Iterator[None]:
    """Write what this package logs as `[log]` says, while the block lasts. Raises: ConfigError (file not writable)."""
    try:
        handler = WatchedFileHandler(section.file) if section.file is not None else logging.StreamHandler()
    except OSError as error:
        raise ConfigError(
            f"log.file: {section.file} cannot be written: {error.strerror}; choose another file"
        ) from error
    handler.setFormatter(FORMATTERS[section.format]())
    root = logging.getLogger("tumpline")
    level, root.propagate = root.level, False
    root.addHandler(handler)
    root.setLevel(section.level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        root.propagate = True
        handler.close()


class LineFormatter(logging.Formatter):
    """One line a record: time, level, event, key=value (docs: the same records as `/v1/events`)."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = getattr(record, "fields", {})
        text = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower():7} {record.getMessage()} {text}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class OlderFormatter(logging.Formatter):
    """As the older agent's agents log, for scripts that read that: time, process, thread, level, logger, event key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s PID:%(process)d TID:%(thread)d <%(levelname)s> %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        return " ".join((super().formatMessage(record), *(f"{key}={_plain(value)}" for key, value in fields.items())))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: _json_value(value) for key, value in getattr(record, "fields", {}).items()}
        entry = {"time": record.created, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


FORMATTERS: Final[dict[str, type[logging.Formatter]]] = {
    "text": LineFormatter,
    "json": JsonFormatter,
    "older": OlderFormatter,
}


def _plain(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c.isspace() or c in '"=' for c in text) else text


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)

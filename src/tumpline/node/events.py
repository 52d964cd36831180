"""The one stream of what happens: control's clients and the log read the same records."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import WatchedFileHandler
from typing import Any

from tumpline.errors import ConfigError
from tumpline.machines.effects import Notice
from tumpline.node.config.model import LogSection

log = logging.getLogger("tumpline.node")

# What an operator should see without asking for it; the rest is for `-v` and the event stream.
LOUD = ("failed", "refused", "terminated", "malformed", "exceeded", "denied", "full")


class EventStream:
    """Tells every notice to its subscribers and to the log."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Notice], None]] = []

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
        if log.isEnabledFor(level):
            log.log(level, name, extra={"fields": fields})


@contextmanager
def log_to(section: LogSection) -> Iterator[None]:
    """Write what this package logs as `[log]` says, while the block lasts. Raises: ConfigError (file not writable)."""
    try:
        handler = WatchedFileHandler(section.file) if section.file is not None else logging.StreamHandler()
    except OSError as error:
        raise ConfigError(
            f"log.file: {section.file} cannot be written: {error.strerror}; choose another file"
        ) from error
    handler.setFormatter(JsonFormatter() if section.format == "json" else LineFormatter())
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


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: _json_value(value) for key, value in getattr(record, "fields", {}).items()}
        entry = {"time": record.created, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _plain(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c.isspace() or c in '"=' for c in text) else text


def _json_value(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)

"""Changes that were made by command and are to outlive a restart: tables appended to the file, or cut out of it.

Everything else in the file stays as its author wrote it, comments included.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError
from tumpline.node.config.toml import positions
from tumpline.node.config.write import table_text
from tumpline.node.keys import replace_file

_HEADER = re.compile(r"\s*\[")


class Editor:
    """Edits one configuration file; each change is written at once, by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, array: str, table: dict[str, Any]) -> None:
        """Add `[[array]]` with these keys at the end. Raises: ConfigError."""
        text = self._read()
        if tomllib.loads(text).get(array) and not re.search(rf"^\s*\[\[\s*{array}\s*\]\]", text, re.MULTILINE):
            raise ConfigError(
                f"{self.path} has `{array} = [...]` in one line; write [[{array}]] tables, or edit it by hand"
            )
        self._write(text.rstrip("\n") + f"\n\n[[{array}]]\n{table_text(table)}")

    def drop(self, array: str, unwanted: Callable[[dict[str, Any]], bool]) -> None:
        """Cut out the `[[array]]` tables that `unwanted` names. Raises: ConfigError."""
        text = self._read()
        tables = tomllib.loads(text).get(array, [])
        lines, places = text.splitlines(keepends=True), positions(text)
        for index in reversed([index for index, table in enumerate(tables) if unwanted(table)]):
            begin = places[(array, index)] - 1
            if not re.match(rf"\s*\[\[\s*{array}\s*\]\]", lines[begin]):
                raise ConfigError(f"{self.path}:{begin + 1}: {array} is written in one line; edit it by hand")
            del lines[begin : _end(lines, begin, array)]
        self._write("".join(lines))

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}") from error

    def _write(self, text: str) -> None:
        tomllib.loads(text)  # never leave a file behind that the next start refuses
        try:
            replace_file(self.path, text.encode(), mode=self.path.stat().st_mode & 0o777)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}; the change holds until the restart"
            ) from error


def needed(editor: Editor | None) -> Editor:
    """Raises: ConfigError: the configuration came from no file."""
    if editor is None:
        raise ConfigError(
            "this agent was started without a configuration file of ours (TOML), so nothing can be saved; leave --save out"
        )
    return editor


def _end(lines: list[str], begin: int, array: str) -> int:
    """The line behind a table: where the next one begins that is not below it. Comments above that stay with it."""
    end = begin + 1
    below = re.compile(rf"\s*\[+\s*{array}\s*\.")
    while end < len(lines) and (not _HEADER.match(lines[end]) or below.match(lines[end]) or _within(lines[begin:end])):
        end += 1
    if end < len(lines):
        while end - 1 > begin and lines[end - 1].lstrip().startswith("#"):
            end -= 1
    return end


def _within(lines: list[str]) -> bool:
    """Whether a value is still open behind these lines, so that a bracket is no header."""
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return True
    return False

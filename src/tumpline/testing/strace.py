"""System calls of a process as values: `strace` records them, `read_calls` reads them.

`-xx` writes every octet as hex and `-yy` the path or addresses behind each descriptor, so a record holds all that was
written and where to. Calls of several threads overlap: each has the place where it began and the one where it ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

WRITES = ("write", "pwrite64", "writev", "sendto", "sendmsg")
SYNCS = ("fsync", "fdatasync")
NAMES = ("openat", "mkdir", "unlink", "rename", "ftruncate")
_STRING_OCTETS = 1 << 20  # of one buffer; a longer one is refused, not cut
_LINE = re.compile(r"(\d+)\s+(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"^(.*)\)\s+= (-?\d+|\?)(?:<.*>)?(?: .*)?$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})+|[^>]*)(?:<[^>]*>)?>(\(deleted\))?")
_NUMBER = re.compile(r", (\d+)$")


class Call(NamedTuple):
    """One system call that ended. Places are lines of the record: a call that ended on a smaller line than another
    began on was over before it."""

    begin: int
    end: int
    name: str
    arguments: str
    result: int

    @property
    def where(self) -> str:
        """The path or socket behind the first argument; "" of a file that is unlinked already, or if there is none."""
        found = _DESCRIPTOR.match(self.arguments)
        return "" if found is None or found[2] else _text(found[1])

    @property
    def strings(self) -> list[bytes]:
        """The quoted arguments. Raises: ValueError if strace cut one."""
        found = _STRING.findall(self.arguments)
        if any(cut for _, cut in found):
            raise ValueError(f"strace cut a buffer of {self.name}: raise its -s")
        return [bytes.fromhex(octets.replace("\\x", "")) for octets, _ in found]

    @property
    def written(self) -> bytes:
        """What a writing call wrote: no more than it says it did."""
        return b"".join(self.strings)[: max(self.result, 0)]

    @property
    def last_number(self) -> int:
        """The last argument: the offset of pwrite64, the length of ftruncate."""
        found = _NUMBER.search(self.arguments)
        assert found is not None, self
        return int(found[1])


def command(record: Path) -> list[str]:
    """What to put before a command to have it recorded. The process started is the command's own (-D)."""
    calls = ",".join((*WRITES, *SYNCS, *NAMES))
    options = ["-f", "-D", "-q", "-xx", "-yy", "-s", str(_STRING_OCTETS), "-e", f"trace={calls}", "-e", "signal=none"]
    return ["strace", *options, "-o", str(record)]


def read_calls(record: Path) -> list[Call]:
    """Every call that ended, by its end."""
    with record.open() as lines:
        return list(_calls(lines))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[str, tuple[int, str, str]] = {}  # by thread
    for place, line in enumerate(lines):
        found = _LINE.match(line.rstrip("\n"))
        if found is None:  # the end of a thread
            continue
        thread, name, arguments, resumed, rest = found.groups()
        if resumed is not None:
            begin, name, arguments = begun.pop(thread)
            arguments += rest
        elif arguments.endswith(_UNFINISHED):
            begun[thread] = place, name, arguments.removesuffix(_UNFINISHED)
            continue
        else:
            begin = place
        ended = _RESULT.match(arguments)
        if ended is not None and ended[2] != "?":
            yield Call(begin, place, name, ended[1], int(ended[2]))


def _text(path: str) -> str:
    if not path.startswith("\\x"):
        return path
    return bytes.fromhex(path.replace("\\x", "")).decode("utf-8", "surrogateescape")

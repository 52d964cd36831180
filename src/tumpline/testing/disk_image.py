"""A directory as a power cut leaves it: what was synced, and of the rest as much as chance has it.

The model knows no more than POSIX promises. Octets of a file survive once an fsync or fdatasync of that file ended that
began after they were written; names survive once their directory was synced. What was not synced may be there or not,
each sector for itself: disks and file systems write in the order they like.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tumpline.testing.strace import SYNCS, Call

SECTOR_OCTETS = 512  # what a disk writes whole or not at all


class _Change(NamedTuple):
    """Octets written at an offset, or (`data` is None) the file cut or grown to that length."""

    end: int  # place of the record
    offset: int
    data: bytes | None


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[_Change] = field(default_factory=list)

    def sync(self, begin: int) -> None:
        for change in self.pending:
            if change.end < begin:
                _apply(self.synced, change.offset, change.data)
        self.pending = [change for change in self.pending if change.end >= begin]

    def survivor(self, chance: Random | None) -> bytes:
        octets = bytearray(self.synced)
        for change in self.pending if chance is not None else ():
            for offset, data in _sectors(change):
                if chance is not None and chance.random() < 0.5:
                    _apply(octets, offset, data)
        return bytes(octets)


_Entry = _File | None  # None: a directory


class _Name(NamedTuple):
    """A name given (or with `gone` taken) in a directory."""

    end: int
    name: str
    entry: _Entry
    gone: bool


@dataclass
class _Directory:
    synced: dict[str, _Entry] = field(default_factory=dict)
    pending: list[_Name] = field(default_factory=list)

    def sync(self, begin: int) -> None:
        for change in self.pending:
            if change.end < begin:
                _rename(self.synced, change)
        self.pending = [change for change in self.pending if change.end >= begin]

    def survivor(self, chance: Random | None) -> dict[str, _Entry]:
        entries = dict(self.synced)
        for change in self.pending if chance is not None else ():
            if chance is not None and chance.random() < 0.5:
                _rename(entries, change)
        return entries


class DiskImage:
    """The directory `root` (which was empty), as the calls of a record fill it."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._directories: dict[str, _Directory] = {self._root: _Directory()}
        self._files: dict[str, _File] = {}  # as the processes see them

    def replay(self, calls: Iterable[Call]) -> Iterator[int]:
        """Take the calls in. Yields at every cut: just before each sync ends, and behind the last call; the value is
        the place of the record until which anybody outside can have seen anything."""
        end = 0
        for call in calls:
            end = call.end
            if call.name in SYNCS and self._is_ours(call.where):
                yield end
            self._take(call)
        yield end + 1

    def write_to(self, target: Path, chance: Random | None = None) -> None:
        """What survives a cut now: with `chance` some of what was not synced, without it nothing."""
        self._write(self._root, target, chance)

    def _write(self, path: str, target: Path, chance: Random | None) -> None:
        target.mkdir()
        for name, entry in self._directories[path].survivor(chance).items():
            if entry is None:
                self._write(os.path.join(path, name), target / name, chance)
            else:
                (target / name).write_bytes(entry.survivor(chance))

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _is_ours(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")

    def _take(self, call: Call) -> None:
        if call.result < 0:
            return
        if call.name in ("openat", "mkdir", "unlink", "rename"):
            self._take_names(call)
        elif not self._is_ours(call.where):
            return
        elif call.name in SYNCS:
            (self._directories.get(call.where) or self._files[call.where]).sync(call.begin)
        elif call.name == "ftruncate":
            self._files[call.where].pending.append(_Change(call.end, call.last_number, None))
        elif call.name == "pwrite64":
            self._files[call.where].pending.append(_Change(call.end, call.last_number, call.written))
        else:
            raise ValueError(f"{call.name} to {call.where}: this model knows pwrite64 only")

    def _take_names(self, call: Call) -> None:
        paths = [os.fsdecode(string) for string in call.strings]
        if not self._is_ours(paths[0]):
            return
        if call.name == "openat":
            if "O_CREAT" in call.arguments and paths[0] not in self._files:
                self._files[paths[0]] = file = _File()
                self._name(call, paths[0], file)
        elif call.name == "mkdir":
            self._directories[paths[0]] = _Directory()
            self._name(call, paths[0], None)
        elif call.name == "unlink":
            self._name(call, paths[0], self._files.pop(paths[0]), gone=True)
        else:
            raise ValueError(f"this model knows no {call.name}")

    def _name(self, call: Call, path: str, entry: _Entry, *, gone: bool = False) -> None:
        directory, name = os.path.split(path)
        self._directories[directory].pending.append(_Name(call.end, name, entry, gone))


def _apply(octets: bytearray, offset: int, data: bytes | None) -> None:
    length = offset if data is None else offset + len(data)
    octets.extend(bytes(max(0, length - len(octets))))
    if data is None:
        del octets[length:]
    else:
        octets[offset:length] = data


def _sectors(change: _Change) -> Iterator[tuple[int, bytes | None]]:
    if change.data is None:
        yield change.offset, None
        return
    begin = 0
    while begin < len(change.data):
        end = begin + SECTOR_OCTETS - (change.offset + begin) % SECTOR_OCTETS
        yield change.offset + begin, change.data[begin:end]
        begin = end


def _rename(entries: dict[str, _Entry], change: _Name) -> None:
    if change.gone:
        entries.pop(change.name, None)
    else:
        entries[change.name] = change.entry

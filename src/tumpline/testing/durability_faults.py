"""Faults of durability, to see that tests find them: `python -m tumpline.testing.durability_faults FAULT tumpline up ...`
is `python -m tumpline up ...` with a store that acknowledges what is not durable."""

from __future__ import annotations

import os
import runpy
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from tumpline.drivers.directories import sync_directory
from tumpline.drivers.stores import _sqlite_schema
from tumpline.drivers.stores._files import DiskHandle, PayloadDirectory
from tumpline.drivers.stores._sqlite_engine import Engine

COMMITS_LATE = 100  # transactions that the fault "commit" answers before it keeps them


def _octets(directory: PayloadDirectory, handles: list[DiskHandle]) -> None:
    """The names of files, but not what is in them."""
    sync_directory(directory.path)
    for handle in handles:
        handle.synced = True


def _names(_directory: PayloadDirectory, handles: list[DiskHandle]) -> None:
    """Files, but not their names."""
    for handle in handles:
        os.fsync(handle.fd)
        handle.synced = True


def _log(configure: Callable[[sqlite3.Connection, Path], None], connection: sqlite3.Connection, path: Path) -> None:
    configure(connection, path)
    connection.execute("PRAGMA synchronous = OFF")


def _late(begin: Callable[..., None], engine: Engine, connection: sqlite3.Connection, *rest: Any) -> None:
    """Transactions are answered as ever, but many of them are committed together with a later one."""
    begin(engine, connection, *rest)
    numbers = count(1)

    def execute(statement: str, *values: Any) -> Any:
        late = statement == "COMMIT" and next(numbers) % COMMITS_LATE
        if late or (statement == "BEGIN" and connection.in_transaction):
            return None
        return connection.execute(statement, *values)

    engine._execute = execute


def _make() -> dict[str, Callable[[], Any]]:
    configure, begin = _sqlite_schema._configure, Engine.__init__
    return {
        "octets": lambda: mock.patch.object(PayloadDirectory, "sync", _octets),
        "names": lambda: mock.patch.object(PayloadDirectory, "sync", _names),
        "log": lambda: mock.patch.object(_sqlite_schema, "_configure", partial(_log, configure)),
        "commit": lambda: mock.patch.object(Engine, "__init__", lambda *all_: _late(begin, *all_)),
    }


FAULTS = _make()


if __name__ == "__main__":
    with FAULTS[sys.argv.pop(1)]():
        runpy.run_module(sys.argv.pop(1), run_name="__main__")

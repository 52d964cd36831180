"""Faults of durability, to see that tests find them: `python -m tumpline.testing.unsynced FAULT up --config ...` is
`tumpline up` that leaves out one sync."""

from __future__ import annotations

import os
import runpy
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tumpline.drivers.directories import sync_directory
from tumpline.drivers.stores import _sqlite_schema
from tumpline.drivers.stores._files import DiskHandle, PayloadDirectory


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


def _make() -> dict[str, Callable[[], Any]]:
    configure = _sqlite_schema._configure
    return {
        "octets": lambda: mock.patch.object(PayloadDirectory, "sync", _octets),
        "names": lambda: mock.patch.object(PayloadDirectory, "sync", _names),
        "log": lambda: mock.patch.object(_sqlite_schema, "_configure", partial(_log, configure)),
    }


FAULTS = _make()


if __name__ == "__main__":
    with FAULTS[sys.argv.pop(1)]():
        runpy.run_module("tumpline", run_name="__main__")

"""The plainest stores: dicts, and one SQLite table written by executemany, synced at each commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from heapq import heappush
from pathlib import Path

from tumpline.machines.contract import Octets, StoredBundle


def add_to_dicts(bundles: Sequence[StoredBundle]) -> int:
    """Keep each so that it can be found by identity, number, queue and time of expiry. Returns: how many were kept."""
    held: dict[int, StoredBundle] = {}
    identities: set[bytes] = set()
    queues: dict[str, dict[int, None]] = {}
    expiry: list[tuple[int, int]] = []
    for bundle in bundles:
        if bundle.key not in identities:
            identities.add(bundle.key)
            held[bundle.seq] = bundle
            queues.setdefault(bundle.destination, {})[bundle.seq] = None
            heappush(expiry, (bundle.expires_ms, bundle.seq))
    return len(held)


class PlainTable:
    """One table, its key unique, indexed by queue."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS bundles (seq INTEGER PRIMARY KEY, key BLOB UNIQUE, queue TEXT, expires INTEGER,"
            " head BLOB, payload BLOB, tail BLOB)"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS by_queue ON bundles (queue, seq)")

    def add(self, bundles: Sequence[StoredBundle], batch: int) -> int:
        """A commit for each batch. Returns: how many rows there are."""
        execute = self._connection.execute
        for first in range(0, len(bundles), batch):
            execute("BEGIN")
            rows = [_row(bundle) for bundle in bundles[first : first + batch]]
            self._connection.executemany("INSERT OR IGNORE INTO bundles VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            execute("COMMIT")
        (count,) = execute("SELECT count(*) FROM bundles").fetchone()
        return int(count)

    def close(self) -> None:
        """Free the database."""
        self._connection.close()


def _row(bundle: StoredBundle) -> tuple[int, bytes, str, int, bytes, bytes, bytes]:
    assert isinstance(bundle.payload, Octets)
    return bundle.seq, bundle.key, bundle.destination, bundle.expires_ms, bundle.head, bundle.payload.data, bundle.tail


def open_seconds(path: Path) -> float:
    """How long it takes to open a database and ask for its highest number."""
    begin = time.perf_counter()
    connection = sqlite3.connect(path)
    (highest,) = connection.execute("SELECT max(seq) FROM bundles").fetchone()
    elapsed = time.perf_counter() - begin
    connection.close()
    assert highest is not None
    return elapsed

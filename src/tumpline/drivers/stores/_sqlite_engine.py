"""Operations as SQL: what the writer thread does with a batch of transactions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, groupby
from typing import Any, NamedTuple

from tumpline.drivers.stores._files import DiskHandle, FileWriter, PayloadDirectory, disk_full, storage_error
from tumpline.drivers.stores._reserve import Reserve, reserve_octets
from tumpline.drivers.stores._sqlite_schema import DATABASE, PAGE_OCTETS, is_full
from tumpline.errors import StorageError
from tumpline.machines import storage as ops
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload, StoredBundle

Operations = Sequence[ops.Operation]

_COLUMNS = (
    "seq, key, adu_key, destination, expires_ms, received_ms, age_ms, previous, fragment_offset, head, tail,"
    " octets, file, file_offset, payload_length"
)
# Not stored: one whose key is held (the conflict), one whose key or ADU key is remembered as delivered.
_INSERT = f"""INSERT INTO bundles ({_COLUMNS})
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
WHERE NOT EXISTS (SELECT 1 FROM delivered WHERE key IN (?2, ?3)) ON CONFLICT (key) DO NOTHING"""
_SELECT = f"SELECT {_COLUMNS} FROM bundles "
_REMEMBER = """INSERT INTO delivered VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)"""
_NUMBERS = "seq IN (SELECT value FROM json_each(?))"


# SQLite's integers end here. Strangers may claim longer lifetimes and ages: these are as good as endless.
_LARGEST = (1 << 63) - 1

# With so much room on the disk nobody needs to reckon.
ROOMY_OCTETS = 256 << 20
ROW_OCTETS = 600  # of a bundle's row and index entries, beside its octets
SLACK_OCTETS = 16 * PAGE_OCTETS  # pages of the tables and indexes that any transaction touches


class Committed(NamedTuple):
    """What a batch of transactions came to, and what the event loop's thread has to do for the handles of files."""

    answers: list[ops.Results | StorageError]  # one for each transaction
    stored: list[DiskHandle] = []  # once for each bundle stored: the reference of whoever added it is the store's now
    dropped: list[DiskHandle] = []  # made for bundles that were not stored
    removed: list[int] = []  # files that no bundle names any more


class Engine:
    """Owns the connection. Everything but the making of it runs on one thread."""

    def __init__(self, connection: sqlite3.Connection, files: PayloadDirectory, last_seq: int) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._files = files
        self._place = files.place()
        self._reserve = Reserve(files.path.parent / "reserve", reserve_octets(files.path.parent))
        self._where = str(files.path.parent)
        self._last_seq = last_seq
        self._highest = last_seq  # of the transaction under way
        self._removing = False  # the transaction under way removes something
        self._named: dict[int, DiskHandle] = {}  # of the bundles being added, by number: their files
        self._stored: list[DiskHandle] = []  # of the transaction under way: see Committed
        self._made: list[DiskHandle] = []  # of the transaction under way: files for payloads that came in memory
        self._handlers: dict[type[Any], Callable[[list[Any]], list[Any]]] = {
            ops.Add: self._add,
            ops.Remove: self._remove,
            ops.Remember: self._remember,
            ops.Forget: lambda run: [self._forget(op.now_ms) for op in run],
            ops.PutState: self._put_state,
            ops.GetState: lambda run: [self._get_state(op) for op in run],
            ops.Load: lambda run: [self._load(op) for op in run],
            ops.Get: lambda run: [self._get(op.seqs) for op in run],
            ops.Expired: lambda run: [self._expired(op) for op in run],
            ops.NextExpiry: lambda run: [self._next_expiry() for _ in run],
            ops.Fragments: lambda run: [self._fragments(op.adu_key) for op in run],
            ops.Listing: lambda run: [self._listing(op) for op in run],
        }

    def commit(self, transactions: Sequence[Operations], *, again: bool = True) -> Committed:
        """Carry them out as one; if that fails, each on its own, so that only those fail that must;
        on a full disk it is tried once more (`again`) when the log begins anew."""
        try:
            results, removed = self._transact([operation for operations in transactions for operation in operations])
        except Exception as error:  # whatever it is, somebody waits for an answer
            if len(transactions) == 1:
                if again and is_full(error):
                    self._make_room(adding=any(type(operation) is ops.Add for operation in transactions[0]))
                    return self.commit(transactions, again=False)
                return Committed([self._failure(error)], dropped=self._made)
            parts = [Committed([], dropped=self._made), *(self.commit([operations]) for operations in transactions)]
            return Committed(*(list(chain.from_iterable(column)) for column in zip(*parts, strict=True)))
        answers: list[ops.Results | StorageError] = []
        begin = 0
        for operations in transactions:
            end = begin + len(operations)
            answers.append(results[begin:end])
            begin = end
        dropped = [handle for handle in self._made if handle not in self._stored]
        return Committed(answers, self._stored, dropped, removed)

    def _make_room(self, *, adding: bool) -> None:
        """Begin the log anew. The database may have to grow for that: the reserve is given up for it, but not for those
        who add more."""
        if not adding:
            self._reserve.give_up()
        self._begin_log_anew()

    def _begin_log_anew(self) -> None:
        """Copy the log into the database, so that it can be written from its beginning again."""
        with suppress(sqlite3.Error):  # then the next transaction fails, and says why
            self._execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def _require_room(self, operations: Operations) -> None:
        """To add needs the reserve (or as much free room inside the database), and room beside it for the log and for
        the database that takes the log in: else to remove may become impossible. Raises: StorageError."""
        if self._reserve.held and self._files.free_octets() >= ROOMY_OCTETS:
            return
        added = sum(_octets_in_pages(op.bundle) for op in operations if type(op) is ops.Add)
        if not added:
            return
        added += SLACK_OCTETS
        inside = self._execute("PRAGMA freelist_count").fetchone()[0] * PAGE_OCTETS
        if not self._reserve.hold() and inside < self._reserve.octets:
            raise disk_full(self._where)
        if self._files.free_octets() >= added + max(0, self._log_octets() + added - inside):
            return
        self._begin_log_anew()
        inside = self._execute("PRAGMA freelist_count").fetchone()[0] * PAGE_OCTETS
        if self._files.free_octets() < max(0, added - self._log_octets()) + max(0, added - inside):
            raise disk_full(self._where)

    def _log_octets(self) -> int:
        log = self._files.path.parent / f"{DATABASE}-wal"
        return log.stat().st_size if log.exists() else 0

    def close(self) -> None:
        """The log is copied into the database."""
        self._connection.close()

    # ---- one transaction -----------------------------------------------------------------------------------------

    def _transact(self, operations: Operations) -> tuple[ops.Results, list[int]]:
        self._highest, self._removing = self._last_seq, False
        self._named, self._stored, self._made = {}, [], []
        self._require_room(operations)
        self._execute("BEGIN")
        try:
            results: ops.Results = []
            for kind, run in groupby(operations, type):
                results += self._handlers[kind](list(run))
            removed = self._settle()
            self._execute("COMMIT")
        except BaseException:
            # A full disk has SQLite roll back by itself.
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        self._last_seq = self._highest
        return results, removed

    def _settle(self) -> list[int]:
        """What a transaction leaves to its end: the sync of named files, empty counters, the highest number."""
        if self._stored:
            self._files.sync(self._stored)
        if self._highest > self._last_seq:
            self._execute("UPDATE last SET seq = ?", (self._highest,))
        if not self._removing:
            return []
        self._execute("DELETE FROM queues WHERE bundles = 0")
        self._execute("DELETE FROM sources WHERE identities = 0")
        return [number for (number,) in self._execute("DELETE FROM files WHERE bundles = 0 RETURNING number")]

    def _failure(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        if isinstance(error, OSError):
            return storage_error(error, self._where)
        if is_full(error):
            return disk_full(self._where)
        return StorageError(f"nothing of the transaction was kept in {self._where}: {error}")

    # ---- bundles ----------------------------------------------------------------------------------------------------

    def _add(self, run: list[ops.Add]) -> list[ops.AddResult]:
        rows = [self._row(bundle) for (bundle,) in run]
        self._highest = max(self._highest, max(row[0] for row in rows))
        count = self._connection.executemany(_INSERT, rows).rowcount
        if count == len(rows):
            results = [ops.AddResult.STORED] * count
        else:
            stored = self._held(row[0] for row in rows)
            results = [ops.AddResult.STORED if row[0] in stored else ops.AddResult.DUPLICATE for row in rows]
        for row, result in zip(rows, results, strict=True) if self._named else ():
            handle = self._named.pop(row[0], None)
            if handle is not None and result is ops.AddResult.STORED:
                self._stored.append(handle)
        return results

    def _row(self, bundle: StoredBundle) -> tuple[Any, ...]:
        if max(bundle.expires_ms, bundle.age_ms, bundle.fragment_offset) > _LARGEST:
            bundle = bundle._replace(
                expires_ms=min(bundle.expires_ms, _LARGEST),
                age_ms=min(bundle.age_ms, _LARGEST),
                fragment_offset=min(bundle.fragment_offset, _LARGEST),
            )
        payload = bundle.payload
        if isinstance(payload, Octets):
            data = payload.data
            if len(data) < FILE_PAYLOAD_OCTETS:
                return (*bundle[:10], bundle.tail, data, None, None, len(data))
            payload = self._outside(data)
        handle = payload.handle
        assert isinstance(handle, DiskHandle), "a payload file of another store"
        self._named[bundle.seq] = handle
        return (*bundle[:10], bundle.tail, None, handle.number, payload.offset, payload.length)

    def _remove(self, run: list[ops.Remove]) -> list[bool]:
        self._removing = True
        cursor = self._execute(f"DELETE FROM bundles WHERE {_NUMBERS} RETURNING seq", (_numbers(op.seq for op in run),))
        gone = {seq for (seq,) in cursor}
        results = []
        for (seq,) in run:
            results.append(seq in gone)
            gone.discard(seq)
        return results

    def _held(self, seqs: Iterable[int]) -> set[int]:
        return {seq for (seq,) in self._execute(f"SELECT seq FROM bundles WHERE {_NUMBERS}", (_numbers(seqs),))}

    def _load(self, op: ops.Load) -> list[StoredBundle]:
        return self._bundles(
            "WHERE destination = ? AND seq > ? ORDER BY seq LIMIT ?", (op.destination, op.after, op.limit)
        )

    def _get(self, seqs: list[int]) -> list[StoredBundle]:
        found = {bundle.seq: bundle for bundle in self._bundles(f"WHERE {_NUMBERS}", (_numbers(seqs),))}
        return [found[seq] for seq in seqs if seq in found]

    def _expired(self, op: ops.Expired) -> list[StoredBundle]:
        found: list[StoredBundle] = []
        left = op.octets
        cursor = self._execute(
            _SELECT + "WHERE expires_ms <= ? ORDER BY expires_ms, seq LIMIT ?", (op.now_ms, op.limit)
        )
        for row in cursor:  # the octets of a row are read when its turn comes: none are read in vain
            found.append(self._bundle(row))
            left -= found[-1].length
            if left <= 0:
                break
        cursor.close()
        return found

    def _next_expiry(self) -> int | None:
        earliest: int | None
        (earliest,) = self._execute("SELECT min(expires_ms) FROM bundles").fetchone()
        return earliest

    def _fragments(self, adu_key: bytes) -> list[StoredBundle]:
        return self._bundles("WHERE adu_key = ? AND fragment_offset >= 0 ORDER BY fragment_offset, seq", (adu_key,))

    def _listing(self, op: ops.Listing) -> list[StoredBundle]:
        return self._bundles("WHERE seq > ? ORDER BY seq LIMIT ?", (op.after, op.limit))

    def _bundles(self, condition: str, values: tuple[Any, ...]) -> list[StoredBundle]:
        return [self._bundle(row) for row in self._execute(_SELECT + condition, values).fetchall()]

    def _bundle(self, row: tuple[Any, ...]) -> StoredBundle:
        octets = row[11]
        payload: Payload = Octets(octets) if octets is not None else self._range(*row[12:])
        return StoredBundle._make((*row[:10], payload, row[10]))

    # ---- identities, state ------------------------------------------------------------------------------------------

    def _remember(self, run: list[ops.Remember]) -> list[None]:
        rows = [(key, source, min(until_ms, _LARGEST)) for key, source, until_ms in run]
        self._connection.executemany(_REMEMBER, rows)
        return [None] * len(run)

    def _forget(self, now_ms: int) -> dict[str, int]:
        self._removing = True
        dropped = dict(
            self._execute("SELECT source, count(*) FROM delivered WHERE until_ms < ? GROUP BY source", (now_ms,))
        )
        if dropped:
            self._execute("DELETE FROM delivered WHERE until_ms < ?", (now_ms,))
        return dropped

    def _put_state(self, run: list[ops.PutState]) -> list[None]:
        for erase, part in groupby(run, lambda op: op.value is None):
            if erase:
                self._connection.executemany(
                    "DELETE FROM state WHERE service = ? AND key = ?", [(op.service, op.key) for op in part]
                )
            else:
                self._connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", part)
        return [None] * len(run)

    def _get_state(self, op: ops.GetState) -> dict[str, bytes]:
        return dict(
            self._execute(
                "SELECT key, value FROM state WHERE service = ?1 AND key >= ?2 AND substr(key, 1, length(?2)) = ?2"
                " ORDER BY key",
                (op.service, op.prefix),
            )
        )

    # ---- files ------------------------------------------------------------------------------------------------------

    def _outside(self, data: bytes) -> FileRange:
        writer = FileWriter(self._place)
        writer.write(data)
        payload = writer.finish()
        assert isinstance(payload.handle, DiskHandle)
        self._made.append(payload.handle)
        return payload

    def _range(self, file: int, offset: int, length: int) -> FileRange:
        return FileRange(self._files.stored(file), offset, length)


def _octets_in_pages(bundle: StoredBundle) -> int:
    """At most so much does a bundle take in the database: its row, its part of the indexes, an overflow page half full."""
    length = len(bundle.head) + len(bundle.tail) + ROW_OCTETS
    if isinstance(bundle.payload, Octets) and bundle.payload.length < FILE_PAYLOAD_OCTETS:
        length += bundle.payload.length
    return length if length < PAGE_OCTETS // 4 else length + PAGE_OCTETS


def _numbers(seqs: Iterable[int]) -> str:
    return json.dumps(list(seqs))

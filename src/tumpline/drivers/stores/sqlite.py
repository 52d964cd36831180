"""The durable store: one SQLite database, large payloads as files beside it, one thread that writes, one that unlinks.

Transactions that wait while one is being committed are committed together with the next: the more come, the fewer syncs
each of them costs.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

import msgspec

from tumpline.drivers.directories import make_directory
from tumpline.drivers.stores._api import Done, StoreSpec
from tumpline.drivers.stores._files import FileWriter, PayloadDirectory
from tumpline.drivers.stores._sink import BundleSink
from tumpline.drivers.stores._sqlite_engine import Committed, Engine
from tumpline.drivers.stores._sqlite_schema import DATABASE, open_database, recovered, unusable
from tumpline.drivers.stores._sweeper import Sweeper
from tumpline.errors import StateError, StorageError
from tumpline.machines.storage import Operation, Recovered

PAYLOADS = "payloads"
# Operations committed together at most: some 100 ms of work, so that nobody waits much longer for a group's end.
GROUP_OPERATIONS_MAX = 8192


class SqliteConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Bundles are kept in a SQLite database below state_dir; what was acknowledged outlives a power cut."""


class Transaction(NamedTuple):
    """One `submit` on its way to the writer thread."""

    operations: Sequence[Operation]
    done: Done


class SqliteStore:
    """Store of a directory of its own."""

    durable = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = PayloadDirectory(directory / PAYLOADS)
        self._place = self._files.place()
        self._engine: Engine | None = None
        self._inbox: SimpleQueue[Transaction | None] = SimpleQueue()  # to the writer; None: the end
        self._sweeper = Sweeper(self._files, self._not_unlinked, f"sweep {directory.name}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._ended: asyncio.Future[None] | None = None

    # ---- Store, on the event loop's thread -------------------------------------------------------------------------

    def open(self) -> Recovered:
        """Raises: StateError."""
        assert self._engine is None, "opened twice"
        path = self._directory / DATABASE
        try:
            make_directory(self._directory)
        except OSError as error:
            raise StateError(f"{self._directory} cannot be made: {error.strerror}") from error
        connection = open_database(path)
        try:
            found = recovered(connection)
            self._files.recover({number for (number,) in connection.execute("SELECT number FROM files")})
            self._engine = Engine(connection, self._files, found.last_seq)
        except (sqlite3.Error, OSError) as error:
            connection.close()
            raise unusable(path, error) from error
        self._files.discard = self._sweeper.put
        return found

    def submit(self, operations: Sequence[Operation], done: Done) -> None:
        if self._thread is None:
            self._start()
        self._inbox.put(Transaction(operations, done))

    def sink(self, octets: int) -> BundleSink:
        return BundleSink(self._place, octets)

    def writer(self) -> FileWriter:
        return FileWriter(self._place)

    async def close(self) -> None:
        """Commit what was submitted, answer it, and let go of the database. Idempotent."""
        if self._engine is None:
            return
        if self._thread is None:
            self._start()
        assert self._thread is not None
        assert self._ended is not None
        self._inbox.put(None)
        await self._ended
        self._thread.join()
        self._thread = self._engine = None

    def _start(self) -> None:
        assert self._engine is not None, "the store is not open"
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        # A daemon: a process that dies of a mistake must die. What it was not answered for may be lost, no more.
        self._thread = Thread(
            target=self._write, args=(self._engine, self._loop), name=f"store {self._directory.name}", daemon=True
        )
        self._thread.start()
        self._sweeper.start()

    def _answer(self, group: list[Transaction], committed: Committed) -> None:
        """The store takes files over before anybody hears, and gives them up after everybody has heard: who is given
        a payload can retain it when called."""
        for handle in committed.stored:
            handle.stored()
        for handle in committed.dropped:
            handle.release()
        for transaction, answer in zip(group, committed.answers, strict=True):
            try:
                if isinstance(answer, StorageError):
                    transaction.done(None, answer)
                else:
                    transaction.done(answer, None)
            except Exception as error:  # one caller's mistake must not keep the others from their answers
                assert self._loop is not None
                context = {"message": "the receiver of a store's answer failed", "exception": error}
                self._loop.call_exception_handler(context)
        for number in committed.removed:
            self._files.removed(number)

    def _end(self) -> None:
        """Files let go of after the sweeper's end are unlinked here."""
        self._files.discard = self._sweeper.unlink
        self._sweeper.sweep_rest()
        assert self._ended is not None
        self._ended.set_result(None)

    # ---- the writer thread -----------------------------------------------------------------------------------------

    def _write(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        going_on = True
        while going_on:
            group, going_on = self._next_group()
            if group:
                committed = engine.commit([transaction.operations for transaction in group])
                loop.call_soon_threadsafe(self._answer, group, committed)
        engine.close()
        self._sweeper.finish()
        loop.call_soon_threadsafe(self._end)

    def _next_group(self) -> tuple[list[Transaction], bool]:
        """All transactions that wait, up to a bound, and whether more may follow."""
        group: list[Transaction] = []
        operations = 0
        while operations < GROUP_OPERATIONS_MAX:
            if group and self._inbox.empty():
                break
            item = self._inbox.get()
            if item is None:
                return group, False
            group.append(item)
            operations += len(item.operations)
        return group, True

    def _not_unlinked(self, error: StorageError) -> None:
        """On any thread."""
        assert self._loop is not None
        context = {"message": "a payload file could not be removed", "exception": error}
        self._loop.call_soon_threadsafe(self._loop.call_exception_handler, context)


SPEC = StoreSpec(
    "sqlite",
    "SQLite and payload files: what was acknowledged outlives a power cut",
    SqliteConfig,
    lambda _config, directory: SqliteStore(directory),
)

"""The seam of stores: a list of operations in, results out once they are durable; and sinks for large payloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tumpline.drivers.links._api import Sink
from tumpline.machines.contract import FileRange, Payload
from tumpline.machines.storage import Operation, Recovered, Results

Done = Callable[[Results | None, Exception | None], None]


class Store(Protocol):
    """One node's store. Single-threaded to its caller: every method and every `done` runs on the event loop's thread."""

    durable: bool  # whether what it acknowledged outlives the process

    def open(self) -> Recovered:
        """Take what the last run left (orphaned payload files are removed). Raises: StateError with the remedy."""

    def submit(self, operations: Sequence[Operation], done: Done) -> None:
        """Carry out the operations in order in one transaction, then call `done(results, None)`; or, when nothing of it
        was kept, `done(None, StorageError)`. Transactions submitted earlier are carried out earlier. A store that needs
        no waiting may call `done` before it returns."""

    def sink(self, octets: int) -> Sink:
        """A place for one encoded bundle of this length to arrive in. Raises: StorageError."""

    def writer(self) -> PayloadWriter:
        """A place for one ADU's payload to be written to (local applications, reassembly). Raises: StorageError."""

    async def close(self) -> None:
        """Finish what was submitted and free everything."""


class PayloadWriter(Protocol):
    """A large payload on its way into the store's keeping."""

    def write(self, data: bytes | memoryview) -> None:
        """Append. Raises: StorageError."""

    def finish(self) -> FileRange:
        """The payload; its handle is retained once for the caller. It becomes durable by the Add that names it."""

    def abort(self) -> None:
        """Nothing is kept. Idempotent."""


class StoreSpec(NamedTuple):
    """The last line of a store's module: `SPEC = StoreSpec(...)`."""

    scheme: str
    summary: str
    config: type[Any]
    open: Callable[[Any, Path], Store]  # (config, directory below state_dir)


__all__ = ["Done", "Payload", "PayloadWriter", "Sink", "Store", "StoreSpec"]

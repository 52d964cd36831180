"""The tables of the SQLite store, and opening them: made when new, refused with the remedy when they cannot be used."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tumpline.drivers.stores._files import FULL, disk_full
from tumpline.drivers.stores._reserve import reserve_octets
from tumpline.errors import StateError
from tumpline.machines.storage import Recovered

DATABASE = "store.sqlite"  # within the store's directory
SCHEMA_VERSION = 1
APPLICATION_ID = 0x74756D70  # "tump", in the header of the file: a database of something else is never touched
PAGE_OCTETS = 4096  # of 4096 and 8192 the better for small bundles: 10 to 30 % more of them a second were added
CACHE_KIB = 32 * 1024
# A checkpoint copies the log into the database and syncs both, and whoever waits for a commit waits for it. A log of 4 MiB
# is copied in some 20 ms, one of 16 MiB takes twice to three times as long and gains no more bundles a second. Such a log
# is read at a start in a moment, and fits into the reserve (_reserve.py) of a full disk.
CHECKPOINT_PAGES = 1024

# Counters are kept by triggers, in the same transaction as what they count: a start reads counters, not bundles.
TABLES = """
CREATE TABLE bundles (
  seq INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, adu_key BLOB NOT NULL, destination TEXT NOT NULL,
  expires_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL, age_ms INTEGER NOT NULL, previous TEXT NOT NULL,
  fragment_offset INTEGER NOT NULL, head BLOB NOT NULL, tail BLOB NOT NULL,
  octets BLOB,               -- a small payload; else NULL and:
  file INTEGER, file_offset INTEGER, payload_length INTEGER NOT NULL
);
CREATE INDEX bundles_by_queue ON bundles (destination, seq);
CREATE INDEX bundles_by_expiry ON bundles (expires_ms, seq);
CREATE INDEX fragments_by_adu ON bundles (adu_key, fragment_offset) WHERE fragment_offset >= 0;
CREATE TABLE queues (destination TEXT PRIMARY KEY, bundles INTEGER NOT NULL, octets INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX queues_empty ON queues (bundles) WHERE bundles = 0;
CREATE TABLE files (number INTEGER PRIMARY KEY, bundles INTEGER NOT NULL);
CREATE INDEX files_unused ON files (bundles) WHERE bundles = 0;
CREATE TABLE delivered (key BLOB PRIMARY KEY, source TEXT NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX delivered_by_time ON delivered (until_ms, source);
CREATE TABLE sources (source TEXT PRIMARY KEY, identities INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX sources_empty ON sources (identities) WHERE identities = 0;
CREATE TABLE state (service TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (service, key)) WITHOUT ROWID;
CREATE TABLE last (seq INTEGER NOT NULL);
INSERT INTO last VALUES (0);

CREATE TRIGGER bundle_added AFTER INSERT ON bundles BEGIN
  INSERT INTO queues VALUES (NEW.destination, 1, length(NEW.head) + NEW.payload_length + length(NEW.tail))
    ON CONFLICT DO UPDATE SET bundles = bundles + 1, octets = octets + excluded.octets;
END;
CREATE TRIGGER bundle_removed AFTER DELETE ON bundles BEGIN
  UPDATE queues SET bundles = bundles - 1, octets = octets - length(OLD.head) - OLD.payload_length - length(OLD.tail)
    WHERE destination = OLD.destination;
END;
CREATE TRIGGER file_added AFTER INSERT ON bundles WHEN NEW.file IS NOT NULL BEGIN
  INSERT INTO files VALUES (NEW.file, 1) ON CONFLICT DO UPDATE SET bundles = bundles + 1;
END;
CREATE TRIGGER file_removed AFTER DELETE ON bundles WHEN OLD.file IS NOT NULL BEGIN
  UPDATE files SET bundles = bundles - 1 WHERE number = OLD.file;
END;
CREATE TRIGGER delivered_added AFTER INSERT ON delivered BEGIN
  INSERT INTO sources VALUES (NEW.source, 1) ON CONFLICT DO UPDATE SET identities = identities + 1;
END;
CREATE TRIGGER delivered_removed AFTER DELETE ON delivered BEGIN
  UPDATE sources SET identities = identities - 1 WHERE source = OLD.source;
END;
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The database of the store, made if there is none. Raises: StateError; what cannot be read is left as it is."""
    _refuse_lost_database(path)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        _configure(connection, path)
        _check_schema(connection, path)
    except (sqlite3.Error, OSError, StateError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StateError):
            raise
        raise unusable(path, error) from error
    return connection


def recovered(connection: sqlite3.Connection) -> Recovered:
    """What the tables hold, from counters and the ends of indexes. Raises: sqlite3.Error."""
    queues: dict[str, tuple[int, int]] = {}
    bundles = octets = 0
    for destination, count, total, highest in connection.execute(
        "SELECT destination, bundles, octets, (SELECT max(seq) FROM bundles WHERE destination = queues.destination)"
        " FROM queues WHERE bundles > 0"
    ):
        queues[destination] = count, highest
        bundles += count
        octets += total
    (last_seq,) = connection.execute("SELECT seq FROM last").fetchone()
    (next_expiry,) = connection.execute("SELECT min(expires_ms) FROM bundles").fetchone()
    remembered = dict(connection.execute("SELECT source, identities FROM sources WHERE identities > 0"))
    return Recovered(last_seq, bundles, octets, queues, remembered, next_expiry)


def unusable(path: Path, error: Exception) -> StateError:
    """Why a database cannot be used, and what to do."""
    text = str(error)
    if is_full(error):
        return StateError(str(disk_full(str(path.parent))))
    if "locked" in text:
        return StateError(f"{path} is held by another process: stop that one, or use another state_dir")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StateError(
            f"{path} is damaged ({text}) and was left as it is: restore it and {path.parent / 'payloads'} from a copy,"
            f" or begin with an empty store: mv {path.parent} {path.parent}.damaged"
        )
    return StateError(f"{path} cannot be used ({text}): check that {path.parent} exists and belongs to this user")


def is_full(error: Exception) -> bool:
    """Whether there is no room on the disk."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _refuse_lost_database(path: Path) -> None:
    """Without its database, what lies beside it is not swept away as left over: it may be all that is left."""
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(path.name + "-wal")
    payloads = path.parent / "payloads"
    left = log if log.exists() and log.stat().st_size else next(payloads.iterdir(), None) if payloads.exists() else None
    if left is not None:
        raise StateError(
            f"{path} is missing or empty, but {left} is there, and was left as it is: restore the database from a copy,"
            f" or begin with an empty store: mv {path.parent} {path.parent}.damaged"
        )


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    execute = connection.execute
    pages = min(CHECKPOINT_PAGES, reserve_octets(path.parent) // 2 // PAGE_OCTETS)
    execute(f"PRAGMA page_size = {PAGE_OCTETS}")  # only while the database is empty
    execute("PRAGMA locking_mode = EXCLUSIVE")
    execute("PRAGMA journal_mode = WAL")
    execute("PRAGMA synchronous = FULL")  # the log is synced at each commit: what is acknowledged outlives a power cut
    execute(f"PRAGMA wal_autocheckpoint = {pages}")
    execute(f"PRAGMA journal_size_limit = {2 * pages * PAGE_OCTETS}")
    execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    execute("PRAGMA temp_store = MEMORY")
    # Some systems' SQLite, such as Debian's, overwrites with zeros what is removed: the log and the database then take as
    # many octets to remove a bundle as to add it. Nor are payload files overwritten.
    execute("PRAGMA secure_delete = OFF")


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    (version,) = execute("PRAGMA user_version").fetchone()
    (application,) = execute("PRAGMA application_id").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not tables and not version and not application:
        for statement in _statements():
            execute(statement)
    elif application != APPLICATION_ID:
        raise StateError(f"{path} is no store of tumpline and was left as it is: choose another state_dir")
    elif version != SCHEMA_VERSION:
        raise StateError(
            f"{path} has schema {version}, this version of tumpline reads {SCHEMA_VERSION}: start the version that wrote"
            " it and let it empty the store, or choose another state_dir"
        )
    execute("COMMIT")


def _statements() -> list[str]:
    statements = [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {SCHEMA_VERSION}"]
    text = ""
    for line in TABLES.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements

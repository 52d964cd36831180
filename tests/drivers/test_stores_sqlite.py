"""What only a store on a disk has to stand: power cuts, full and damaged disks, what others left there."""

import asyncio
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumpline.drivers.stores import _sqlite_engine
from tumpline.drivers.stores.sqlite import SPEC, SqliteStore
from tumpline.errors import StateError, StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.storage import (
    Add,
    AddResult,
    Forget,
    Get,
    GetState,
    Listing,
    NextExpiry,
    PutState,
    Remember,
    Remove,
)
from tumpline.testing.conformance.stores import LARGE, Shelf, always, encoded_bundle, octets_of, stored_bundle

STORED = AddResult.STORED


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(SqliteStore, tmp_path / "store")
    shelf.open()
    yield shelf
    await shelf.store.close()


def payload_files(shelf: Shelf) -> set[str]:
    return {path.name for path in (shelf.directory / "payloads").iterdir()}


async def files_left(shelf: Shelf) -> set[str]:
    """Those that remain when all that were let go of are unlinked: a store that has closed has done that."""
    await shelf.settle()
    await shelf.store.close()
    files = payload_files(shelf)
    shelf.open()
    return files


def connection_of(shelf: Shelf) -> sqlite3.Connection:
    assert isinstance(shelf.store, SqliteStore)
    assert shelf.store._engine is not None
    return shelf.store._engine._connection


# ---- power cuts -------------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from tumpline.drivers.stores.sqlite import SqliteStore
from tumpline.machines.storage import Add, PutState, Remember
from tumpline.testing.conformance.stores import LARGE, Shelf, stored_bundle

async def main():
    shelf = Shelf(SqliteStore, Path(sys.argv[1]))
    seq = shelf.open().last_seq
    loop = asyncio.get_running_loop()
    def add():
        nonlocal seq
        seq += 1
        number = seq
        large = {"payload": shelf.payload(LARGE + b"%d" % number)} if number % 50 == 0 else {}
        def done(results, error):
            print(number, flush=True)
            add()
        bundle = stored_bundle(number, **large)
        shelf.store.submit([Add(bundle), PutState("s", str(number), b""), Remember(b"r%d" % number, "x", 9)], done)
    for _ in range(20):
        add()
    await loop.create_future()

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    answered: list[int] = []
    for _ in range(3):
        command = [sys.executable, "-c", CHILD, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                answered.append(int(line))
                if len(answered) % 200 == 0:
                    child.send_signal(signal.SIGKILL)
                    break
            answered += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    shelf = Shelf(SqliteStore, directory)
    recovered = shelf.open()
    bundles = {bundle.seq: bundle for bundle in await shelf.one(Listing(0, 10**6))}
    assert len(answered) >= 600
    assert set(answered) <= set(bundles)
    assert recovered.bundles == len(bundles)
    assert recovered.last_seq == max(bundles)
    # Each transaction is whole: bundle, record and identity, or nothing.
    assert set(await shelf.one(GetState("s"))) == {str(seq) for seq in bundles}
    assert await shelf.one(Forget(10)) == {"x": len(bundles)} == recovered.remembered
    for seq in range(50, max(bundles) + 1, 50):
        assert octets_of(bundles[seq].payload) == LARGE + b"%d" % seq
    assert len(payload_files(shelf)) == max(bundles) // 50
    await shelf.store.close()


async def test_syncs_payload_and_directory_before_the_commit_that_names_them(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real_fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    connection_of(shelf).set_trace_callback(lambda sql: steps.append(sql) if sql == "COMMIT" else None)
    payload = shelf.payload(LARGE)
    payload.handle.retain()
    parts = [payload._replace(length=9), payload._replace(offset=9, length=9)]
    await shelf.do(*(Add(stored_bundle(seq, payload=part)) for seq, part in enumerate(parts, 1)))
    assert steps == ["1", "payloads", "COMMIT"]
    payload.handle.retain()
    await shelf.do(Add(stored_bundle(3, payload=payload)))
    assert steps[3:] == ["COMMIT"], "synced once is enough"


async def test_commits_what_waits_together(shelf: Shelf) -> None:
    commits: list[str] = []
    connection_of(shelf).set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    answers = [shelf.begin(Add(stored_bundle(seq))) for seq in range(1, 2001)]
    for answer in answers:
        assert await answer == [STORED]
    assert len(commits) < 200


# ---- opening ----------------------------------------------------------------------------------------------------------


async def test_never_gives_a_number_twice(shelf: Shelf) -> None:
    await shelf.do(Add(stored_bundle(41)), Add(stored_bundle(42)))
    await shelf.do(Remove(42))
    assert (await shelf.reopen()).last_seq == 42
    await shelf.do(Remove(41))
    assert (await shelf.reopen()).last_seq == 42


async def test_removes_files_that_no_bundle_names(shelf: Shelf) -> None:
    await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
    kept = payload_files(shelf)
    for name in ("77", "rubbish.tmp"):
        (shelf.directory / "payloads" / name).write_bytes(b"left by a run that was killed")
    await shelf.reopen()
    assert payload_files(shelf) == kept
    fresh = shelf.payload(LARGE)
    assert len(payload_files(shelf)) == 2, "a new file took the place of one that is named"
    fresh.handle.release()


async def test_a_second_process_is_told(shelf: Shelf) -> None:
    with pytest.raises(StateError, match="held by another process"):
        SqliteStore(shelf.directory).open()
    assert await shelf.one(Add(stored_bundle(1))) is STORED


@pytest.mark.parametrize("damage", ["header", "middle", "text"])
async def test_a_damaged_database_is_refused_and_left_as_it_is(shelf: Shelf, damage: str) -> None:
    await shelf.do(
        *(Add(stored_bundle(seq)) for seq in range(1, 2001)), Add(stored_bundle(3000, payload=Octets(LARGE)))
    )
    await shelf.store.close()
    path = shelf.directory / "store.sqlite"
    octets = bytearray(path.read_bytes())
    if damage == "header":
        octets[:100] = bytes(100)
    elif damage == "middle":
        octets[100:] = os.urandom(len(octets) - 100)
    else:
        octets[:] = b"a note to myself\n"
    path.write_bytes(octets)
    files = payload_files(shelf)
    with pytest.raises(StateError, match=r"damaged.*mv "):
        shelf.open()
    assert path.read_bytes() == octets
    assert payload_files(shelf) == files
    path.unlink()
    shelf.directory.joinpath("payloads").rename(shelf.directory / "saved")
    shelf.open()


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
async def test_payloads_without_their_database_are_not_swept_away(shelf: Shelf, left: str) -> None:
    await shelf.do(Add(stored_bundle(1, payload=Octets(LARGE))))
    await shelf.store.close()
    path = shelf.directory / "store.sqlite"
    saved = path.read_bytes()
    path.unlink()
    if left == "an empty file":
        path.touch()
    with pytest.raises(StateError, match="missing or empty"):
        shelf.open()
    path.write_bytes(saved)
    assert shelf.open().bundles == 1
    assert octets_of((await shelf.one(Get([1])))[0].payload) == LARGE


@pytest.mark.parametrize(
    ("pragma", "says"), [("user_version = 99", "has schema 99"), ("application_id = 5", "is no store of tumpline")]
)
async def test_another_schema_is_refused(shelf: Shelf, pragma: str, says: str) -> None:
    await shelf.store.close()
    path = shelf.directory / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(StateError, match=says):
        shelf.open()
    path.unlink()
    shelf.open()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        SqliteStore(tmp_path / "file").open()
    (tmp_path / "store" / "store.sqlite" / "x").mkdir(parents=True)
    with pytest.raises(StateError, match=r"store\.sqlite"):
        SqliteStore(tmp_path / "store").open()


async def test_only_its_user_can_read_it(shelf: Shelf) -> None:
    shelf.payload(LARGE).handle.release()
    payload = shelf.payload(LARGE)
    paths = [shelf.directory, shelf.directory / "store.sqlite", *(shelf.directory / "payloads").iterdir()]
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}
    payload.handle.release()


# ---- full disks -------------------------------------------------------------------------------------------------------


async def test_a_full_disk_fails_the_transaction_and_later_ones_work(shelf: Shelf) -> None:
    connection = connection_of(shelf)
    await shelf.do(Add(stored_bundle(1)), PutState("s", "k", b"old"))
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    small = shelf.begin(PutState("s", "small", b"x"))
    large = shelf.begin(
        PutState("s", "k", b"new"), *(Add(stored_bundle(seq, payload=Octets(b"x" * 5000))) for seq in range(2, 100))
    )
    behind = shelf.begin(Remove(1))
    assert (await small, await behind) == ([None], [True])
    with pytest.raises(StorageError, match=rf"disk full: no room in {shelf.directory}; free some"):
        await large
    assert await shelf.do(GetState("s"), Listing(0, 9)) == [{"k": b"old", "small": b"x"}, []]
    connection.execute("PRAGMA max_page_count = 100000")
    await shelf.do(*(Add(stored_bundle(seq, payload=Octets(b"x" * 5000))) for seq in range(2, 100)))
    assert (await shelf.reopen()).bundles == 98


FULL_DISK = """
import asyncio, sys
from pathlib import Path
from tumpline.drivers.stores.sqlite import SqliteStore
from tumpline.errors import StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.storage import Add, Listing, Remove
from tumpline.testing.conformance.stores import Shelf, stored_bundle

async def main():
    shelf = Shelf(SqliteStore, Path(sys.argv[1]) / "store")
    shelf.open()
    seq = 0
    for life in range(3):
        full = False
        while not full:
            seq += 1
            try:
                await shelf.do(Add(stored_bundle(seq, payload=Octets(b"x" * 60_000))))
            except StorageError as error:
                assert "disk full" in str(error), error
                full = True
        with open(Path(sys.argv[1]) / "rest", "wb", buffering=0) as rest:  # others fill what is left
            try:
                while True:
                    rest.write(bytes(4096))
            except OSError:
                pass
        assert (await shelf.reopen()).bundles > 200
        held = await shelf.seqs(Listing(0, 10_000))
        for begin in range(0, len(held), 10):
            await shelf.do(*map(Remove, held[begin : begin + 10]))
    await shelf.store.close()
    print("worked on")

asyncio.run(main())
"""


def test_bundles_can_be_removed_from_a_disk_without_an_octet_left(tmp_path: Path) -> None:
    """A real file system of 100 MB in a namespace of its own."""
    mount = 'mount -t tmpfs -o size=100m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, FULL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("worked on\n", "")


async def test_a_disk_full_of_payload_fails_the_sink_and_frees(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 300_000

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data[: room - offset])  # as a disk does: first a short write, then none

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageError, match="disk full"):
            shelf.receive(encoded_bundle(LARGE * 6), always(50_000))
        assert await files_left(shelf) == set()
        writer = shelf.store.writer()
        with pytest.raises(StorageError, match=f"disk full.*{shelf.directory}"):
            writer.write(LARGE * 6)
        writer = shelf.store.writer()
        writer.write(LARGE * 2)
        writer.write(LARGE * 2)
        with pytest.raises(StorageError, match="disk full"):
            writer.finish()
        with pytest.raises(StorageError, match="disk full"):
            await shelf.do(PutState("s", "k", b""), Add(stored_bundle(1, payload=Octets(LARGE * 6))))
    assert await files_left(shelf) == set()
    assert await shelf.do(GetState("s"), Add(stored_bundle(1, payload=Octets(LARGE * 6)))) == [{}, STORED]


async def test_a_disk_that_cannot_sync_fails_the_transaction(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    payload = shelf.payload(LARGE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match="Input/output error"):
            await shelf.do(Add(stored_bundle(1, payload=payload)))
    assert await shelf.one(Listing(0, 9)) == []
    assert await shelf.one(Add(stored_bundle(1, payload=payload))) is STORED


async def test_what_cannot_fit_is_refused_before_it_comes(shelf: Shelf) -> None:
    with pytest.raises(StorageError, match="disk full"):
        shelf.store.sink(shutil.disk_usage(shelf.directory).total + 1)
    assert payload_files(shelf) == set()


# ---- files ------------------------------------------------------------------------------------------------------------


async def test_a_file_goes_with_the_last_bundle_that_names_it(shelf: Shelf) -> None:
    payload = shelf.payload(LARGE)
    payload.handle.retain()
    await shelf.do(Add(stored_bundle(1, payload=payload)), Add(stored_bundle(2, payload=payload._replace(length=10))))
    await shelf.do(Remove(1))
    assert len(await files_left(shelf)) == 1
    await shelf.do(Remove(2))
    assert await files_left(shelf) == set()


async def test_unread_files_need_no_descriptors(shelf: Shelf) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for seq in range(1, 41):
        await shelf.do(Add(stored_bundle(seq, payload=shelf.payload(LARGE))))
    bundles = await shelf.one(Listing(0, 99))
    assert len(os.listdir("/proc/self/fd")) <= before
    for bundle in bundles:
        bundle.payload.handle.retain()
        assert octets_of(bundle.payload) == LARGE
    assert len(os.listdir("/proc/self/fd")) == before + 40
    for bundle in bundles:
        bundle.payload.handle.release()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_payload_may_be_read_after_the_store_has_closed(shelf: Shelf) -> None:
    await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
    (bundle,) = await shelf.one(Get([1]))
    bundle.payload.handle.retain()
    await shelf.do(Remove(1))
    await shelf.store.close()
    assert octets_of(bundle.payload) == LARGE
    bundle.payload.handle.release()
    assert payload_files(shelf) == set()


async def test_removing_large_bundles_writes_little(shelf: Shelf) -> None:
    """SQLite may be built to overwrite what is removed: then everybody's commits wait for what nobody needs."""
    bundles = [stored_bundle(seq, payload=Octets(bytes(90_000))) for seq in range(1, 65)]
    await shelf.do(*map(Add, bundles))
    await shelf.reopen()  # the log begins anew
    assert all(await shelf.do(*(Remove(bundle.seq) for bundle in bundles)))
    written = sum(path.stat().st_size for path in shelf.directory.glob("*-wal"))
    assert 0 < written < 500_000


async def test_a_slow_unlink_keeps_no_commit_waiting(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    unlink = os.unlink

    def slow(path: Path) -> None:
        begun.set()
        assert go_on.wait(60)
        unlink(path)

    await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
    monkeypatch.setattr(os, "unlink", slow)
    await shelf.do(Remove(1))
    assert await asyncio.to_thread(begun.wait, 60)
    assert await shelf.one(Add(stored_bundle(2))) is STORED
    assert len(payload_files(shelf)) == 1
    go_on.set()
    assert await files_left(shelf) == set()


# ---- mistakes of others -----------------------------------------------------------------------------------------------


async def test_a_receiver_that_fails_does_not_keep_others_from_their_answers(shelf: Shelf) -> None:
    heard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(str(context["exception"])))

    def fail(results: object, error: object) -> None:
        raise RuntimeError("a mistake")

    shelf.store.submit([NextExpiry()], fail)
    assert await shelf.do(NextExpiry()) == [None]
    assert heard == ["a mistake"]


async def test_an_operation_that_does_not_exist_fails_alone(shelf: Shelf) -> None:
    fine = shelf.begin(Add(stored_bundle(1)))
    wrong = shelf.begin("no operation")  # type: ignore[arg-type]
    assert await fine == [STORED]
    with pytest.raises(StorageError):
        await wrong


async def test_needs_no_scan_for_what_it_looks_up(shelf: Shelf) -> None:
    """Every statement that a transaction or a start runs finds its rows by an index."""
    connection = connection_of(shelf)
    statements: set[str] = set()
    connection.set_trace_callback(statements.add)
    await shelf.do(Add(stored_bundle(1)), Add(stored_bundle(1 + 1, key=b"key 1")), Remember(b"r", "s", 5), Forget(9))
    await shelf.do(Get([1]), Listing(0, 5), NextExpiry(), GetState("s", "k"), PutState("s", "k", None), Remove(1))
    connection.set_trace_callback(None)
    looked_up = [sql for sql in statements if sql.startswith(("SELECT", "DELETE", "UPDATE bundles"))]
    assert len(looked_up) >= 8
    for sql in looked_up:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert not any(step.startswith("SCAN") and "json_each" not in step for step in plan), (sql, plan)


def test_is_what_its_specification_says(tmp_path: Path) -> None:
    store = SPEC.open(SPEC.config(), tmp_path)
    assert store.durable
    assert _sqlite_engine._LARGEST == 2**63 - 1

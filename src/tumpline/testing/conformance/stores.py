"""What every store does, whatever it is made of. A test module subclasses `StoreConformance` and names a store:

@pytest.fixture(params=registered_stores(), ids=lambda spec: spec.scheme)
def store_spec(request): return request.param

class TestStores(StoreConformance): ...
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tumpline.drivers import stores
from tumpline.drivers.payload import pieces, read_range
from tumpline.drivers.stores._api import Store, StoreSpec
from tumpline.errors import MalformedError, StorageError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import Arrival
from tumpline.machines.storage import (
    Add,
    AddResult,
    Expired,
    Forget,
    Fragments,
    Get,
    GetState,
    Listing,
    Load,
    NextExpiry,
    Operation,
    PutState,
    Recovered,
    Remember,
    Remove,
    Results,
)
from tumpline.wire.bundle7 import Bundle, CrcType, PrimaryBlock, check_tail, decode_head_untrusted, encode_bundle
from tumpline.wire.crc import crc32c
from tumpline.wire.eid import Eid

STORED, DUPLICATE = AddResult.STORED, AddResult.DUPLICATE
QUEUE = "dtn://rover/inbox"
MANY = 1 << 40  # octets
LARGE = bytes(range(256)) * (FILE_PAYLOAD_OCTETS // 256 + 1)


def registered_stores() -> list[StoreSpec]:
    """Every store module of tumpline."""
    names = [module.name for module in pkgutil.iter_modules(stores.__path__) if not module.name.startswith("_")]
    return [importlib.import_module(f"{stores.__name__}.{name}").SPEC for name in sorted(names)]


def stored_bundle(seq: int, **changes: Any) -> StoredBundle:
    """A small bundle as the node would give it; `adu_key` follows `key` unless it is given."""
    key = changes.get("key", b"key %d" % seq)
    usual = StoredBundle(
        seq, key, key, QUEUE, 1000 + seq, 500, 7, "dtn://relay/", -1, b"head", Octets(b"payload"), b"tail"
    )
    return usual._replace(**changes)


def encoded_bundle(payload: bytes, crc_type: int = CrcType.CRC32C) -> bytes:
    """A real bundle, as it comes over a link."""
    node = Eid.parse("dtn://relay/")
    primary = PrimaryBlock(0, CrcType.CRC32C, Eid.parse(QUEUE), node, node, 1000, 1, 60_000)
    return encode_bundle(Bundle(primary, (), payload, payload_crc_type=crc_type))


def octets_of(payload: Payload) -> bytes:
    """All octets of a payload, wherever it lies."""
    return read_range(payload, 0, payload.length)


class Shelf:
    """A store in a directory, opened, and opened again."""

    def __init__(self, open_store: Any, directory: Path) -> None:
        self._open_store = open_store
        self.directory = directory
        self.store: Store
        self.recovered: Recovered

    def open(self) -> Recovered:
        self.store = self._open_store(self.directory)
        self.recovered = self.store.open()
        return self.recovered

    async def reopen(self) -> Recovered:
        await self.store.close()
        return self.open()

    async def do(self, *operations: Operation) -> Results:
        """One transaction."""
        return await self.begin(*operations)

    def begin(self, *operations: Operation) -> asyncio.Future[Results]:
        """One transaction that is not waited for."""
        answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()

        def done(results: Results | None, error: Exception | None) -> None:
            if results is None:
                assert error is not None
                answer.set_exception(error)
            else:
                assert error is None
                answer.set_result(results)

        self.store.submit(list(operations), done)
        return answer

    async def one(self, operation: Operation) -> Any:
        (result,) = await self.do(operation)
        return result

    async def seqs(self, operation: Operation) -> list[int]:
        """The numbers of the bundles that the operation gives."""
        return [bundle.seq for bundle in await self.one(operation)]

    async def settle(self) -> None:
        """Until payloads that were let go of are out of reach: at the latest behind the next transaction."""
        await self.do(NextExpiry())
        await self.do(NextExpiry())

    def payload(self, data: bytes) -> FileRange:
        """A payload as an application or reassembly writes it."""
        writer = self.store.writer()
        writer.write(data)
        return writer.finish()

    def receive(self, data: bytes, chunks: Iterator[int]) -> Arrival:
        """A bundle as a link gives it, in chunks of these sizes."""
        sink = self.store.sink(len(data))
        while data:
            buffer = sink.buffer(len(data))
            count = min(next(chunks), len(buffer))
            assert 0 < count <= len(data)
            buffer[:count] = data[:count]
            sink.advance(count)
            data = data[count:]
        return sink.finish(5)


def always(octets: int) -> Iterator[int]:
    """Chunks of one size."""
    while True:
        yield octets


class StoreConformance:
    """Inherited by a test class; `store_spec` is a fixture there, or `open_store` is overridden."""

    @pytest.fixture
    def open_store(self, store_spec: StoreSpec) -> Any:
        return lambda directory: store_spec.open(store_spec.config(), directory)

    @pytest.fixture
    async def shelf(self, open_store: Any, tmp_path: Path) -> AsyncIterator[Shelf]:
        shelf = Shelf(open_store, tmp_path / "store")
        shelf.open()
        yield shelf
        await shelf.store.close()

    # ---- bundles ----------------------------------------------------------------------------------------------------

    async def test_is_empty_at_first(self, shelf: Shelf) -> None:
        assert shelf.recovered == Recovered(0, 0, 0, {}, {}, None)
        assert await shelf.do(
            Load(QUEUE, 0, 9), Listing(0, 9), NextExpiry(), Expired(10**15, 9, MANY), Fragments(b"x")
        ) == [
            [],
            [],
            None,
            [],
            [],
        ]

    async def test_gives_back_what_it_was_given(self, shelf: Shelf) -> None:
        bundles = [
            stored_bundle(1),
            stored_bundle(2, payload=Octets(b""), tail=b"\xff", previous="", destination="ipn:7.1"),
            stored_bundle(3, adu_key=b"whole", fragment_offset=0, age_ms=2**40, received_ms=0),
        ]
        assert await shelf.do(*map(Add, bundles)) == [STORED] * 3
        assert await shelf.one(Listing(0, 9)) == bundles
        assert await shelf.one(Get([3, 1, 77])) == [bundles[2], bundles[0]]

    async def test_loads_each_queue_in_order_of_number(self, shelf: Shelf) -> None:
        for seq in (5, 1, 700, 3, 2000, 4, 1999):
            await shelf.do(Add(stored_bundle(seq)), Add(stored_bundle(seq + 5000, destination="dtn://other/x")))
        assert await shelf.seqs(Load(QUEUE, 0, 99)) == [1, 3, 4, 5, 700, 1999, 2000]
        assert await shelf.seqs(Load(QUEUE, 3, 3)) == [4, 5, 700]
        assert await shelf.seqs(Load(QUEUE, 2, 1)) == [3]
        assert await shelf.seqs(Load(QUEUE, 2000, 9)) == []
        assert await shelf.seqs(Load("dtn://other/x", 5004, 2)) == [5005, 5700]
        assert await shelf.seqs(Load("dtn://nobody/", 0, 9)) == []

    async def test_removes_from_anywhere(self, shelf: Shelf) -> None:
        await shelf.do(*(Add(stored_bundle(seq)) for seq in range(1, 1501)))
        removed = [seq for seq in range(1, 1501) if seq % 7]
        assert await shelf.do(*map(Remove, removed)) == [True] * len(removed)
        assert await shelf.do(Remove(1), Remove(7), Remove(7), Remove(9999)) == [False, True, False, False]
        assert await shelf.seqs(Load(QUEUE, 7, 3)) == [14, 21, 28]
        assert await shelf.seqs(Load(QUEUE, 1490, 9)) == [1491, 1498]
        assert await shelf.seqs(Listing(0, 2)) == [14, 21]
        assert await shelf.one(NextExpiry()) == 1014

    async def test_carries_out_operations_in_the_order_given(self, shelf: Shelf) -> None:
        results = await shelf.do(
            Add(stored_bundle(1)),
            Load(QUEUE, 0, 9),
            Remove(1),
            Load(QUEUE, 0, 9),
            Add(stored_bundle(2, key=b"key 1")),
            Remember(b"key 3", "dtn://a/", 9000),
            Add(stored_bundle(3)),
        )
        assert results == [STORED, [stored_bundle(1)], True, [], STORED, None, DUPLICATE]

    async def test_carries_out_transactions_in_the_order_given(self, shelf: Shelf) -> None:
        answers = []
        for seq in range(1, 101):
            answers.append(shelf.begin(Add(stored_bundle(seq))))
            answers.append(shelf.begin(Load(QUEUE, 0, 1), Remove(seq)))
        results = await asyncio.gather(*answers)
        assert results[::2] == [[STORED]] * 100
        assert results[1::2] == [[[stored_bundle(seq)], True] for seq in range(1, 101)]

    async def test_keeps_nothing_of_a_transaction_that_fails(self, shelf: Shelf) -> None:
        await shelf.do(Add(stored_bundle(1)), PutState("s", "k", b"old"))
        before = shelf.begin(Add(stored_bundle(2)))
        failing = shelf.begin(
            PutState("s", "k", b"new"),
            Remember(b"r", "dtn://a/", 1),
            Remove(1),
            Add(stored_bundle(3)),
            Add(stored_bundle(3, key=b"another with that number")),
        )
        behind = shelf.begin(Add(stored_bundle(4)))
        assert await before == await behind == [STORED]
        with pytest.raises(StorageError):
            await failing
        assert await shelf.seqs(Listing(0, 9)) == [1, 2, 4]
        assert await shelf.do(GetState("s"), Forget(10**9)) == [{"k": b"old"}, {}]
        assert await shelf.one(Add(stored_bundle(3))) is STORED

    async def test_takes_times_of_any_size(self, shelf: Shelf) -> None:
        longest = 2**64 - 1
        await shelf.do(Add(stored_bundle(1, expires_ms=2 * longest, age_ms=longest, fragment_offset=longest)))
        await shelf.do(Remember(b"r", "dtn://a/", 2 * longest))
        assert await shelf.one(NextExpiry()) >= 2**63 - 1
        assert await shelf.one(Forget(2**62)) == {}
        assert await shelf.seqs(Listing(0, 9)) == [1]

    async def test_pages_through_everything(self, shelf: Shelf) -> None:
        await shelf.do(*(Add(stored_bundle(seq, destination=f"dtn://n{seq % 3}/")) for seq in range(1, 1201)))
        pages, after = [], 0
        while page := await shelf.seqs(Listing(after, 500)):
            pages.append(page)
            after = page[-1]
        assert [len(page) for page in pages] == [500, 500, 200]
        assert [seq for page in pages for seq in page] == list(range(1, 1201))

    # ---- identities -------------------------------------------------------------------------------------------------

    async def test_does_not_take_a_key_twice(self, shelf: Shelf) -> None:
        assert await shelf.do(
            Add(stored_bundle(1, key=b"k")), Add(stored_bundle(2, key=b"k")), Add(stored_bundle(3))
        ) == [STORED, DUPLICATE, STORED]
        assert await shelf.one(Add(stored_bundle(4, key=b"k"))) is DUPLICATE
        assert await shelf.seqs(Load(QUEUE, 0, 9)) == [1, 3]
        await shelf.do(Remove(1))
        assert await shelf.one(Add(stored_bundle(5, key=b"k"))) is STORED

    async def test_does_not_take_what_was_delivered(self, shelf: Shelf) -> None:
        await shelf.do(Remember(b"adu", "dtn://a/", 100), Remember(b"piece", "dtn://a/", 100))
        fragment = stored_bundle(1, key=b"adu 0 5", adu_key=b"adu", fragment_offset=0)
        piece = stored_bundle(2, key=b"piece", adu_key=b"other adu", fragment_offset=0)
        assert await shelf.do(Add(fragment), Add(piece), Add(stored_bundle(3, key=b"adu"))) == [DUPLICATE] * 3
        await shelf.do(Forget(101))
        assert await shelf.do(Add(fragment), Add(piece)) == [STORED] * 2

    async def test_forgets_identities_when_their_time_is_over(self, shelf: Shelf) -> None:
        await shelf.do(*(Remember(b"%d" % n, f"dtn://n{n % 2}/", 100 + n) for n in range(10)))
        assert await shelf.one(Forget(100)) == {}
        assert await shelf.one(Forget(103)) == {"dtn://n0/": 2, "dtn://n1/": 1}
        assert await shelf.one(Forget(103)) == {}
        assert (await shelf.reopen()).remembered in ({"dtn://n0/": 3, "dtn://n1/": 4}, {})

    async def test_remembers_an_identity_once_and_for_the_longer_time(self, shelf: Shelf) -> None:
        await shelf.do(
            Remember(b"a", "dtn://n/", 100), Remember(b"a", "dtn://n/", 300), Remember(b"a", "dtn://n/", 200)
        )
        assert await shelf.one(Forget(300)) == {}
        assert await shelf.one(Add(stored_bundle(1, key=b"a"))) is DUPLICATE
        assert await shelf.one(Forget(301)) == {"dtn://n/": 1}

    # ---- expiry, fragments, state -----------------------------------------------------------------------------------

    async def test_finds_what_has_expired_and_keeps_it(self, shelf: Shelf) -> None:
        for seq, expires_ms in enumerate((50, 10, 30, 10, 40), 1):
            await shelf.do(Add(stored_bundle(seq, expires_ms=expires_ms)))
        assert await shelf.one(NextExpiry()) == 10
        assert await shelf.seqs(Expired(9, 9, MANY)) == []
        assert await shelf.seqs(Expired(40, 3, MANY)) == [2, 4, 3]
        assert await shelf.seqs(Expired(40, 9, MANY)) == [2, 4, 3, 5]
        await shelf.do(Remove(2), Remove(4))
        assert await shelf.do(NextExpiry(), Remove(3), NextExpiry()) == [30, True, 40]
        assert await shelf.seqs(Expired(99, 9, MANY)) == [5, 1]

    async def test_finds_of_what_has_expired_no_more_octets_than_asked_for_but_one(self, shelf: Shelf) -> None:
        payloads = (bytes(500), bytes(50), LARGE)
        bundles = [stored_bundle(seq, payload=Octets(each), expires_ms=seq) for seq, each in enumerate(payloads, 1)]
        await shelf.do(*map(Add, bundles))
        two = bundles[0].length + bundles[1].length
        assert await shelf.seqs(Expired(9, 9, 1)) == [1]
        assert await shelf.seqs(Expired(9, 9, two - 1)) == await shelf.seqs(Expired(9, 9, two)) == [1, 2]
        assert await shelf.seqs(Expired(9, 9, two + 1)) == [1, 2, 3]
        await shelf.do(Remove(1), Remove(2))
        assert await shelf.seqs(Expired(9, 9, 1)) == [3]

    async def test_finds_the_earliest_of_many_as_they_come_and_go(self, shelf: Shelf) -> None:
        for begin in range(1, 8000, 1000):
            await shelf.do(*(Add(stored_bundle(seq)) for seq in range(begin, begin + 1000)))
            await shelf.do(*(Remove(seq) for seq in range(begin, begin + 999)))
        assert await shelf.one(NextExpiry()) == 2000
        assert await shelf.seqs(Expired(10**6, 3, MANY)) == [1000, 2000, 3000]

    async def test_finds_fragments_by_offset(self, shelf: Shelf) -> None:
        for seq, offset in enumerate((20, 0, 10, 10), 1):
            fragment = stored_bundle(seq, adu_key=b"adu", fragment_offset=offset, destination=f"queue {seq % 2}")
            await shelf.do(Add(fragment))
        await shelf.do(Add(stored_bundle(9, adu_key=b"another", fragment_offset=0)), Add(stored_bundle(10, key=b"adu")))
        assert await shelf.seqs(Fragments(b"adu")) == [2, 3, 4, 1]
        await shelf.do(Remove(2))
        assert await shelf.seqs(Fragments(b"adu")) == [3, 4, 1]

    async def test_keeps_records_of_services(self, shelf: Shelf) -> None:
        await shelf.do(
            PutState("files", "in/a", b"1"),
            PutState("files", "in/b", b""),
            PutState("files", "in%", b"3"),
            PutState("files", "in/b", b"2"),
            PutState("other", "in/a", b"x"),
            PutState("files", "gone", b"x"),
            PutState("files", "gone", None),
            PutState("files", "never there", None),
        )
        assert await shelf.one(GetState("files", "in/")) == {"in/a": b"1", "in/b": b"2"}
        assert await shelf.do(GetState("files"), GetState("other"), GetState("nobody")) == [
            {"in/a": b"1", "in/b": b"2", "in%": b"3"},
            {"in/a": b"x"},
            {},
        ]

    # ---- payloads ---------------------------------------------------------------------------------------------------

    async def test_keeps_large_payloads_out_of_memory(self, shelf: Shelf) -> None:
        await shelf.do(
            Add(stored_bundle(1, payload=Octets(LARGE))), Add(stored_bundle(2, payload=shelf.payload(LARGE)))
        )
        for bundle in await shelf.one(Listing(0, 9)):
            assert isinstance(bundle.payload, FileRange)
            assert bundle.payload.length == len(LARGE)
            assert octets_of(bundle.payload) == LARGE

    async def test_a_payload_stays_until_its_last_reader_has_gone(self, shelf: Shelf) -> None:
        await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
        (bundle,) = await shelf.one(Get([1]))
        bundle.payload.handle.retain()
        bundle.payload.handle.retain()
        await shelf.do(Remove(1))
        assert octets_of(bundle.payload) == LARGE
        bundle.payload.handle.release()
        await shelf.settle()
        assert octets_of(bundle.payload) == LARGE
        bundle.payload.handle.release()
        await shelf.settle()
        with pytest.raises(StorageError):
            octets_of(bundle.payload)

    async def test_who_is_given_a_payload_may_retain_it_at_once(self, shelf: Shelf) -> None:
        """Even if its removal was submitted before the answer came."""
        await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
        kept: list[FileRange] = []

        def keep(results: Results | None, error: Exception | None) -> None:
            assert results is not None, error
            kept.append(results[0][0].payload)
            kept[0].handle.retain()

        shelf.store.submit([Get([1])], keep)
        await shelf.do(Remove(1))
        await shelf.settle()
        assert octets_of(kept[0]) == LARGE
        kept[0].handle.release()

    async def test_fragments_share_a_payload(self, shelf: Shelf) -> None:
        await shelf.do(Add(stored_bundle(1, payload=shelf.payload(LARGE))))
        whole = (await shelf.one(Get([1])))[0].payload
        for _ in range(2):  # a reference for each Add
            whole.handle.retain()
        parts = [FileRange(whole.handle, 0, 1000), FileRange(whole.handle, 1000, len(LARGE) - 1000)]
        await shelf.do(*(Add(stored_bundle(seq, payload=part)) for seq, part in enumerate(parts, 2)), Remove(1))
        await shelf.do(Remove(2))
        (last,) = await shelf.one(Listing(0, 9))
        assert octets_of(last.payload) == LARGE[1000:]

    async def test_what_is_not_stored_stays_the_callers(self, shelf: Shelf) -> None:
        await shelf.do(Add(stored_bundle(1)))
        payload = shelf.payload(LARGE)
        assert await shelf.one(Add(stored_bundle(2, key=b"key 1", payload=payload))) is DUPLICATE
        with pytest.raises(StorageError):
            await shelf.do(Add(stored_bundle(1, key=b"new", payload=payload)))
        assert octets_of(payload) == LARGE
        assert await shelf.one(Add(stored_bundle(3, payload=payload))) is STORED
        assert octets_of((await shelf.one(Get([3])))[0].payload) == LARGE

    async def test_writes_payloads_in_pieces_of_any_size(self, shelf: Shelf) -> None:
        writer = shelf.store.writer()
        sizes = (0, 1, 4095, 262_144, 3, 262_143, 300_000, 100)
        written = b""
        for number, size in enumerate(sizes):
            written += bytes([number]) * size
            writer.write(memoryview(bytes([number]) * size))
        payload = writer.finish()
        writer.abort()  # after the end there is nothing to undo
        assert payload.length == len(written)
        assert octets_of(payload) == written
        assert payload.crc32c in (None, crc32c(written))
        payload.handle.release()

    async def test_reads_any_range_of_a_payload_of_any_length(self, shelf: Shelf) -> None:
        pattern = bytes(range(251)) * 5000
        for times in (1, 20):  # 1.2 MiB, and 24 MiB
            writer = shelf.store.writer()
            for _ in range(times):
                writer.write(pattern)
            payload = writer.finish()
            whole = pattern * times
            assert b"".join(pieces(payload)) == whole
            for offset, length in ((0, 1), (262_143, 2), (100_000, 800_000), (len(whole) - 5, 5)):
                assert read_range(payload, offset, length) == whole[offset : offset + length]
                assert b"".join(pieces(payload, offset, length)) == whole[offset : offset + length]
            payload.handle.release()

    # ---- sinks ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("crc_type", list(CrcType))
    @pytest.mark.parametrize("chunk", [1, 1000, 65_536, 10**7])
    async def test_receives_a_bundle_in_any_chunks(self, shelf: Shelf, crc_type: CrcType, chunk: int) -> None:
        payload = LARGE if chunk == 1 else LARGE * 6
        data = encoded_bundle(payload, crc_type)
        arrival = shelf.receive(data, always(chunk))
        head = decode_head_untrusted(arrival.data)
        assert head is not None
        assert (arrival.transfer, head.payload_offset, head.payload_length) == (5, len(arrival.data), len(payload))
        assert arrival.payload is not None
        assert arrival.data + octets_of(arrival.payload) + arrival.tail == data
        check_tail(head, arrival.tail, arrival.payload_crc)
        bundle = stored_bundle(1, head=arrival.data, payload=arrival.payload, tail=arrival.tail)
        assert await shelf.one(Add(bundle)) is STORED
        (kept,) = await shelf.one(Get([1]))
        assert kept.head + octets_of(kept.payload) + kept.tail == data

    @pytest.mark.parametrize("boundary", range(-3, 9))
    async def test_receives_head_and_tail_cut_anywhere(self, shelf: Shelf, boundary: int) -> None:
        data = encoded_bundle(LARGE)
        head_octets = data.index(LARGE)
        cuts = iter([head_octets + boundary, len(data) - head_octets - boundary - 6 + boundary % 6, *[1] * 20])
        arrival = shelf.receive(data, cuts)
        assert arrival.data == data[:head_octets]
        assert arrival.tail == data[-6:]
        assert arrival.payload is not None
        cast(FileRange, arrival.payload).handle.release()

    async def test_a_changed_octet_changes_the_crc(self, shelf: Shelf) -> None:
        data = bytearray(encoded_bundle(LARGE))
        data[-1000] ^= 1
        arrival = shelf.receive(bytes(data), always(4096))
        head = decode_head_untrusted(arrival.data)
        assert head is not None
        with pytest.raises(MalformedError):
            check_tail(head, arrival.tail, arrival.payload_crc)
        cast(FileRange, arrival.payload).handle.release()

    @pytest.mark.parametrize("chunk", [1, 50_000, 10**7])
    @pytest.mark.parametrize(
        "fault", ["no bundle", "crc of head", "too long", "too short", "endless head", "head only"]
    )
    async def test_refuses_what_is_no_bundle(self, shelf: Shelf, fault: str, chunk: int) -> None:
        good = encoded_bundle(LARGE)
        data = {
            "no bundle": b"\0" * len(good),
            "crc of head": good[:30] + bytes([good[30] ^ 1]) + good[31:],
            "too long": good + b"\0" * 1000,
            "too short": good[:-2],
            "endless head": good[:1]
            + good[1 : good.index(LARGE) - 20]
            + b"\x86\x18\xc8\x02\x00\x00\x5a\xff\xff\xff\xff"
            + LARGE,
            "head only": good[:20],
        }[fault]
        with pytest.raises(MalformedError):
            shelf.receive(data, always(chunk))
        await self.assert_no_payload_left(shelf)

    async def test_an_aborted_transfer_leaves_nothing(self, shelf: Shelf) -> None:
        sink, writer = shelf.store.sink(10**6), shelf.store.writer()
        data = encoded_bundle(LARGE * 5)[:300_000]
        while data:
            buffer = sink.buffer(len(data))
            buffer[:] = data[: len(buffer)]
            data = data[len(buffer) :]
            sink.advance(len(buffer))
        writer.write(LARGE)
        for _ in range(2):
            sink.abort()
            writer.abort()
        await self.assert_no_payload_left(shelf)

    async def test_takes_a_transfer_whose_length_was_not_announced(self, shelf: Shelf) -> None:
        data = encoded_bundle(LARGE)
        sink = shelf.store.sink(1000)
        for begin in range(0, len(data), 1000):
            part = data[begin : begin + 1000]
            assert sink.more(len(part)) is None
            sink.buffer(len(part))[: len(part)] = part
            sink.advance(len(part))
        arrival = sink.finish(1)
        assert arrival.payload is not None
        assert octets_of(arrival.payload) == LARGE
        cast(FileRange, arrival.payload).handle.release()

    # ---- closing and opening ----------------------------------------------------------------------------------------

    async def test_finishes_what_was_submitted_when_it_closes(self, shelf: Shelf) -> None:
        answers = [shelf.begin(Add(stored_bundle(seq))) for seq in range(1, 201)]
        await shelf.store.close()
        await shelf.store.close()
        assert [answer.result() for answer in answers] == [[STORED]] * 200
        shelf.open()

    async def test_finds_everything_again(self, shelf: Shelf) -> None:
        if not shelf.store.durable:
            return await self.check_begins_empty(shelf)
        bundles = [stored_bundle(seq, destination=f"dtn://n{seq % 2}/") for seq in range(1, 8)]
        await shelf.do(*map(Add, bundles), Remove(7), Remember(b"r", "dtn://a/", 9), PutState("s", "k", b"v"))
        large = stored_bundle(8, payload=shelf.payload(LARGE), destination="files")
        await shelf.do(Add(large), Add(stored_bundle(9, destination="brief")), Remove(9))
        octets = sum(bundle.length for bundle in bundles[:6]) + large.length
        queues = {"dtn://n0/": (3, 6), "dtn://n1/": (3, 5), "files": (1, 8)}
        assert await shelf.reopen() == Recovered(9, 7, octets, queues, {"dtn://a/": 1}, 1001)
        *small, found = await shelf.one(Listing(0, 99))
        assert small == bundles[:6]
        assert octets_of(found.payload) == LARGE
        assert await shelf.do(GetState("s"), Add(stored_bundle(10, key=b"r"))) == [{"k": b"v"}, DUPLICATE]
        return None

    async def check_begins_empty(self, shelf: Shelf) -> None:
        """A store that forgets says so, and does."""
        await shelf.do(Add(stored_bundle(1)), Remember(b"r", "dtn://a/", 9), PutState("s", "k", b"v"))
        assert await shelf.reopen() == Recovered(0, 0, 0, {}, {}, None)

    async def assert_no_payload_left(self, shelf: Shelf) -> None:
        """Nothing in the store's directory, however deep, holds a payload."""
        await shelf.settle()
        await shelf.store.close()
        left = [path for path in shelf.directory.rglob("*") if path.is_file() and path.parent != shelf.directory]
        assert left == []
        shelf.open()

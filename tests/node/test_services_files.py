"""Files from node to node: whole, once, under harmless names, whatever ends in between."""

import asyncio
import errno
import hashlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tumpline.errors import ConfigError, MalformedError, StateError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.node.services import _outgoing as out
from tumpline.node.services import _patience, files, send
from tumpline.node.services._outgoing import SendEvent
from tumpline.node.services._partial import key_of
from tumpline.node.services.files import Files, FilesConfig
from tumpline.node.services.send import PipeRequest, Send, SendRequest
from tumpline.testing.services import MemoryContext, MemoryNode, read_payload
from tumpline.wire import files as wire
from tumpline.wire.eid import Eid

CHUNK = 1000
CONTENT = bytes(range(256)) * 17  # 4352 octets: five chunks


class Nodes:
    """ground sends, rover receives."""

    def __init__(self, tmp_path: Path, **config: object) -> None:
        network: dict[Eid, MemoryNode] = {}
        self.ground = MemoryNode("dtn://ground/", tmp_path / "ground", network)
        self.rover = MemoryNode("dtn://rover/", tmp_path / "rover", network)
        self.inbox = tmp_path / "inbox"
        self.config = {"directory": str(self.inbox), **config}
        self.path = tmp_path / "picture.png"
        self.path.write_bytes(CONTENT)

    async def start(self) -> None:
        await self.start_sender()
        await self.start_receiver()

    async def start_sender(self) -> None:
        self.sender = Send()
        await self.ground.add(send.SPEC, self.sender)

    async def start_receiver(self) -> MemoryContext:
        self.receiver = Files(FilesConfig(**self.config))  # type: ignore[arg-type]
        return await self.rover.add(files.SPEC, self.receiver)

    async def stop(self) -> None:
        await self.ground.stop()
        await self.rover.stop()

    async def send(self, wait_s: float = 20.0, **options: object) -> list[SendEvent]:
        request = SendRequest(
            **{"path": str(self.path), "to": "dtn://rover/", "chunk_octets": CHUNK, "wait_s": wait_s, **options}  # type: ignore[arg-type]
        )
        return [event async for event in self.sender.run(request)]

    def received(self) -> dict[str, bytes]:
        """All that is to be seen in the inbox."""
        return {path.name: path.read_bytes() for path in sorted(self.inbox.iterdir()) if path.name != ".partial"}

    def partials(self) -> list[str]:
        return os.listdir(self.inbox / ".partial")

    async def arrive(self, octets: bytes, source: str = "dtn://ground/send") -> None:
        """An ADU comes to the receiver, and is dealt with."""
        self.rover.arrive(Eid.parse(source), Adu(Eid.parse("dtn://rover/files"), Octets(octets)))
        await until(lambda: not self.rover.waiting or bool(self.rover.contexts["files"].retries))


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody work until it is so; the test's time limit is the other end."""
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path)
    await nodes.start()
    yield nodes
    await nodes.stop()


def pieces(content: bytes = CONTENT, name: str = "a.bin", transfer: bytes = b"T" * 16) -> list[bytes]:
    """The ADUs of a file."""
    manifest = wire.Manifest(name, len(content), hashlib.sha256(content).digest())
    starts = range(0, len(content), CHUNK)
    return [
        wire.encode(wire.Piece(transfer, CHUNK, number, manifest)) + content[start : start + CHUNK]
        for number, start in enumerate(starts)
    ]


def receipts(node: MemoryNode) -> list[wire.Receipt]:
    found = [wire.decode_untrusted(read_payload(adu.payload, 0, 10_000))[0] for adu in node.sent]
    return [message for message in found if isinstance(message, wire.Receipt)]


async def test_a_file_arrives_whole_and_its_sender_knows(nodes: Nodes) -> None:
    events = await nodes.send()
    assert nodes.received() == {"picture.png": CONTENT}
    assert nodes.partials() == []
    assert events[-2:] == [out.Delivered("picture.png"), out.Finished(0)]
    stored = next(event for event in events if isinstance(event, out.Stored))
    assert (stored.octets, stored.chunks, stored.resumed) == (len(CONTENT), 5, 0)
    hashed = [event for event in events if isinstance(event, out.Progress) and event.phase == "hash"]
    assert hashed[-1].octets == len(CONTENT)


@pytest.mark.parametrize("content", [b"", b"x", bytes(CHUNK), bytes(2 * CHUNK)])
async def test_sizes_at_the_edges(nodes: Nodes, content: bytes) -> None:
    nodes.path.write_bytes(content)
    events = await nodes.send()
    assert events[-1] == out.Finished(0)
    assert nodes.received() == {"picture.png": content}


async def test_large_chunks_go_through_files(nodes: Nodes) -> None:
    content = os.urandom(3_000_000)
    nodes.path.write_bytes(content)
    assert (await nodes.send(chunk_octets=1 << 20))[-1] == out.Finished(0)
    assert nodes.received() == {"picture.png": content}
    assert [adu.payload.length > 100_000 for adu in nodes.ground.sent] == [True, True, True]


async def test_without_a_contact_it_is_stored_not_yet_delivered(nodes: Nodes) -> None:
    nodes.ground.held_back = lambda _adu: True
    assert (await nodes.send(wait_s=0))[-1] == out.Finished(6)
    assert nodes.received() == {}
    nodes.ground.held_back = lambda _adu: False
    nodes.ground.flush()
    events = await nodes.send()
    assert events[-2:] == [out.Delivered("picture.png"), out.Finished(0)]
    assert len(nodes.ground.sent) == 5, "nothing was sent twice"


@pytest.mark.parametrize("order", list(itertools.islice(itertools.permutations(range(5)), 0, 120, 17)))
async def test_chunks_may_come_in_any_order_and_twice(nodes: Nodes, order: tuple[int, ...]) -> None:
    adus = pieces()
    for number in order:
        assert nodes.received() == {}, "nothing appears before it is whole"
        await nodes.arrive(adus[number])
        await nodes.arrive(adus[number])
    assert nodes.received() == {"a.bin": CONTENT}
    assert receipts(nodes.rover) == [wire.Receipt(b"T" * 16, True, "a.bin")]


async def test_a_manifest_alone_asks_for_the_receipt_again(nodes: Nodes) -> None:
    for adu in pieces():
        await nodes.arrive(adu)
    manifest = wire.Manifest("a.bin", len(CONTENT), hashlib.sha256(CONTENT).digest())
    await nodes.arrive(wire.encode(wire.Piece(b"T" * 16, CHUNK, None, manifest)))
    assert receipts(nodes.rover) == [wire.Receipt(b"T" * 16, True, "a.bin")] * 2


async def test_names_in_use_are_never_overwritten_by_default(nodes: Nodes) -> None:
    (nodes.inbox / "picture.png").write_bytes(b"mine")
    assert (await nodes.send())[-2] == out.Delivered("picture (1).png")
    assert nodes.received() == {"picture.png": b"mine", "picture (1).png": CONTENT}


async def test_a_file_that_was_delivered_can_be_sent_again(nodes: Nodes) -> None:
    assert (await nodes.send())[-2] == out.Delivered("picture.png")
    assert (await nodes.send())[-2] == out.Delivered("picture (1).png")


@pytest.mark.parametrize(("policy", "kept"), [("refuse", b"mine"), ("overwrite", CONTENT)])
async def test_other_policies_for_names_in_use(tmp_path: Path, policy: str, kept: bytes) -> None:
    nodes = Nodes(tmp_path, on_conflict=policy)
    await nodes.start()
    (nodes.inbox / "picture.png").write_bytes(b"mine")
    last = (await nodes.send())[-1]
    assert isinstance(last, out.Finished)
    assert last.exit_code == (5 if policy == "refuse" else 0)
    assert nodes.received() == {"picture.png": kept}
    assert nodes.partials() == []
    await nodes.stop()


async def test_overwriting_a_directory_is_refused(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, on_conflict="overwrite")
    await nodes.start()
    (nodes.inbox / "picture.png").mkdir()
    last = (await nodes.send())[-1]
    assert isinstance(last, out.Finished)
    assert last.exit_code == 5
    await nodes.stop()


HOSTILE = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "../up",
    "a/b",
    "a\\b",
    ".partial",
    ".bashrc",
    "-rf",
    " x",
    "x ",
    "x.",
    "nul",
    "NUL.txt",
    "com1.log",
    "a:b",
    "a?",
    "new\nline",
    "escape\x1b[2J",
    "zero\0",
    "evil\u202egnp.exe",
    "x" * 241,
    "é" * 121,
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_refused_and_leave_nothing(nodes: Nodes, name: str, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    for adu in pieces(name=name):
        await nodes.arrive(adu)
    assert nodes.received() == {}
    assert nodes.partials() == []
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert [receipt.delivered for receipt in receipts(nodes.rover)] == [False], "one receipt, not one a chunk"
    nodes.path.rename(nodes.path.parent / "x")
    with pytest.raises((MalformedError, ConfigError)):
        await nodes.send(path=str(nodes.path.parent / "x"), name=name or ".")


@pytest.mark.parametrize(
    "name", ["a", "a.b.c", "ünïcode ☃.txt", "con-fig", "nullable.txt", "x" * 240, "tar.gz", "a  b"]
)
async def test_ordinary_names_are_kept(nodes: Nodes, name: str) -> None:
    for adu in pieces(name=name):
        await nodes.arrive(adu)
    assert nodes.received() == {name: CONTENT}


async def test_no_symlink_is_followed(nodes: Nodes, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    (nodes.inbox / "a.bin").symlink_to(target)
    key = key_of("dtn://ground/send", b"T" * 16)
    (nodes.inbox / ".partial" / key).symlink_to(target)
    await nodes.arrive(pieces()[0])
    assert nodes.rover.contexts["files"].retries, "a partial file that is a symlink is an error of the disk"
    (nodes.inbox / ".partial" / key).unlink()
    nodes.rover.contexts["files"].retry()
    await until(lambda: not nodes.rover.waiting)
    for adu in pieces()[1:]:
        await nodes.arrive(adu)
    assert target.read_bytes() == b"precious"
    assert (nodes.inbox / "a (1).bin").read_bytes() == CONTENT


async def test_a_partial_directory_that_is_a_symlink_stops_the_start(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    nodes.inbox.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (nodes.inbox / ".partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=r"\.partial"):
        await nodes.start_receiver()


async def test_a_file_that_is_not_what_was_announced_never_appears(nodes: Nodes) -> None:
    adus = pieces()
    adus[2] = adus[2][:-1] + b"?"
    for adu in adus:
        await nodes.arrive(adu)
    assert nodes.received() == {}
    assert nodes.partials() == []
    assert [receipt.delivered for receipt in receipts(nodes.rover)] == [False]


async def test_nobody_writes_into_the_file_of_another(nodes: Nodes) -> None:
    for adu in pieces()[:3]:
        await nodes.arrive(adu)
    for adu in pieces(bytes(len(CONTENT)), name="a.bin"):
        await nodes.arrive(adu, source="dtn://mallory/send")
    for adu in pieces()[3:]:
        await nodes.arrive(adu)
    assert nodes.received() == {"a.bin": bytes(len(CONTENT)), "a (1).bin": CONTENT}


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xa0",
        b"hello",
        b"\xff" * 50,
        wire.encode(wire.Receipt(b"T" * 16, True, "x")),
        wire.encode(wire.Piece(b"T" * 16, CHUNK, 0)) + bytes(CHUNK + 1),
        wire.encode(wire.Piece(b"T" * 16, CHUNK, 0)),
        wire.encode(wire.Piece(b"T" * 16, CHUNK, None)) + b"x",
        pieces()[4] + b"x",
        pieces()[0][:-1],
    ],
)
async def test_octets_that_are_no_message_are_taken_and_told(nodes: Nodes, octets: bytes) -> None:
    await nodes.arrive(octets)
    assert [name for name, _ in nodes.rover.notices] == ["file_message_ignored"]
    assert nodes.rover.waiting == {}
    assert nodes.rover.sent == []


async def test_pieces_that_contradict_each_other_are_ignored(nodes: Nodes) -> None:
    await nodes.arrive(pieces()[0])
    await nodes.arrive(wire.encode(wire.Piece(b"T" * 16, CHUNK + 1, 1)) + bytes(CHUNK + 1))
    await nodes.arrive(pieces(name="b.bin")[1])
    assert [name for name, _ in nodes.rover.notices] == ["file_message_ignored"] * 2
    for adu in pieces()[1:]:
        await nodes.arrive(adu)
    assert nodes.received() == {"a.bin": CONTENT}


async def test_a_full_disk_loses_nothing(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        await nodes.arrive(pieces()[0])
    context = nodes.rover.contexts["files"]
    assert [retry_s for _, retry_s in context.retries] == [files.RETRY_S]
    assert nodes.rover.notices[-1][0] == "file_not_written"
    context.retry()
    for adu in pieces()[1:]:
        await nodes.arrive(adu)
    assert nodes.received() == {"a.bin": CONTENT}


@pytest.mark.parametrize("limit", [{"max_partials": 1}, {"max_partial_bytes": 1500}])
async def test_limits_make_chunks_wait_in_the_store(tmp_path: Path, limit: dict[str, int]) -> None:
    nodes = Nodes(tmp_path, **limit)
    await nodes.start_receiver()
    other = pieces(transfer=b"U" * 16, name="b.bin")
    await nodes.arrive(pieces()[0])
    await nodes.arrive(other[0])
    assert nodes.rover.notices[-1][0] == "file_waits"
    assert len(nodes.rover.waiting) == 1
    await nodes.rover.stop()


async def test_files_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, max_file_bytes=4000)
    await nodes.start()
    last = (await nodes.send())[-1]
    assert isinstance(last, out.Finished)
    assert last.exit_code == 5
    assert "4000" in (last.reason or "")
    await nodes.stop()


async def test_what_never_becomes_whole_is_cleared_away_with_its_lifetime(nodes: Nodes) -> None:
    await nodes.arrive(pieces()[0])
    await nodes.receiver.sweep()
    assert len(nodes.partials()) == 1
    for partial in nodes.receiver._partials.values():
        partial.expires_ms = 0
    await nodes.receiver.sweep()
    assert nodes.partials() == []
    assert nodes.rover.state["files"] == {}
    assert nodes.rover.notices[-1][0] == "file_expired"


async def test_a_partial_file_without_a_record_is_cleared_away(nodes: Nodes) -> None:
    await nodes.rover.crash()
    (nodes.inbox / ".partial" / "stray").write_bytes(b"?")
    await nodes.start_receiver()
    assert nodes.partials() == []


async def deliver_across_crashes(nodes: Nodes, number: int, committed: bool) -> bool:
    """A transfer in which the receiver crashes at one transaction; whether it came to that."""
    await nodes.start_receiver()
    nodes.rover.crash_at = (number, committed)
    for adu in pieces():
        nodes.rover.arrive(Eid.parse("dtn://ground/send"), Adu(Eid.parse("dtn://rover/files"), Octets(adu)))
    await until(lambda: nodes.rover.crashed.is_set() or not nodes.rover.waiting)
    crashed = nodes.rover.crashed.is_set()
    await nodes.rover.crash()
    context = await nodes.start_receiver()
    context.register()
    await until(lambda: not nodes.rover.waiting)
    return crashed


@pytest.mark.parametrize("committed", [False, True])
async def test_the_receiver_may_be_killed_at_any_transaction(tmp_path: Path, committed: bool) -> None:
    for number in range(1, 100):
        (tmp_path / str(number)).mkdir()
        nodes = Nodes(tmp_path / str(number))
        crashed = await deliver_across_crashes(nodes, number, committed)
        assert nodes.received() == {"a.bin": CONTENT}, f"crash at transaction {number}"
        assert nodes.partials() == []
        assert receipts(nodes.rover) == [wire.Receipt(b"T" * 16, True, "a.bin")], f"crash at transaction {number}"
        await nodes.rover.stop()
        if not crashed:
            assert number > 5, "each chunk is a transaction"
            return
    raise AssertionError("it always crashed")


@pytest.mark.parametrize("committed", [False, True])
async def test_the_sender_may_be_killed_at_any_transaction(tmp_path: Path, committed: bool) -> None:
    for number in range(1, 100):
        (tmp_path / str(number)).mkdir()
        nodes = Nodes(tmp_path / str(number))
        await nodes.start()
        nodes.ground.crash_at = (number, committed)
        first = asyncio.get_running_loop().create_task(nodes.send())
        await until(lambda nodes=nodes, first=first: nodes.ground.crashed.is_set() or first.done())  # type: ignore[misc]
        crashed = nodes.ground.crashed.is_set()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await nodes.ground.crash()
        await nodes.start_sender()
        await until(lambda nodes=nodes: not nodes.rover.waiting and not nodes.ground.waiting)  # type: ignore[misc]
        if crashed:
            assert (await nodes.send())[-1] == out.Finished(0), f"crash at transaction {number}"
        names = set(nodes.received())
        assert names <= {"picture.png", "picture (1).png"}
        assert all(content == CONTENT for content in nodes.received().values())
        twice = len(nodes.ground.sent) - 5 * len(names)
        assert 0 <= twice <= 1, f"crash at transaction {number}: {twice} chunks were sent twice"
        await nodes.stop()
        if not crashed:
            assert number > 10, "each chunk is two transactions"
            return
    raise AssertionError("it always crashed")


async def test_a_restarted_sender_goes_on_by_itself(nodes: Nodes) -> None:
    nodes.ground.crash_at = (6, True)
    first = asyncio.get_running_loop().create_task(nodes.send())
    await nodes.ground.crashed.wait()
    first.cancel()
    await nodes.ground.crash()
    await nodes.start_sender()
    await until(lambda: nodes.received() == {"picture.png": CONTENT})


async def test_a_quota_that_is_used_up_is_waited_for(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.001)
    nodes.ground.full = "the store is full"
    events = []
    async for event in nodes.sender.run(SendRequest(path=str(nodes.path), to="dtn://rover/", chunk_octets=CHUNK)):
        if isinstance(event, out.Waiting):
            nodes.ground.empty()
        events.append(event)
    assert any(event == out.Waiting("the store is full") for event in events)
    assert events[-1] == out.Finished(0)


async def test_a_file_that_changes_meanwhile_is_not_sent_as_something_else(nodes: Nodes) -> None:
    events = []
    async for event in nodes.sender.run(SendRequest(path=str(nodes.path), to="dtn://rover/", chunk_octets=CHUNK)):
        if isinstance(event, out.Progress) and event.phase == "hash":
            nodes.path.write_bytes(b"other content")
        events.append(event)
    assert isinstance(events[-1], out.Finished)
    assert events[-1].exit_code == 1
    assert "changed" in (events[-1].reason or "")
    assert nodes.received() == {}


async def test_only_the_receiver_ends_a_transfer(nodes: Nodes) -> None:
    nodes.ground.held_back = lambda _adu: True
    await nodes.send(wait_s=0)
    transfer = next(iter(nodes.sender._transfers))
    forged = Octets(wire.encode(wire.Receipt(transfer, True, "x")))
    nodes.ground.arrive(Eid.parse("dtn://mallory/files"), Adu(Eid.parse("dtn://ground/send"), forged))
    await until(lambda: not nodes.ground.waiting)
    assert nodes.ground.notices[-1][0] == "receipt_ignored"
    assert (await nodes.send(wait_s=0))[-1] == out.Finished(6)


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_a_stream_becomes_a_file(nodes: Nodes) -> None:
    request = PipeRequest(to="dtn://rover/", name="log.txt", chunk_octets=10)
    events = [
        event async for event in nodes.sender.run_stream(request, stream(b"hello ", b"", b"world, ", b"hello rover"))
    ]
    assert events[-2:] == [out.Delivered("log.txt"), out.Finished(0)]
    assert nodes.received() == {"log.txt": b"hello world, hello rover"}


async def test_a_stream_that_breaks_off_never_becomes_a_file(nodes: Nodes) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield bytes(25)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async for _ in nodes.sender.run_stream(PipeRequest(to="dtn://rover/", chunk_octets=10), breaks()):
            pass
    await until(lambda: not nodes.rover.waiting)
    assert nodes.received() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "dtn:none"},
        {"to": "rover"},
        {"chunk_octets": 0},
        {"lifetime_s": 0.0},
        {"path": "/nowhere"},
        {"path": "/"},
    ],
)
async def test_senseless_requests_are_named(nodes: Nodes, wrong: dict[str, object]) -> None:
    with pytest.raises((MalformedError, ConfigError)):
        await nodes.send(**wrong)  # type: ignore[arg-type]

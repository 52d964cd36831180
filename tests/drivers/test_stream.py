"""Streams: pieces of every kind go out whole and in order, however little the socket takes."""

import asyncio
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumpline.drivers.links._units import unit_range
from tumpline.drivers.stream import BLOCKED, STAGE_OCTETS, FileSlice, Piece, Stream, new_buffer
from tumpline.errors import StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Unit
from tumpline.testing.certificates import Authority
from tumpline.testing.recording import MemoryFile

CONTENT = random.Random(5).randbytes(2_000_000)


class Ends:
    """Two connected streams, and whether each was called."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            left = socket.create_connection(server.getsockname())
            right, _ = server.accept()
        self.called = asyncio.Event()
        scratch = new_buffer(STAGE_OCTETS)
        self.left = Stream(left, self.called.set, self.called.set, scratch)
        self.right = Stream(right, self.called.set, self.called.set, scratch)

    async def carry(self, octets: int) -> bytes:
        """Write at the left what is queued, read so much at the right."""
        received = bytearray()
        room = memoryview(bytearray(100_000))
        self.right.watch_reads(True)
        async with asyncio.timeout(20):
            while len(received) < octets:
                self.called.clear()
                self.left.watch_writes(not self.left.write())
                count = self.right.read_into(room)
                if count == BLOCKED:
                    await self.called.wait()
                else:
                    received += room[:count]
        return bytes(received)

    def tls(self, ca: Authority) -> None:
        files = ca.issue("x")
        contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
        contexts[0].load_cert_chain(files["cert"], files["key"])
        contexts[1].check_hostname = False
        contexts[1].load_verify_locations(files["ca"])
        self.left.start_tls(contexts[0], True, None)
        self.right.start_tls(contexts[1], False, None)
        done = [False, False]
        while not all(done):
            done = [done[0] or self.left.handshake(), done[1] or self.right.handshake()]


@pytest.fixture(params=["plain", "tls"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    ends = Ends()
    if request.param == "tls":
        ends.tls(Authority(tmp_path))
    yield ends
    ends.left.close()
    ends.right.close()
    ends.right.close()


def _pieces(file: int) -> tuple[list[Piece], bytes]:
    pieces: list[Piece] = []
    whole = b""
    for i in range(60):
        data = CONTENT[i * 1000 : i * 1000 + random.Random(i).randrange(1, 5000)]
        pieces += [data, memoryview(data), FileSlice(file, i * 7, 20_000 + i * 500)]
        whole += data + data + CONTENT[i * 7 : i * 7 + 20_000 + i * 500]
    pieces.append(memoryview(CONTENT))
    return pieces, whole + CONTENT


async def test_pieces_arrive_in_order(ends: Ends) -> None:
    file = MemoryFile(CONTENT)
    pieces, whole = _pieces(file.fd)
    ends.left.queue(pieces)
    assert not ends.left.drained()
    assert await ends.carry(len(whole)) == whole
    assert ends.left.drained()
    file.release()


async def test_the_end_of_the_stream(ends: Ends) -> None:
    ends.left.queue([b"last"])
    assert await ends.carry(4) == b"last"
    assert ends.right.read_into(memoryview(bytearray(10))) == BLOCKED
    ends.left.send_closure_alert()
    ends.left.end_writes()
    ends.called.clear()
    async with asyncio.timeout(20):
        while (count := ends.right.read_into(memoryview(bytearray(10)))) == BLOCKED:
            await ends.called.wait()
            ends.called.clear()
    assert count == 0


async def test_a_file_that_was_cut_ends_the_connection(ends: Ends) -> None:
    file = MemoryFile(CONTENT)
    os.ftruncate(file.fd, 1000)
    ends.left.queue([FileSlice(file.fd, 0, 5000)])
    with pytest.raises(StorageError, match="ended before the length it was stored with"):
        ends.left.write()
    file.release()


async def test_abort_resets(ends: Ends) -> None:
    ends.left.abort()
    assert ends.left.closed()
    ends.right.watch_reads(True)
    async with asyncio.timeout(20):
        await ends.called.wait()
    try:
        count = ends.right.read_into(memoryview(bytearray(10)))
    except ConnectionResetError:
        count = 0
    assert count == 0


async def test_a_record_larger_than_the_room_is_not_forgotten(tmp_path: Path) -> None:
    """The kernel has nothing more to tell of; `holds_octets` does."""
    ends = Ends()
    ends.tls(Authority(tmp_path))
    ends.left.queue([b"0123456789"])
    assert ends.left.write()
    room = memoryview(bytearray(4))
    ends.right.watch_reads(True)
    async with asyncio.timeout(20):
        while ends.right.read_into(room) == BLOCKED:
            ends.called.clear()
            await ends.called.wait()
    assert ends.right.holds_octets()
    assert ends.right.read_into(memoryview(bytearray(10))) == 6
    assert not ends.right.holds_octets()
    ends.left.close()
    ends.right.close()


@pytest.mark.parametrize("in_file", [False, True])
def test_any_range_of_a_unit(in_file: bool) -> None:
    head, middle, tail = b"head", bytes(range(50)), b"tail"
    file = MemoryFile(b"skip" + middle)
    payload = file.range(54)._replace(offset=4, length=50) if in_file else Octets(middle)
    unit = Unit(1, head, payload, tail)
    whole = head + middle + tail
    for offset in range(len(whole)):
        for length in range(len(whole) - offset + 1):
            pieces = unit_range(unit, offset, length)
            assert all(isinstance(piece, FileSlice) or len(piece) for piece in pieces)
            octets = [os.pread(p.fd, p.length, p.offset) if isinstance(p, FileSlice) else bytes(p) for p in pieces]
            assert b"".join(octets) == whole[offset : offset + length]
    os.close(file.fd)


async def test_an_empty_piece_holds_up_nothing(ends: Ends) -> None:
    ends.left.queue([b"", memoryview(b""), b"first", b"", b"second", b""])
    assert await ends.carry(11) == b"firstsecond"
    assert ends.left.write()
    assert ends.left.drained()

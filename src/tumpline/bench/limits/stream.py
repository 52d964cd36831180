"""The plainest bundle carriers: blocking sockets, RFC 9174 framing, CRCs, duplicates dropped, acknowledgements. No agent.

Run as child processes: `python -m tumpline.bench.limits.stream ROLE '{"count": ...}'`. A listening role prints its port; the
source prints how many seconds passed between its first bundle and the last acknowledgement.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fastcrc import crc32

from tumpline.bench.limits import codec

_SEGMENT = b"\x01\x03"  # RFC 9174 §5.2.2: XFER_SEGMENT with START and END: the whole bundle in one segment
SEGMENT_HEAD_OCTETS = 22
_NO_EXTENSIONS = bytes(4)
_ACK_OCTETS = 18
_READ_OCTETS = 1 << 18
_BATCH = 256
_SMALL_OCTETS = 100
_CREATED_MS = 850_000_000_000
_START = codec.prefix("//rover/sink", "//ground/source")


@dataclass(frozen=True, slots=True)
class Task:
    """What a role is to do."""

    count: int
    octets: int = _SMALL_OCTETS  # of each payload
    tls: str | None = None  # a file with certificate, key and the CA that signed both ends' certificates
    durable: bool = False  # write to a file and sync before acknowledging
    next_port: int = 0  # relay, source: where to send
    directory: str = "."  # of files that are sent and received

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the command line."""
        return cls(**json.loads(text))


def listen(task: Task) -> socket.socket:
    """The one connection that comes; the port is printed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
    return _prepared(connection, task, server_side=True)


def connect(task: Task) -> socket.socket:
    """To the next role."""
    return _prepared(socket.create_connection(("127.0.0.1", task.next_port)), task, server_side=False)


def _prepared(connection: socket.socket, task: Task, server_side: bool) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if task.tls is None:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(task.tls)
    context.load_cert_chain(task.tls)
    return context.wrap_socket(connection, server_side=server_side)


def segment(transfer: int, length: int) -> bytes:
    """Head of a whole bundle."""
    return _SEGMENT + transfer.to_bytes(8, "big") + _NO_EXTENSIONS + length.to_bytes(8, "big")


def ack(transfer: bytes, length: bytes) -> bytes:
    """Of a whole bundle."""
    return b"\x02\x03" + transfer + length


# ---- many small bundles ----------------------------------------------------------------------------------------------


def _batches(connection: socket.socket, count: int) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """Lists of (transfer id, length, bundle), one list a read, until `count` bundles came."""
    pending = b""
    while count:
        read = connection.recv(_READ_OCTETS)
        if not read:
            raise ConnectionError("the other side has gone")
        data = pending + read if pending else read
        at, end, batch = 0, len(data), []
        while end - at >= SEGMENT_HEAD_OCTETS:
            length = int.from_bytes(data[at + 14 : at + 22], "big")
            after = at + SEGMENT_HEAD_OCTETS + length
            if after > end:
                break
            batch.append((data[at + 2 : at + 10], data[at + 14 : at + 22], data[at + SEGMENT_HEAD_OCTETS : after]))
            at = after
        pending = data[at:]
        count -= len(batch)
        yield batch


def _fresh(batch: list[tuple[bytes, bytes, bytes]], seen: set[tuple[int, int]]) -> list[bytes]:
    """The bundles of a batch that were not seen before, CRCs verified."""
    bundles, octets, decode = [], len(_START), codec.decode
    for _, _, bundle in batch:
        identity = decode(bundle, octets)[:2]
        if identity not in seen:
            seen.add(identity)
            bundles.append(bundle)
    return bundles


def _small_sink(connection: socket.socket, task: Task) -> None:
    seen: set[tuple[int, int]] = set()
    with tempfile.TemporaryFile() as log:
        for batch in _batches(connection, task.count):
            fresh = _fresh(batch, seen)
            if task.durable:
                log.write(b"".join(fresh))
                log.flush()
                os.fdatasync(log.fileno())
            connection.sendall(b"".join([ack(transfer, length) for transfer, length, _ in batch]))
    assert len(seen) == task.count


def _small_relay(inward: socket.socket, outward: socket.socket, task: Task) -> None:
    seen: set[tuple[int, int]] = set()
    sent = acked = 0
    for batch in _batches(inward, task.count):
        out = bytearray()
        for bundle in _fresh(batch, seen):
            out += segment(sent, len(bundle)) + bundle
            sent += 1
        outward.sendall(out)
        inward.sendall(b"".join([ack(transfer, length) for transfer, length, _ in batch]))
        acked += take_acks(outward, wait=False)
    while acked < sent * _ACK_OCTETS:
        acked += take_acks(outward, wait=True)
    assert len(seen) == task.count


def _small_source(connection: socket.socket, task: Task) -> None:
    acked = 0
    payload, encode = bytes(_SMALL_OCTETS), codec.encode
    for first in range(0, task.count, _BATCH):
        out = bytearray()
        for index in range(first, min(first + _BATCH, task.count)):
            bundle = encode(_START, _CREATED_MS, index, payload)
            out += segment(index, len(bundle)) + bundle
        connection.sendall(out)
        acked += take_acks(connection, wait=False)
    while acked < task.count * _ACK_OCTETS:
        acked += take_acks(connection, wait=True)


def take_acks(connection: socket.socket, wait: bool) -> int:
    """Octets of acknowledgements read."""
    connection.setblocking(wait)
    try:
        data = connection.recv(_READ_OCTETS)
    except (BlockingIOError, ssl.SSLWantReadError):
        return 0
    finally:
        connection.setblocking(True)
    if not data:
        raise ConnectionError("the other side has gone")
    return len(data)


# ---- large bundles ---------------------------------------------------------------------------------------------------
# Head: what stands before the payload's octets; tail: the CRC behind them and the break.


def _large_head(index: int, octets: int) -> bytes:
    primary = _START + _CREATED_MS.to_bytes(8, "big") + b"\x1a" + index.to_bytes(4, "big") + b"\x1a\x05\x26\x5c\x00"
    crc = crc32.iscsi(primary + b"\x44\x00\x00\x00\x00", 0).to_bytes(4, "big")
    return b"\x9f" + primary + b"\x44" + crc + _large_prefix(octets)


def _large_prefix(octets: int) -> bytes:
    return b"\x86\x01\x01\x00\x02\x5a" + octets.to_bytes(4, "big")


def _large_crc(payload: bytes | memoryview) -> bytes:
    crc = crc32.iscsi(payload, crc32.iscsi(_large_prefix(len(payload)), 0))
    return crc32.iscsi(b"\x44\x00\x00\x00\x00", crc).to_bytes(4, "big")


_HEAD_OCTETS = len(_large_head(0, 1 << 20))
_TAIL_OCTETS = 6


def read_exactly(connection: socket.socket, view: memoryview) -> None:
    """Fill the view. Raises: ConnectionError."""
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other side has gone")
        view = view[count:]


def _large_bundles(connection: socket.socket, task: Task) -> Iterator[memoryview]:
    """Frames (segment head and bundle), each valid until the next is asked for; CRC of the payload verified."""
    frame = memoryview(bytearray(SEGMENT_HEAD_OCTETS + _HEAD_OCTETS + task.octets + _TAIL_OCTETS))
    seen: set[bytes] = set()
    payload_at = SEGMENT_HEAD_OCTETS + _HEAD_OCTETS
    for _ in range(task.count):
        read_exactly(connection, frame)
        if _large_crc(frame[payload_at : payload_at + task.octets]) != frame[-5:-1]:
            raise ValueError("CRC of the payload block")
        seen.add(bytes(frame[SEGMENT_HEAD_OCTETS:payload_at]))
        yield frame
    assert len(seen) == task.count


def _large_sink(connection: socket.socket, task: Task) -> None:
    with tempfile.TemporaryFile() as log:
        for frame in _large_bundles(connection, task):
            if task.durable:
                log.write(frame)
                log.flush()
                os.fdatasync(log.fileno())
            connection.sendall(ack(bytes(frame[2:10]), bytes(frame[14:22])))


def _large_relay(inward: socket.socket, outward: socket.socket, task: Task) -> None:
    for frame in _large_bundles(inward, task):
        outward.sendall(frame)
        inward.sendall(ack(bytes(frame[2:10]), bytes(frame[14:22])))
    await_acks(outward, task.count)


def _large_source(connection: socket.socket, task: Task) -> None:
    payload = bytearray(task.octets)
    for index in range(task.count):
        payload[:8] = index.to_bytes(8, "big")
        head = _large_head(index, task.octets)
        connection.sendall(segment(index, len(head) + task.octets + _TAIL_OCTETS) + head)
        connection.sendall(payload)
        connection.sendall(b"\x44" + _large_crc(memoryview(payload)) + b"\xff")
    await_acks(connection, task.count)


def await_acks(connection: socket.socket, count: int) -> None:
    """Wait for so many acknowledgements."""
    acked = 0
    while acked < count * _ACK_OCTETS:
        acked += take_acks(connection, wait=True)


# ---- roles -----------------------------------------------------------------------------------------------------------


def sink(task: Task) -> None:
    """Receive everything; print the most MiB of memory that were held."""
    with listen(task) as connection:
        (_small_sink if task.octets == _SMALL_OCTETS else _large_sink)(connection, task)
    print(rss_max_mib(), flush=True)


def rss_max_mib() -> float:
    """The most MiB of memory that were held. Not getrusage: its ru_maxrss begins with what the parent held when it forked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def relay(task: Task) -> None:
    """Pass everything on."""
    with connect(task) as outward, listen(task) as inward:
        (_small_relay if task.octets == _SMALL_OCTETS else _large_relay)(inward, outward, task)


def source(task: Task) -> None:
    """Send everything; print the seconds it took until the last acknowledgement."""
    with connect(task) as connection:
        begin = time.perf_counter()
        (_small_source if task.octets == _SMALL_OCTETS else _large_source)(connection, task)
        print(time.perf_counter() - begin, flush=True)


def echo(task: Task) -> None:
    """Give back every bundle as it came."""
    with listen(task) as connection:
        for batch in _batches(connection, task.count):
            for transfer, length, bundle in batch:
                codec.decode(bundle, len(_START))
                connection.sendall(_SEGMENT + transfer + _NO_EXTENSIONS + length + bundle)


def ping(task: Task) -> None:
    """Send one bundle at a time and wait for its echo; print the median seconds of a round trip."""
    times = []
    with connect(task) as connection:
        for index in range(task.count):
            begin = time.perf_counter()
            bundle = codec.encode(_START, _CREATED_MS, index, bytes(_SMALL_OCTETS))
            connection.sendall(segment(index, len(bundle)) + bundle)
            for batch in _batches(connection, 1):
                for _, _, answer in batch:
                    codec.decode(answer, len(_START))
            times.append(time.perf_counter() - begin)
    print(sorted(times)[len(times) // 2], flush=True)


ROLES = {"sink": sink, "relay": relay, "source": source, "echo": echo, "ping": ping}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Task.parse(sys.argv[2]))

"""The plainest way of a file from one process to another: blocking sockets, RFC 9174 framing, an acknowledgement a file.

Run as child processes, as those of `stream` are: `python -m tumpline.bench.limits.file ROLE '{"count": ...}'`. The sink
writes files without a name and gives each its name when it is complete, before it acknowledges.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from tumpline.bench.limits.stream import (
    SEGMENT_HEAD_OCTETS,
    Task,
    ack,
    await_acks,
    connect,
    listen,
    read_exactly,
    rss_max_mib,
    segment,
)

_PIECE_OCTETS = 1 << 18
SOURCE, TARGET = "source-{}", "plain-{}"  # files, by number, in the directory


def _write_file(connection: socket.socket, piece: memoryview, length: int, path: Path) -> None:
    fd = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        while length:
            count = connection.recv_into(piece[: min(len(piece), length)])
            if not count:
                raise ConnectionError("the other side has gone")
            os.write(fd, piece[:count])
            length -= count
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    finally:
        os.close(fd)


def sink(task: Task) -> None:
    """Receive files; print the most MiB of memory that were held."""
    head, piece = memoryview(bytearray(SEGMENT_HEAD_OCTETS)), memoryview(bytearray(_PIECE_OCTETS))
    with listen(task) as connection:
        for index in range(task.count):
            read_exactly(connection, head)
            _write_file(
                connection, piece, int.from_bytes(head[14:22], "big"), Path(task.directory) / TARGET.format(index)
            )
            connection.sendall(ack(bytes(head[2:10]), bytes(head[14:22])))
    print(rss_max_mib(), flush=True)


def source(task: Task) -> None:
    """Send files; print the seconds it took until the last acknowledgement."""
    piece = memoryview(bytearray(_PIECE_OCTETS))
    with connect(task) as connection:
        begin = time.perf_counter()
        for index in range(task.count):
            with open(Path(task.directory) / SOURCE.format(index), "rb", buffering=0) as file:
                connection.sendall(segment(index, os.fstat(file.fileno()).st_size))
                while count := file.readinto(piece):
                    connection.sendall(piece[:count])
        await_acks(connection, task.count)
        print(time.perf_counter() - begin, flush=True)


ROLES = {"sink": sink, "source": source}

if __name__ == "__main__":
    ROLES[sys.argv[1]](Task.parse(sys.argv[2]))

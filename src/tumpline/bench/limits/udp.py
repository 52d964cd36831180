"""The plainest UDP program: a bundle a datagram, blocking sockets, a busy clock. No endpoint, no path MTU, no marks.

Run as child processes like `framework/udpcl_ends.py`, with the same tasks and results.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

from tumpline.bench.framework.numbered import Numbered, Tally

_BUFFER_OCTETS = 8 << 20
_SO_RCVBUFFORCE = 33  # Linux
_READ_OCTETS = 1 << 16
_READS = 256  # before standard input is looked at


def _tell(result: Any) -> None:
    print(json.dumps(result), flush=True)


def sink(octets: int, **_identity: Any) -> None:
    """Takes and verifies; each task asks what came since the last one."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_OCTETS)  # as our side does
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_OCTETS)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    _tell("{}:{}".format(*sock.getsockname()))
    tally = Tally(octets)
    while True:
        ready, _, _ = select.select([sock, sys.stdin], [], [])
        if sock in ready:
            _drain(sock, tally)
        elif not sys.stdin.readline():
            break
        else:
            _tell({**tally.report(), "receive_buffer": sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)})
    sock.close()


def _drain(sock: socket.socket, tally: Tally) -> None:
    bundles: list[bytes] = []
    while len(bundles) < _READS:
        try:
            bundles.append(sock.recv(_READ_OCTETS))
        except BlockingIOError:
            break
    tally.take(bundles)


def source(octets: int, address: str, **_identity: Any) -> None:
    """Sends `count` bundles at `per_s` for each task; tells how many seconds that took."""
    host, _, port = address.partition(":")
    numbered = Numbered(octets)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, int(port)))
        for line in sys.stdin:
            task = json.loads(line)
            _tell({"seconds": _send(sock, numbered, task["count"], task["per_s"])})


def _send(sock: socket.socket, numbered: Numbered, count: int, per_s: float) -> float:
    began = time.perf_counter()
    for number in range(count):
        data = numbered.bundle(number)
        due = began + number / per_s
        while time.perf_counter() < due:
            pass
        sock.send(data)
    return time.perf_counter() - began


if __name__ == "__main__":
    _role, _task = sys.argv[1], json.loads(sys.argv[2])
    sink(**_task) if _role == "sink" else source(**_task)

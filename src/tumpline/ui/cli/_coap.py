"""As much of CoAP (RFC 7252) as a demonstration needs: one GET, and a server that answers it."""

from __future__ import annotations

import socket
import sys
from typing import Final

PORT: Final = 5683
ANSWER_S: Final = 2.0
_VERSION: Final = 1 << 6
_CONFIRMABLE, _ACKNOWLEDGEMENT = 0 << 4, 2 << 4  # RFC 7252 §3: T
_GET, _CONTENT = 0x01, 0x45  # §12.1: 0.01, 2.05
_URI_PATH: Final = 11  # §5.10
_MARKER: Final = b"\xff"
_TOKEN: Final = b"tp"


def get(path: str, number: int) -> bytes:
    """A request for a resource of one short segment."""
    segment = path.encode()
    assert len(segment) < 13, "longer ones need an extended length"
    head = bytes([_VERSION | _CONFIRMABLE | len(_TOKEN), _GET]) + number.to_bytes(2, "big") + _TOKEN
    return head + bytes([_URI_PATH << 4 | len(segment)]) + segment


def content(request: bytes, text: str) -> bytes:
    """The answer, with the request's message ID and token (§5.2.1)."""
    length = request[0] & 0x0F
    head = bytes([_VERSION | _ACKNOWLEDGEMENT | length, _CONTENT])
    return head + request[2 : 4 + length] + _MARKER + text.encode()


def fetch(address: str, path: str) -> str:
    """What the server there says. Raises: TimeoutError, OSError."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect((address, PORT))
        sock.send(get(path, 1))
        answer = sock.recv(2048)
    assert answer[1] == _CONTENT, f"CoAP code {answer[1]:#x}"
    return answer.partition(_MARKER)[2].decode()


def serve(address: str, text: str) -> None:
    """Until it is killed."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((address, PORT))
        print("ready", flush=True)
        while True:
            request, client = sock.recvfrom(2048)
            sock.sendto(content(request, text), client)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        print(fetch(sys.argv[2], sys.argv[3]))

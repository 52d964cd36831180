"""Handshakes over a path that loses, doubles and reorders, in virtual time: `lossy_handshakes.py DIRECTORY LOSS COUNT`.

OpenSSL times its repetitions by the system's clock and lets nobody hand it another. So this runs under libfaketime, which
reads how far ahead that clock is from a file, at every look; `Clock.advance` writes it. Prints one JSON line a handshake."""

import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.session import DtlsSession
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.testing.certificates import Authority
from tumpline.testing.dtls import DtlsPair


class Clock:
    """Seconds of virtual time."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self._path = path
        self.advance(0.0)

    def advance(self, to: float) -> None:
        """Never back. The file is replaced whole."""
        self.now = max(self.now, to)
        other = self._path.with_suffix(".new")
        other.write_text(f"+{self.now:.6f}")
        other.replace(self._path)


def impaired(chance: Random, loss: float, datagrams: list[bytes]) -> list[bytes]:
    arrived: list[bytes] = []
    for datagram in datagrams:
        for _ in range(1 + (chance.random() < 0.2)):
            if chance.random() >= loss:
                arrived.insert(chance.randrange(max(0, len(arrived) - 2), len(arrived) + 1), datagram)
    return arrived


def run(clock: Clock, client: DtlsContexts, server: DtlsContexts, chance: Random, loss: float) -> dict[str, Any]:
    begin = clock.now
    pair = DtlsPair(client, server, chance.choice([300, 500, 1200]), begin)
    while True:
        while pair.carry(clock.now, lambda datagrams: impaired(chance, loss, datagrams)):
            pass
        sessions: list[DtlsSession] = [each for each in (pair.client, pair.server) if each is not None]
        timeouts = [at for each in sessions if (at := each.next_timeout()) is not None]
        if not timeouts:
            break
        clock.advance(min(timeouts))
        for session in sessions:
            session.handle_timeout(clock.now)
    both = pair.server is not None and pair.client.is_established and pair.server.is_established
    if both:
        assert pair.server is not None
        pair.client.write(b"through")
        assert [pair.server.feed(datagram, clock.now) for datagram in pair.client.datagrams()] == [[b"through"]]
    return {"established": both, "seconds": clock.now - begin, "failures": [each.failure for each in sessions]}


def contexts(authority: Authority, name: str) -> DtlsContexts:
    tls = authority.issue(name, [f"dtn://{name}/"])
    return DtlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL))


def main(directory: Path, loss: float, count: int) -> None:
    clock = Clock(Path(os.environ["FAKETIME_TIMESTAMP_FILE"]))
    before = time.time()
    clock.advance(1000.0)
    assert time.time() - before >= 1000.0, "libfaketime is not there"
    authority = Authority(directory)
    client, server = (contexts(authority, name) for name in ("a", "b"))
    for seed in range(count):
        print(json.dumps({"seed": seed, **run(clock, client, server, Random(f"{loss} {seed}"), loss)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))

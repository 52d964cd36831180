"""A DTLS conversation: altered records of a peer, in a handshake and after it, into code that is not ours (OpenSSL).

An input's first octet chooses whom the rest reaches: a listener that knows nobody, a conversation whose handshake has begun,
or one that carries, which must go on whatever comes. Behind it stand datagrams, each with its length in two octets. Keys are
new in each process, so the same seed gives the same mutations of other records.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fuzz.harness import Target
from tumpline.drivers.dtls.channel import DtlsChannel, Route
from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.listener import Listener
from tumpline.drivers.dtls.session import State
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.testing.certificates import Authority
from tumpline.testing.dtls import CLIENT_ADDRESS, OCTETS, DtlsPair
from tumpline.wire.dtls import client_hello_random

DATAGRAMS_MOST = 32
PLAIN = b"through all of it"
_STRANGER, _HANDSHAKE, _CARRYING = 0, 1, 2


@cache
def _contexts() -> tuple[DtlsContexts, DtlsContexts]:
    """Of a client and a server."""
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    authority = Authority(Path(directory.name))
    tls = [authority.issue(name, [f"dtn://{name}/"]) for name in ("a", "b")]
    client, server = (DtlsContexts(TlsFiles(it["cert"], it["key"], it["ca"], Verify.ALL)) for it in tls)
    return client, server


class _End:
    """What a server does with datagrams of one address."""

    def __init__(self) -> None:
        self.listener = Listener(_contexts()[1], OCTETS)
        self.channel: DtlsChannel | None = None
        self.plain: list[bytes] = []
        self.answers = 0

    def take(self, datagram: bytes) -> None:
        random = client_hello_random(datagram)
        route = Route.SESSION if random is None else Route.LISTENER
        if random is not None and self.channel is not None:
            route = self.channel.route(random)
        if route is Route.LISTENER:
            self._hello(datagram)
        elif route is Route.SESSION and self.channel is not None:
            self.plain += self.channel.feed(datagram, 0.0)
            self.answers += len(self.channel.out())

    def _hello(self, datagram: bytes) -> None:
        answer = self.listener.receive(datagram, CLIENT_ADDRESS, 0.0)
        assert len(answer.datagram) <= len(datagram), "an answer to a stranger is longer than what came"
        self.answers += bool(answer.datagram)
        if answer.session is not None and self.channel is not None:
            self.channel.adopt(answer.session, 0.0)
        elif answer.session is not None:
            self.channel = DtlsChannel(answer.session)


@cache
def _recorded() -> tuple[list[bytes], DtlsPair]:
    """What a client sent, from its first ClientHello to some records and its goodbye; and another pair, that carries."""
    recorded: list[bytes] = []
    pair, carrying = (DtlsPair(*_contexts()) for _ in range(2))
    carrying.handshake()

    def keep(datagrams: list[bytes]) -> list[bytes]:
        recorded.extend(datagrams)
        return datagrams

    while pair.carry(impair=keep):
        pass
    for length in (1, 500, 1000):
        pair.client.write(bytes(length))
    pair.client.close()
    keep(pair.client.datagrams())
    return recorded, carrying


def seeds() -> list[bytes]:
    """The whole conversation and parts of it, to each kind of end."""
    recorded, _ = _recorded()
    parts = [recorded, recorded[:1], recorded[2:3], recorded[2:6], *([each] for each in recorded)]
    return [bytes([whom]) + _packed(part) for whom in (_STRANGER, _HANDSHAKE, _CARRYING) for part in parts]


def run(data: bytes) -> bool:
    """Nothing is raised; what carries goes on; what failed says why. Accepted: there was an answer, or it carries still."""
    whom = data[0] % 3 if data else _STRANGER
    if whom == _CARRYING:
        return _carries_on(data)
    end = _End()
    for datagram in _recorded()[0][2:3] if whom == _HANDSHAKE else ():
        end.take(datagram)
    for datagram in _unpacked(data):
        end.take(datagram)
    channel = end.channel
    assert channel is None or channel.is_securing or channel.is_established or channel.failure, (
        "it has failed in silence"
    )
    if channel is not None:
        channel.handle_timeout(1e6)
        channel.close()
    return end.answers > 0


def _carries_on(data: bytes) -> bool:
    _, pair = _recorded()
    assert pair.server is not None
    for datagram in _unpacked(data):
        assert pair.server.feed(datagram, 0.0) == [], "something came out of altered records"
    pair.client.write(PLAIN)
    (genuine,) = pair.client.datagrams()
    assert pair.server.feed(genuine, 0.0) == [PLAIN], pair.server.failure
    assert pair.server.state is State.ESTABLISHED
    return True


def _packed(datagrams: list[bytes]) -> bytes:
    return b"".join(len(each).to_bytes(2) + each for each in datagrams)


def _unpacked(data: bytes) -> Iterator[bytes]:
    at = 1
    for _ in range(DATAGRAMS_MOST):
        length = int.from_bytes(data[at : at + 2])
        if at + 2 > len(data):
            return
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


# What OpenSSL holds does not count here; ours are copies of datagrams and their records, and the texts of errors.
TARGET = Target("dtls", "DTLS conversations", seeds, run, peak_base=512 << 10, peak_factor=8)

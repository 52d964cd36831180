"""Two ends of DTLS whose datagrams are carried by hand: in order, or as an `impair` wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.listener import Listener
from tumpline.drivers.dtls.session import DtlsSession

OCTETS = 1200
CLIENT_ADDRESS = b"192.0.2.1:4556"
Impair = Callable[[list[bytes]], Sequence[bytes]]


class DtlsPair:
    """A client and the listener it talks to. `server` is there once the cookie has come back."""

    def __init__(self, client: DtlsContexts, server: DtlsContexts, octets: int = OCTETS, now: float = 0.0) -> None:
        self.listener = Listener(server, octets)
        self.client = DtlsSession.client(client, b"", octets, now)
        self.server: DtlsSession | None = None
        self.cookies = 0  # asked for

    def carry(self, now: float = 0.0, impair: Impair = list) -> bool:
        """All that both have to say once; whether there was anything."""
        there = impair(self.client.datagrams())
        back: list[bytes] = []
        for datagram in there:
            back += self.to_server(datagram, now)
        if self.server is not None:
            back += self.server.datagrams()
        for datagram in impair(back):
            self.client.feed(datagram, now)
        return bool(there or back)

    def to_server(self, datagram: bytes, now: float) -> list[bytes]:
        """One datagram; what the listener answers."""
        if self.server is not None:
            self.server.feed(datagram, now)
            return []
        answer = self.listener.receive(datagram, CLIENT_ADDRESS, now)
        self.server = answer.session
        self.cookies += bool(answer.datagram)
        return [answer.datagram] if answer.datagram else []

    def handshake(self, now: float = 0.0) -> None:
        """Until nobody has anything to say."""
        while self.carry(now):
            pass


def established(client: DtlsContexts, server: DtlsContexts, octets: int = OCTETS) -> tuple[DtlsSession, DtlsSession]:
    """Both sessions after their handshake."""
    pair = DtlsPair(client, server, octets)
    pair.handshake()
    assert pair.server is not None, pair.client.failure
    assert pair.client.is_established, pair.client.failure
    assert pair.server.is_established, pair.server.failure
    return pair.client, pair.server

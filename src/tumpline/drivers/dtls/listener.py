"""ClientHellos of strangers: answered by a cookie, and nothing is kept until it has come back (RFC 6347 §4.2.1)."""

from __future__ import annotations

from typing import NamedTuple

from OpenSSL import SSL

from tumpline.drivers.dtls.context import COOKIE_S, DtlsContexts, Peer
from tumpline.drivers.dtls.session import DtlsSession, new_connection
from tumpline.wire.dtls import client_hello_random, split_records


class Answer(NamedTuple):
    """To be sent to where the ClientHello came from; the session begins once the cookie has come back."""

    datagram: bytes = b""
    session: DtlsSession | None = None


NOTHING = Answer()


class Listener:
    """Of one socket, for all who are not known yet. `octets`: how long datagrams may be at first."""

    def __init__(self, contexts: DtlsContexts, octets: int) -> None:
        self._contexts = contexts
        self._octets = octets
        self._waiting: tuple[SSL.Context, SSL.Connection] | None = None

    def receive(self, datagram: bytes, address: bytes, now: float) -> Answer:
        """`address`: of both ends, in whatever form. What is no ClientHello is answered by nothing.

        Raises: TumplineError (files that cannot be used)."""
        records = split_records(datagram)
        random = client_hello_random(records[0]) if records else None
        if random is None:
            return NOTHING
        connection = self._connection(self._contexts.context(True), Peer(address, int(now // COOKIE_S)))
        connection.bio_write(records[0])
        try:
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            return self._verify_request(connection)
        except SSL.Error:
            self._waiting = None  # whatever it was, the next one finds a connection that has not seen it
            return NOTHING
        self._waiting = None
        # DTLSv1_listen has forgotten it.
        connection.set_ciphertext_mtu(self._octets)
        return Answer(session=DtlsSession(connection, self._contexts.certificate, self._octets, now, random))

    def _connection(self, context: SSL.Context, peer: Peer) -> SSL.Connection:
        """One serves all strangers, one after another: it keeps nothing of those who bring no cookie."""
        if self._waiting is None or self._waiting[0] is not context:
            connection = new_connection(context, peer.address, self._octets)
            connection.set_accept_state()
            self._waiting = context, connection
        connection = self._waiting[1]
        connection.set_app_data(peer)
        return connection

    def _verify_request(self, connection: SSL.Connection) -> Answer:
        try:
            return Answer(connection.bio_read(1 << 12))
        except SSL.WantReadError:
            return NOTHING

"""One DTLS association between two memory buffers: datagrams in, plaintext out, and the other way round.

No sockets, and a clock reading for every call. OpenSSL times retransmissions by a clock of its own; it only says how long it
wants to wait (`next_timeout`), and is asked again if called too early.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from tumpline.drivers.dtls.context import DtlsContexts, Peer, reason_of
from tumpline.drivers.tls_failures import explain_certificate, explain_reason
from tumpline.wire.dtls import APPLICATION_DATA, PLAINTEXT_OCTETS_MOST, client_hello_random, pack_records, split_records

DATAGRAM_OCTETS_LEAST: Final = 256  # less, and OpenSSL sends 256 all the same
HANDSHAKE_S: Final = 20.0  # after so long it has failed: RFC 6347 §4.2.4.1 waits 1, 2, 4, 8 s between repetitions
_READ_OCTETS: Final = 1 << 16
_TLS13: Final = "DTLSv1.3"


class State(Enum):
    """Of an association."""

    HANDSHAKING = "handshaking"
    ESTABLISHED = "established"
    CLOSED = "closed"


class DtlsSession:
    """Made by `client` below, or by a Listener. `failure` says why it is closed, "" while it is not."""

    def __init__(
        self, connection: SSL.Connection, certificate: str, octets: int, now: float, hello_random: bytes = b""
    ) -> None:
        self.hello_random = hello_random  # of the ClientHello that began it
        self.is_server = bool(hello_random)
        self.state = State.HANDSHAKING
        self.failure = ""
        self.clean = False  # closed by a close_notify, ours or theirs
        self._connection = connection
        self._peer: Peer = connection.get_app_data()
        self._certificate = certificate
        self._records: list[bytes] = []  # to be sent
        self.pack_octets = octets  # as many records go into one datagram as fit so many
        self._mtu_octets = max(octets, DATAGRAM_OCTETS_LEAST)
        self._plaintext_octets = 0
        self._give_up_at = now + HANDSHAKE_S
        self._timeout: float | None = None
        self._hides_types = False  # 1.3: a record does not say outside what it is
        self._attempt(self._handshake, now)

    @classmethod
    def client(
        cls, contexts: DtlsContexts, address: bytes, octets: int, now: float, server_name: str | None = None
    ) -> DtlsSession:
        """Begin one; its ClientHello is the first of `datagrams`. `server_name`: the DNS name that was resolved.

        Raises: TumplineError (files that cannot be used)."""
        connection = new_connection(contexts.context(False), address, octets)
        if server_name:
            connection.set_tlsext_host_name(server_name.encode("idna"))
        connection.set_connect_state()
        session = cls(connection, contexts.certificate, octets, now)
        session.hello_random = client_hello_random(session._records[0]) or b""
        return session

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def is_established(self) -> bool:
        """Whether it carries plaintext now."""
        return self.state is State.ESTABLISHED

    @property
    def version(self) -> str:
        """For people: "DTLSv1.2"."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """OpenSSL's name of it; "" before there is one."""
        return self._connection.get_cipher_name() or ""

    def peer_certificate(self) -> bytes | None:
        """DER; None if the peer gave none."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    @property
    def plaintext_octets(self) -> int:
        """The longest that `write` takes now: what one record in one datagram holds, at most 2^14."""
        return self._plaintext_octets

    @property
    def overhead_octets(self) -> int:
        """How much longer a record is than what it carries."""
        return self._mtu_octets - self._connection.get_cleartext_mtu()

    # ---- octets ------------------------------------------------------------------------------------------------------

    def feed(self, datagram: bytes, now: float) -> list[bytes]:
        """The plaintexts of its records, in order. What is no valid record of this association is passed over."""
        plaintexts: list[bytes] = []
        for record in split_records(datagram):
            # One at a time: OpenSSL takes what it finds for one datagram, and drops what its buffer cannot hold.
            if self.state is State.CLOSED:
                break
            self._connection.bio_write(record)
            if self.state is State.HANDSHAKING:
                self._attempt(self._handshake, now)
                if self.is_established:
                    self._attempt(lambda: self._read_all(plaintexts), now)  # what overtook the end of the handshake
                continue
            self._read(plaintexts)
            if record[0] != APPLICATION_DATA or self._hides_types:
                self._collect()  # an answer to a peer that has missed the end of the handshake
        return plaintexts

    def write(self, plaintext: bytes) -> None:
        """One record, to be sent by `datagrams`."""
        # OpenSSL does not refuse what is too long for a datagram.
        assert 0 < len(plaintext) <= self._plaintext_octets, f"{len(plaintext)} octets in one record"
        self._connection.send(plaintext)
        self._records.append(self._connection.bio_read(_READ_OCTETS))

    def datagrams(self) -> list[bytes]:
        """What is to be sent, records packed as densely as `pack_octets` permits."""
        if not self._records:
            return []
        records, self._records = self._records, []
        return pack_records(records, self.pack_octets)

    def set_mtu(self, octets: int) -> None:
        """Datagrams may be so long from now on."""
        self.pack_octets = octets
        self._mtu_octets = max(octets, DATAGRAM_OCTETS_LEAST)
        self._connection.set_ciphertext_mtu(self._mtu_octets)
        if self.state is State.ESTABLISHED:
            self._plaintext_octets = self._room()

    def close(self) -> None:
        """Say so to the peer (close_notify among `datagrams`), and end."""
        if self.state is State.ESTABLISHED:
            try:
                self._connection.shutdown()
            except SSL.Error:
                pass  # without an alert then: the association ends all the same
            self._collect()
        self._end("closed by us", clean=True)

    def refuse(self, text: str) -> None:
        """The handshake went well, but the peer is not who it should be. It learns only that it is over: OpenSSL sends no
        alert of our choice."""
        self.close()
        self.failure = text
        self.clean = False

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called; None once the handshake is over."""
        return self._timeout

    def handle_timeout(self, now: float) -> None:
        """Send the last flight again, or give up."""
        if self.state is not State.HANDSHAKING or self._timeout is None or now < self._timeout:
            return
        if now >= self._give_up_at:
            self._end(f"no answer to the DTLS handshake within {HANDSHAKE_S:g} s")
            return
        self._attempt(self._retransmit, now)

    def _retransmit(self) -> None:
        self._connection.DTLSv1_handle_timeout()

    # ---- within ------------------------------------------------------------------------------------------------------

    def _attempt(self, action: Callable[[], None], now: float) -> None:
        """Let OpenSSL work; then take what it wants to send and how long it wants to wait."""
        try:
            action()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._fail(error)
        if self.state is State.HANDSHAKING:
            self._collect()
            self._arm(now)

    def _handshake(self) -> None:
        self._connection.do_handshake()
        self.state = State.ESTABLISHED
        self._timeout = None
        self._hides_types = self.version == _TLS13
        self._plaintext_octets = self._room()
        self._collect()

    def _read(self, plaintexts: list[bytes]) -> None:
        """What one record gives. (Without `_attempt`: this is the path of every bundle.)"""
        try:
            plaintexts.append(self._connection.recv(PLAINTEXT_OCTETS_MOST))
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._fail(error)

    def _read_all(self, plaintexts: list[bytes]) -> None:
        while True:
            plaintexts.append(self._connection.recv(PLAINTEXT_OCTETS_MOST))

    def _room(self) -> int:
        return min(self._connection.get_cleartext_mtu(), PLAINTEXT_OCTETS_MOST)

    def _collect(self) -> None:
        try:
            while True:
                self._records += split_records(self._connection.bio_read(_READ_OCTETS))
        except SSL.WantReadError:
            return

    def _arm(self, now: float) -> None:
        wait = self._connection.DTLSv1_get_timeout()
        self._timeout = self._give_up_at if wait is None else min(now + wait, self._give_up_at)

    def _end(self, text: str, clean: bool = False) -> None:
        if self.state is not State.CLOSED:
            self.state, self.failure, self.clean = State.CLOSED, text, clean
            self._timeout = None
            self._plaintext_octets = 0

    def _fail(self, error: SSL.Error) -> None:
        if isinstance(error, SSL.ZeroReturnError):
            self._end("the peer has closed the association", clean=True)
            return
        self._collect()  # the alert
        self._end(self._explain(error))

    def _explain(self, error: SSL.Error) -> str:
        code = self._peer.verify_error
        if code:
            return explain_certificate(code, f"error {code} of its path")
        reason = reason_of(error)
        return explain_reason(_underscored(reason), self._certificate) or f"DTLS failed: {error!r}"


def new_connection(context: SSL.Context, address: bytes, octets: int) -> SSL.Connection:
    """Between memory buffers, neither client nor server yet."""
    connection = SSL.Connection(context, None)
    connection.set_app_data(Peer(address))
    connection.set_ciphertext_mtu(max(octets, DATAGRAM_OCTETS_LEAST))
    return connection


def _underscored(reason: str) -> str:
    """ "ssl/tls alert bad certificate" as Python's ssl module would call it."""
    return reason.upper().replace("/", "_").replace(" ", "_")

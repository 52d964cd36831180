"""DTLS of UDPCL's endpoints: who is answered before anything is kept, and who may be the peer of a conversation.

Imported where a link's configuration asks for DTLS: it needs pyOpenSSL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tumpline.drivers.dtls.channel import DtlsChannel, Route
from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.listener import Listener
from tumpline.drivers.dtls.session import DtlsSession
from tumpline.drivers.links._tls_config import tls_files
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.drivers.links._udpcl_socket import Received, UdpSocket, is_group
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.x509 import peer_certificate
from tumpline.errors import MalformedError, TumplineError
from tumpline.machines.authenticate import AuthenticationPolicy
from tumpline.machines.udpcl.conversation import DtlsUse, State
from tumpline.machines.udpcl.feedback import NOT_ECT
from tumpline.machines.udpcl.identity import PeerIdentity, sole_node_id
from tumpline.wire.dtls import client_hello_random
from tumpline.wire.eid import Eid

UNANSWERED_S = 5.0  # after so long without any answer a peer that need not speak DTLS does not speak it
_TO_A_GROUP = 'DTLS cannot be spoken to a multicast group; set tls.mode "optional" or "off" for that link'


class Security:
    """Of one endpoint."""

    def __init__(self, config: UdpclConfig, node_id: Eid | None, notice: Callable[..., None]) -> None:
        """`notice` tells people. Raises: TumplineError (files that cannot be used)."""
        tls = config.tls
        self._contexts = DtlsContexts(tls_files(tls))
        self._octets = config.datagram_octets
        self._listener = Listener(self._contexts, self._octets)
        self._policy = AuthenticationPolicy.named(tls.authenticate, tls.allow_uri_san)
        self._handshakes_most = config.limits.max_handshakes
        self._notice = notice
        self._securing: set[Talk] = set()
        for server_side in (True, False):
            self._contexts.context(server_side)
        # Draft: who has a certificate that names exactly one node need not say which it is.
        self._names_itself = _sole_node_id(tls.cert) != node_id

    # ---- handshakes --------------------------------------------------------------------------------------------------

    def begin(self, talk: Talk, now: float) -> None:
        """We are the client."""
        if is_group(talk.remote):
            if talk.machine.config.dtls is DtlsUse.REQUIRED:
                talk.machine.dtls_failed(_TO_A_GROUP)
            else:
                talk.machine.dtls_unanswered()
            return
        try:
            session = self._client(talk, now)
        except TumplineError as error:
            talk.machine.dtls_failed(str(error))
            return
        talk.channel = DtlsChannel(session, self._acceptance(talk))
        talk.dtls_begun_at = now
        self._securing.add(talk)

    def _client(self, talk: Talk, now: float) -> DtlsSession:
        return DtlsSession.client(self._contexts, _address_of(talk), self._octets, now, talk.reference.host)

    def sized(self, talk: Talk, is_confirmed: bool, now: float) -> None:
        """A search for the path MTU has ended. A peer that confirms nothing any more may have restarted and take our records
        for garbage: another handshake, beside the session, finds out. (No DTLS Initiation: nothing goes plainly any more.)"""
        channel = talk.channel
        assert channel is not None, "the conversation is secured"
        if is_confirmed:
            talk.is_answering = True
        elif talk.is_answering and channel.is_established and not channel.is_securing:
            talk.is_answering = False
            try:
                channel.adopt(self._client(talk, now), now)
            except TumplineError as error:
                self._notice("session_failed", address=talk.address, reason=str(error), clean=False)
                return
            self._securing.add(talk)
            self.look(talk, now)

    def greet(
        self, from_socket: UdpSocket, read: Received, find: Callable[[], Talk | None], begin: Callable[[], Talk | None]
    ) -> Received:
        """Take the ClientHellos out of what came. `find` the conversation, if there is one; `begin` it, if it may be."""
        rest: list[bytes] = []
        for data in read.datagrams:
            random = client_hello_random(data)
            talk = find() if random is not None else None
            channel = talk.channel if talk is not None else None
            route = Route.LISTENER if channel is None or random is None else channel.route(random)
            if random is None or route is Route.SESSION:
                rest.append(data)
            elif route is Route.LISTENER and not read.is_multicast:
                self._listen(from_socket, read, data, begin)
        return read._replace(datagrams=rest)

    def _listen(self, from_socket: UdpSocket, read: Received, data: bytes, begin: Callable[[], Talk | None]) -> None:
        now = asyncio.get_running_loop().time()
        answer = self._listener.receive(data, f"{from_socket.address} {read.remote}".encode(), now)
        if answer.datagram:
            # What the socket does not take now, the client asks for again.
            from_socket.send([answer.datagram], read.remote, NOT_ECT, read.local)
        if answer.session is None or self._is_full(str(read.remote[0])):
            return  # the client asks again
        talk = begin()
        if talk is None:
            return
        if talk.channel is None:
            talk.channel = DtlsChannel(answer.session, self._acceptance(talk))
        else:
            talk.channel.adopt(answer.session, now)
        talk.machine.dtls_begun(now)
        self._securing.add(talk)

    def _is_full(self, ip: str) -> bool:
        """Whether enough handshakes go on; no address may have more than a quarter of them."""
        most, of_address = self._handshakes_most, sum(str(talk.remote[0]) == ip for talk in self._securing)
        return len(self._securing) >= most or of_address >= max(1, most // 4)

    def settled(self, talk: Talk) -> None:
        """No handshake goes on there."""
        self._securing.discard(talk)

    def look(self, talk: Talk, now: float) -> None:
        """What the last call has made of a channel."""
        machine, channel = talk.machine, talk.channel
        assert channel is not None, "there is something to look at"
        if out := channel.out():
            # At once: it may be the last word. What the socket does not take, is sent again when nobody answers.
            talk.socket.send(out, talk.remote, NOT_ECT, talk.local)
        if channel.is_securing:
            self._give_up(talk, channel, now)
            return
        self.settled(talk)
        if channel.trouble and not channel.failure:  # of a handshake beside the session that goes on
            self._notice("session_failed", address=talk.address, reason=channel.trouble, clean=False)
            channel.trouble = ""
        is_renewed = channel.renewals != talk.renewals
        if channel.failure and machine.state is not State.FAILED:
            machine.dtls_failed(channel.failure)
        elif channel.is_established and (is_renewed or machine.state is State.SECURING):
            talk.renewals = channel.renewals
            overhead = channel.overhead_octets
            machine.dtls_done(
                channel.certificate, now, overhead, is_renewed=is_renewed, names_itself=self._names_itself
            )

    def _give_up(self, talk: Talk, channel: DtlsChannel, now: float) -> None:
        """A peer that has not answered by now does not speak DTLS, which may be allowed."""
        machine = talk.machine
        is_optional = machine.config.dtls is DtlsUse.OPTIONAL and machine.state is State.SECURING
        if is_optional and not channel.has_heard and now >= talk.dtls_begun_at + UNANSWERED_S:
            channel.close()
            self.settled(talk)
            machine.dtls_unanswered()

    # ---- who the peer is ---------------------------------------------------------------------------------------------

    def _acceptance(self, talk: Talk) -> Callable[[DtlsSession], str]:
        def accept(session: DtlsSession) -> str:
            try:
                der = session.peer_certificate()
                certificate = peer_certificate(der) if der is not None else None
            except MalformedError as error:
                return str(error)
            identity = PeerIdentity(certificate, self._policy, talk.reference)
            refusal = identity.check()
            if not refusal:
                talk.identity = identity
            return refusal

        return accept


def _address_of(talk: Talk) -> bytes:
    return f"{talk.socket.address} {talk.remote}".encode()


def _sole_node_id(path: str) -> Eid | None:
    """Whom a certificate of ours names alone."""
    try:
        with open(path, "rb") as file:
            der = x509.load_pem_x509_certificate(file.read()).public_bytes(Encoding.DER)
        return sole_node_id(peer_certificate(der))
    except (OSError, ValueError, MalformedError):
        return None  # it was found usable before; what it names, the peer will say

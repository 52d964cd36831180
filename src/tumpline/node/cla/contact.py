"""One connection of a TCPCL agent: its session's state and parameters, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tumpline.drivers.links._tcpcl4_connection import Connection
from tumpline.machines.authenticate import (
    AuthenticationPolicy,
    Decision,
    Demand,
    Finding,
    authenticate_host,
    authenticate_node,
)
from tumpline.machines.tcpcl4.events import (
    ContactHeaderExchanged,
    Event,
    SessionEnding,
    SessionEstablished,
    TransferAborted,
    TransferStarted,
)
from tumpline.machines.tcpcl4.states import State
from tumpline.node.cla.events import AgentEvent, SessionStateChanged
from tumpline.node.cla.incoming import Incoming
from tumpline.node.cla.outgoing import Outgoing
from tumpline.wire.tcpcl4 import TerminationCode

# Of a session, in the older agent's words.
CONNECTING = "connecting"
CONTACT_NEGOTIATING = "contact-negotiating"
SESSION_NEGOTIATING = "session-negotiating"
ESTABLISHED = "established"
ENDING = "ending"

_STATES: dict[type[Event], str] = {
    ContactHeaderExchanged: SESSION_NEGOTIATING,
    SessionEstablished: ESTABLISHED,
    SessionEnding: ENDING,
}


class Parameters(NamedTuple):
    """Of a session. `authn_*`: what the certificate vouches for; False: it names others; None: it names none."""

    peer_nodeid: str
    peer_dnsid: str | None
    peer_ipaddrid: str
    authn_nodeid: str | bool | None
    authn_dnsid: str | bool | None
    authn_ipaddrid: str | bool | None
    keepalive: int  # seconds
    peer_transfer_mru: int  # octets
    peer_segment_mru: int  # octets


class Contact:
    """Lasts until its connection is closed and everything that came over it was taken."""

    def __init__(
        self,
        number: int,
        connection: Connection,
        outgoing: Outgoing,
        incoming: Incoming,
        tell: Callable[[AgentEvent], None],
    ) -> None:
        self.number = number
        self.connection = connection
        self.outgoing = outgoing
        self.incoming = incoming
        self.state = CONNECTING
        self.is_open = True
        self._tell = tell

    @property
    def is_secure(self) -> bool:
        """Whether TLS protects it."""
        return self.connection.security != "none"

    @property
    def is_idle(self) -> bool:
        """Whether no transfer waits or is under way, in either direction."""
        return not self.outgoing.queue and self.incoming.is_idle

    def parameters(self, certificates_count: bool) -> Parameters | None:
        """None before the session is established. A certificate that nobody verified does not count."""
        session, remote = self.connection.session.established, self.connection.remote
        if session is None:
            return None
        certificate = self.connection.certificate if certificates_count else None
        return Parameters(
            session.node_id,
            remote.name,
            remote.ip,
            _verdict(authenticate_node(certificate, session.node_id, _LOOK), session.node_id),
            _verdict(authenticate_host(certificate, remote.name, None, _LOOK), remote.name),
            _verdict(authenticate_host(certificate, None, remote.ip, _LOOK), remote.ip),
            session.keepalive_s,
            session.transfer_mru,
            session.segment_mru,
        )

    # ---- ending ------------------------------------------------------------------------------------------------------

    def terminate(self, reason: int) -> None:
        """SESS_TERM: what is under way is finished. Before the session is established the connection is closed."""
        self.connection.terminate("terminated here", TerminationCode(reason))

    def close(self) -> None:
        """End the connection without SESS_TERM."""
        if self.is_open:
            self.connection.close()

    # ---- what its session tells --------------------------------------------------------------------------------------

    def began(self) -> None:
        """The session begins."""
        self._go(CONTACT_NEGOTIATING)

    def happened(self, event: Event) -> None:
        """The session says this."""
        match event:
            case TransferStarted():
                self.incoming.starts(event)
            case SessionEnding():
                self.outgoing.end()
            case TransferAborted():
                self.incoming.aborts(self.connection.session.state is State.CLOSED)
            case _:
                pass
        state = _STATES.get(type(event))
        if state is not None:
            self._go(state)

    def closed(self) -> None:
        """The connection is gone."""
        self.is_open = False
        self.outgoing.closed()
        self.incoming.let_go(keeps_waiting=False)

    def _go(self, state: str) -> None:
        self.state = state
        self._tell(SessionStateChanged(self.number, state))


# What there is to see, whatever policy made of it.
_LOOK = AuthenticationPolicy(Demand.CHECK, Demand.CHECK, allow_uri_san=True)


def _verdict(decision: Decision, identity: str | None) -> str | bool | None:
    if decision.finding is Finding.ABSENT:
        return None
    return identity if decision.finding is Finding.SUCCESS else False

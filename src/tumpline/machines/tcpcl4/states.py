"""The states of a session and what moves it from one to the next (RFC 9174 §3.3, Figures 4 to 14).

"Idle" and "Live" of Figure 4 are ESTABLISHED without and with transfers under way: no rule of the session depends on
them but the idle timeout.
"""

from __future__ import annotations

from enum import Enum

from tumpline.errors import LocalProtocolError


class State(Enum):
    """Where a session is."""

    START = "start"  # no TCP connection yet
    CONTACT = "contact"  # waiting for the peer's contact header
    TLS = "tls"  # the driver does the handshake
    INIT = "init"  # messages are available; waiting for the peer's SESS_INIT
    ESTABLISHED = "established"
    ENDING = "ending"  # SESS_TERM sent
    CLOSED = "closed"  # nothing is read any more; the connection is closed once all is written


class Step(Enum):
    """What happens to a session."""

    CONNECTED = "connected"
    CONTACT_FOR_TLS = "contact headers agree on TLS"
    CONTACT_FOR_PLAIN = "contact headers agree on no TLS"
    TLS_DONE = "TLS handshake done"
    SESS_INIT = "SESS_INIT exchanged and acceptable"
    SESS_TERM = "SESS_TERM sent"
    CLOSE = "connection lost or to be closed"


_TERM_AND_CLOSE = {Step.SESS_TERM: State.ENDING, Step.CLOSE: State.CLOSED}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.START: {Step.CONNECTED: State.CONTACT, Step.CLOSE: State.CLOSED},
    # RFC 9174 §6.1: "an entity MUST always send the Contact Header to its peer before sending a SESS_TERM message". The
    # session judges a peer's header only after its own was sent, so SESS_TERM is possible here.
    State.CONTACT: {
        Step.CONTACT_FOR_TLS: State.TLS,
        Step.CONTACT_FOR_PLAIN: State.INIT,
        **_TERM_AND_CLOSE,
    },
    # RFC 9174 §4.4.3: a handshake that fails closes the connection; "there is no TCPCL session to terminate".
    State.TLS: {Step.TLS_DONE: State.INIT, Step.CLOSE: State.CLOSED},
    State.INIT: {Step.SESS_INIT: State.ESTABLISHED, **_TERM_AND_CLOSE},
    State.ESTABLISHED: dict(_TERM_AND_CLOSE),
    State.ENDING: {Step.CLOSE: State.CLOSED},
    State.CLOSED: {},
}


def following(state: State, step: Step) -> State:
    """The state after a step. Raises: LocalProtocolError (the step is not possible there)."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise LocalProtocolError(f"{step.value}: not possible in state {state.value}") from None

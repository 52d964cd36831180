"""One session of a tcpcl-agent, as the agent tells of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.dbus_cl.core import Core
from tumpline.machines.dbus_cl.effects import ARRAY_OCTETS_MOST, Failure, PathLowered, PathRaised
from tumpline.machines.dbus_cl.intake import Intake
from tumpline.machines.dbus_cl.outgoing import Ledger, Outgoing, Waiting
from tumpline.machines.effects import PathInfo
from tumpline.wire.eid import Eid
from tumpline.wire.tcpcl4 import TerminationCode

CONTACT: Final = "org.ietf.dtn.tcpcl.Contact"
ESTABLISHED: Final = "established"
ENDING: Final = "ending"
# The agent tells numbers as 32 bits, signed: what is longer is cut down to this (reference: "clamped").
CLAMPED: Final = (1 << 31) - 1
TERMINATE_S: Final = 15.0  # for what is under way; then the contact is closed, and it is over whoever says what


class Stage(Enum):
    """What we know of a contact."""

    NEW = "new"  # its state was asked for
    OPENING = "opening"  # not established yet
    ASKING = "asking"  # established; its parameters were asked for
    UP = "up"
    ENDING = "ending"  # nothing new is sent over it
    OVER = "over"  # closed; what was fetched waits for the node's answers
    GONE = "gone"


CLOSED: Final = (Stage.OVER, Stage.GONE)


class Peer(NamedTuple):
    """Who is at the other end."""

    eid: Eid | None
    is_proved: bool
    mru_octets: int
    segment_octets: int


class Observer(NamedTuple):
    """What a contact tells its machine; each is called with the contact and the time."""

    settled: Callable[[Contact, float], None]  # it is known whether it is established
    may_rise: Callable[[Contact, float], bool]  # is this the peer that is wanted?
    ended: Callable[[Contact, float], None]  # no units any more
    vanished: Callable[[Contact, float], None]  # nothing is left of it


class Contact:
    """`address` is where we had it connect to, or what people call it."""

    def __init__(self, core: Core, target: str, observer: Observer) -> None:
        self.target = target
        self.address = target.rpartition("/")[2]
        self.outbound = False
        self.stage = Stage.NEW
        self.path = -1
        self.peer: Peer | None = None
        self.reason = "the contact is closed"
        self.was_up = False
        self._core = core
        self._observer = observer
        self._is_secure = False
        self._heard_at = 0.0
        self.outgoing = Outgoing(core, target, CONTACT, Ledger(), self.heard)
        self.intake = Intake(core, target, CONTACT, lambda _origin: self.path, self._drained)

    # ---- becoming a path ---------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Ask how it stands."""
        self._heard_at = now
        self._ask("get_session_state", self._state_known)

    def _ask(self, member: str, answer: Callable[[Any, float], None]) -> None:
        def replied(values: tuple[Any, ...], now: float) -> None:
            answer(values[0] if values else None, now)

        self._core.call(self.target, CONTACT, member, replied, self._not_answered)

    def _not_answered(self, failure: Failure, now: float) -> None:
        """Without answers to such questions it is of no use."""
        if self.stage not in (Stage.UP, *CLOSED):
            self.over(failure.text, now)

    def _state_known(self, state: Any, now: float) -> None:
        if self.stage is Stage.NEW and state == ENDING:  # it was there before us: fetch what has come over it
            self.stage = Stage.ENDING
            self._core.timers.set(("end", self.target), now + TERMINATE_S, self._end_late)
            self._ask("get_session_parameters", self._parameters_known)
        elif self.stage is Stage.NEW:
            self.state_changed(str(state), now)

    def state_changed(self, state: str, now: float) -> None:
        """The agent tells of a state."""
        self.heard(now)
        if state == ESTABLISHED and self.stage in (Stage.NEW, Stage.OPENING):
            self.stage = Stage.ASKING
            self._ask("is_secure", self._security_known)
        elif state == ENDING and self.stage not in CLOSED:
            self._wind_down(now)
        elif self.stage is Stage.NEW:
            self.stage = Stage.OPENING
            self._observer.settled(self, now)

    def _security_known(self, value: Any, now: float) -> None:  # noqa: ARG002
        if self.stage is Stage.ASKING:
            self._is_secure = bool(value)
            self._ask("get_session_parameters", self._parameters_known)

    def _parameters_known(self, value: Any, now: float) -> None:
        if self.stage not in (Stage.ASKING, Stage.ENDING):
            return
        self.peer = read_parameters(value if isinstance(value, dict) else {})
        if self.stage is Stage.ASKING:
            if not self._observer.may_rise(self, now):
                return
            self.stage = Stage.UP
        self.was_up = True
        self.path = self.outgoing.path = self._core.new_path()
        self.tell_facts()
        self.intake.open()
        self._observer.settled(self, now)

    def tell_facts(self) -> None:
        """What is known of the path: bundles go over it while it is up; later they only come."""
        kinds = frozenset({"bundle"}) if self.stage is Stage.UP else frozenset[str]()
        self._core.effects.append(PathRaised(self._info(kinds)))

    def _info(self, kinds: frozenset[str]) -> PathInfo:
        assert self.peer is not None
        peer, core = self.peer, self._core
        by_reference = core.can(CONTACT, "send_bundle_fd") or core.has_same_user
        most = core.config.mru_octets if by_reference else min(core.config.mru_octets, ARRAY_OCTETS_MOST)
        return PathInfo(
            path=self.path,
            link=core.config.link,
            peer=peer.eid,
            address=self.address,
            authenticated=peer.is_proved or core.config.trusting,
            mru_octets=min(peer.mru_octets, most),
            segment_octets=peer.segment_octets,
            security="TLS" if self._is_secure else "none",
            outbound=self.outbound,
            kinds=kinds,
        )

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def offer(self, units: Sequence[Waiting], now: float) -> None:
        """Send these."""
        self.outgoing.offer(units, now)
        if self.stage is not Stage.UP:
            self.outgoing.lose_waiting()
        self._watch(now)

    def heard(self, now: float) -> None:
        """It lives."""
        self._heard_at = now

    def _watch(self, now: float) -> None:
        """See that the agent comes to an end with what it has: some never do."""
        if self.outgoing.is_busy and self.stage in (Stage.UP, Stage.ENDING):
            self._core.timers.set_earlier(("stall", self.target), now + self._core.config.stall_s, self._look_stalled)

    def _look_stalled(self, now: float) -> None:
        silent_s = now - self._heard_at
        if not self.outgoing.is_busy or self.stage in CLOSED:
            return
        if silent_s < self._core.config.stall_s:
            when = self._heard_at + self._core.config.stall_s
            self._core.timers.set(("stall", self.target), when, self._look_stalled)
            return
        self._core.notice("contact_stalled", address=self.address, after_s=round(silent_s, 1))
        self._close(f"the agent has said nothing of it for {silent_s:.0f} s", now)

    # ---- ending ------------------------------------------------------------------------------------------------------

    def terminate(self, reason: str, now: float) -> None:
        """End it in order: what the agent has is finished."""
        if self.stage in (Stage.ENDING, *CLOSED):
            return
        self.reason = reason
        code = TerminationCode.UNKNOWN
        self._core.tell(self.target, CONTACT, "terminate", "y", int(code))
        self._wind_down(now)

    def _wind_down(self, now: float) -> None:
        was_up = self.stage is Stage.UP
        self.stage = Stage.ENDING
        if was_up:
            self.outgoing.lose_waiting()
            self.tell_facts()
        self._core.timers.set(("end", self.target), now + TERMINATE_S, self._end_late)
        if was_up:
            self._observer.ended(self, now)

    def _end_late(self, now: float) -> None:
        if self.stage not in CLOSED:
            self._close(self.reason, now)

    def _close(self, reason: str, now: float) -> None:
        self._core.tell(self.target, CONTACT, "close")
        self.over(reason, now)

    def over(self, reason: str, now: float) -> None:
        """It is gone. The path stays until the node has answered for what was fetched; and our agents keep what has come
        until somebody has fetched it."""
        if self.stage in CLOSED:
            return
        self.reason = self.reason if self.stage is Stage.ENDING else reason
        was_up = self.stage is Stage.UP
        self.stage = Stage.OVER
        self._core.timers.cancel(("stall", self.target))
        self._core.timers.cancel(("end", self.target))
        self.outgoing.lose_all()
        if not (self._core.is_attached and self.was_up):
            self.intake.close()
        if was_up and not self.intake.is_idle:
            self.tell_facts()
        self._observer.ended(self, now)
        self._drained(now)

    def forsake(self, now: float) -> None:
        """The agent is gone, which had kept something of this contact that is over."""
        self.intake.close()
        self._drained(now)

    def release(self) -> None:
        """Leave it to the agent, and there what waits: nothing new is sent over it or fetched."""
        self.intake.close()
        if self.stage is Stage.UP:
            self.stage = Stage.ENDING
            self.outgoing.lose_waiting()
            self.tell_facts()

    def drop(self, now: float) -> None:
        """The link stops: whatever is here goes."""
        self.intake.drop_all()
        self.intake.close()
        self.over(self.reason, now)

    def _drained(self, now: float) -> None:
        if self.stage is Stage.OVER and self.intake.is_idle:
            self.stage = Stage.GONE
            if self.was_up:
                self._core.effects.append(PathLowered(self.path, self.reason))
            self._observer.vanished(self, now)


def read_parameters(found: dict[str, Any]) -> Peer:
    """The answer to get_session_parameters, whose values are variants. Whatever is not there or senseless says nothing."""
    values = {str(key): getattr(value, "value", value) for key, value in found.items()}
    claim, proof = values.get("peer_nodeid"), values.get("authn_nodeid")
    eid = _node_id(claim)
    # Absent: the certificate does not say; False: it says something else.
    is_proved = isinstance(proof, str) and eid is not None and _node_id(proof) == eid
    return Peer(eid, is_proved, _size(values.get("peer_transfer_mru")), _size(values.get("peer_segment_mru")))


def _node_id(text: Any) -> Eid | None:
    try:
        eid = Eid.parse(text) if isinstance(text, str) else None
    except MalformedError:
        return None
    return eid.node if eid is not None and not eid.is_null else None


def _size(value: Any) -> int:
    """An MRU; one that was cut down, or is not told, bounds nothing."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < CLAMPED:
        return 1 << 40
    return value

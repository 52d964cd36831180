"""A node over a tcpcl-agent: its contacts are the node's paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from tumpline.machines.backoff import Backoff
from tumpline.machines.dbus_cl.contact import CONTACT, Contact, Observer, Stage
from tumpline.machines.dbus_cl.core import INTROSPECTABLE, XML_MOST, Config
from tumpline.machines.dbus_cl.effects import CONNECT_S, Failure, UnitsLost
from tumpline.machines.dbus_cl.intake import UNKNOWN
from tumpline.machines.dbus_cl.outgoing import SUCCESS, Waiting
from tumpline.machines.dbus_cl.user import AgentUser
from tumpline.wire.eid import Eid

AGENT: Final = "org.ietf.dtn.tcpcl.Agent"
PARENT_PATH: Final = "/org/ietf/dtn/tcpcl"
AGENT_PATH: Final = f"{PARENT_PATH}/Agent"
_CHILD: Final = re.compile(r"<node\s+name\s*=\s*[\"'](Contact[0-9]{1,19})[\"']")
HOLD: Final = "recv_bundle_hold"  # ours only: senders hear what the node says of their bundles, and not before
CONTACTS_MOST: Final = 4096  # that an agent tells of: more is no agent
SETTLED_S: Final = 5.0  # a session that lasted so long was no failure


class Dial:
    """An address with which a session is to be held."""

    __slots__ = ("address", "backoff", "contact", "host", "is_calling", "peer", "port", "up_at")

    def __init__(self, address: str, host: str, port: int, peer: Eid | None, backoff: Backoff) -> None:
        self.address = address
        self.host = host
        self.port = port
        self.peer = peer
        self.backoff = backoff
        self.contact: Contact | None = None  # ours, or another one with this peer
        self.is_calling = False
        self.up_at = 0.0


class TcpclUser(AgentUser):
    """Facts and verbs in, `effects()` out."""

    agent_path = AGENT_PATH
    signals: ClassVar = {
        (AGENT, "connection_opened"): "o",
        (AGENT, "connection_closed"): "o",
        (CONTACT, "session_state_changed"): "s",
        (CONTACT, "send_bundle_started"): "st",
        (CONTACT, "send_bundle_intermediate"): "st",
        (CONTACT, "send_bundle_finished"): "sts",
        (CONTACT, "recv_bundle_started"): "sv",
        (CONTACT, "recv_bundle_intermediate"): "st",
        (CONTACT, "recv_bundle_finished"): "sts",
    }

    def __init__(self, config: Config, random: Callable[[], float], new_path: Callable[[], int]) -> None:
        super().__init__(config, random, new_path)
        self.contacts: dict[str, Contact] = {}  # that the agent has
        self.dials: dict[str, Dial] = {}
        self._paths: dict[int, Contact] = {}
        self._over: set[Contact] = set()  # gone, with bundles that the node has not answered for
        self._unsettled: set[Contact] = set()  # known since we attached; who is there is not known yet
        self._is_listed = False  # the agent has told its contacts
        self._is_ready = False  # and we know who is there: dialling makes sense
        self._observer = Observer(self._settled, self._may_rise, self._contact_ended, self._vanished)

    # ---- the agent ---------------------------------------------------------------------------------------------------

    def attached(self, has_same_user: bool, now: float) -> None:  # noqa: ARG002
        """The agent is on the bus."""
        core = self._core
        core.is_attached = True
        core.has_same_user = has_same_user
        core.call(AGENT_PATH, INTROSPECTABLE, "Introspect", self._described, self._not_described)

    def _described(self, values: tuple[Any, ...], now: float) -> None:
        self._core.learn(AGENT, str(values[0]) if values else "")
        if self._core.can(AGENT, HOLD):
            self._core.tell(AGENT_PATH, AGENT, HOLD, "b", True)
        self._not_described(Failure("", ""), now)

    def _not_described(self, failure: Failure, now: float) -> None:  # noqa: ARG002
        self._core.call(PARENT_PATH, INTROSPECTABLE, "Introspect", self._children_known, self._no_children)

    def _children_known(self, values: tuple[Any, ...], now: float) -> None:
        """Contacts that are closed already are here too, while something waits in them."""
        for name in _CHILD.findall(str(values[0])[:XML_MOST] if values else ""):
            self._found(f"{PARENT_PATH}/{name}", now)
        self._no_children(Failure("", ""), now)

    def _no_children(self, failure: Failure, now: float) -> None:  # noqa: ARG002
        self._core.call(AGENT_PATH, AGENT, "get_connections", self._listed, self._not_listed)

    def _listed(self, values: tuple[Any, ...], now: float) -> None:
        for target in values[0] if values else ():
            self._found(str(target), now)
        self._is_listed = True
        self._ready(now)

    def _found(self, target: str, now: float) -> None:
        contact = self._contact(target, now)
        if contact is not None and contact.stage is Stage.NEW:
            self._unsettled.add(contact)

    def _not_listed(self, failure: Failure, now: float) -> None:
        self._core.notice("agent_unusable", reason=failure.text)
        self._is_listed = True
        self._ready(now)

    def _ready(self, now: float) -> None:
        """Those with whom there is a session need no other one."""
        if self._is_listed and not self._unsettled and not self._is_ready and self._core.is_attached:
            self._is_ready = True
            for dial in self.dials.values():
                self._dial(dial, now)

    def detached(self, reason: str, now: float) -> None:
        """The agent is gone, and with it what it had."""
        self._core.forget_agent()
        self._is_listed = self._is_ready = False
        self._unsettled.clear()
        for dial in self.dials.values():
            dial.is_calling = False
            self._core.timers.cancel(("dial", dial.address))
        for contact in list(self._over):
            contact.forsake(now)
        for contact in list(self.contacts.values()):
            contact.over(reason, now)

    def signal(self, target: str, member: str, values: tuple[Any, ...], now: float) -> None:
        """The agent, or one of its contacts, tells something; `values` fit the signal's signature."""
        if not self._core.is_attached:
            return
        if target == AGENT_PATH:
            self._agent_signal(member, values, now)
            return
        contact = self.contacts.get(target)
        handler = _SIGNALS.get(member)
        if contact is not None and handler is not None:
            handler(contact, values, now)

    def _agent_signal(self, member: str, values: tuple[Any, ...], now: float) -> None:
        if member == "connection_opened":
            self._contact(str(values[0]), now)
        elif member == "connection_closed":
            contact = self.contacts.get(str(values[0]))
            if contact is not None:
                contact.over("the contact is closed", now)

    # ---- contacts ----------------------------------------------------------------------------------------------------

    def _contact(self, target: str, now: float) -> Contact | None:
        """The contact of this name; a new one is asked how it stands."""
        contact = self.contacts.get(target)
        if contact is None and len(self.contacts) < CONTACTS_MOST:
            contact = self.contacts[target] = Contact(self._core, target, self._observer)
            if CONTACT not in self._core.methods:
                self._core.methods[CONTACT] = frozenset()
                self._core.call(target, INTROSPECTABLE, "Introspect", self._contact_described, self._contact_unknown)
            contact.look(now)
        return contact

    def _contact_described(self, values: tuple[Any, ...], now: float) -> None:  # noqa: ARG002
        self._core.learn(CONTACT, str(values[0]) if values else "")

    def _contact_unknown(self, failure: Failure, now: float) -> None:  # noqa: ARG002
        self._core.methods.pop(CONTACT, None)  # the next one will tell

    def _settled(self, contact: Contact, now: float) -> None:
        self._unsettled.discard(contact)
        if contact.stage is Stage.UP and contact.peer is not None:
            self._paths[contact.path] = contact
            for dial in self.dials.values():
                if dial.contact is contact or (dial.contact is None and dial.peer and dial.peer == contact.peer.eid):
                    dial.contact = contact
                    dial.up_at = now
                    self._core.timers.cancel(("dial", dial.address))
        self._ready(now)

    def _may_rise(self, contact: Contact, now: float) -> bool:
        """Whether it is whom we wanted to reach."""
        assert contact.peer is not None
        found = contact.peer.eid
        for dial in self.dials.values():
            if dial.contact is contact and contact.outbound and dial.peer is not None and dial.peer != found:
                reason = f"the peer is {found}, not {dial.peer}"
                contact.terminate(reason, now)
                self._failed_dial(dial, reason, now)
                return False
        return True

    def _contact_ended(self, contact: Contact, now: float) -> None:
        if contact.stage is Stage.OVER:  # the agent may give its name to another one
            del self.contacts[contact.target]
            self._over.add(contact)
            self._unsettled.discard(contact)
        for dial in self.dials.values():
            if dial.contact is contact:
                if contact.was_up and now - dial.up_at >= SETTLED_S:
                    dial.backoff.reset()
                self._failed_dial(dial, contact.reason, now)

    def _vanished(self, contact: Contact, now: float) -> None:
        self._paths.pop(contact.path, None)
        self._over.discard(contact)
        self._unsettled.discard(contact)
        self._ready(now)

    # ---- dialling ----------------------------------------------------------------------------------------------------

    def connect(self, address: str, host: str, port: int, peer: Eid | None, now: float) -> None:
        """Keep a session with this address, or another one with this peer, if it is known who is there."""
        if address in self.dials:
            return
        config = self._core.config
        backoff = Backoff(self._core.random, config.retry_s_first, config.retry_s_max)
        dial = self.dials[address] = Dial(address, host, port, None if peer is None else peer.node, backoff)
        if self._is_ready:
            self._dial(dial, now)

    def _dial(self, dial: Dial, now: float) -> None:
        if (
            not self._is_ready
            or dial.is_calling
            or dial.contact is not None
            or self.dials.get(dial.address) is not dial
        ):
            return
        for contact in self.contacts.values():
            if contact.stage is Stage.UP and contact.peer and dial.peer and contact.peer.eid == dial.peer:
                dial.contact, dial.up_at = contact, now
                return
        dial.is_calling = True

        def replied(values: tuple[Any, ...], now: float) -> None:
            self._dialled(dial, str(values[0]) if values else "", now)

        def failed(failure: Failure, now: float) -> None:
            dial.is_calling = False
            self._failed_dial(dial, failure.text or failure.name, now)

        arguments = (dial.host, dial.port)
        self._core.call(AGENT_PATH, AGENT, "connect", replied, failed, "sq", arguments, CONNECT_S)

    def _dialled(self, dial: Dial, target: str, now: float) -> None:
        """The agent has begun a contact of this name."""
        dial.is_calling = False
        contact = self._contact(target, now)
        if contact is None:
            return
        contact.outbound = True
        contact.address = dial.address
        if self.dials.get(dial.address) is not dial:
            contact.terminate("not wanted any more", now)
            return
        dial.contact = contact
        if contact.stage is Stage.UP and self._may_rise(contact, now):  # it was there before the answer
            dial.up_at = now
            contact.tell_facts()

    def _failed_dial(self, dial: Dial, reason: str, now: float) -> None:
        """No session there: try again later."""
        dial.contact = None
        if not self._core.is_attached or self.dials.get(dial.address) is not dial:
            return
        delay_s = dial.backoff.next_delay_s()
        self._core.notice("connection_failed", address=dial.address, reason=reason, retry_s=round(delay_s, 3))
        self._core.timers.set(("dial", dial.address), now + delay_s, lambda then: self._dial(dial, then))

    def disconnect(self, address: str | None, path: int | None, reason: str, now: float) -> None:
        """Hold no session with the address, end the one that we had made; end the path."""
        dial = self.dials.pop(address, None) if address is not None else None
        if dial is not None:
            self._core.timers.cancel(("dial", dial.address))
            if dial.contact is not None and dial.contact.outbound:
                dial.contact.terminate(reason, now)
        contact = self._paths.get(path) if path is not None else None
        if contact is not None:
            contact.terminate(reason, now)

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def offer(self, path: int, units: Sequence[Waiting], now: float) -> None:
        """Send these in order."""
        contact = self._paths.get(path)
        if contact is None:
            self._core.effects.append(UnitsLost(path, [unit.seq for unit in units]))
        else:
            contact.offer(units, now)

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if the agent does not have it yet."""
        contact = self._paths.get(path)
        if contact is not None:
            contact.outgoing.cancel(seq)

    # ---- stopping ----------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether something is under way that a graceful end waits for."""
        contacts = (*self.contacts.values(), *self._over)
        return any(each.outgoing.is_busy or not each.intake.is_idle for each in contacts)

    def wind_down(self, reason: str, now: float) -> None:
        """End the sessions that we asked for; the others stay the agent's. Nothing new is sent over any."""
        for address in list(self.dials):
            self.disconnect(address, None, reason, now)
        for contact in list(self.contacts.values()):
            contact.release()

    def drop_all(self, reason: str, now: float) -> None:
        """Everything ends here and now."""
        for contact in [*self.contacts.values(), *self._over]:
            contact.reason = reason
            contact.drop(now)

    def describe(self) -> dict[str, Any]:
        return {
            "contacts": [
                {
                    "path": each.path,
                    "object": each.target,
                    "address": each.address,
                    "peer": str(each.peer.eid or "") if each.peer is not None else "",
                    "outbound": each.outbound,
                    "stage": each.stage.value,
                    "waiting": each.intake.waiting,
                }
                for each in self.contacts.values()
            ],
            "dialling": [
                {
                    "address": each.address,
                    "peer": None if each.peer is None else str(each.peer),
                    "connected": each.contact is not None,
                    "failures": each.backoff.attempts,
                }
                for each in self.dials.values()
            ],
        }


def _started(contact: Contact, values: tuple[Any, ...], now: float) -> None:  # noqa: ARG001
    contact.heard(now)


def _state_changed(contact: Contact, values: tuple[Any, ...], now: float) -> None:
    contact.state_changed(str(values[0]), now)


def _progressed(contact: Contact, values: tuple[Any, ...], now: float) -> None:
    contact.outgoing.ledger.progressed(values[0], values[1], now)


def _sent(contact: Contact, values: tuple[Any, ...], now: float) -> None:
    contact.heard(now)
    contact.outgoing.ledger.finished(values[0], values[2], now)


def _received(contact: Contact, values: tuple[Any, ...], now: float) -> None:
    contact.heard(now)
    if values[2] == SUCCESS:
        contact.intake.announced(values[0], values[1] or UNKNOWN, None, now)


_SIGNALS: Final[dict[str, Callable[[Contact, tuple[Any, ...], float], None]]] = {
    "session_state_changed": _state_changed,
    "send_bundle_started": _started,
    "send_bundle_intermediate": _progressed,
    "send_bundle_finished": _sent,
    "recv_bundle_started": _started,
    "recv_bundle_intermediate": _started,
    "recv_bundle_finished": _received,
}

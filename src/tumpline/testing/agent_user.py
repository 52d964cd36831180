"""A machine of dbus_cl and a scripted agent: calls are answered when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tumpline.machines.dbus_cl import effects as fx
from tumpline.machines.dbus_cl.contact import CONTACT
from tumpline.machines.dbus_cl.core import Config
from tumpline.machines.dbus_cl.outgoing import Waiting
from tumpline.machines.dbus_cl.tcpcl import AGENT_PATH, PARENT_PATH, TcpclUser
from tumpline.machines.dbus_cl.user import AgentUser
from tumpline.wire.dbus import Variant
from tumpline.wire.eid import Eid

OLDER_CONTACT = """<node><interface name="org.ietf.dtn.tcpcl.Contact">
<method name="send_bundle_data"/><method name='send_bundle_file' /><method name="recv_bundle_pop_data"/>
<method name="recv_bundle_pop_file"/></interface></node>"""
OUR_CONTACT = OLDER_CONTACT.replace(
    "</interface>",
    '<method name="send_bundle_fd"/><method name="recv_bundle_pop_fd"/><method name="recv_bundle_accept"/>'
    '<method name="recv_bundle_refuse"/></interface>',
)
PEER = Eid.parse("dtn://peer/")
CONTACT_0 = "/org/ietf/dtn/tcpcl/Contact0"
CONTACT_1 = "/org/ietf/dtn/tcpcl/Contact1"
GONE = fx.Failure("org.freedesktop.DBus.Error.NoReply", "the agent has gone")
UNKNOWN_METHOD = fx.Failure("org.freedesktop.DBus.Error.UnknownMethod", "no such method")


class Script:
    """`calls` are those without an answer yet; everything else that the machine wanted done is in `done`."""

    def __init__(self, make: type[AgentUser] = TcpclUser, **config: Any) -> None:
        self.paths = 0
        self.now = 100.0
        self.user = make(Config("cl", **{"trusting": False, **config}), lambda: 0.5, self._new_path)
        self.calls: list[fx.Call | fx.Send | fx.Take] = []
        self.done: list[fx.Effect] = []

    def _new_path(self) -> int:
        self.paths += 1
        return self.paths

    def run(self, seconds: float = 0.0) -> list[fx.Effect]:
        """Let time pass; what was to be done since the last look."""
        end = self.now + seconds
        before = len(self.done)
        self._collect()
        while (when := self.user.next_timeout()) is not None and when <= end:
            self.now = max(self.now, when)
            self.user.handle_timeout(self.now)
            self._collect()
        self.now = end
        return self.done[before:]

    def _collect(self) -> None:
        for effect in self.user.effects():
            if isinstance(effect, fx.Call | fx.Send | fx.Take):
                self.calls.append(effect)
            else:
                self.done.append(effect)

    def find(self, member: str, path: str = "") -> fx.Call:
        self.run()
        for call in self.calls:
            if isinstance(call, fx.Call) and call.member == member and path in ("", call.path):
                self.calls.remove(call)
                return call
        raise AssertionError(f"no call of {member}; there are {self.calls}")

    def reply(self, member: str, *values: Any, path: str = "") -> fx.Call:
        call = self.find(member, path)
        self.user.replied(call.token, values, self.now)
        self.run()
        return call

    def fail(self, member: str, failure: fx.Failure = GONE, path: str = "") -> None:
        self.user.failed(self.find(member, path).token, failure, self.now)
        self.run()

    def signal(self, path: str, member: str, *values: Any) -> list[fx.Effect]:
        self.user.signal(path, member, values, self.now)
        return self.run()

    # ---- larger steps ------------------------------------------------------------------------------------------------

    def attach(self, *contacts: str, same_user: bool = True, contact: str = OLDER_CONTACT) -> None:
        """The agent comes, with these contacts."""
        self.user.attached(same_user, self.now)
        self.reply("Introspect", "<node/>", path=AGENT_PATH)
        self.fail("Introspect", UNKNOWN_METHOD, path=PARENT_PATH)
        self.reply("get_connections", list(contacts))
        if contacts:
            self.reply("Introspect", contact, path=contacts[0])

    def detach(self, reason: str = "the agent has left the bus") -> None:
        """It goes, and answers nothing that was asked."""
        self.run()
        self.user.detached(reason, self.now)
        calls, self.calls = self.calls, []
        for call in calls:
            self.user.failed(call.token, GONE, self.now)
        self.run()

    def establish(
        self, path: str = CONTACT_0, peer: Any = "dtn://peer/", queue: tuple[str, ...] = (), **more: Any
    ) -> int:
        """A contact that the machine knows of is established; the node's path."""
        self.reply("get_session_state", "established", path=path)
        self.parameters(path, peer, queue, **more)
        return self.paths

    def parameters(self, path: str, peer: Any = "dtn://peer/", queue: tuple[str, ...] = (), **more: Any) -> None:
        self.reply("is_secure", True, path=path)
        told = {"peer_nodeid": Variant("s", peer), "authn_nodeid": Variant("s", peer)}
        told |= {key: Variant("v", value) for key, value in more.items()}
        self.reply("get_session_parameters", told, path=path)
        self.reply("recv_bundle_get_queue", list(queue), path=path)

    def offer(self, path: int, *octets: int, first: int = 1) -> None:
        self.user.offer(path, [Waiting(first + i, n) for i, n in enumerate(octets)], self.now)
        self.run()

    def of(self, kind: type[Any]) -> list[Any]:
        """What was to be done or asked, of this kind; each is given once."""
        self.run()
        found = [each for each in (*self.done, *self.calls) if isinstance(each, kind)]
        self.done = [each for each in self.done if not isinstance(each, kind)]
        self.calls = [each for each in self.calls if not isinstance(each, kind)]
        return found

    def sent(self, result: Callable[[int], str] = str) -> list[fx.Send]:
        """The agent takes what it was handed, and names each."""
        sends = self.of(fx.Send)
        for number, send in enumerate(sends, 1):
            self.user.replied(send.token, (result(number),), self.now)
        self.run()
        return sends


def connected(**config: Any) -> tuple[Script, int]:
    """A machine with one contact that is up, and its path."""
    script = Script(**config)
    script.attach(CONTACT_0)
    path = script.establish()
    script.done.clear()
    return script, path


__all__ = ["CONTACT", "CONTACT_0", "CONTACT_1", "GONE", "PEER", "Script", "connected"]

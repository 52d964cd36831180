"""A node over a udpcl-agent: each address that is known is a path, and nothing is ever acknowledged.

"Acked" says that the agent has sent a bundle; whether it came is for others to find out. What comes, comes over one path of
its own: datagrams prove no sender.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from tumpline.errors import MalformedError
from tumpline.machines.dbus_cl.core import INTROSPECTABLE, Config
from tumpline.machines.dbus_cl.effects import ARRAY_OCTETS_MOST, Failure, PathLowered, PathRaised, UnitsLost
from tumpline.machines.dbus_cl.intake import UNKNOWN, Intake
from tumpline.machines.dbus_cl.outgoing import Ledger, Outgoing, Waiting
from tumpline.machines.dbus_cl.user import AgentUser
from tumpline.machines.effects import PathInfo
from tumpline.wire.dbus import Variant
from tumpline.wire.eid import Eid

AGENT: Final = "org.ietf.dtn.udpcl.Agent"
AGENT_PATH: Final = "/org/ietf/dtn/udpcl/Agent"
POLLED_MOST: Final = 1024  # nodes that ask to be sent to: anybody can send such a datagram
POLL_INTERVALS: Final = 3  # draft-ietf-dtn-udpcl, Sender Listen: the receiver forgets after three intervals
POLL_MS_MOST: Final = 3_600_000


class Destination:
    """An address that bundles are sent to."""

    def __init__(self, address: str, host: str, port: int, peer: Eid | None, outgoing: Outgoing) -> None:
        self.address = address
        self.peer = peer
        self.parameters = {"address": Variant("s", host), "port": Variant("i", port)}
        self.outgoing = outgoing
        self.is_up = False

    @property
    def path(self) -> int:
        return self.outgoing.path


class UdpclUser(AgentUser):
    """Facts and verbs in, `effects()` out."""

    agent_path = AGENT_PATH
    signals: ClassVar = {
        (AGENT, "polling_received"): "xissq",
        (AGENT, "recv_bundle_finished"): "sta{sv}",
        (AGENT, "send_bundle_started"): "st",
        (AGENT, "send_bundle_finished"): "sts",
    }

    def __init__(self, config: Config, random: Callable[[], float], new_path: Callable[[], int]) -> None:
        super().__init__(config, random, new_path)
        self._ledger = Ledger()
        self._known: dict[str, Destination] = {}  # by address as configured
        self._polled: dict[tuple[Eid, str, int], Destination] = {}
        self._paths: dict[int, Destination] = {}
        self._heard_at = 0.0
        self._incoming = -1  # the path that everything comes over
        self._intake = Intake(self._core, AGENT_PATH, AGENT, lambda _origin: self._incoming, _nothing)

    # ---- the agent ---------------------------------------------------------------------------------------------------

    def attached(self, has_same_user: bool, now: float) -> None:  # noqa: ARG002
        core = self._core
        core.is_attached = True
        core.has_same_user = has_same_user
        core.call(AGENT_PATH, INTROSPECTABLE, "Introspect", self._described, self._not_described)

    def _described(self, values: tuple[Any, ...], now: float) -> None:  # noqa: ARG002
        self._core.learn(AGENT, str(values[0]) if values else "")
        self._begin()

    def _not_described(self, failure: Failure, now: float) -> None:  # noqa: ARG002
        if failure.is_gone:
            self._core.notice("agent_unusable", reason=failure.text)
        else:
            self._begin()

    def _begin(self) -> None:
        if self._incoming < 0:
            self._incoming = self._core.new_path()
            info = PathInfo(self._incoming, self._core.config.link, None, "any", False, 0, kinds=frozenset())
            self._core.effects.append(PathRaised(info))
        for destination in self._known.values():
            self._raise(destination)
        self._intake.open()

    def detached(self, reason: str, now: float) -> None:  # noqa: ARG002
        self._core.forget_agent()
        self._intake.close()
        for destination in list(self._paths.values()):
            self._lower(destination, reason)
        for key in list(self._polled):
            self._core.timers.cancel(("polled", *key))
        self._polled.clear()

    def signal(self, target: str, member: str, values: tuple[Any, ...], now: float) -> None:
        if not self._core.is_attached or target != AGENT_PATH:
            return
        self._heard_at = now
        if member == "send_bundle_finished":
            self._ledger.finished(values[0], values[2], now)
        elif member == "recv_bundle_finished":
            self._intake.announced(values[0], values[1] or UNKNOWN, None, now)
        elif member == "polling_received":
            _, interval_ms, node_id, host, port = values
            self._polled_by(node_id, interval_ms, host, port, now)

    # ---- paths -------------------------------------------------------------------------------------------------------

    def _destination(self, address: str, host: str, port: int, peer: Eid | None) -> Destination:
        outgoing = Outgoing(self._core, AGENT_PATH, AGENT, self._ledger, self._heard)
        return Destination(address, host, port, peer, outgoing)

    def _heard(self, now: float) -> None:
        self._heard_at = now

    def _raise(self, destination: Destination, *, proved: bool = True) -> None:
        """Those that are configured need no proof: whoever configured them says who is there."""
        if destination.is_up:
            return
        core = self._core
        destination.is_up = True
        destination.outgoing.path = core.new_path()
        self._paths[destination.path] = destination
        most = core.config.mru_octets
        if not (core.has_same_user or core.can(AGENT, "send_bundle_fd")):
            most = min(most, ARRAY_OCTETS_MOST)
        info = PathInfo(destination.path, core.config.link, destination.peer, destination.address, proved, most)
        core.effects.append(PathRaised(info))

    def _lower(self, destination: Destination, reason: str) -> None:
        if destination.is_up:
            destination.is_up = False
            destination.outgoing.lose_all()
            del self._paths[destination.path]
            self._core.effects.append(PathLowered(destination.path, reason))

    def connect(self, address: str, host: str, port: int, peer: Eid | None, now: float) -> None:  # noqa: ARG002
        if address not in self._known:
            self._known[address] = self._destination(address, host, port, None if peer is None else peer.node)
            if self._incoming >= 0 and self._core.is_attached:
                self._raise(self._known[address])

    def disconnect(self, address: str | None, path: int | None, reason: str, now: float) -> None:  # noqa: ARG002
        ended = [self._paths.get(path)] if path is not None else []
        if address is not None:
            ended.append(self._known.pop(address, None))
        for destination in ended:
            if destination is not None:
                self._lower(destination, reason)

    # ---- those that ask to be sent to --------------------------------------------------------------------------------

    def _polled_by(self, node_id: str, interval_ms: int, host: str, port: int, now: float) -> None:
        """A node listens where its datagram came from; it is forgotten when it says so no more. Without proof that makes a
        path to a configured peer only, unless we were told to trust what is claimed."""
        try:
            eid = Eid.parse(node_id).node
        except MalformedError:
            return
        if not 0 < interval_ms <= POLL_MS_MOST or eid.is_null or not self._core.is_attached:
            return
        key = eid, host, port
        destination = self._polled.get(key)
        if destination is None:
            if len(self._polled) >= POLLED_MOST or self._is_known(eid, host, port):
                return
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            destination = self._polled[key] = self._destination(address, host, port, eid)
        configured = any(each.peer == eid for each in self._known.values())
        self._raise(destination, proved=configured or self._core.config.trusting)
        when = now + POLL_INTERVALS * interval_ms / 1000
        self._core.timers.set(("polled", *key), when, lambda _: self._forget(key))

    def _is_known(self, eid: Eid, host: str, port: int) -> bool:
        """Whether that path is there anyway."""
        wanted = {"address": Variant("s", host), "port": Variant("i", port)}
        return any(each.peer == eid and each.parameters == wanted for each in self._known.values())

    def _forget(self, key: tuple[Eid, str, int]) -> None:
        destination = self._polled.pop(key, None)
        if destination is not None:
            self._lower(destination, "it does not say any more that it listens")

    # ---- bundles -----------------------------------------------------------------------------------------------------

    def offer(self, path: int, units: Sequence[Waiting], now: float) -> None:
        destination = self._paths.get(path)
        if destination is None:
            self._core.effects.append(UnitsLost(path, [unit.seq for unit in units]))
            return
        to = destination.parameters
        destination.outgoing.offer([Waiting(unit.seq, unit.octets, to) for unit in units], now)
        self._core.timers.set_earlier("stall", now + self._core.config.stall_s, self._look_stalled)

    def cancel(self, path: int, seq: int) -> None:
        destination = self._paths.get(path)
        if destination is not None:
            destination.outgoing.cancel(seq)

    def _look_stalled(self, now: float) -> None:
        """An agent that never says what became of bundles: they are tried again."""
        busy = [each for each in self._paths.values() if each.outgoing.is_busy]
        if not busy:
            return
        when = self._heard_at + self._core.config.stall_s
        if now < when:
            self._core.timers.set("stall", when, self._look_stalled)
            return
        self._core.notice("agent_stalled", after_s=round(now - self._heard_at, 1))
        for destination in busy:
            destination.outgoing.lose_all()

    # ---- stopping ----------------------------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return not self._intake.is_idle or any(each.outgoing.is_busy for each in self._paths.values())

    def wind_down(self, reason: str, now: float) -> None:  # noqa: ARG002
        self._known.clear()
        self._intake.close()
        for destination in self._paths.values():
            destination.outgoing.lose_waiting()

    def drop_all(self, reason: str, now: float) -> None:
        self.detached(reason, now)
        self._intake.drop_all()
        if self._incoming >= 0:
            self._core.effects.append(PathLowered(self._incoming, reason))
            self._incoming = -1

    def describe(self) -> dict[str, Any]:
        return {
            "paths": [
                {"path": each.path, "address": each.address, "peer": str(each.peer or "")}
                for each in self._paths.values()
            ],
            "waiting": self._intake.waiting,
        }


def _nothing(now: float) -> None:
    pass

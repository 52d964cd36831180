"""Routes, peers and counters on a bus, and status reports as they come: an interface of our own beside the older agent's."""

from __future__ import annotations

import json
from typing import Final

from tumpline.drivers.dbus import Call, Interface, Method
from tumpline.machines.effects import Notice
from tumpline.node.control.api import Agent
from tumpline.ui.dbus.bp import AGENT_PATH, Emit

NODE: Final = "org.tumpline.bp.Node"  # on the agent's object


class NodeObject:
    """Routes, peers and counters, and status reports as they come."""

    def __init__(self, agent: Agent, emit: Emit) -> None:
        self._agent = agent
        self._emit = emit

    def interfaces(self) -> tuple[Interface, ...]:
        methods = {
            "get_status": Method(lambda _: json.dumps(self._agent.snapshot()), gives="s", names=("json",)),
            "get_counters": Method(
                lambda _: dict(self._agent.snapshot()["counters"]), gives="a{sx}", names=("counters",)
            ),
            "get_peers": Method(self.peers, gives="a(ssss)", names=("id_link_address_state",)),
            "get_routes": Method(self.routes, gives="a(ssis)", names=("to_via_priority_name",)),
            "add_route": Method(self.add_route, takes="ssi", names=("to", "via", "priority")),
            "remove_route": Method(self.remove_route, takes="ss", gives="b", names=("to", "via", "removed")),
        }
        return (Interface(NODE, methods, {"status_reported": "ssttast"}),)

    def peers(self, _call: Call) -> list[tuple[str, str, str, str]]:
        return [(each["id"], each["link"], each["address"], each["state"]) for each in self._agent.snapshot()["peers"]]

    def routes(self, _call: Call) -> list[tuple[str, str, int, str]]:
        return [(row["to"], row["via"], row["priority"], row["name"]) for row in self._agent.snapshot()["routes"]]

    def add_route(self, _call: Call, to: str, via: str, priority: int) -> None:
        self._agent.add_route(to, via, priority)

    def remove_route(self, _call: Call, to: str, via: str) -> bool:
        return self._agent.remove_route(to, via)

    def heard(self, notice: Notice) -> None:
        """A status report becomes a signal: reporter, source, created_ms, sequence, what happened, reason."""
        if notice.name == "status_report_received":
            told = [notice.fields[key] for key in ("reporter", "source", "created_ms", "sequence", "status", "reason")]
            self._emit(AGENT_PATH, NODE, "status_reported", *told)

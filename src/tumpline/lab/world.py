"""A laboratory without a network: its nodes in one process and virtual time (`engine: world`).

What a day between planets brings is seen in a second. The node's machine and the TCPCL session are those of the agent;
sockets, TLS, stores on disks and IP are not there, and so neither are expectations about them.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from itertools import combinations

from tumpline.errors import TumplineError
from tumpline.lab.agent_config import node_id
from tumpline.lab.api import Lab
from tumpline.lab.expect import Arrivals
from tumpline.lab.model import AgentSection, LabFile
from tumpline.machines.impairment import Impairment
from tumpline.machines.impairment_text import parse_impairment
from tumpline.machines.node import NodeConfig
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.node.config.contact import ContactSection, planned
from tumpline.testing.world import BrokenPromiseError, Faults, SimNode, World
from tumpline.testing.world.wire import STREAM_QUEUE_OCTETS, Wire
from tumpline.wire.eid import Eid


class Simulated:
    """The scene that simulated nodes make. The same seed makes the same run."""

    def __init__(self, file: LabFile, seed: int = 1) -> None:
        self.file = file
        self._world = World(seed)
        self._agents = {name: node.agent for name, node in file.nodes.items() if node.agent is not None}
        self._nodes = {name: SimNode(self._world, name, NodeConfig(self._id(name))) for name in self._agents}
        for one, other in combinations(self._nodes, 2):
            self._join(one, other)
        for name, agent in self._agents.items():
            self._instruct(self._nodes[name], agent)
            self._nodes[name].start()

    @property
    def lab(self) -> Lab:
        """Raises: TumplineError."""
        raise TumplineError("a simulation has no namespaces to look into")

    def transfer(self, sender: str, receiver: str, count: int, size: int, wait_s: float) -> Arrivals:
        """See Scene; seconds are those of the world."""
        marks = {f"adu-{secrets.token_hex(8)}" for _ in range(count)}
        to, began = self._nodes[receiver], self._world.now
        for mark in sorted(marks):
            self._nodes[sender].send(mark, to, size)
        times = []
        while marks and (left_s := began + wait_s - self._world.now) >= 0:
            if not self._run_until_any(to, marks, left_s):
                break
            came = {mark for mark in marks if to.has_delivered(mark)}
            times += [self._world.now - began] * len(came)
            marks -= came
        return Arrivals(len(times), min(times, default=None), max(times, default=None), 0)

    def ping(self, sender: str, to: str, count: int, interval_s: float, wait_s: float) -> list[float]:
        """See Scene: an ADU there, and one back when it has come."""
        target = self._named(Eid.parse(to).node)
        rtts_ms = []
        for _ in range(count):
            there = self.transfer(sender, target, 1, 100, wait_s)
            back = self.transfer(target, sender, 1, 100, wait_s) if there.came else there
            if there.last_s is not None and back.last_s is not None and there.last_s + back.last_s <= wait_s:
                rtts_ms.append((there.last_s + back.last_s) * 1000)
            self._world.run(self._world.now + interval_s)
        return rtts_ms

    def _run_until_any(self, node: SimNode, marks: set[str], most_s: float) -> bool:
        try:
            return self._world.run_until(lambda: any(map(node.has_delivered, marks)), most_s)
        except BrokenPromiseError as error:
            raise TumplineError(str(error)) from error

    # ---- from the file ------------------------------------------------------------------------------------------------

    def _id(self, name: str) -> Eid:
        return Eid.parse(node_id(self.file, name))

    def _named(self, eid: Eid) -> str:
        for name in self._nodes:
            if self._id(name) == eid:
                return name
        raise TumplineError(f"there is no node {eid} in {self.file.name}")

    def _join(self, one: str, other: str) -> None:
        """A wire over the first net that both are on."""
        shared = [net for net in self.file.nodes[one].ports if net in self.file.nodes[other].ports]
        if shared:
            faults = Faults(self._impairment(shared[0]))
            wire = Wire(self._world, self._nodes[one], self._nodes[other], faults)
            self._nodes[one].wires[other] = self._nodes[other].wires[one] = wire

    def _impairment(self, net: str) -> Impairment:
        """What is left of it for streams: TCP makes good for the rest."""
        asked = parse_impairment(self.file.nets[net].impair or {})
        return replace(asked, loss=0.0, duplicate=0.0, reorder=0.0, corrupt=0.0, queue_octets=STREAM_QUEUE_OCTETS)

    def _instruct(self, node: SimNode, agent: AgentSection) -> None:
        node.peers += [Peer(self._id(other), other, other) for other in agent.connect if other in node.wires]
        node.routes += [Route(each.to, each.via, each.priority, each.name) for each in agent.routes]
        plan = [*agent.contacts, *(each for each in self.file.contacts if each.peer != node.config.node_id)]
        node.contacts += [self._contact(each) for each in plan]

    def _contact(self, section: ContactSection) -> Contact:
        """ "+30s" counts from the beginning of the world."""
        each, wrong = planned(section)
        if each is None:
            raise TumplineError("; ".join(f"contacts: {key}: {sentence}" for key, sentence in wrong))
        if each.after_ms is None:
            return each.contact
        return each.contact._replace(start_ms=self._world.dtn_ms() + each.after_ms)

"""From one of the older agent's network files to a laboratory of ours, as plain data for `LabFile`.

There, a convergence layer is dialled when a bundle is to be sent; here, sessions are held. So every route becomes a session
with its next hop and a route over it; with UDPCL, an address that is written down. What would have gone by BTP-U or LTP goes
by TCPCLv4, with a remark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tumpline.errors import ConfigError
from tumpline.lab.older.apart import Found, yaml_of
from tumpline.lab.older.neighbours import discovered
from tumpline.lab.older.shape import POLLING_MS, PORT, OlderConfig, OlderFile, OlderNode, TxRoute
from tumpline.lab.older.who import Who, node_ids
from tumpline.machines.routing._regex import compile_bounded
from tumpline.node.config.older.patterns import Plain, node_of, pattern_of, plain_of
from tumpline.node.config.problems import Path, Problems
from tumpline.node.registry import did_you_mean
from tumpline.node.units import format_duration

_LAYERS = {"btpu": "BTP-U", "ltpcl": "LTP"}
UDPCL: Final = "udpcl"
_FOUND_PRIORITY = 100  # of routes that were discovered: behind those that are written down


@dataclass
class Agent:
    """What becomes of one node."""

    connect: list[str] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    links: dict[str, Any] = field(default_factory=dict)  # laid over what the laboratory writes for the one link
    udp_peers: dict[str, str] = field(default_factory=dict)  # neighbours by UDPCL, with their addresses
    polled: list[str] = field(default_factory=list)  # addresses that are told that we listen ...
    polled_s: float | None = None  # ... so often
    udpcl: dict[str, Any] = field(default_factory=dict)  # its link, if there is one

    def table(self, config: OlderConfig) -> dict[str, Any]:
        """As `AgentSection` reads it."""
        tls = config.tls_enable or (config.dtls_enable_tx and bool(self.udpcl))
        if tls and not config.tls_enable:
            self.links["tls"] = {"mode": "off"}  # the keys are for datagrams alone
        more: dict[str, Any] = {"node": {"aliases": self.aliases}} if self.aliases else {}
        if self.links or self.udpcl:
            more["links"] = [self.links, *([self.udpcl] if self.udpcl else [])]
        if self.udp_peers:
            more["peers"] = [
                {"id": f"dtn://{other}/", "link": UDPCL, "address": address}
                for other, address in self.udp_peers.items()
            ]
        return {"connect": self.connect, "routes": self.routes, "tls": tls, "key_log": tls, "config": more}

    def udpcl_link(self, config: OlderConfig) -> dict[str, Any]:
        """As `[[links]]` has it: what senders say of themselves makes routes, as it does there."""
        often = {} if self.polled_s is None else {"listen_s": format_duration(round(self.polled_s * 1000))}
        secured = {"tls": {"mode": "optional"}} if config.dtls_enable_tx else {}
        listen = [f"[::]:{PORT}"] if config.udpcl_listen else []
        connect = [each for each in self.polled if each not in self.udp_peers.values()]  # those are told anyway
        return {"kind": UDPCL, "listen": listen, "connect": connect, "trust_node_ids": True, **often, **secured}


def converted(older: OlderFile, problems: Problems, remarks: Problems, apart: bool = False) -> dict[str, Any]:
    """The same for `LabFile`; what cannot be goes to `problems`, what is done otherwise to `remarks`.

    `apart`: each node has three agents over a bus of its own, as it was there."""
    nets = {
        name: {"subnet4": net.subnet4 or net.subnet, "subnet6": net.subnet6, "mtu": net.mtu}
        for name, net in older.nets.items()
    }
    conversion = _Conversion(older, problems, remarks, apart)
    agents = conversion.agents()
    nodes: dict[str, dict[str, Any]] = {
        name: {"nets": _ports(node), "agent": agents[name].table(node.config)} for name, node in older.nodes.items()
    }
    if apart:
        for name in older.nodes:
            nodes[name]["agent"]["apart"] = _apart(older, name, agents)
    # What `lab test` can know: that who has a session, or found a way of several hops, is answered.
    ways = [
        (name, other) for name, agent in agents.items() for other in (*agent.connect, *agent.udp_peers)
    ] + conversion.found_ways
    expect = [{"ping": {"from": name, "to": other}} for name, other in ways]
    return {"nets": nets, "nodes": nodes, "expect": expect, "remarks": remarks.sentences()}


def _apart(older: OlderFile, name: str, agents: Mapping[str, Agent]) -> dict[str, Any]:
    """By neighbour what goes there: itself, and what discovery would have found."""
    own = agents[name]
    found = {other: Found("tcpcl", other, [f"dtn://{other}/**"]) for other in own.connect}
    for route in own.routes:
        other = route["via"].removeprefix("dtn://").strip("/")
        if route["priority"] == _FOUND_PRIORITY:
            at = own.udp_peers.get(other)
            way = Found("tcpcl", other, []) if at is None else Found(UDPCL, at.rpartition(":")[0], [])
            found.setdefault(other, way).patterns.append(route["to"])
    return yaml_of(older, name, node_ids(older, name), found)


def _ports(node: OlderNode) -> list[str] | dict[str, dict[str, str]]:
    off = {f"address{version}": "none" for version in (4, 6) if not getattr(node, f"use_ipv{version}")}
    return {net: dict(off) for net in node.nets} if off else list(node.nets)


class _Conversion:
    def __init__(self, older: OlderFile, problems: Problems, remarks: Problems, apart: bool) -> None:
        self._older = older
        self._problems = problems
        self._remarks = remarks
        self._apart = apart
        self._who = Who(older)
        self.found_ways: list[tuple[str, str]] = []
        self._agents = {name: Agent() for name in older.nodes}

    def agents(self) -> dict[str, Agent]:
        for name, node in self._older.nodes.items():
            path: Path = ("nodes", name)
            self._agents[name].aliases += node_ids(self._older, name)[1:]
            self._keys(node, path)
            self._receiving(name, node, (*path, "config", "bp_rx_routes"))
            self._sending(name, node, (*path, "config", "bp_tx_routes"))
            self._polling(name, node, (*path, "config", "udpcl_polling"))
            self._absent(node, (*path, "config"))
        self._discovered()
        self._further_ids()
        self._links()
        return self._agents

    # ---- one node after the other -----------------------------------------------------------------------------------

    def _keys(self, node: OlderNode, path: Path) -> None:
        for use, key in node.keys.items():
            if key.keytype.upper() != "SECP256R1":
                self._remarks.add((*path, "keys", use, "keytype"), f"{key.keytype}: all keys are P-256 (SECP256R1)")

    def _receiving(self, name: str, node: OlderNode, path: Path) -> None:
        """Bundles for the node are delivered and others forwarded, whatever is written; more can only be an alias."""
        for index, route in enumerate(node.config.bp_rx_routes):
            for plain in self._plain(route.eid_pattern, (*path, index, "eid_pattern")):
                alias = node_of(plain)
                own = alias in node_ids(self._older, name)
                if route.action == "deliver" and alias is not None:
                    self._agents[name].aliases += [] if own else [alias]
                elif not self._apart and (route.action != "forward" or own):
                    self._problems.add(
                        (*path, index),
                        f"this agent delivers what is for its node IDs and forwards the rest; remove {route.action} of "
                        f"{route.eid_pattern!r}, or write deliver of dtn://NAME/.* for a further node ID",
                    )

    def _sending(self, name: str, node: OlderNode, path: Path) -> None:
        earlier: list[Plain] = []
        for index, route in enumerate(node.config.bp_tx_routes):
            here = (*path, index)
            target = self._next_hop(name, route, here)
            plains = self._plain(route.eid_pattern, (*here, "eid_pattern"))
            for plain in plains:
                # There the first match wins, here the most specific: the two differ only for what is never reached.
                if any(each.covers(plain) for each in earlier):
                    self._remarks.add(here, "never used: a route before it matches all that this one does; left out")
                elif target is not None and not self._apart:
                    self._route(name, plain, route, index, here)
            earlier += plains
            if target is not None and not self._by_udp(name, target, route, here):
                self._dial(name, target, here)
            if route.cl_type in _LAYERS:
                self._remarks.add(
                    (*here, "cl_type"), f"{_LAYERS[route.cl_type]} is not there yet; this route goes by TCPCLv4"
                )

    def _route(self, name: str, plain: Plain, route: TxRoute, index: int, path: Path) -> None:
        try:
            table = {"to": pattern_of(plain), "via": route.next_nodeid, "priority": 10 + index}
        except ConfigError as error:
            self._problems.add((*path, "eid_pattern"), str(error))
            return
        self._agents[name].routes.append(table)

    def _polling(self, name: str, node: OlderNode, path: Path) -> None:
        for index, polled in enumerate(node.config.udpcl_polling):
            target = self._who.by_address(polled.address)
            if target is None:
                self._nobody(polled.address, (*path, index, "address"))
                continue
            agent, interval_s = self._agents[name], (polled.interval_ms or POLLING_MS) / 1000
            agent.polled.append(f"{polled.address}:{polled.port}")
            agent.polled_s = min(interval_s, agent.polled_s or interval_s)

    def _by_udp(self, name: str, target: str, route: TxRoute, path: Path) -> bool:
        """Whether the next hop is reached by UDPCL: it has to listen, and to share a net."""
        nodes = self._older.nodes
        if route.cl_type != UDPCL or not set(nodes[name].nets) & set(nodes[target].nets):
            return False
        if not nodes[target].config.udpcl_listen:
            self._remarks.add((*path, "cl_type"), f"{target} has udpcl_listen: false; this route goes by TCPCLv4")
            return False
        self._agents[name].udp_peers[target] = f"{route.address or target}:{PORT}"
        return True

    def _absent(self, node: OlderNode, path: Path) -> None:
        config = node.config
        safe = "safe" in config.apps
        told = [
            (bool(config.btpu_listen), "btpu_listen", "BTP-U is not there yet; neighbours are reached by TCPCLv4"),
            (bool(config.btpu_polling), "btpu_polling", "BTP-U is not there yet; nothing is polled"),
            (safe, "apps", "safe: SAFE is not there yet; bundles are exchanged without its security associations"),
        ]
        for there, key, sentence in told:
            if there:
                self._remarks.add((*path, key), sentence)
        for app in set(config.apps) - {"safe", "sand", "nmp", "zeroconf"}:
            self._remarks.add((*path, "apps", app), "passed over: there is no such application")

    # ---- several together -------------------------------------------------------------------------------------------

    def _discovered(self) -> None:
        found = discovered(self._older, self._remarks)
        for name, other in found.sessions:
            self._dial(name, other, ("nodes", name, "config", "apps"))
        self.found_ways = [(route.node, route.target) for route in found.routes if not route.pattern]
        for route in found.routes:
            own = f"dtn://{route.target}/"
            patterns = [all_of(each) for each in (own, *self._agents[route.target].aliases)]
            self._found(route.node, route.via, [route.pattern] if route.pattern else patterns)

    def _further_ids(self) -> None:
        """A session tells one node ID of each end: where the others lead is said by routes."""
        for name, agent in self._agents.items():
            for other in (*agent.connect, *agent.udp_peers):
                self._found(name, other, [all_of(each) for each in self._agents[other].aliases])
                self._found(other, name, [all_of(each) for each in agent.aliases])

    def _found(self, name: str, via: str, patterns: list[str]) -> None:
        self._agents[name].routes += [
            {"to": pattern, "via": f"dtn://{via}/", "priority": _FOUND_PRIORITY} for pattern in patterns
        ]

    def _links(self) -> None:
        nodes = self._older.nodes
        mixed = len({node.config.tls_enable for node in nodes.values()}) > 1
        datagrams = any(agent.udp_peers or agent.polled for agent in self._agents.values())
        for name, node in nodes.items():
            agent = self._agents[name]
            if datagrams and (node.config.udpcl_listen or agent.udp_peers or agent.polled):
                agent.udpcl = agent.udpcl_link(node.config)
            if not node.config.tcpcl_listen:
                agent.links["listen"] = []
                if not agent.connect and not agent.udpcl:
                    self._problems.add(
                        ("nodes", name, "config", "tcpcl_listen"),
                        "nobody could reach it, and nobody sends by UDPCL; remove it, or give it a route in bp_tx_routes",
                    )
            if mixed and node.config.tls_enable:
                # RFC 9174 §4.3: TLS is used if both offer it, which is what tls_enable means there.
                agent.links["tls"] = {"mode": "optional"}

    def _dial(self, name: str, other: str, path: Path) -> None:
        """A session between the two, opened by whoever can; it carries both ways."""
        if other in self._agents[name].connect or name in self._agents[other].connect or name == other:
            return
        nodes = self._older.nodes
        if not set(nodes[name].nets) & set(nodes[other].nets):
            self._problems.add(path, f"{name} and {other} have no net together; put both on one under nets")
        elif nodes[other].config.tcpcl_listen:
            self._agents[name].connect.append(other)
        elif nodes[name].config.tcpcl_listen:
            self._agents[other].connect.append(name)
        else:
            self._problems.add(path, f"neither {name} nor {other} has tcpcl_listen; write tcpcl_listen: true for one")

    # ---- who is meant -----------------------------------------------------------------------------------------------

    def _plain(self, regex: str, path: Path) -> list[Plain]:
        try:
            if self._apart:
                compile_bounded(regex)  # three agents match the expression itself: it need not be a beginning
        except ConfigError as error:
            self._problems.add(path, str(error))
            return []
        try:
            return plain_of(regex)
        except ConfigError as error:
            if not self._apart:
                self._problems.add(path, str(error))
            return []

    def _next_hop(self, name: str, route: TxRoute, path: Path) -> str | None:
        """The node that a route names by its ID; its address must be that node's too, where names and addresses mean one."""
        target = self._who.by_id(route.next_nodeid)
        at = self._who.by_address(route.address)
        if target is None:
            meant = did_you_mean(route.next_nodeid, self._who.ids)
            self._problems.add((*path, "next_nodeid"), f"{route.next_nodeid!r} is no node ID of this file; {meant}")
        elif target == name:
            self._problems.add((*path, "next_nodeid"), f"{name} itself is no next hop; name a neighbour")
        elif route.cl_type == "btpu" or not route.address:  # an address of Ethernet says nothing here
            return target
        elif at is None:
            self._nobody(route.address, (*path, "address"))
        elif at != target:
            self._problems.add(path, f"{route.address} is {at}, and {route.next_nodeid} another; name one node")
        elif route.cl_type in ("tcpcl", UDPCL) and route.port != PORT:
            self._problems.add((*path, "port"), f"no agent of this file listens on {route.port}; write {PORT}")
        else:
            return target
        return None

    def _nobody(self, address: str, path: Path) -> None:
        self._problems.add(path, f"{address!r} is no node of this file; {did_you_mean(address, self._older.nodes)}")


def all_of(node_id: str) -> str:
    """The pattern of all endpoints of a node."""
    if not node_id.startswith("ipn:"):
        return f"{node_id}**"
    numbers = node_id[4:].split(".")  # allocator, if it is not 0; node; service
    return f"ipn:{'.'.join(['0', *numbers][-3:-1])}.*"

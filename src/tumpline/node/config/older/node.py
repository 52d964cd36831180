"""The older agent's three agents as one node: its YAML becomes a configuration of ours, which `config show` prints.

Mistakes that only show there are told at the keys of the YAML.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, Final

from tumpline.errors import ConfigError
from tumpline.node.config.checker import Checker
from tumpline.node.config.older.agents import bus_address, log_level
from tumpline.node.config.older.links import tcpcl4_table, udpcl_table
from tumpline.node.config.older.patterns import node_of, plain_of
from tumpline.node.config.older.read import OlderConfiguration, load_older
from tumpline.node.config.older.sections import BpSection, RxRoute, TxRoute, endpoint
from tumpline.node.config.problems import Path as KeyPath
from tumpline.node.config.problems import Problems
from tumpline.node.config.read import read_sections
from tumpline.node.config.value import Configuration
from tumpline.node.names import file_name
from tumpline.node.registry import Registry, load_registry
from tumpline.wire.eid import Eid

# Of the exchange that validates node IDs: RFC 9891, and what older agents took before there was a number.
_ACME: Final = {"record_types": [255, 65536], "send_type": 65536}
_NAME_MOST: Final = 64  # it becomes the name of a socket
_LOWEST: Final = ("debug", "info", "warning", "error")


def load_node(path: Path, registry: Registry | None = None) -> Configuration:
    """The whole node that a file describes, in one process. Raises: ConfigError with every mistake in it."""
    return node_configuration(load_older(path), registry)


def node_configuration(older: OlderConfiguration, registry: Registry | None = None) -> Configuration:
    """The same, of a file that was read. Raises: ConfigError."""
    return _configuration(older, _OwnLinks, "this runs a whole node", registry)


def bp_agent_configuration(older: OlderConfiguration, registry: Registry | None = None) -> Configuration:
    """Of the bundle agent alone: its links are the agents on the bus that `cl_attach` names. Raises: ConfigError."""
    return _configuration(older, _Attached, "this is the bundle agent", registry)


def _configuration(older: OlderConfiguration, kind: type[_Node], why: str, registry: Registry | None) -> Configuration:
    problems = _AtTheirKeys(older)
    if older.bp is None or older.bp.node_id is None:
        problems.add((), f"bp: the section is missing, and {why}; write bp: with node_id below it, or run tcpcl-agent")
        problems.raise_if_any()
    registry = registry or load_registry()
    tables = kind(older, problems).tables()
    problems.raise_if_any()
    sections = read_sections(tables, Checker(problems, Path.cwd()), registry)
    problems.raise_if_any()
    return Configuration(
        path=older.path.absolute(),
        name=sections["node"].name,
        base=Path.cwd(),
        registry=registry,
        raw=tables,
        lines={},
        remarks=[*older.remarks, *problems.remarks.sentences()],
        **sections,
    )


class _AtTheirKeys(Problems):
    """Of our tables, told where they come from."""

    def __init__(self, older: OlderConfiguration) -> None:
        super().__init__(str(older.path), older.lines)
        self.remarks = Problems(self.source, self.lines)
        self.origins: dict[KeyPath, KeyPath] = {("node",): ("bp", "node_id"), ("routing",): ("bp",)}

    def add(self, path: KeyPath, sentence: str) -> None:
        origin = next((self.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.origins), path)
        super().add(origin, sentence)


class _Node:
    """What is the same whoever carries the bundles."""

    def __init__(self, older: OlderConfiguration, problems: _AtTheirKeys) -> None:
        assert older.bp is not None
        assert older.bp.node_id is not None
        self._older = older
        self._bp: BpSection = older.bp
        self._id = older.bp.node_id
        self._problems = problems

    def tables(self) -> dict[str, Any]:
        """As a TOML file would have them."""
        bp = self._bp
        links = self._links()
        peers = self._peers({link["name"] for link in links})
        _without_peers(links, peers)
        return {
            "node": {
                "id": str(self._id),
                "name": _name(self._id),
                "aliases": list(_aliases(bp.rx_route_table, self._id)),
                "reports": True,  # the older agent sends those that bundles ask for
                # Its challenges (RFC 9891) ask for a deletion report, which RFC 9171 §4.2.3 forbids.
                "strictness": {"check_flags": False},
            },
            "routing": {"kind": "regex_table", "receive": _receive(bp), "send": _send(bp)},
            "links": links,
            "peers": peers,
            "services": {"echo": {}, "sink": {}, "acme": _ACME},
            "bus": self._bus(),
            "log": {"level": self._level(), "format": "older"},
        }

    def _links(self) -> list[dict[str, Any]]:
        """Called as the layers of convergence are in routes."""
        raise NotImplementedError

    def _missing(self, layer: str) -> str:
        """What to write where no link carries a route."""
        raise NotImplementedError

    def _level(self) -> str:
        raise NotImplementedError

    def _bus(self) -> dict[str, Any]:
        if not self._bp.bus_service and not self._bp.bus_addr:
            return {"kind": "off"}
        name = {"service": self._bp.bus_service} if self._bp.bus_service else {}
        return {"kind": bus_address(self._bp), **name}

    def _peers(self, links: Container[str]) -> list[dict[str, Any]]:
        peers: dict[tuple[str, str], dict[str, Any]] = {}
        for index, route in enumerate(self._bp.tx_route_table):
            path: KeyPath = ("bp", "tx_route_table", index)
            if route.cl_type not in links:
                self._problems.add((*path, "cl_type"), self._missing(route.cl_type))
            elif route.address:
                peer = _peer(route)
                if peers.setdefault((peer["id"], peer["address"]), peer) is peer:
                    self._came(("peers", len(peers) - 1), path)
        return list(peers.values())

    def _came(self, ours: KeyPath, theirs: KeyPath) -> None:
        self._problems.origins[ours] = theirs


class _OwnLinks(_Node):
    """The node has the links of the other sections itself."""

    def _links(self) -> list[dict[str, Any]]:
        self._unnamed()
        links = []
        if self._older.tcpcl is not None:
            links.append({"kind": "tcpcl4", "name": "tcpcl", **tcpcl4_table(self._older.tcpcl)})
            self._came(("links", len(links) - 1), ("tcpcl",))
            for ours, theirs in (("listen", "init_listen"), ("connect", "init_connect")):
                self._came(("links", len(links) - 1, ours), ("tcpcl", theirs))
        if self._older.udpcl is not None:
            links.append({"kind": "udpcl", "name": "udpcl", **udpcl_table(self._older.udpcl)})
            self._came(("links", len(links) - 1), ("udpcl",))
            for ours, theirs in (("listen", "init_listen"), ("connect", "polling"), ("multicast", "multicast")):
                self._came(("links", len(links) - 1, ours), ("udpcl", theirs))
        return links

    def _unnamed(self) -> None:
        """What only agents of their own can have."""
        for layer, section in (("tcpcl", self._older.tcpcl), ("udpcl", self._older.udpcl)):
            if section is not None and section.bus_service:
                words = f"not owned: in one process only bp is on the bus; run {layer}-agent and bp-agent for both"
                self._problems.remarks.add((layer, "bus_service"), words)
        for index, polling in enumerate(self._older.udpcl.polling if self._older.udpcl is not None else ()):
            if polling.local_address is not None or polling.local_port is not None:
                words = "told from where this node listens, whatever local_address and local_port are; run udpcl-agent for them"
                self._problems.remarks.add(("udpcl", "polling", index), words)

    def _missing(self, layer: str) -> str:
        return f"this file has no section {layer}; write {layer}: for its defaults"

    def _level(self) -> str:
        """The most talkative of the sections, as they are several agents in one."""
        told = [each.log_level for each in (self._bp, self._older.tcpcl, self._older.udpcl) if each is not None]
        levels = [log_level(each) for each in told if each is not None]
        return min(levels, key=_LOWEST.index) if levels else "info"


class _Attached(_Node):
    """The links are agents of their own on the bus."""

    def _links(self) -> list[dict[str, Any]]:
        links = []
        for layer, service in attached(self._older).items():
            where = {"cl": layer, "service": service, "bus": bus_address(self._bp)}
            links.append({"kind": "dbus_cl", "name": layer, **where, "authenticate": self._authenticate(layer)})
            self._came(("links", len(links) - 1), ("bp", "cl_attach"))
        return links

    def _authenticate(self, layer: str) -> str:
        """As a session without TLS counts in one process: what peers say is believed, unless proof is demanded."""
        tcpcl = self._older.tcpcl
        return "node" if layer == "tcpcl" and tcpcl is not None and tcpcl.require_node_authn else "none"

    def _missing(self, layer: str) -> str:
        return f"no agent carries it; write bus_service in section {layer}, or cl_attach: {{{layer}: NAME}} here"

    def _level(self) -> str:
        return log_level(self._bp.log_level or "warning")


def attached(older: OlderConfiguration) -> dict[str, str]:
    """By layer the names of the agents to use: `bus_service` of the same file, unless `cl_attach` says otherwise."""
    sections = {"tcpcl": older.tcpcl, "udpcl": older.udpcl}
    own = {layer: each.bus_service for layer, each in sections.items() if each is not None and each.bus_service}
    return own | (older.bp.cl_attach if older.bp is not None else {})


def _name(node_id: Eid) -> str:
    """What --node calls it: as the node ID says, within what a name may be."""
    return file_name(str(node_id)).lstrip("_-")[:_NAME_MOST] or "node"


def _without_peers(links: list[dict[str, Any]], peers: list[dict[str, Any]]) -> None:
    """A peer's address is kept, and told that we listen, because it is one."""
    for link in links:
        known = {peer["address"] for peer in peers if peer["link"] == link["name"]}
        if "connect" in link:
            link["connect"] = [each for each in link["connect"] if each not in known]


def _receive(bp: BpSection) -> list[dict[str, str]]:
    return [{"match": each.eid_pattern, "action": each.action} for each in bp.rx_route_table]


def _send(bp: BpSection) -> list[dict[str, str]]:
    return [{"match": each.eid_pattern, "via": each.next_nodeid} for each in bp.tx_route_table]


def _peer(route: TxRoute) -> dict[str, Any]:
    return {"id": route.next_nodeid, "link": route.cl_type, "address": endpoint(route.address or "", route.port)}


def _aliases(table: Iterable[RxRoute], own: Eid) -> Iterable[str]:
    """Nodes of which everything is delivered here are further IDs of this one: its services answer there too."""
    seen = {str(own)}
    for route in table:
        if route.action != "deliver":
            return  # what comes behind may be decided by this one already
        try:
            found = [node_of(plain) for plain in plain_of(route.eid_pattern)]
        except ConfigError:  # it means more than beginnings: such endpoints are delivered, and wait for who asks
            continue
        for each in found:
            if each is not None and each not in seen:
                seen.add(each)
                yield each

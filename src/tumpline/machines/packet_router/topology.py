"""Who may hear whom: everybody, or what a configuration of an interoperability test says, link by link."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final, NamedTuple

from tumpline.errors import ConfigError
from tumpline.machines.impairment import Impairment
from tumpline.machines.impairment_text import parse_impairment
from tumpline.wire.agent_keys import is_agent_name
from tumpline.wire.overlay import Claim

TESTING_TOOL: Final = "agent_TT"  # the tool that runs the tests takes part in every link
NODES_MOST: Final = 512


# Whom each node reaches, and what befalls packets on the way.
Reach = dict[str, dict[str, Impairment | None]]


class Link(NamedTuple):
    """Nodes that hear each other."""

    link_id: str
    nodes: tuple[str, ...]
    impairment: Impairment | None = None
    capture_filter: str = ""  # for captures of it; the router does not look at it


class Topology(NamedTuple):
    """One configuration. An address of a node is where packets for it go before it has sent any."""

    configuration_id: str
    links: tuple[Link, ...]
    addresses: tuple[tuple[str, Claim], ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All that take part, each once."""
        return tuple(dict.fromkeys(node for link in self.links for node in link.nodes))

    def reach(self) -> Reach:
        """Over all links of a node; of two that lead to the same one, the first."""
        reach: Reach = {node: {} for node in self.nodes}
        for link in self.links:
            for node in link.nodes:
                for other in link.nodes:
                    if other != node:
                        reach[node].setdefault(other, link.impairment)
        return reach


def topology_of(document: object) -> Topology:
    """One document of a file of configurations. Raises: ConfigError with all mistakes, each with its key."""
    if not isinstance(document, Mapping):
        raise ConfigError("a configuration: this is no table; write configuration_id, nodes, topology, addressing")
    reading = _Reading(document)
    topology = reading.topology()
    if reading.problems:
        raise ConfigError([f"{topology.configuration_id}: {problem}" for problem in reading.problems])
    return topology


class _Reading:
    """Reads a document and collects what is wrong with it."""

    def __init__(self, document: Mapping[Any, Any]) -> None:
        self.problems: list[str] = []
        self._document = document

    def topology(self) -> Topology:
        document = self._document
        name = document.get("configuration_id")
        if not isinstance(name, str) or not name:
            self.problems.append("configuration_id: is missing; write a name, for example COAP_CFG_01")
        links = tuple(self._link(index, link) for index, link in enumerate(self._list("topology", document)))
        if not links:
            self.problems.append(
                "topology: has no link; write for example [{link_id: link_01, nodes: [agent1, agent2]}]"
            )
        addressing = self._list("addressing", document, required=False)
        addresses = tuple(filter(None, (self._address(index, each) for index, each in enumerate(addressing))))
        topology = Topology(str(name or "?"), links, addresses)
        if len(topology.nodes) > NODES_MOST:
            self.problems.append(f"topology: {len(topology.nodes)} nodes; at most {NODES_MOST} make sense")
        return topology

    def _list(self, key: str, table: Mapping[Any, Any], *, required: bool = True) -> list[Any]:
        value = table.get(key)
        if isinstance(value, list):
            return value
        if required or value is not None:
            self.problems.append(f"{key}: is no list; write one")
        return []

    def _link(self, index: int, value: object) -> Link:
        where = f"topology[{index}]"
        if not isinstance(value, Mapping):
            self.problems.append(f"{where}: is no table; write {{link_id: link_01, nodes: [agent1, agent2]}}")
            return Link(where, ())
        nodes = [str(node) for node in self._list("nodes", value)]
        self.problems += [
            f"{where}.nodes: {node!r} is no name of an agent" for node in nodes if not is_agent_name(node)
        ]
        nodes = list(dict.fromkeys([*nodes, TESTING_TOOL]))
        link_id, capture = str(value.get("link_id", f"link_{index + 1:02d}")), str(value.get("capture_filter") or "")
        return Link(link_id, tuple(nodes), self._impairment(where, value.get("impair")), capture)

    def _impairment(self, where: str, value: object) -> Impairment | None:
        if value is None:
            return None
        try:
            return parse_impairment(value)
        except ConfigError as error:
            self.problems += [f"{where}.impair.{problem}" for problem in error.problems]
            return None

    def _address(self, index: int, value: object) -> tuple[str, Claim] | None:
        where = f"addressing[{index}]"
        if not isinstance(value, Mapping) or not is_agent_name(str(value.get("node", ""))):
            self.problems.append(f"{where}: names no node; write {{node: agent1, ipv6_prefix: bbbb, ipv6_host: 1}}")
            return None
        address = ipv6_of(value.get("ipv6_prefix"), value.get("ipv6_host"))
        if address is None:
            self.problems.append(f"{where}: no IPv6 address; write for example ipv6_prefix: bbbb, ipv6_host: 1")
            return None
        return str(value["node"]), Claim(address, 128)


def ipv6_of(prefix: object, host: object) -> bytes | None:
    """The address that `bbbb` and `:3` (or `3`, or 3) mean together; digits are hexadecimal, as agents take them."""
    try:
        return IPv6Address(f"{prefix}::{str(host).strip(':')}").packed
    except AddressValueError:
        return None

"""Whom the older agent's files mean: nodes by their IDs, names and addresses."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import TypeVar

from tumpline.errors import TumplineError
from tumpline.lab.older.shape import OlderFile, OlderNode
from tumpline.wire.eid import Eid

T = TypeVar("T")


def node_ids(older: OlderFile, name: str) -> list[str]:
    """The node IDs of a node, the one it tells its neighbours first."""
    number = older.nodes[name].ipn_node
    return [f"dtn://{name}/", *([f"ipn:{number}.0"] if number is not None else [])]


class Who:
    """Finds the nodes of one file."""

    def __init__(self, older: OlderFile) -> None:
        self._older = older
        self._by_id = {Eid.parse(each): name for name in older.nodes for each in _readable(node_ids(older, name))}

    @property
    def ids(self) -> list[str]:
        """All node IDs."""
        return [str(each) for each in self._by_id]

    def by_id(self, text: str) -> str | None:
        """The node with a node ID."""
        return tried(lambda: self._by_id.get(Eid.parse(text)), None)

    def by_address(self, text: str) -> str | None:
        """The node with a name (`node`, `node.` and `node.local`) or an IP address."""
        name = text.removesuffix(".").removesuffix(".local")
        return name if name in self._older.nodes else self._by_number(text)

    def _by_number(self, text: str) -> str | None:
        """Addresses of a net are given in order of the file."""
        for net, section in self._older.nets.items():
            for version, subnet in ((4, section.subnet4 or section.subnet), (6, section.subnet6)):
                members = [
                    each for each, node in self._older.nodes.items() if net in node.nets and _uses(node, version)
                ]
                number = _number_in(text, subnet)
                if 1 <= number <= len(members):
                    return members[number - 1]
        return None


def tried(action: Callable[[], T], otherwise: T) -> T:
    """What `action` gives; `otherwise` if what a person wrote cannot be read."""
    try:
        return action()
    except (TumplineError, ValueError):
        return otherwise


def _readable(texts: list[str]) -> list[str]:
    """Without those that a bad name of a node has spoilt: the name itself is told elsewhere."""
    return [text for text in texts if tried(lambda text=text: Eid.parse(text), None) is not None]  # type: ignore[misc]


def _uses(node: OlderNode, version: int) -> bool:
    return node.use_ipv4 if version == 4 else node.use_ipv6


def _number_in(text: str, subnet: str) -> int:
    """Which one of the subnet's addresses this is; 0: none."""
    try:
        address, network = ip_address(text), ip_network(subnet)
    except ValueError:
        return 0
    return int(address) - int(network.network_address) if address in network else 0

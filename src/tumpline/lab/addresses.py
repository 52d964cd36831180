"""Who has which address: given in order of the nodes in the file, around those that are named."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import NamedTuple

from tumpline.errors import ConfigError
from tumpline.lab.model import LabFile

NO_ADDRESS = "none"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Port(NamedTuple):
    """One node on one net."""

    node: str
    net: str
    address4: str  # with prefix length, "" if the net has no such subnet
    address6: str

    @property
    def addresses(self) -> list[str]:
        """Without prefix lengths, IPv4 first."""
        return [text.partition("/")[0] for text in (self.address4, self.address6) if text]


def ports_of(lab: LabFile) -> list[Port]:
    """Every port, by nodes and then by their nets. Raises: ConfigError if a subnet has too few addresses."""
    given = {(net, version): _addresses(lab, net, version) for net in lab.nets for version in (4, 6)}
    return [
        Port(node, net, given[net, 4].get(node, ""), given[net, 6].get(node, ""))
        for node, section in lab.nodes.items()
        for net in section.ports
    ]


def _addresses(lab: LabFile, net: str, version: int) -> dict[str, str]:
    text = lab.nets[net].subnet4 if version == 4 else lab.nets[net].subnet6
    if not text:
        return {}
    subnet = ip_network(text)
    ports = {node: section.ports[net] for node, section in lab.nodes.items() if net in section.ports}
    named = {node: getattr(port, f"address{version}") for node, port in ports.items()}
    members = [node for node, address in named.items() if address != NO_ADDRESS]
    taken = {ip_address(named[node]) for node in members if named[node]}
    free = (address for address in _hosts(subnet) if address not in taken)
    unnamed = [node for node in members if not named[node]]
    found = list(islice(free, len(unnamed)))
    if len(found) < len(unnamed):
        raise ConfigError(f"nets.{net}: {text} has too few addresses for {len(members)} nodes; write a larger subnet")
    given = {node: str(address) for node, address in zip(unnamed, found, strict=True)}
    return {node: f"{named[node] or given[node]}/{subnet.prefixlen}" for node in members}


def _hosts(subnet: Network) -> Iterator[Address]:
    """Like `subnet.hosts()`, without the list of all that it makes for small ones."""
    last = subnet.num_addresses - 1 if subnet.version == 6 else subnet.num_addresses - 2
    for number in range(1, last + 1):
        yield subnet[number]

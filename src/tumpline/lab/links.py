"""From a laboratory to what `ip -batch` is told: bridges, ports, addresses, routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tumpline.lab.addresses import Port
from tumpline.lab.model import LabFile, NodeSection


class Impaired(NamedTuple):
    """A port whose frames go through a process that impairs them: from the node and to it."""

    port: Port
    node_side: str  # interface in the switch
    net_side: str
    outgoing: dict[str, Any]


class Plan(NamedTuple):
    """What to tell whom."""

    switch: list[str]  # lines for `ip -batch` in the switch
    nodes: dict[str, list[str]]  # in each node
    impaired: list[Impaired]


def bridge_of(net: str) -> str:
    """The name of a net's bridge, which Wireshark shows."""
    return f"br-{net}"


def plan(lab: LabFile, ports: Sequence[Port], pids: Mapping[str, int]) -> Plan:
    """All commands, in order. `pids`: of the nodes, as the switch sees them."""
    switch = [line for net in lab.nets for line in _bridge(lab, net)]
    nodes: dict[str, list[str]] = {node: [] for node in lab.nodes}
    impaired: list[Impaired] = []
    for number, port in enumerate(ports):
        lines, bad = _port(lab, port, number, pids[port.node])
        switch += lines
        impaired += bad
        nodes[port.node] += _inside(port)
    for node in lab.nodes:
        nodes[node] += _routes(lab, ports, node)
    return Plan(switch, nodes, impaired)


def _bridge(lab: LabFile, net: str) -> Iterator[str]:
    name, mtu = bridge_of(net), lab.nets[net].mtu
    # No spanning tree, no multicast snooping: a port carries from its first moment on, and what nobody asked for too.
    yield f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    yield f"link set {name} mtu {mtu} up"


def _port(lab: LabFile, port: Port, number: int, pid: int) -> tuple[list[str], list[Impaired]]:
    mtu, bridge = lab.nets[port.net].mtu, bridge_of(port.net)
    impair = impair_of(lab, port)
    outer = f"p{number}"
    lines = [
        f"link add {outer} mtu {mtu} type veth peer name {port.net} mtu {mtu} netns {pid}",
        f"link set {outer} up",
    ]
    if impair is None:
        return [*lines, f"link set {outer} master {bridge}"], []
    near, far = f"i{number}", f"b{number}"
    lines += [
        f"link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}",
        f"link set {near} up",
        f"link set {far} up",
        f"link set {far} master {bridge}",
    ]
    return lines, [Impaired(port, outer, near, impair)]


def impair_of(lab: LabFile, port: Port) -> dict[str, Any] | None:
    """What befalls the frames that a node sends to a net."""
    own = lab.nodes[port.node].ports[port.net].impair
    return lab.nets[port.net].impair if own is None else own


def _inside(port: Port) -> Iterator[str]:
    for address in (port.address4, port.address6):
        if address:
            yield f"address add {address} dev {port.net}" + (" nodad" if ":" in address else "")
    yield f"link set {port.net} up"


def _routes(lab: LabFile, ports: Sequence[Port], node: str) -> list[str]:
    """A default route to the node's gateway, on a net that both are on."""
    gateway = lab.nodes[node].gateway or _only_router(lab, node)
    mine = {port.net for port in ports if port.node == node}
    shared = next((port for port in ports if port.node == gateway and port.net in mine), None)
    if shared is None:
        return []
    return [f"route add {'::/0' if ':' in address else '0.0.0.0/0'} via {address}" for address in shared.addresses]


def _only_router(lab: LabFile, node: str) -> str:
    """The one router on the node's nets; none if there are several, or it is the one nearer to the outside."""
    section = lab.nodes[node]
    nets = set(section.ports)
    if section.nat is not None:
        nets = {section.nat.outside}
    elif section.is_router:
        return ""
    routers = [name for name, other in lab.nodes.items() if name != node and other.is_router and nets & _served(other)]
    return routers[0] if len(routers) == 1 else ""


def _served(router: NodeSection) -> set[str]:
    """The nets whose nodes it leads out of: those inside of a NAT, or all of a plain router's."""
    nets = set(router.ports)
    if router.nat is None:
        return nets
    return set(router.nat.inside) or nets - {router.nat.outside}

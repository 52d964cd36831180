"""What a laboratory's file says: nets, nodes, contacts, and what must hold in it.

The text below a field is its documentation. Names follow the configuration's: a number whose name ends in `_s`, `_ms`,
`_bps` or `_octets` may be written with its unit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from tumpline.lab.nat import FirewallKind, NatKind
from tumpline.machines.impairment_text import parse_impairment
from tumpline.node.config.contact import ContactSection
from tumpline.node.config.model import RouteSection, Section

# Of nets and nodes. A net is an interface in its nodes and, with "br-" before it, a bridge: Linux allows 15 characters.
NET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,11}$"
NODE_NAME = r"^[A-Za-z0-9][A-Za-z0-9-]{0,31}$"
LAB_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

# What befalls each frame: keys and units are those of `parse_impairment`.
Impair = Annotated[dict[str, Any], Meta(extra={"check": parse_impairment})]


class NetSection(Section, frozen=True):
    """A layer-2 network: a bridge `br-NAME`, and an interface NAME in each of its nodes."""

    subnet4: str = ""
    """IPv4 addresses of its nodes: "10.0.1.0/24"."""
    subnet6: str = ""
    """IPv6 addresses of its nodes: "fd00:1::/64"."""
    mtu: Annotated[int, Meta(ge=576, le=65535)] = 1500
    impair: Impair | None = None
    """What befalls each frame that crosses it, once, at the sender's port (a round trip meets it twice): `delay: 20 ms`,
    `jitter`, `loss: 1 %`, `duplicate`, `reorder`, `corrupt`, `rate: 10 Mbit/s`, `queue: 100 kB`."""


class PortSection(Section, frozen=True):
    """How one node is on one net."""

    address4: str = ""
    """Its address, if not the next one of the subnet; "none": it has no IPv4 address there."""
    address6: str = ""
    impair: Impair | None = None
    """Of this node's frames to the net, in place of the net's own."""


class NatSection(Section, frozen=True):
    """The node translates addresses between its nets."""

    kind: NatKind
    outside: str
    """The net whose address is shown to the world."""
    inside: list[str] = []
    """The nets behind it (none: all its others)."""
    hairpin: bool = False
    """Whether nodes inside reach each other by their outside addresses."""


class AgentSection(Section, frozen=True):
    """An agent runs in the node; its node ID is dtn://NODE/ unless `id` says otherwise."""

    id: str = ""
    connect: list[str] = []
    """Nodes that it dials."""
    tls: bool = True
    """Mutual TLS 1.3 with the laboratory's own CA."""
    key_log: bool = False
    """Write its TLS secrets to keys/tls.keylog of the laboratory, for Wireshark."""
    store: Literal["sqlite", "memory"] = "sqlite"
    routes: list[RouteSection] = []
    contacts: list[ContactSection] = []
    services: dict[str, dict[str, Any]] = {}
    apart: dict[str, Any] = {}
    """Three agents in place of one (`tcpcl-agent`, `udpcl-agent`, `bp-agent`) over a D-Bus of the node's own: what the YAML of
    all three says (docs/older-agent.md). Of the keys here those that follow from it are not looked at."""
    config: dict[str, Any] = {}
    """More of the agent's configuration (docs/configuration.md), laid over what the laboratory writes."""


class NodeSection(Section, frozen=True):
    """A machine of the laboratory."""

    nets: list[str] | dict[str, PortSection]
    """The nets it is on, in order; or a table of them."""
    gateway: str = ""
    """The node that packets for other nets go to (default: the only router on its nets, if there is one)."""
    forward: bool = False
    """It forwards packets between its nets."""
    nat: NatSection | None = None
    firewall: FirewallKind = FirewallKind.NONE
    """Packets that come in unasked: taken ("none"); dropped ("stateful"); or all dropped, answers too ("closed")."""
    agent: AgentSection | None = None
    run: list[list[str]] = []
    """Further programs that run in it as long as the laboratory is up."""

    @property
    def ports(self) -> dict[str, PortSection]:
        """Its nets, each with how it is on them."""
        return self.nets if isinstance(self.nets, dict) else {net: PortSection() for net in self.nets}

    @property
    def is_router(self) -> bool:
        """Whether packets of others go through it."""
        return self.forward or self.nat is not None


class LabFile(Section, frozen=True):
    """A whole laboratory."""

    nets: dict[str, NetSection]
    nodes: dict[str, NodeSection]
    name: Annotated[str, Meta(pattern=LAB_NAME)] = ""
    """Default: the file's name without its ending."""
    summary: str = ""
    engine: Literal["namespaces", "world"] = "namespaces"
    """"world": no network at all, but a simulation of it in virtual time."""
    remarks: list[str] = []
    """Told when it comes up, a sentence each; made from a file of the older agent, for what is done otherwise."""
    contacts: list[ContactSection] = []
    """The contact plan, given to every agent but the peer itself."""
    expect: list[dict[str, Any]] = []
    """What `lab test` checks, in order (docs/lab.md)."""

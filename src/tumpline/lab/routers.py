"""NATs and firewalls: the packet filters of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tumpline.lab.addresses import Port
from tumpline.lab.holder import Holder, check_tools
from tumpline.lab.model import LabFile, NodeSection
from tumpline.lab.nat import (
    ROUTER_SYSCTLS,
    UPNP_TOOLS,
    NatKind,
    NatSpec,
    firewall_rules,
    nat_rules,
    nat_sysctls,
    upnp_argv,
    upnp_config,
)

_MULTICAST = "239.255.255.250/32"  # where UPnP is looked for


def guard(holder: Holder, lab: LabFile, ports: Sequence[Port], node: str, directory: Path) -> None:
    """Give a node what its section says of `nat`, `forward` and `firewall`. Raises: TumplineError."""
    section = lab.nodes[node]
    if section.nat is not None:
        _nat(holder, nat_spec(section, ports, node), node, directory)
        return
    if section.forward:
        _set_keys(holder, node, ROUTER_SYSCTLS)
    rules = firewall_rules(section.firewall)
    if rules:
        holder.run(node, ["nft", "-f", "-"], rules)


def nat_spec(section: NodeSection, ports: Sequence[Port], node: str) -> NatSpec:
    """The router that a node's section means; interfaces go by the names of nets."""
    nat = section.nat
    assert nat is not None
    inside = nat.inside or [net for net in section.ports if net != nat.outside]
    outside = next(port for port in ports if (port.node, port.net) == (node, nat.outside))
    return NatSpec(nat.kind, tuple(inside), nat.outside, outside.address4.partition("/")[0], nat.hairpin)


def _nat(holder: Holder, spec: NatSpec, node: str, directory: Path) -> None:
    _set_keys(holder, node, nat_sysctls(spec))
    holder.run(node, ["nft", "-f", "-"], nat_rules(spec))
    if spec.kind is NatKind.UPNP:
        check_tools(UPNP_TOOLS)
        for net in spec.inside_ifs:
            holder.run(node, ["ip", "route", "add", _MULTICAST, "dev", net])
        config = directory / "miniupnpd.conf"
        config.write_text(upnp_config(spec, str(directory / "miniupnpd.leases")))
        argv = upnp_argv(str(config), str(directory / "miniupnpd.pid"))
        holder.start_lasting(node, ["sh", "-c", 'exec "$@" > "$0" 2>&1 &', str(directory / "miniupnpd.log"), *argv])


def _set_keys(holder: Holder, node: str, keys: Mapping[str, str]) -> None:
    lines = [f"[ ! -w /proc/sys/{key} ] || echo {value} > /proc/sys/{key}" for key, value in keys.items()]
    holder.run(node, ["sh", "-e"], "\n".join(lines))

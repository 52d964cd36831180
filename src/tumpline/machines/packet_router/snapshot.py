"""What a router tells people about itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tumpline.machines.packet_router.directory import Agent, Directory
from tumpline.machines.packet_router.passing import Passing
from tumpline.machines.packet_router.shares import Shares
from tumpline.wire.ip_packet import address_of


def snapshot_of(name: str, directory: Directory, passing: Passing, shares: Shares, now: float) -> dict[str, Any]:
    """Plain values."""
    addresses: dict[str, list[str]] = {}
    for address, route in directory.routes.items():
        text = f"{address_of(address)}"
        addresses.setdefault(route.agent.name, []).append(f"{text} ({route.rank.name.lower()})")
    return {
        "router": name,
        "topology": passing.topology.configuration_id if passing.topology else None,
        "counters": asdict(passing.counters) | _refused(directory, passing, shares),
        "agents": [_agent(agent, sorted(addresses.get(agent.name, ())), now) for agent in directory],
        "routers": sorted(shares.routers),
        "shares_fed": list(shares.fed()),
        "gave_way": shares.gave_way,
        "handed_over": shares.handed_over,
        "impairments": passing.writing.impairments.snapshot(),
        "lossy_left": passing.lossy_left,
    }


def _agent(agent: Agent, addresses: list[str], now: float) -> dict[str, Any]:
    return {
        "name": agent.name,
        "is_member": agent.is_member,
        "format": _format(agent),
        "kinds": sorted(kind.name.lower() for kind in agent.kinds),
        "addresses": addresses,
        "heard_s_ago": round(max(0.0, now - agent.heard_s), 3),
        "packets_in": agent.packets_in,
        "octets_in": agent.octets_in,
        "packets_out": agent.packets_out,
        "octets_out": agent.octets_out,
        "dropped": agent.dropped,
    }


def _format(agent: Agent) -> str:
    if agent.is_assumed:
        return "as it comes"
    older = "" if agent.generation is None else agent.generation.name.lower()
    return "+".join(filter(None, ("binary" if agent.has_binary else "", older)))


def _refused(directory: Directory, passing: Passing, shares: Shares) -> dict[str, int]:
    """For want of room."""
    return {
        "agents_refused": directory.refused,
        "handover_dropped": shares.dropped,
        "impaired_refused": passing.writing.impairments.refused,
    }

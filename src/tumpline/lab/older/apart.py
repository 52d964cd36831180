"""A node's three agents in place of one, as they were: what their common YAML says (`/etc/xdg/dtn/node.yaml` there).

The tables are those that the older agent's containers have, but for what is not there yet: neighbours that discovery would
have found are written down as routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from tumpline.lab.older.shape import PORT, OlderConfig, OlderFile

BUS_NAMES: Final = "org.ietf.dtn.node"
_COMMON: Final = {"log_level": "debug", "bus_addr": "system"}
_UDPCL_MTU: Final = 1400
_ALL_BP_NODES4, _ALL_BP_NODES6 = "224.0.1.20", "FF05::114"


class Found(NamedTuple):
    """What goes to a neighbour beside what is written: EID patterns, and how and where."""

    cl_type: str
    address: str
    patterns: list[str]


def yaml_of(older: OlderFile, name: str, node_ids: Iterable[str], found: Mapping[str, Found]) -> dict[str, Any]:
    """The YAML of one node. `node_ids`: its own, the first is told to neighbours; `found`: neighbours by name."""
    config = older.nodes[name].config
    own = list(node_ids)
    return {
        "tcpcl": {
            **_common("tcpcl", own[0]),
            "tls_enable": config.tls_enable,
            "init_listen": [{"address": "::"}] if config.tcpcl_listen else [],
        },
        "udpcl": _udpcl(older, name, config, own[0]),
        "bp": {
            **_common("bp", own[0]),
            "rx_route_table": [*_receiving(config), *_own(own), {"eid_pattern": ".*", "action": "forward"}],
            "tx_route_table": [*_sending(config), *_found(found)],
        },
    }


def _common(role: str, node_id: str) -> dict[str, Any]:
    return {**_COMMON, "bus_service": f"{BUS_NAMES}.{role}", "node_id": node_id}


def _udpcl(older: OlderFile, name: str, config: OlderConfig, node_id: str) -> dict[str, Any]:
    nets = older.nodes[name].nets  # each is an interface of that name
    groups4 = [
        {"addr": _ALL_BP_NODES4, "iface": net} for net in nets if older.nets[net].subnet4 or older.nets[net].subnet
    ]
    groups6 = [{"addr": _ALL_BP_NODES6, "iface": net} for net in nets if older.nets[net].subnet6]
    listen = [{"address": "0.0.0.0", "multicast_member": groups4}, {"address": "::", "multicast_member": groups6}]
    return {
        **_common("udpcl", node_id),
        "dtls_enable_tx": config.dtls_enable_tx,
        "mtu_default": _UDPCL_MTU,
        "init_listen": listen if config.udpcl_listen else [],
        "polling": [
            {"address": each.address, "port": each.port, **_given("interval_ms", each.interval_ms)}
            for each in config.udpcl_polling
        ],
    }


def _given(key: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {key: value}


def _receiving(config: OlderConfig) -> list[dict[str, Any]]:
    return [{"eid_pattern": each.eid_pattern, "action": each.action} for each in config.bp_rx_routes]


def _own(node_ids: Iterable[str]) -> list[dict[str, Any]]:
    return [{"eid_pattern": _regex(f"{each.removesuffix('0')}**"), "action": "deliver"} for each in node_ids]


def _sending(config: OlderConfig) -> list[dict[str, Any]]:
    return [
        {
            "eid_pattern": each.eid_pattern,
            "next_nodeid": each.next_nodeid,
            "cl_type": each.cl_type if each.cl_type == "udpcl" else "tcpcl",
            "address": each.address or _host(each.next_nodeid),
            "port": each.port if each.cl_type == "udpcl" else PORT,
        }
        for each in config.bp_tx_routes
    ]


def _found(found: Mapping[str, Found]) -> list[dict[str, Any]]:
    return [
        {
            "eid_pattern": _regex(pattern),
            "next_nodeid": f"dtn://{other}/",
            "cl_type": each.cl_type,
            "address": each.address,
        }
        for other, each in found.items()
        for pattern in each.patterns
    ]


def _host(node_id: str) -> str:
    return node_id.removeprefix("dtn://").strip("/")


def _regex(pattern: str) -> str:
    """Of the EID patterns that `convert` writes: everything, all of a scheme, all of a node."""
    if pattern == "*:**":
        return ".*"
    scheme, _, rest = pattern.partition(":")
    return f"{scheme}:{re.escape(rest.removeprefix('0.').rstrip('*'))}.*"

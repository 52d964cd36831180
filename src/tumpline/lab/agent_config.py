"""What each agent of a laboratory is told: its configuration file, its certificate, whom it dials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumpline.lab.apart import write_yaml
from tumpline.lab.model import AgentSection, LabFile
from tumpline.node import ca
from tumpline.node.config.model import DEFAULT_PORT
from tumpline.node.config.write import shown, toml_text
from tumpline.wire.eid import Eid

LINK = "tcpcl4"
KEY_LOG = "tls.keylog"
_CERT_DAYS = 30  # far longer than any laboratory lasts
# After a path was cut, agents shall be back soon: people and tests wait for them.
_RETRY_MAX_S = 2.0


def node_id(lab: LabFile, node: str) -> str:
    """The node ID of a node's agent."""
    agent = lab.nodes[node].agent
    return (agent.id if agent is not None else "") or f"dtn://{node}/"


def write_configs(lab: LabFile, nodes: Path, keys: Path) -> None:
    """`nodes`/NODE/NODE.toml of every agent, with certificates of a new CA in `keys`. Raises: ConfigError."""
    with_agent = {name: node.agent for name, node in lab.nodes.items() if node.agent is not None}
    if any(agent.tls for agent in with_agent.values()):
        ca.init_ca(keys, f"laboratory {lab.name}", _CERT_DAYS)
    for name, agent in with_agent.items():
        if agent.tls:
            ca.issue(keys, [node_id(lab, name)], [name], name=name, days=_CERT_DAYS)
        directory = nodes / name
        directory.mkdir(parents=True, exist_ok=True)
        config = agent_config(lab, name, agent, keys)
        if agent.apart:
            write_yaml(agent.apart, config["links"][0]["tls"], directory)
        else:
            (directory / f"{name}.toml").write_text(toml_text(config))


def agent_config(lab: LabFile, name: str, agent: AgentSection, keys: Path) -> dict[str, Any]:
    """The whole configuration of one agent, as plain data."""
    own_id = node_id(lab, name)
    link = {"kind": LINK, "listen": f"[::]:{DEFAULT_PORT}", "retry_s_max": _RETRY_MAX_S, "tls": _tls(name, agent, keys)}
    config: dict[str, Any] = {
        "node": {"id": own_id, "state_dir": "state", "reports": True},
        "store": {"kind": agent.store},
        "links": [link],
        "peers": [_peer(lab, other) for other in agent.connect],
        "routes": shown(agent.routes),
        "contacts": shown([*agent.contacts, *(each for each in lab.contacts if each.peer != Eid.parse(own_id))]),
        "services": {"echo": {}, "sink": {"verify": True}, "files": {"directory": "inbox"}} | agent.services,
    }
    return _with_keys(merged({key: value for key, value in config.items() if value}, agent.config))


def _with_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Further links that are to be secured have the keys of the first."""
    first, *others = config["links"]
    keys = {key: first["tls"][key] for key in ("ca", "cert", "key", "key_log") if key in first["tls"]}
    links = [each | {"tls": keys | each["tls"]} if each.get("tls", {}).get("mode") else each for each in others]
    return config | {"links": [first, *links]}


def _peer(lab: LabFile, other: str) -> dict[str, Any]:
    """Dialled at once, or in the windows of the contacts with it."""
    return {"id": node_id(lab, other), "link": LINK, "address": f"{other}:{DEFAULT_PORT}"}


def _tls(name: str, agent: AgentSection, keys: Path) -> dict[str, Any]:
    if not agent.tls:
        return {"mode": "off"}
    files = {"ca": str(keys / "ca.pem"), "cert": str(keys / f"{name}.pem"), "key": str(keys / f"{name}.key")}
    log = {"key_log": str(keys / KEY_LOG)} if agent.key_log else {}
    return {"mode": "required", "authenticate": "node", "min_version": "1.3", **files, **log}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: tables are merged, `links` item by item; other lists of tables grow; the rest is replaced."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            result[key] = merged(known, value)
        elif key == "links" and isinstance(known, list) and isinstance(value, list):
            pairs = [merged(one, other) for one, other in zip(known, value, strict=False)]
            result[key] = [*pairs, *known[len(pairs) :], *value[len(pairs) :]]
        elif isinstance(known, list) and isinstance(value, list) and all(isinstance(item, dict) for item in value):
            result[key] = [*known, *value]
        else:
            result[key] = value
    return result

"""A laboratory's files kept in a directory of their own: keys, each node's configuration, logs, what containers need.

A stage outlives its laboratory, so that keys can be made before it is up and logs read after it is down:

    ca/                   the private CA: ca.pem and ca.key
    NODE/keys/            ca.pem; node-transport, node-sign and node-encrypt, .pem and .key
    NODE/etc/NODE.toml    configuration of its agent, as a container has it
    NODE/log/tlskeylog    TLS secrets for Wireshark; the agents' logs come here when the laboratory goes down
    lab.yaml              the laboratory that uses these keys: `tumpline lab up STAGE/lab.yaml`
    compose.yaml, Containerfile
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import msgspec
import yaml

from tumpline.errors import StateError
from tumpline.lab.agent_config import agent_config, merged, node_id
from tumpline.lab.compose import CONTAINERFILE, KEYS, LOGS, STATE, compose, containerfile
from tumpline.lab.model import AgentSection, LabFile
from tumpline.node import ca
from tumpline.node.config.write import shown, toml_text
from tumpline.node.state import make_private
from tumpline.wire.eid import Eid

KEY_DAYS = 10  # a laboratory's keys are made anew, not renewed
KEY_LOG = "tlskeylog"


class Places(NamedTuple):
    """Where a node's keys and key log are, as its agent sees them."""

    keys: PurePath
    key_log: PurePath


IN_CONTAINER = Places(PurePath(KEYS), PurePath(LOGS) / KEY_LOG)
_KEPT_IN_CONTAINER = {
    "node": {"state_dir": f"{STATE}/state"},
    "services": {"files": {"directory": f"{STATE}/inbox"}},
}


class Stage:
    """The files of one laboratory in `directory`."""

    def __init__(self, directory: Path, lab: LabFile) -> None:
        self.directory = directory.absolute()
        self.lab = lab
        self.file = self.directory / "lab.yaml"
        self.compose = self.directory / "compose.yaml"
        self._agents = {name: node.agent for name, node in lab.nodes.items() if node.agent is not None}

    def node(self, node: str) -> Path:
        """What is kept of one node."""
        return self.directory / node

    def key_log(self, node: str) -> Path:
        """Its TLS secrets, for Wireshark."""
        return self.node(node) / "log" / KEY_LOG

    # ---- keys -------------------------------------------------------------------------------------------------------

    def make_keys(self) -> None:
        """A new CA, and three certificates for each node with an agent. Raises: ConfigError, StateError."""
        authority = self.directory / "ca"
        for name in (ca.CA_CERT, ca.CA_KEY):
            (authority / name).unlink(missing_ok=True)
        hosts = {name: [name, f"{name}.local"] for name in self._agents}
        only = [host for pair in hosts.values() for host in pair]
        ca.init_ca(authority, f"laboratory {self.lab.name}", KEY_DAYS, only_dns=only)
        for name, agent in self._agents.items():
            keys = self.node(name) / "keys"
            for use in ca.Use:
                dns = hosts[name] if use is ca.Use.TRANSPORT else []
                ids, file = _node_ids(self.lab, name, agent), f"node-{use.value}"
                ca.issue(authority, ids, dns, out=keys, name=file, days=KEY_DAYS, overwrite=True, use=use)
            shutil.copyfile(authority / ca.CA_CERT, keys / ca.CA_CERT)

    def check_keys(self) -> None:
        """Raises: StateError: they have not been made."""
        for name in self._agents:
            if not self._key(name).exists():
                raise StateError(f"{self.directory} has no keys for {name}; make them first: pkigen")

    def _key(self, node: str) -> Path:
        return self.node(node) / "keys" / "node-transport.key"

    # ---- files ------------------------------------------------------------------------------------------------------

    def write(self, source: Path | None = None) -> None:
        """Configurations, the laboratory for `tumpline lab`, and what containers need. Raises: ConfigError, StateError.

        `source`: a checkout to build the image from; none: the released version."""
        self.check_keys()
        text = compose(self.lab, source)  # first: it refuses what containers cannot be
        for name, agent in self._agents.items():
            for part in ("etc", "log"):
                make_private(self.node(name) / part)
            placed = _placed(agent, IN_CONTAINER, _KEPT_IN_CONTAINER)
            config = agent_config(self.lab, name, placed, Path(IN_CONTAINER.keys))
            (self.node(name) / "etc" / f"{name}.toml").write_text(toml_text(config))
        self.compose.write_text(text)
        (self.directory / CONTAINERFILE).write_text(containerfile(source is not None))
        self.file.write_text(lab_text(self.staged()))

    def complete(self, source: Path | None = None) -> bool:
        """As `write`, with keys where there are none: true if they were made. Raises: ConfigError, StateError."""
        compose(self.lab)  # before the first file is written
        missing = not all(self._key(name).exists() for name in self._agents)
        if missing:
            self.make_keys()
        self.write(source)
        return missing

    def staged(self) -> LabFile:
        """The laboratory with the keys and key logs of this stage."""
        nodes = dict(self.lab.nodes)
        for name, agent in self._agents.items():
            places = Places(self.node(name) / "keys", self.key_log(name))
            nodes[name] = msgspec.structs.replace(nodes[name], agent=_placed(agent, places))
        return msgspec.structs.replace(self.lab, nodes=nodes)

    def keep_logs(self, logs: Path) -> None:
        """Copy what agents and programs have logged: NODE.log to NODE/log."""
        for name in self.lab.nodes:
            for file in logs.glob(f"{name}[.]*"):
                make_private(self.node(name) / "log")
                shutil.copyfile(file, self.node(name) / "log" / file.name)

    def remove(self) -> None:
        """What `write` has written; keys and logs stay. Idempotent."""
        for file in (self.file, self.compose, self.directory / CONTAINERFILE):
            file.unlink(missing_ok=True)
        for name in self._agents:
            shutil.rmtree(self.node(name) / "etc", ignore_errors=True)


def lab_text(lab: LabFile) -> str:
    """A laboratory as YAML that reads as the same."""
    as_written = {"expect": lab.expect}  # each kind reads its own: nothing is known here of its units
    table = {key: value for key, value in (shown(lab) | as_written).items() if value not in ("", [], {})}
    for name, node in lab.nodes.items():
        if node.agent is not None and node.agent.apart:
            table["nodes"][name]["agent"]["apart"] = node.agent.apart  # the older agents' own words
    return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def _node_ids(lab: LabFile, name: str, agent: AgentSection) -> list[str]:
    aliases = agent.config.get("node", {}).get("aliases", [])
    # Stored as given; what is no node ID is told when the agent's configuration is read.
    return [node_id(lab, name), *(str(Eid.parse(each)) for each in aliases)]


def _placed(agent: AgentSection, places: Places, more: Mapping[str, Any] | None = None) -> AgentSection:
    """The agent with its keys at these places."""
    if not agent.tls:
        return msgspec.structs.replace(agent, config=merged(agent.config, more or {}))
    key = places.keys / "node-transport"
    tls = {
        "ca": str(places.keys / ca.CA_CERT),
        "cert": f"{key}.pem",
        "key": f"{key}.key",
        "key_log": str(places.key_log),
    }
    links = merged({"links": agent.config.get("links", [])}, {"links": [{"tls": tls}]})
    return msgspec.structs.replace(agent, config=merged(merged(agent.config, more or {}), links))

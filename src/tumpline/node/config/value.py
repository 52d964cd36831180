"""A configuration that holds: what the runtime is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tumpline.drivers.dial import addresses_of
from tumpline.drivers.links._api import LinkSpec
from tumpline.drivers.stores._api import StoreSpec
from tumpline.machines.plan import Peer, Route
from tumpline.machines.routing._api import RoutingSpec
from tumpline.node import paths
from tumpline.node.config.contact import Planned
from tumpline.node.config.edit import Editor, needed
from tumpline.node.config.model import BusSection, ControlSection, LogSection, NodeSection, StoreSection
from tumpline.node.config.plan import Plan
from tumpline.node.config.problems import Path as KeyPath
from tumpline.node.config.yaml import SUFFIXES
from tumpline.node.registry import Registry
from tumpline.node.services._api import ServiceSpec
from tumpline.node.state import StateDir
from tumpline.node.units import DTN_EPOCH_UNIX_MS
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

if TYPE_CHECKING:
    from collections.abc import Callable


class LinkSettings(NamedTuple):
    """One `[[links]]`."""

    name: str
    spec: LinkSpec
    config: Any  # of spec.config

    @property
    def connect(self) -> list[str]:
        """Addresses that the configuration tells the link to hold sessions with."""
        return list(addresses_of(getattr(self.config, "connect", [])))


class StoreSettings(NamedTuple):
    """`[store]`."""

    spec: StoreSpec
    config: Any
    section: StoreSection


class RoutingSettings(NamedTuple):
    """`[routing]`."""

    spec: RoutingSpec
    config: Any


class ServiceSettings(NamedTuple):
    """One `[services.NAME]`, or a service that runs without one."""

    spec: ServiceSpec
    config: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration without mistakes."""

    path: Path | None  # the file it came from
    name: str  # what --node calls the agent
    base: Path  # relative paths were taken from here
    node: NodeSection
    store: StoreSettings
    routing: RoutingSettings
    links: list[LinkSettings]
    peers: list[Peer]
    routes: list[Route]
    contacts: list[Planned]
    services: list[ServiceSettings]
    control: ControlSection
    bus: BusSection
    log: LogSection
    registry: Registry
    raw: dict[str, Any] = field(repr=False)  # as the file has it
    lines: dict[KeyPath, int] = field(repr=False)  # where its keys stand
    remarks: list[str] = field(default_factory=list)  # what is taken otherwise than the file has it

    @property
    def state_dir(self) -> Path:
        """Everything this node keeps lies under it."""
        return self.node.state_dir or paths.state_dir(self.name)

    @property
    def node_config(self) -> dict[str, Any]:
        """The arguments of `tumpline.machines.node.NodeConfig`."""
        node = self.node
        return {
            "node_id": node.id,
            "aliases": tuple(node.aliases),
            "quota_octets": self.store.section.quota_bytes,
            "identities_per_source": node.identities_per_source,
            "window_bundles": node.window_bundles,
            "window_octets": node.window_octets,
            "previous_node": node.previous_node,
            "fragment": node.fragment,
            "reports": node.report_policy(),
            "hop_limit": node.hop_limit,
            "strictness": node.rules(),
            "retry_s_min": node.retry_s_min,
            "retry_s_max": node.retry_s_max,
            "max_lifetime_ms": None if node.max_lifetime_s is None else round(node.max_lifetime_s * 1000),
        }

    def control_sockets(self, state: StateDir | None = None) -> list[Path]:
        """Where control listens: in the runtime directory, in the state directory, and where the file says."""
        own = (state.path if state is not None else self.state_dir) / paths.SOCKET
        further = [self.control.socket] if self.control.socket is not None else []
        return list(dict.fromkeys([paths.control_socket(self.name), own, *further]))

    def plan(self, state: StateDir, now_ms: Callable[[], int] | None = None) -> Plan:
        """The contacts from now on. `now_ms`: DTN time (default: the wall clock's). Raises: StateError."""
        return Plan(state.path, self.contacts, now_ms or _dtn_now_ms, self._editor)

    def where(self, *path: str | int) -> str:
        """`file:line` of a key, for mistakes that show later."""
        line = next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 1)
        return f"{self.path or 'configuration'}:{line}"

    # ---- changes by command that outlive a restart ---------------------------------------------------------------------

    @property
    def _editor(self) -> Editor | None:
        return Editor(self.path) if self.path is not None and self.path.suffix not in SUFFIXES else None

    def save_route(self, to: str, via: str, priority: int = 10) -> None:
        """Write a route into the file, in place of an equal one. Raises: ConfigError."""
        self.drop_route(to, via)
        needed(self._editor).append("routes", {"to": to, "via": via, "priority": priority})

    def drop_route(self, to: str, via: str) -> None:
        """Cut a route out of the file. Raises: ConfigError."""
        wanted = str(EidPattern.parse(to)), Eid.parse(via)
        needed(self._editor).drop(
            "routes", lambda table: (str(EidPattern.parse(table["to"])), Eid.parse(table["via"])) == wanted
        )

    def save_link(self, table: dict[str, Any]) -> None:
        """Write a link into the file. Raises: ConfigError."""
        needed(self._editor).append("links", table)

    def drop_link(self, name: str) -> None:
        """Cut a link out of the file. Raises: ConfigError."""
        names = {link.name for link in self.links}
        needed(self._editor).drop(
            "links", lambda table: table.get("name", table["kind"] if name in names else None) == name
        )


def _dtn_now_ms() -> int:
    return time.time_ns() // 1_000_000 - DTN_EPOCH_UNIX_MS

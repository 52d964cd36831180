"""The sections of a configuration that belong to the node itself. Links, stores and services bring their own classes.

The text below a field is its documentation: the template, the JSON schema and the manual are made from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tumpline.drivers.dial import parse_address
from tumpline.errors import ConfigError
from tumpline.machines.bpa.config import NodeConfig, ReportPolicy
from tumpline.node.names import check_node_id
from tumpline.node.registry import did_you_mean
from tumpline.wire.bundle7 import LENIENT, STRICT, Strictness
from tumpline.wire.dbus.names import is_well_known_name
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # it becomes the name of a socket
QUOTA_BYTES = 10 << 30
BUSES = ("off", "system", "session", "embedded")
DEFAULT_PORT = 4556  # dtn-bundle: RFC 9174 §8.1, RFC 7122 §4
_DEFAULTS = NodeConfig(node_id=Eid.parse("dtn://node/"))

Count = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Octets = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Seconds = Annotated[float, Meta(ge=0)]
PositiveSeconds = Annotated[float, Meta(gt=0)]


def check_address(text: str) -> None:
    """Raises: TumplineError."""
    parse_address(text, DEFAULT_PORT)


def check_bus(text: str) -> None:
    """Raises: ConfigError."""
    if text not in BUSES and ":" not in text:
        meant = did_you_mean(text, BUSES)
        raise ConfigError(f'{text!r} is no bus; {meant} Or write an address, "unix:path=/run/bus"')


def check_bus_name(text: str) -> None:
    """Raises: ConfigError."""
    if not is_well_known_name(text):
        raise ConfigError(
            f'{text!r} is no name on a bus; write two words or more with dots, such as "org.example.Agent"'
        )


NodeId = Annotated[Eid, Meta(extra={"check": check_node_id})]
TcpAddress = Annotated[str, Meta(extra={"check": check_address})]


class Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Common to all sections."""


class ReportsSection(Section, frozen=True):
    """Bundle status reports (RFC 9171 §5.1)."""

    enabled: bool = False
    """Send the reports that bundles ask for. Off by default: a stranger's bundles could make us flood the network."""
    per_s: Annotated[float, Meta(gt=0)] = 10.0
    """Reports a second that may leave, on average."""
    burst: Count = 100
    """Reports that may leave at once."""
    lifetime_s: PositiveSeconds = 86_400.0
    """How long a report lives."""


class StrictnessSection(Section, frozen=True):
    """Which rules of the encoding are demanded of bundles from others: a base and single rules that differ from it."""

    base: Literal["strict", "lenient"] = "strict"
    """`strict`: all that RFC 9171 demands; `lenient`: all that can be understood."""
    canonical: bool | None = None
    """Demand the shortest encoding of numbers and lengths."""
    allow_indefinite_items: bool | None = None
    """Allow blocks and endpoint IDs of indefinite length."""
    allow_definite_bundle: bool | None = None
    """Allow a bundle that is an array of definite length."""
    allow_trailing: bool | None = None
    """Ignore octets behind a bundle."""
    require_primary_crc: bool | None = None
    """Demand a CRC (or an integrity block) of the primary block."""
    check_flags: bool | None = None
    """Demand flags that fit each other."""
    check_blocks: bool | None = None
    """Demand that blocks which may be there once are there once."""
    require_age: bool | None = None
    """Demand a Bundle Age block where the creation time is zero."""
    check_source: bool | None = None
    """Demand a source that can be one node."""

    def rules(self) -> Strictness:
        """The rules that follow."""
        base = LENIENT if self.base == "lenient" else STRICT
        chosen = {name: getattr(self, name) for name in Strictness._fields if getattr(self, name, None) is not None}
        return base._replace(**chosen)


class NodeSection(Section, frozen=True):
    """This node."""

    id: NodeId
    """The primary node ID: dtn://NAME/ or ipn:NUMBER.0."""
    aliases: list[NodeId] = []
    """Further node IDs of this node."""
    name: Annotated[str, Meta(pattern=NAME)] = ""
    """What --node calls this agent. Default: the file's name."""
    state_dir: Path | None = None
    """Everything this node keeps lies under it. Default: $XDG_STATE_HOME/tumpline/NAME."""
    reports: bool | ReportsSection = False
    """Bundle status reports: true, false, or a table."""
    previous_node: bool = True
    """Tell the next node who forwarded a bundle to it (RFC 9171 §4.4.1)."""
    fragment: bool = True
    """Cut bundles that a neighbour cannot take whole, where they allow it."""
    hop_limit: Annotated[int, Meta(ge=1, le=255)] = 32
    """Hops that bundles from here may take (RFC 9171 §4.4.3)."""
    strictness: Literal["strict", "lenient"] | StrictnessSection = "strict"
    """What is demanded of the encoding of bundles from others: strict, lenient, or a table of single rules."""
    max_lifetime_s: PositiveSeconds | None = None
    """Keep no bundle for longer than this. Default: as long as each asks for."""
    window_bundles: Count = _DEFAULTS.window_bundles
    """Bundles under way to one neighbour or service at a time."""
    window_octets: Octets = _DEFAULTS.window_octets
    """The same in octets."""
    identities_per_source: Count = _DEFAULTS.identities_per_source
    """Delivered bundles remembered for each source, so that none is delivered twice; at the cap new ones are refused."""
    retry_s_min: PositiveSeconds = _DEFAULTS.retry_s_min
    """Seconds before a bundle that was refused is offered again; doubles with each failure."""
    retry_s_max: PositiveSeconds = _DEFAULTS.retry_s_max
    """The longest such time."""

    def __post_init__(self) -> None:
        wrong = []
        if len({self.id, *self.aliases}) <= len(self.aliases):
            wrong.append("aliases: an ID is there twice; write each once, and not node.id again")
        if self.retry_s_min > self.retry_s_max:
            wrong.append("retry_s_min: longer than retry_s_max; write a smaller one")
        if wrong:
            raise ValueError("; ".join(wrong))

    def report_policy(self) -> ReportPolicy:
        """The machine's view of `reports`."""
        if isinstance(self.reports, bool):
            return ReportPolicy(enabled=self.reports)
        reports = self.reports
        return ReportPolicy(reports.enabled, reports.per_s, reports.burst, round(reports.lifetime_s * 1000))

    def rules(self) -> Strictness:
        """The machine's view of `strictness`."""
        if isinstance(self.strictness, StrictnessSection):
            return self.strictness.rules()
        return LENIENT if self.strictness == "lenient" else STRICT


class StoreSection(Section, frozen=True):
    """Where bundles are kept. Its `kind` has keys of its own."""

    kind: str = "sqlite"
    """memory or sqlite."""
    quota_bytes: Octets = QUOTA_BYTES
    """Bundles kept together take no more than this; at the quota new ones are refused, and none is dropped."""


class RoutingSection(Section, frozen=True):
    """How routes are chosen. Its `kind` has keys of its own."""

    kind: str = "static"
    """static: as [[routes]] has them."""


class LinkSection(Section, frozen=True):
    """A way to exchange bundles with others. Its `kind` has keys of its own."""

    kind: str
    """Which convergence layer."""
    name: Annotated[str, Meta(pattern=NAME)] = ""
    """What routes, peers and people call it. Default: its kind (a second one: kind-2)."""


class PeerSection(Section, frozen=True):
    """A neighbour that a link cannot learn of by itself."""

    id: NodeId
    """Its node ID."""
    link: str
    """The name of the link that reaches it."""
    address: str
    """Where it is, as the link has it: "192.0.2.7:4556"."""
    aliases: list[NodeId] = []
    """Further node IDs of the same neighbour."""


class RouteSection(Section, frozen=True):
    """Which neighbour leads where."""

    to: EidPattern
    """For which destinations: an EID pattern; a final ** in a dtn path stands for anything."""
    via: NodeId
    """The neighbour's node ID."""
    priority: int = 10
    """Among equally specific patterns the lower number goes first."""
    name: str = ""
    """For people."""


class ControlSection(Section, frozen=True):
    """The control interface. Its UNIX socket is always there."""

    socket: Path | None = None
    """A further place for the socket. Default: $XDG_RUNTIME_DIR/tumpline/NAME.sock, and control.sock in state_dir."""
    listen: TcpAddress | None = None
    """TCP address to listen on as well, "127.0.0.1:8456". Needs token_file."""
    token_file: Path | None = None
    """File with the secret that TCP clients show. It is made (mode 0600) if it is not there."""

    def __post_init__(self) -> None:
        if self.listen is not None and self.token_file is None:
            raise ValueError(
                'token_file: missing; TCP is open to every user of the network: write token_file = "control.token"'
            )


class BusSection(Section, frozen=True):
    """D-Bus: this node as objects on a bus, for programs of the older demo agent and others."""

    kind: Annotated[str, Meta(extra={"check": check_bus})] = "off"
    """off, system, session, embedded (a bus of our own: who comes first hosts it), or an address such as
    "unix:path=/run/other/bus" or "embedded:path=/run/other/bus"."""
    service: Annotated[str, Meta(extra={"check": check_bus_name})] | None = None
    """The name to own there, "org.example.Agent". Default: none; the objects then have the connection's name only."""
    files: Literal["own", "any"] = "own"
    """Whose calls may name files of this machine, which the agent then reads or writes: those of the agent's own user and
    root (own), or of everybody whom the bus lets through (any)."""


class LogSection(Section, frozen=True):
    """What is written down, and where."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is worth a line."""
    format: Literal["text", "json", "older"] = "text"
    """text: key=value; json: one object a line; older: as the older demo agent's agents log."""
    file: Path | None = None
    """Where to. Default: standard error."""


# Sections whose part is not in this release, with what they would do. A configuration that names one expects it to work.
LATER: dict[str, str] = {
    "web": "the dashboard in the browser",
    "metrics": "the metrics endpoint",
    "security": "BPSec",
    "mesh": "the UDP mesh",
}

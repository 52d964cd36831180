"""The shape of the older agent's network files: which files are such, what they may say, what is only passed over.

Later parts are named in them that this agent does not have; each is told by a remark, and what such a file says beyond
its shape too: the older agent passes over unknown keys in silence.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec.inspect as mi
from msgspec import Meta

from tumpline.node.config.model import Section
from tumpline.node.config.problems import Path, Problems
from tumpline.node.registry import did_you_mean

POLLING_MS: Final = 60_000  # where a polling entry says nothing
PORT: Final = 4556  # dtn-bundle: agents of such a file listen nowhere else
_OLDER_NODE: Final = frozenset({"config", "keys", "ipn_node", "use_mac", "use_ipv4", "use_ipv6"})
_OWN_NODE: Final = frozenset({"agent", "nat", "firewall", "forward", "run", "gateway"})
_OLDER_FILE: Final = frozenset({"nets", "nodes"})


class OlderNet(Section, frozen=True):
    """A network: a bridge, and an interface of its name in each of its nodes."""

    subnet4: str = ""
    subnet6: str = ""
    subnet: str = ""
    """What subnet4 was called in the first such files."""
    mtu: Annotated[int, Meta(ge=576, le=65535)] = 1500


class KeySection(Section, frozen=True):
    """A key of a node."""

    keytype: str = "SECP256R1"


class RxRoute(Section, frozen=True):
    """What is done with bundles whose destination matches."""

    eid_pattern: str
    action: Literal["delete", "deliver", "forward"]


class TxRoute(Section, frozen=True):
    """Whom bundles go to whose destination matches."""

    eid_pattern: str
    next_nodeid: str
    cl_type: Literal["tcpcl", "udpcl", "btpu", "ltpcl"] = "tcpcl"
    address: str = ""
    port: int = PORT
    mtu: int | None = None


class Polled(Section, frozen=True):
    """Whom a node asks for what waits there."""

    address: str
    port: int = PORT
    interval_ms: int | None = None
    local_address: str = ""
    local_port: int | None = None


class OlderConfig(Section, frozen=True):
    """What the agents of a node are told."""

    apps: dict[str, dict[str, Any]] = {}
    tls_enable: bool = False
    dtls_enable_tx: bool = False
    udpcl_listen: bool = True
    tcpcl_listen: bool = True
    btpu_listen: list[dict[str, Any]] = []
    udpcl_polling: list[Polled] = []
    btpu_polling: list[dict[str, Any]] = []
    bp_rx_routes: list[RxRoute] = []
    bp_tx_routes: list[TxRoute] = []

    def app(self, name: str, key: str) -> bool:
        """Whether an application is there with this of its keys on (a number is on too: seconds until it begins)."""
        return self.apps.get(name, {}).get(key, False) not in (False, None)


class OlderNode(Section, frozen=True):
    """A container."""

    nets: list[str]
    ipn_node: Annotated[int, Meta(ge=1, le=(1 << 32) - 1)] | None = None
    use_mac: bool = True
    use_ipv4: bool = True
    use_ipv6: bool = True
    keys: dict[Literal["transport", "sign", "encrypt"], KeySection] = {}
    config: OlderConfig = OlderConfig()


class OlderFile(Section, frozen=True):
    """A whole file."""

    nets: dict[str, OlderNet]
    nodes: dict[str, OlderNode]


def is_older(value: Any) -> bool:
    """Whether this is one of the older agent's files: it says what only they say, and nothing that only ours do."""
    if not isinstance(value, dict) or not set(value) <= _OLDER_FILE:
        return False
    nodes, nets = (
        [each for each in value[key].values() if isinstance(each, dict)] if isinstance(value.get(key), dict) else []
        for key in ("nodes", "nets")
    )
    own = any(_OWN_NODE & set(node) or isinstance(node.get("nets"), dict) for node in nodes)
    older = any(_OLDER_NODE & set(node) for node in nodes) or any("subnet" in net for net in nets)
    return older and not own and not any("impair" in net for net in nets)


def without_unknown(value: Any, remarks: Problems) -> Any:
    """The file without what its shape does not have (each key told in `remarks`) and without keys that have no value."""
    return _kept(value, mi.type_info(OlderFile), (), remarks)


def _kept(value: Any, kind: mi.Type, path: Path, remarks: Problems) -> Any:
    kind = kind.type if isinstance(kind, mi.Metadata) else kind
    if isinstance(kind, mi.ListType) and isinstance(value, list):
        return [_kept(item, kind.item_type, (*path, index), remarks) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if isinstance(kind, mi.DictType):
        # A net or node of which nothing is said is one of which nothing special is said.
        empty: Any = {} if isinstance(kind.value_type, mi.StructType | mi.DictType) else None
        pairs = {str(key): empty if item is None else item for key, item in value.items()}
        return {key: _kept(item, kind.value_type, (*path, key), remarks) for key, item in pairs.items()}
    if not isinstance(kind, mi.StructType):
        return value
    fields = {field.encode_name: field.type for field in kind.fields}
    for key in value:
        if key not in fields:
            meant = did_you_mean(str(key), fields)
            hint = f"; {meant}" if meant.startswith("did you mean") else ""
            remarks.add((*path, str(key)), f"passed over: there is no such key{hint}")
    return {
        key: _kept(value[key], fields[key], (*path, key), remarks)
        for key in value
        if key in fields and value[key] is not None
    }

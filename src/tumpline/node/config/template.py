"""The first configuration that `tumpline config init` writes: it works as it is, and says what else there is."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import msgspec

from tumpline.node.config.contact import ContactSection
from tumpline.node.config.documentation import field_docs
from tumpline.node.config.model import BusSection, ControlSection, LogSection, NodeSection, PeerSection, StoreSection
from tumpline.node.config.write import shown, table_text
from tumpline.node.names import check_node_id, file_name
from tumpline.node.registry import Registry, load_registry
from tumpline.wire.eid import Eid

# Shown where there is no default.
EXAMPLES: dict[str, Any] = {
    "address": "relay.example:4556",
    "directory": "inbox",
    "duration": "10m",
    "file": "agent.log",
    "id": "dtn://relay/",
    "link": "tcpcl4",
    "listen": "127.0.0.1:8456",
    "max_lifetime_s": "30d",
    "name": "ground",
    "peer": "dtn://rover/",
    "rate": "128 kbit/s",
    "routes": [{"to": "bbbb:2::/64", "node": "dtn://relay/"}],
    "service": "org.example.Agent",
    "socket": "control.sock",
    "start": "+30s",
    "state_dir": "state",
    "token_file": "control.token",
    "tun": {"addresses": ["bbbb:1::1/64"]},
}

_HEAD = """\
# Configuration of a tumpline agent. `tumpline config check` names every mistake in it, `tumpline config show` what
# takes effect. Relative paths start at this file. Sizes and times may have units: "10 GiB", "1h30m".
"""

_LINKS = """\
# How bundles travel. Without tls anybody who reaches the port can send bundles, and claim any node ID:
# `tumpline cert init` and `tumpline cert issue {node_id}` make what these lines name.
[[links]]
kind = "tcpcl4"
listen = "{listen}"
#connect = ["relay.example:4556"]
#tls = {{ mode = "required", ca = "ca.pem", cert = "{name}.pem", key = "{name}.key", authenticate = "node" }}

# Which neighbour leads where.
#[[routes]]
#to = "dtn://rover/**"
#via = "dtn://relay/"
"""


def template(node_id: str = "dtn://node/", listen: str = "127.0.0.1:4556", registry: Registry | None = None) -> str:
    """A commented configuration for this node. Raises: MalformedError, ConfigError (not a node ID)."""
    eid = Eid.parse(node_id)
    check_node_id(eid)
    parts = registry or load_registry()
    sections = [
        _HEAD,
        f"# {_doc(NodeSection)}\n[node]\n" + table_text({"id": str(eid)}) + _keys(NodeSection, {"id"}),
        f"# {_doc(StoreSection)}\n#[store]\n" + _keys(StoreSection),
        _LINKS.format(node_id=eid, listen=listen, name=file_name(node_id)),
        f"# {_doc(PeerSection)}\n#[[peers]]\n" + _keys(PeerSection),
        f"# {_doc(ContactSection)}\n#[[contacts]]\n" + _keys(ContactSection, {"cron"}),
        *(f"# {spec.summary}\n#[services.{key}]\n" + _keys(spec.config) for key, spec in parts.services.parts.items()),
        f"# {_doc(ControlSection)}\n#[control]\n" + _keys(ControlSection),
        f"# {_doc(BusSection)}\n#[bus]\n" + _keys(BusSection),
        f"# {_doc(LogSection)}\n#[log]\n" + _keys(LogSection),
    ]
    return "\n".join(sections)


def _keys(cls: type[Any], without: Container[str] = ()) -> str:
    """Every key with what it means and its default (or an example), commented out."""
    lines = []
    docs = field_docs(cls)
    for field in msgspec.structs.fields(cls):
        if field.name not in without:
            value = _default(field)
            value = EXAMPLES.get(field.name, "...") if value in (None, "") else shown(value, field.name)
            lines += [f"## {line}" for line in docs.get(field.name, "").splitlines()]
            lines.append(f"#{table_text({field.name: value}).rstrip()}")
    return "".join(f"{line}\n" for line in lines)


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _doc(cls: type[Any]) -> str:
    return " ".join((cls.__doc__ or "").split())

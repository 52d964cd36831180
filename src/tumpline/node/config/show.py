"""A configuration as it takes effect, in TOML: defaults filled in, secrets left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tumpline.node.config.write import shown, toml_text
from tumpline.node.units import format_duration, format_rate

if TYPE_CHECKING:
    from tumpline.machines.plan import Route
    from tumpline.node.config.contact import Planned
    from tumpline.node.config.value import Configuration


def effective(configuration: Configuration) -> dict[str, Any]:
    """The configuration as it takes effect, as plain data."""
    links = [{"kind": link.spec.scheme, "name": link.name, **shown(link.config)} for link in configuration.links]
    data = {
        "node": {**shown(configuration.node), "name": configuration.name, "state_dir": str(configuration.state_dir)},
        "store": {**shown(configuration.store.section), **shown(configuration.store.config)},
        "routing": {"kind": configuration.routing.spec.scheme, **shown(configuration.routing.config)},
        "links": links,
        "peers": [shown(peer._asdict()) for peer in configuration.peers],
        "routes": [_route(route) for route in configuration.routes],
        "contacts": [_contact(each) for each in configuration.contacts],
        "services": {service.spec.name: shown(service.config) for service in configuration.services},
        "control": shown(configuration.control),
        "bus": shown(configuration.bus),
        "log": shown(configuration.log),
    }
    return {key: value for key, value in data.items() if value or key in configuration.raw}


def show(configuration: Configuration) -> str:
    """The configuration as it takes effect, as TOML that `load` reads to the same effect."""
    return toml_text(effective(configuration))


def _route(route: Route) -> dict[str, Any]:
    return {"to": str(route.pattern), "via": str(route.via), "priority": route.priority, "name": route.name}


def _contact(each: Planned) -> dict[str, Any]:
    contact = each.contact
    said = {
        "peer": str(contact.peer),
        "start": each.start or None,
        "duration": None if contact.duration_ms is None else format_duration(contact.duration_ms),
        "rate": None if contact.rate_bps is None else format_rate(contact.rate_bps),
        "link": contact.link,
    }
    return {key: value for key, value in said.items() if value is not None}

"""The configuration of an agent: read, checked, shown, described (INTERFACE.md §3)."""

from tumpline.node.config.contact import contact_from_text
from tumpline.node.config.load import load
from tumpline.node.config.plan import Plan
from tumpline.node.config.read import loads, read_link
from tumpline.node.config.schema import schema
from tumpline.node.config.show import effective, show
from tumpline.node.config.template import template
from tumpline.node.config.value import Configuration, LinkSettings, RoutingSettings, ServiceSettings, StoreSettings

__all__ = [
    "Configuration",
    "LinkSettings",
    "Plan",
    "RoutingSettings",
    "ServiceSettings",
    "StoreSettings",
    "contact_from_text",
    "effective",
    "load",
    "loads",
    "read_link",
    "schema",
    "show",
    "template",
]

"""What is tested lies behind another interface of this machine: the routes that the older agent made for that."""

from __future__ import annotations

from typing import Any, Final

from tumpline.errors import ConfigError
from tumpline.node.overlay.addresses import DEFAULT_PREFIX

METRIC: Final = 1
# The two networks behind agents that the test descriptions have: of clients and of servers.
CLIENTS, SERVERS = "aaaa", "cccc"


def rerouted(
    name: str, ipv6_prefix: str | None, interface: str | None, prefix: str | None, host: str | None
) -> dict[str, Any]:
    """Fields of the port's configuration. `host` is only told to the coordinator. Raises: ConfigError."""
    if interface is None and prefix is None and host is None:
        return {}
    if interface is None or prefix is None:
        raise ConfigError(
            "--re-route-packets-...: which interface, and which network lies there? write --re-route-packets-if eth1 "
            f"--re-route-packets-prefix {CLIENTS} --re-route-packets-host 2"
        )
    beyond = SERVERS if "client" in name else CLIENTS  # where the other side's network is
    own = (ipv6_prefix or DEFAULT_PREFIX).rstrip(":")
    return {
        "routes": [f"{own}:1415:9200::/96", f"{beyond}::/64"],
        "route_metric": METRIC,
        "behind": {"interface": interface, "networks": [f"{prefix.rstrip(':')}::/64"]},
    }

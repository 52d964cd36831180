"""Forms of the bundle agent's section that files of earlier years have: they mean one thing, and are taken with a remark."""

from __future__ import annotations

from typing import Any

from tumpline.node.config.problems import Problems

_TLS_KEYS = ("tls_enable", "tls_ca_file", "tls_cert_file", "tls_key_file")


def from_earlier(bp: dict[str, Any], remarks: Problems) -> dict[str, Any]:
    """The section as it is written today."""
    section = dict(bp)
    attached = section.get("cl_attach")
    if isinstance(attached, str):  # when TCPCL was the only convergence layer
        section["cl_attach"] = {"tcpcl": attached}
        remarks.add(("bp", "cl_attach"), f"taken as {{tcpcl: {attached}}}; write that")
    if "route_table" in section and "tx_route_table" not in section:
        section["tx_route_table"] = _routes(section.pop("route_table"))
        remarks.add(("bp", "route_table"), "taken as tx_route_table, each route with cl_type: tcpcl; write that")
    for key in _TLS_KEYS:
        if section.pop(key, None) is not None:
            remarks.add(("bp", key), "passed over: TLS is the matter of section tcpcl; remove it")
    return section


def _routes(routes: Any) -> Any:
    if not isinstance(routes, list):
        return routes
    return [{"cl_type": "tcpcl", **route} if isinstance(route, dict) else route for route in routes]

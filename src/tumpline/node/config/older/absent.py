"""Keys of the older agent's YAML whose part is not there: refused, but only where they ask for something.

A file that was written for more keeps working once these are removed; kept silently, it would do less than it says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tumpline.node.config.problems import Path, Problems

_BPSEC = "signing and encrypting bundles comes with BPSec, which is not part of this release; remove it"
_BTPU = "BTP-U over Ethernet is not part of this release; remove it"
_SAND = "SAND is not part of this release; write enable: false, and name neighbours in tx_route_table"
_SAFE = "SAFE is not part of this release; remove it"
_ZEROCONF = "discovery by mDNS is not part of this release; write false, and name neighbours in tx_route_table"
_TESTS = "these extensions only test others' dissectors, and no session here sends them; remove it"


class _Absent(NamedTuple):
    """A key, when it asks for something, and what is said then."""

    path: tuple[str, ...]
    sentence: str
    asks: Callable[[Any], bool] = bool


_ABSENT: Final = (
    *(_Absent((section, "enable_test"), _TESTS) for section in ("udpcl", "bp")),
    *(_Absent(("btpu", key), _BTPU) for key in ("init_listen", "polling", "bus_service", "enable_test")),
    *(
        _Absent(("bp", key), _BPSEC)
        for key in (
            "verify_ca_file",
            "sign_cert_file",
            "sign_key_file",
            "encr_cert_file",
            "encr_key_file",
            "accept_after_verify",
        )
    ),
    _Absent(("bp", "cl_attach", "btpu"), _BTPU),
    _Absent(("bp", "apps", "sand", "enable"), _SAND),
    _Absent(("bp", "apps", "nmp", "enable"), _SAND),
    _Absent(("bp", "apps", "safe", "endpoint"), _SAFE),
    # A number is on too: seconds until it begins.
    *(
        _Absent(("bp", "apps", "zeroconf", key), _ZEROCONF, lambda value: value is not False)
        for key in ("offer", "enumerate")
    ),
)


def refuse_absent(data: dict[str, Any], problems: Problems) -> None:
    """`data`: without keys that have no value."""
    for absent in _ABSENT:
        value = _at(data, absent.path)
        if value is not None and absent.asks(value):
            problems.add(absent.path, absent.sentence)
    for path, route in _routes(data):
        if isinstance(route, dict) and route.get("cl_type") == "btpu":
            problems.add((*path, "cl_type"), f"{_BTPU}, or send by tcpcl or udpcl")


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _routes(data: dict[str, Any]) -> list[tuple[Path, Any]]:
    table = _at(data, ("bp", "tx_route_table"))
    return (
        [(("bp", "tx_route_table", index), each) for index, each in enumerate(table)] if isinstance(table, list) else []
    )

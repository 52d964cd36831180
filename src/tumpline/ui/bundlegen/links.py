"""The two ends of a link, configured for an exchange on this machine; with certificates made for it where it is secured."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tumpline.drivers.links._api import BundleLink, LinkContext
from tumpline.node.ca import Issued, init_ca, issue
from tumpline.node.registry import load_registry
from tumpline.ui.bundlegen.arguments import Asked
from tumpline.ui.bundlegen.exchange import LinkPair, Window
from tumpline.wire.eid import Eid

HOST: Final = "127.0.0.1"
ACTIVE, PASSIVE = "dtn://bundlegen-active/", "dtn://bundlegen-passive/"
_RETRY_S: Final = 0.1
# Over TCP the window only bounds memory. More bundles would wait in the receiver's queue for the store, which is none.
_TCPCL_WINDOW: Final = Window(bundles=4096, octets=8 << 20)
# Over UDP nobody but us holds back. Even without privileges the kernel keeps 200 kB for a socket, of which a small datagram
# takes some 800 octets and one of 1400 octets 2300.
_UDPCL_WINDOW: Final = Window(bundles=100, octets=64 << 10)


class Security(NamedTuple):
    """What `tls` of each end is to be; None without."""

    active: dict[str, Any] | None
    passive: dict[str, Any] | None


def make_security(asked: Asked, directory: Path) -> Security:
    """Where the run is secured, certificates of a CA that lives as long as it does, in an empty directory."""
    if not asked.secure:
        return Security(None, None)
    ca = init_ca(directory, "tumpline bundlegen")
    return Security(*(_tls(ca, issue(directory, [end], ["localhost"], [HOST, "::1"])) for end in (ACTIVE, PASSIVE)))


def tcpcl_pair(asked: Asked, security: Security, trial: str) -> LinkPair:
    """Over TCPCLv4; `trial` is the active end's `test_extensions`."""
    common: dict[str, Any] = {"retry_s_first": _RETRY_S, "retry_s_max": _RETRY_S}
    if asked.segment_mru is not None:
        common["segment_mru"] = asked.segment_mru
    active = _link("tcpcl4", ACTIVE, common | {"test_extensions": trial}, security.active)
    passive = _link("tcpcl4", PASSIVE, common | {"listen": f"{HOST}:{asked.port}"}, security.passive)
    return LinkPair(active, passive, lambda: asked.via or _listening(passive), _TCPCL_WINDOW, asked.secure)


def _link(scheme: str, node_id: str, config: dict[str, Any], tls: dict[str, Any] | None) -> BundleLink:
    spec = load_registry().links.get(scheme)
    context = LinkContext("bundlegen", Eid.parse(node_id), random.random)
    return spec.open(msgspec.convert(config if tls is None else {**config, "tls": tls}, spec.config), context)


def _listening(link: BundleLink) -> str:
    address: str = link.describe()["listening"][0]
    return address


def _tls(ca: Path, issued: Issued) -> dict[str, str]:
    return {"mode": "required", "ca": str(ca), "cert": str(issued.cert), "key": str(issued.key)}


def udpcl_pair(asked: Asked, security: Security, _trial: str) -> LinkPair:
    """Over UDPCL version 2, in datagrams of the length asked for."""
    common: dict[str, Any] = {
        "datagram_octets": asked.mtu,
        "datagram_octets_most": asked.mtu,
        "discover_path_mtu": False,
    }
    active = _link("udpcl", ACTIVE, common, security.active)
    passive = _link("udpcl", PASSIVE, common | {"listen": f"{HOST}:{asked.port}"}, security.passive)
    return LinkPair(active, passive, lambda: asked.via or _listening(passive), _UDPCL_WINDOW, asked.secure)


PAIRS: Final[dict[str, Callable[[Asked, Security, str], LinkPair]]] = {"tcpcl": tcpcl_pair, "udpcl": udpcl_pair}

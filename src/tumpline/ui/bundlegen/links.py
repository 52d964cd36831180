"""The two ends of a link, configured for an exchange on this machine; with certificates made for it where it is secured."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

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


def tcpcl_pair(asked: Asked, certificates: Path) -> LinkPair:
    """Over TCPCLv4. `certificates` is an empty directory of this run."""
    common: dict[str, Any] = {"retry_s_first": _RETRY_S, "retry_s_max": _RETRY_S}
    if asked.segment_mru is not None:
        common["segment_mru"] = asked.segment_mru
    listen = {"listen": f"{HOST}:{asked.port}"}
    files = _certificates(certificates) if asked.secure else {ACTIVE: {}, PASSIVE: {}}
    active = _link("tcpcl4", ACTIVE, common | files[ACTIVE])
    passive = _link("tcpcl4", PASSIVE, common | listen | files[PASSIVE])
    return LinkPair(active, passive, lambda: asked.via or _listening(passive), _TCPCL_WINDOW, asked.secure)


def _link(scheme: str, node_id: str, config: dict[str, Any]) -> BundleLink:
    spec = load_registry().links.get(scheme)
    context = LinkContext("bundlegen", Eid.parse(node_id), random.random)
    return spec.open(msgspec.convert(config, spec.config), context)


def _listening(link: BundleLink) -> str:
    address: str = link.describe()["listening"][0]
    return address


def _certificates(directory: Path) -> dict[str, dict[str, Any]]:
    """For both ends what their `tls` is to be: certificates of a CA that lives as long as this run."""
    ca = init_ca(directory, "tumpline bundlegen")
    return {end: {"tls": _tls(ca, issue(directory, [end], ["localhost"], [HOST, "::1"]))} for end in (ACTIVE, PASSIVE)}


def _tls(ca: Path, issued: Issued) -> dict[str, str]:
    return {"mode": "required", "ca": str(ca), "cert": str(issued.cert), "key": str(issued.key)}


PAIRS: Final[dict[str, Callable[[Asked, Path], LinkPair]]] = {"tcpcl": tcpcl_pair}

"""node-relay: from a source through a relay to a sink, three agents and two TCPCLv4 sessions."""

from __future__ import annotations

from collections.abc import Mapping

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency
from tumpline.bench.framework.chain import RELAY, Setup, running
from tumpline.bench.framework.plain import plain_rss_mib
from tumpline.bench.node_hop import LARGE, SMALL, gbit_s, per_s

_PLAIN = "three processes, blocking sockets, RFC 9174 framing, CRCs, duplicates dropped, acknowledgements; no agent, no store"
_LISTENERS = ["sink", "relay"]
HUGE = 4 << 30


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    figures: dict[str, Figure] = {}
    with running(Setup(RELAY)) as chain:
        figures["relay_100B_per_s"] = per_s(chain, effort, _LISTENERS, SMALL, _PLAIN)
        figures["relay_1MiB_gbit_s"] = gbit_s(chain, effort, _LISTENERS, LARGE, _PLAIN)
    with running(Setup(RELAY, tls=True)) as chain:
        figures["relay_1MiB_tls_gbit_s"] = gbit_s(chain, effort, _LISTENERS, LARGE, f"{_PLAIN}; mutual TLS 1.3")
    with running(Setup(RELAY, store="sqlite")) as chain:
        chain.seconds(1, effort.scaled(HUGE))
        rss_mib = chain.rss_max_mib()
    figures["rss_one_4GiB_mib"] = latency(rss_mib, "MiB", plain_rss_mib(), "the plain sink's process")
    return figures


SPEC = BenchSpec(
    "node-relay",
    "three agents, two TCPCLv4 sessions: source, relay, sink",
    ("relay_100B_per_s", "relay_1MiB_gbit_s", "relay_1MiB_tls_gbit_s", "rss_one_4GiB_mib"),
    run,
    durable=True,
)

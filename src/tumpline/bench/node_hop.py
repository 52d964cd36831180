"""node-hop: from a source in one agent to a sink in another, over one TCPCLv4 session."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, latency, throughput
from tumpline.bench.framework.chain import Chain, Setup, running
from tumpline.bench.framework.measure import alternate
from tumpline.bench.framework.plain import plain_rss_mib, run_plain

SMALL, MEDIUM, LARGE = 100, 64 << 10, 1 << 20
COUNTS = {SMALL: 100_000, MEDIUM: 20_000, LARGE: 2_000}
_PLAIN = (
    "two processes, blocking sockets, RFC 9174 framing, CRCs, duplicates dropped, acknowledgements; no agent, no store"
)


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    figures: dict[str, Figure] = {}
    with running(Setup()) as chain:
        figures["hop_100B_per_s"] = per_s(chain, effort, ["sink"], SMALL, _PLAIN)
        figures["hop_64KiB_gbit_s"] = gbit_s(chain, effort, ["sink"], MEDIUM, _PLAIN)
        figures["hop_1MiB_gbit_s"] = gbit_s(chain, effort, ["sink"], LARGE, _PLAIN)
        rss_mib = chain.rss_max_mib()
    with running(Setup(store="sqlite")) as chain:
        told = f"{_PLAIN}, but the sink syncs a file before it acknowledges"
        figures["hop_100B_durable_per_s"] = per_s(chain, effort, ["sink"], SMALL, told, durable=True)
        rss_mib = max(rss_mib, chain.rss_max_mib())
    with running(Setup(tls=True)) as chain:
        figures["hop_1MiB_tls_gbit_s"] = gbit_s(chain, effort, ["sink"], LARGE, f"{_PLAIN}; mutual TLS 1.3")
        rss_mib = max(rss_mib, chain.rss_max_mib())
    figures["rss_max_mib"] = latency(rss_mib, "MiB", plain_rss_mib(), "the plain sink's process")
    return {key: figures[key] for key in SPEC.figures}


def per_s(
    chain: Chain, effort: Effort, listeners: list[str], octets: int, limit_is: str, durable: bool = False
) -> Figure:
    """Bundles a second through the chain, beside the plain one."""
    count = effort.scaled(COUNTS[octets])
    ours = partial(_rate, chain, count, octets)
    plain = partial(_plain_rate, chain, listeners, count, octets, durable)
    pair = alternate(ours, plain, effort.runs)
    return throughput(pair.ours, "bundles/s", pair.limit, limit_is)


def gbit_s(chain: Chain, effort: Effort, listeners: list[str], octets: int, limit_is: str) -> Figure:
    """Payload Gbit/s through the chain, beside the plain one."""
    rate = per_s(chain, effort, listeners, octets, limit_is)
    gbit = octets * 8 / 1e9
    return throughput(rate.value * gbit, "Gbit/s", rate.limit * gbit, limit_is)


def _rate(chain: Chain, count: int, octets: int) -> float:
    return count / chain.seconds(count, octets)


def _plain_rate(chain: Chain, listeners: list[str], count: int, octets: int, durable: bool) -> float:
    tls = None if chain.certificates is None else str(chain.certificates.all_in_one(chain.agents[0].name))
    return count / run_plain(listeners, "source", count=count, octets=octets, durable=durable, tls=tls)


SPEC = BenchSpec(
    "node-hop",
    "two agents, one TCPCLv4 session: source to sink",
    (
        "hop_100B_per_s",
        "hop_100B_durable_per_s",
        "hop_64KiB_gbit_s",
        "hop_1MiB_gbit_s",
        "hop_1MiB_tls_gbit_s",
        "rss_max_mib",
    ),
    run,
    durable=True,
)

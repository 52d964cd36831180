"""The memory of agents stays small while a bundle far larger than it passes from disk to disk (source, relay, sink)."""

import pytest

from tumpline.bench.framework.chain import RELAY, Setup, running

MOST_MIB = 120


def rss_mib(octets: int) -> float:
    """The most that any of the three held."""
    with running(Setup(RELAY, store="sqlite")) as chain:
        chain.seconds(1, octets)
        return chain.rss_max_mib()


def test_256_mib_pass_through_small_agents() -> None:
    assert rss_mib(256 << 20) < MOST_MIB


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_4_gib_pass_through_small_agents() -> None:
    assert rss_mib(4 << 30) < MOST_MIB

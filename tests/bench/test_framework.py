"""Figures, alternating runs, and that every bench names what it gives."""

import pytest

from tumpline.bench import codec
from tumpline.bench.framework.api import Effort, find_benches, latency, rounded, run_bench, throughput
from tumpline.bench.framework.machine import describe_machine
from tumpline.bench.framework.measure import alternate, rate_per_s
from tumpline.errors import ConfigError


def test_ratio_says_how_good() -> None:
    assert throughput(50.0, "bundles/s", 100.0, "plain").ratio == 0.5
    assert latency(2.0, "ms", 1.0, "plain").ratio == 0.5


@pytest.mark.parametrize(("value", "shown"), [(123456.0, 123500.0), (0.000123456, 0.0001235), (5.0, 5.0)])
def test_four_digits(value: float, shown: float) -> None:
    assert rounded(value) == shown


def test_runs_alternate_and_medians_count() -> None:
    order: list[str] = []
    ours, limits = iter([1.0, 100.0, 3.0]), iter([10.0, 20.0, 0.0])

    def one() -> float:
        order.append("ours")
        return next(ours)

    def two() -> float:
        order.append("limit")
        return next(limits)

    assert alternate(one, two, 3) == (3.0, 10.0)
    assert order == ["ours", "limit", "limit", "ours", "ours", "limit"]


def test_rate_is_what_was_done_in_its_time() -> None:
    assert rate_per_s(lambda: sum(1 for _ in range(100_000))) > 100_000


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["noise"] >= 0
    assert {"cpu", "memory_gib", "kernel", "python"} <= machine.keys()


def test_benches_are_found_by_name() -> None:
    benches = find_benches()
    assert {"codec", "node-hop", "node-relay", "ping", "store"} <= benches.keys()
    assert benches["codec"] is codec.SPEC
    for spec in benches.values():
        assert spec.figures
        assert all(figure.replace("_", "").isalnum() for figure in spec.figures)


def test_an_unknown_bench_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match="node-hop"):
        run_bench("hop", Effort())


def test_quick_is_less_work() -> None:
    assert Effort(quick=True).scaled(1000) < Effort().scaled(1000) == 1000
    assert Effort(quick=True).runs < Effort().runs
    assert Effort(quick=True).scaled(1) == 1

"""Impairments as people write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.machines.impairment import Impairment, Jitter
from tumpline.machines.impairment_text import impairment_mapping, parse_impairment


@pytest.mark.parametrize(
    ("mapping", "fields"),
    [
        ({}, {}),
        ({"delay": "20 ms"}, {"delay_s": 0.02}),
        ({"delay": "1.3 s"}, {"delay_s": 1.3}),
        ({"delay": "250us"}, {"delay_s": 0.00025}),
        ({"delay": "8m"}, {"delay_s": 480.0}),
        ({"delay": 0}, {"delay_s": 0.0}),
        ({"delay_ms": 20}, {"delay_s": 0.02}),
        ({"delay_s": 1.3, "jitter_s": 0.1}, {"delay_s": 1.3, "jitter_s": 0.1}),
        (
            {"jitter": "5ms", "jitter_kind": "normal", "delay": "5ms"},
            {"delay_s": 0.005, "jitter_s": 0.005, "jitter": Jitter.NORMAL},
        ),
        ({"loss": "1 %"}, {"loss": 0.01}),
        ({"loss": "0.5%"}, {"loss": 0.005}),
        ({"loss": 0.05}, {"loss": 0.05}),
        ({"loss": "0.05"}, {"loss": 0.05}),
        ({"duplicate": 1, "corrupt": "2 %"}, {"duplicate": 1.0, "corrupt": 0.02}),
        ({"reorder": "25 %", "delay_ms": 10}, {"reorder": 0.25, "delay_s": 0.01}),
        ({"rate": "10 Mbit/s"}, {"rate_bps": 10_000_000}),
        ({"rate": 9600}, {"rate_bps": 9600}),
        ({"rate_bps": None}, {"rate_bps": None}),
        ({"queue": "100 kB"}, {"queue_octets": 100_000}),
        ({"queue_octets": 1_000_000}, {"queue_octets": 1_000_000}),
    ],
)
def test_read(mapping: dict[str, Any], fields: dict[str, Any]) -> None:
    assert parse_impairment(mapping) == Impairment(**fields)


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"delay": 20}, "delay: '20' is no duration; write for example 500ms, 30s"),
        ({"delay": "20"}, "delay: '20' is no duration"),
        ({"delay": True}, "delay: 'True' is no duration"),
        ({"delay": None}, "delay: 'None' is no duration"),
        ({"delay_ms": "20 ms"}, "delay_ms: '20 ms' is no number; write for example 20"),
        ({"delay_ms": float("inf")}, "delay_ms: inf is no number"),
        ({"delay": "2d"}, "delay: 172800.0 s is no such time; write 0 s to 86400 s"),
        ({"delay": "1s", "delay_ms": 1}, "delay_ms: is there twice, with and without its unit; write one of them"),
        ({"loss": "a lot"}, "loss: 'a lot' is no share; write for example 1 % or 0.01"),
        ({"loss": "150 %"}, "loss: 1.5 is no share; write 0 to 1, or 0 % to 100 %"),
        ({"loss": False}, "loss: False is no number"),
        ({"rate": "fast"}, "rate: 'fast' is no rate; write for example 9600 bit/s"),
        ({"rate": []}, "rate: [] is no number"),
        ({"queue": 1.5}, "queue: 1.5 is no whole number"),
        ({"queue": "much"}, "queue: 'much' is no size"),
        ({"jitter_kind": "wild"}, "jitter_kind: 'wild' is no kind of jitter; write uniform or normal"),
        ({"dealy": "20 ms"}, "dealy: is unknown; did you mean delay?"),
        ({17: 1}, "17: is unknown; write delay, jitter, jitter_kind, loss"),
    ],
)
def test_refused(mapping: dict[Any, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_impairment(mapping)
    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(problem)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_impairment({"delay": "soon", "loss": "x", "rat": 1})
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["delay", "loss", "rat"]


@pytest.mark.parametrize("other", [[], "20 ms", None, 7])
def test_what_is_no_table(other: object) -> None:
    with pytest.raises(ConfigError, match=r"is no table; write for example \{delay: 20 ms, loss: 1 %\}"):
        parse_impairment(other)


@given(
    st.builds(
        Impairment,
        delay_s=st.floats(1e-6, 3600),
        jitter_s=st.floats(0, 10),
        jitter=st.sampled_from(Jitter),
        loss=st.floats(0, 1),
        reorder=st.floats(0, 1),
        rate_bps=st.none() | st.floats(1, 1e12),
        queue_octets=st.integers(0, 1 << 40),
    )
)
def test_what_is_written_is_read_back(impairment: Impairment) -> None:
    assert parse_impairment(json.loads(json.dumps(impairment_mapping(impairment)))) == impairment


KEYS = ["delay", "delay_ms", "jitter", "jitter_kind", "loss", "reorder", "rate", "rate_bps", "queue", "queue_octets"]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text()
    | st.from_regex(r"-?[0-9.]{1,20}(e[0-9]{1,4})? ?(%|ms|s|us|d|kbit/s|GiB)?", fullmatch=True),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text() | st.integers(), anything))
def test_anything_is_read_or_refused(mapping: dict[Any, Any]) -> None:
    try:
        impairment = parse_impairment(mapping)
    except ConfigError:
        return
    assert parse_impairment(impairment_mapping(impairment)) == impairment

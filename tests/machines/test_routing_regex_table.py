"""The older agent's routes: the first pattern that matches decides, and no pattern takes long."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.errors import ConfigError
from tumpline.machines.plan import Route
from tumpline.machines.routing._api import Reception
from tumpline.machines.routing._regex import MAX_TEXT, compile_bounded
from tumpline.machines.routing.regex_table import SPEC, ReceiveRule, RegexTable, RegexTableConfig, SendRule
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


def table(receive: dict[str, str] | None = None, send: dict[str, str] | None = None) -> RegexTable:
    config = RegexTableConfig(
        receive=[ReceiveRule(match=match, action=Reception(action)) for match, action in (receive or {}).items()],
        send=[SendRule(match=match, via=Eid.parse(via)) for match, via in (send or {}).items()],
    )
    made = SPEC.open(config)
    assert isinstance(made, RegexTable)
    return made


def hops(strategy: RegexTable, destination: str) -> list[str]:
    return [str(hop) for hop in strategy.next_hops(Eid.parse(destination))]


def test_the_first_match_decides() -> None:
    strategy = table(send={r"dtn://far/x": "dtn://a/", r"dtn://far/": "dtn://b/", ".*": "dtn://c/"})
    assert hops(strategy, "dtn://far/xyz") == ["dtn://a/"]  # anchored at the start only, as re.match is
    assert hops(strategy, "dtn://far/y") == ["dtn://b/"]
    assert hops(strategy, "dtn://near/far/x") == ["dtn://c/"]


def test_what_is_received() -> None:
    strategy = table({"dtn://a/secret": "delete", "dtn://(a|b)/": "deliver", "ipn:": "forward"})
    assert strategy.reception(Eid.parse("dtn://a/secret/x")) is Reception.DELETE
    assert strategy.reception(Eid.parse("dtn://b/x")) is Reception.DELIVER
    assert strategy.reception(Eid.parse("ipn:1.2")) is Reception.FORWARD
    assert strategy.reception(Eid.parse("dtn://c/")) is None
    assert table().reception(Eid.parse("dtn://c/")) is None


def test_a_destination_too_long_to_be_matched_passes_by_no_rule() -> None:
    long = Eid.parse("dtn://a/" + "x" * MAX_TEXT)
    strategy = table({"dtn://a/": "delete", ".*": "forward"}, {".*": "dtn://c/"})
    assert strategy.reception(long) is Reception.DELETE
    assert strategy.next_hops(long) == []
    assert table(send={".*": "dtn://c/"}).reception(long) is None


def test_routes_that_come_later_stand_behind_the_table() -> None:
    strategy = table(send={"dtn://far/": "dtn://a/"})
    strategy.add(Route(EidPattern.parse("*:**"), Eid.parse("dtn://z/")))
    assert hops(strategy, "dtn://far/x") == ["dtn://a/", "dtn://z/"]
    assert hops(strategy, "dtn://other/") == ["dtn://z/"]
    assert [str(route.pattern) for route in strategy.routes()] == ["re:dtn://far/", "*:**"]
    assert strategy.remove(EidPattern.parse("*:**"), Eid.parse("dtn://z/"))
    assert hops(strategy, "dtn://other/") == []


def test_strangers_destinations_are_not_remembered_for_ever() -> None:
    strategy = table({".*": "forward"})
    for number in range(5000):
        strategy.reception(Eid.parse(f"ipn:{number}.1"))
    assert len(strategy._known) <= 4096


USUAL = [
    ".*",
    r"dtn://node001/.*",
    r"dtn:.*",
    r"^dtn://node-[0-9]+/(files|mail)/.*$",
    r"ipn:(5|6)\.\d+$",
    r"ipn:977000\.100\..*",
    r"dtn://([^/]*)/~group",
    r"(?:dtn://a/.*|dtn://b/.*|dtn://c/.*|dtn://d/.*|ipn:1\..*)",
    r"(?i:DTN://Node/)",
    r"dtn://a{3}/x?y?",
]


@pytest.mark.parametrize("pattern", USUAL)
def test_patterns_that_people_write_are_taken(pattern: str) -> None:
    assert compile_bounded(pattern).pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$",
        r"(a|a)*$",
        r"(.*)*x",
        r"(a?){30}a{30}",
        "a?" * 30 + "a" * 30,
        r".*a.*a.*a.*a.*b",
        r"((a{1,9}){1,9}){1,9}b",
    ],
)
def test_patterns_that_could_take_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="could take very long"):
        compile_bounded(pattern)


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no regular expression"):
        compile_bounded("[")


@settings(deadline=None)  # the processor's time is measured instead
@given(st.text("ab/.*+?(|)[]{}2,\\$^d:", max_size=24))
def test_whatever_is_taken_is_quick(pattern: str) -> None:
    try:
        compiled = compile_bounded(pattern)
    except ConfigError:
        return
    before = time.process_time()
    for text in ("a" * MAX_TEXT, "ab" * (MAX_TEXT // 2), "a" * (MAX_TEXT - 1) + "/"):
        compiled.match(text)
    assert time.process_time() - before < 2.0

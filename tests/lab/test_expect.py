"""Expectations as files write them: every mistake has its line."""

import pytest

from tumpline.errors import ConfigError
from tumpline.lab.expect import KINDS
from tumpline.lab.read import loads

HEAD = """\
nets:
  wire: {subnet4: 10.0.1.0/24}
nodes:
  ground: {nets: [wire], agent: {}}
  rover: {nets: [wire], agent: {}}
  router: {nets: [wire]}
expect:
"""


def mistakes(text: str, head: str = HEAD) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(head + text, "f.yaml")
    return caught.value.problems


def test_all_kinds_are_known() -> None:
    kinds = "ping deliver not_delivered kept peers names reach unreachable rtt throughput nat run capture"
    assert sorted(KINDS) == sorted(kinds.split())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pingg: {from: ground}", "expect[0].pingg: there is no such expectation; did you mean 'ping'?"),
        ("ping: {from: groun, to: rover}", "expect[0].ping.from: no node 'groun' has an agent; did you mean 'ground'?"),
        ("ping: {from: router, to: rover}", "expect[0].ping.from: no node 'router' has an agent"),
        ("ping: {from: ground, to: 'dtn:/x'}", "expect[0].ping.to: "),
        ("ping: {from: ground, to: rover, rtt_ms: [3]}", "expect[0].ping.rtt_ms: these are no two bounds"),
        ("ping: {from: ground, to: rover, loss: 2}", "expect[0].ping.loss: 2 is out of range"),
        ("deliver: {from: ground, too: rover, to: rover}", "expect[0].deliver.too: there is no such key"),
        ("deliver: {from: ground, to: rover, within: soon}", "expect[0].deliver.within: 'soon' is no duration"),
        ("deliver: {from: ground, to: rover, route: [ground, rove]}", "expect[0].deliver.route: no node 'rove'"),
        ("deliver: {to: rover}", "expect[0].deliver: from is missing"),
        ("capture: {net: wir, from: ground, to: rover}", "expect[0].capture.net: there is no net 'wir'"),
        ("rtt: {from: ground, to: rover, between_ms: [9, 3]}", "expect[0].rtt.between_ms: these are no two bounds"),
        ("run: {node: ground, argv: []}", "expect[0].run.argv: there is nothing to run"),
        ("run: {node: ground, argv: [ls], output: '('}", "expect[0].run.output: "),
        ("nat: {from: ground, server: rover, mapping: cone}", "expect[0].nat.mapping: 'cone' is none of the choices"),
        ("7: {}", "expect[0].7: there is no such expectation"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, told: str) -> None:
    (problem,) = mistakes(f"  - {line}\n")
    assert problem.startswith(f"f.yaml:8: {told}")


def test_an_expectation_has_one_kind() -> None:
    (problem,) = mistakes("  - {ping: {}, deliver: {}}\n")
    assert problem == "f.yaml:8: expect[0]: this has 2 keys; write one: the kind of the expectation"


def test_what_a_simulation_cannot_tell_is_a_mistake() -> None:
    head = f"engine: world\n{HEAD}"
    text = "  - reach: {from: ground, to: rover}\n  - deliver: {from: ground, to: rover, route: [ground, rover]}\n"
    problems = mistakes(text, head)
    assert problems[0] == (
        "f.yaml:9: expect[0].reach: a simulation cannot tell this; it can tell ping, deliver, not_delivered"
    )
    assert problems[1].startswith("f.yaml:10: expect[1].deliver.route: a simulation cannot tell this")

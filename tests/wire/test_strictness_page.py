"""docs/strictness.md says what is so: each of its examples is decoded, and given to a node, as the words above it claim."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tumpline.errors import MalformedError
from tumpline.machines.effects import RefuseReason
from tumpline.testing.lone_node import LoneNode
from tumpline.wire.bundle7 import LENIENT, STRICT, Strictness, decode_bundle_untrusted, encode_bundle

PAGE = (Path(__file__).parents[2] / "docs" / "strictness.md").read_text()
SECTION = re.compile(r"^## (\d+)\. (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^```hex (.+?)\n(.+?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES_LEAST = 45  # so that a broken expression does not pass for a page without mistakes


class Example(NamedTuple):
    where: str
    claim: str
    octets: bytes


def _examples() -> list[Example]:
    found = []
    for number, _, text in SECTION.findall(PAGE):
        for index, (claim, digits) in enumerate(EXAMPLE.findall(text), 1):
            found.append(Example(f"{number}-{index} {claim}", claim, bytes.fromhex(digits)))
    return found


EXAMPLES = _examples()


def is_accepted(octets: bytes, rules: Strictness) -> bool:
    try:
        decode_bundle_untrusted(octets, rules)
    except MalformedError:
        return False
    return True


def switched(rules: Strictness, switch: str, *, back: bool = False) -> Strictness:
    """The rules with the switch as the page has it; `back`: with the opposite."""
    name, value = switch.split(" = ")
    return rules._replace(**{name: {"true": True, "false": False}[value] != back})


def node_with(octets: bytes, rules: Strictness = STRICT) -> LoneNode:
    """A node that has just received this from a neighbour."""
    node = LoneNode("ipn:7.0", strictness=rules).start().path_up(1, "ipn:9.0")
    node.receive(1, octets)
    return node


def check_sent(octets: bytes, _: str) -> None:
    assert encode_bundle(decode_bundle_untrusted(octets)) == octets
    check_accepted(octets, "")


def check_accepted(octets: bytes, _: str) -> None:
    assert is_accepted(octets, STRICT)
    assert is_accepted(octets, LENIENT)
    assert node_with(octets).refusals() == []


def check_refused(octets: bytes, _: str) -> None:
    assert not is_accepted(octets, STRICT)
    assert not is_accepted(octets, LENIENT)
    assert node_with(octets).refusals() == [(1, RefuseReason.NOT_ACCEPTABLE)]


def check_refused_unless(octets: bytes, switch: str) -> None:
    assert not is_accepted(octets, STRICT)
    assert is_accepted(octets, switched(STRICT, switch)), "the switch alone is not enough"
    assert not is_accepted(octets, switched(LENIENT, switch, back=True)), "another switch allows it too"
    assert is_accepted(octets, LENIENT)


def check_node_deletes(octets: bytes, reason: str) -> None:
    assert is_accepted(octets, STRICT)
    node = node_with(octets)
    assert [notice["reason"] for notice in node.notices("bundle_deleted")] == [reason]
    assert node.acknowledged() == [1], "the neighbour must not send it again"


def check_node_refuses(octets: bytes, _: str) -> None:
    assert is_accepted(octets, STRICT)
    assert node_with(octets).refusals() == [(1, RefuseReason.NOT_ACCEPTABLE)]
    assert node_with(octets, LENIENT).refusals() == [(1, RefuseReason.NOT_ACCEPTABLE)]


def check_node_refuses_unless(octets: bytes, switch: str) -> None:
    assert is_accepted(octets, STRICT)
    assert node_with(octets).refusals() == [(1, RefuseReason.NOT_ACCEPTABLE)]
    assert node_with(octets, switched(STRICT, switch)).acknowledged() == [1]


CHECKS = [
    ("sent", check_sent),
    ("accepted", check_accepted),
    ("refused unless ", check_refused_unless),
    ("refused", check_refused),
    ("node deletes ", check_node_deletes),
    ("node refuses unless ", check_node_refuses_unless),
    ("node refuses", check_node_refuses),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.where)
def test_an_example(example: Example) -> None:
    begin, check = next((begin, check) for begin, check in CHECKS if example.claim.startswith(begin))
    check(example.octets, example.claim.removeprefix(begin))


def test_the_page_is_whole() -> None:
    """Sections in order, each with its clause, its reason and examples; every switch with an example."""
    sections = SECTION.findall(PAGE)
    assert [int(number) for number, *_ in sections] == list(range(1, len(sections) + 1))
    for _, title, text in sections:
        assert text.startswith("\nRule: RFC "), title
        assert "| we accept |" in text, title
        assert "| why |" in text, title
        assert EXAMPLE.search(text), title
    assert len(EXAMPLES) >= EXAMPLES_LEAST
    claims = {example.claim for example in EXAMPLES}
    for name, value in zip(Strictness._fields, LENIENT, strict=True):
        assert f"refused unless {name} = {str(value).lower()}" in claims

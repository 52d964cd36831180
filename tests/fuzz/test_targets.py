"""Every decoder and machine under a fixed number of mutated inputs: documented outcomes and bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.harness import Target, fuzz
from fuzz.registry import find_targets

from fuzz import targets

# One to two seconds each under tracemalloc; `./dev fuzz` and the soak go on.
EXAMPLES = {
    "session": 400,
    "amqp_client": 1_000,
    "amqp_broker": 1_000,
    "dbus_bus": 200,
    "dbus_client": 400,
    "packet_router": 500,
    "node": 600,
    "overlay": 1_000,
    "overlay_bundles": 600,
    "describe": 700,
    "bundle7_head": 700,
    "dtls": 1_000,
    "bundle7_whole": 1_000,
    "bundle7_tail": 1_500,
}
EXAMPLES_ELSE = 5_000
SOAK_S = 120
TARGETS = find_targets()


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_only_documented_outcomes_in_bounded_memory(target: Target) -> None:
    examples = EXAMPLES.get(target.name, EXAMPLES_ELSE)
    figures = fuzz(target, examples=examples)
    assert figures.examples == examples
    assert 0.01 < figures.accepted / examples < 0.99, f"it tries one side only: {figures}"


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_long(target: Target) -> None:
    print(target.name, fuzz(target, seconds=SOAK_S, seed=1))


def test_every_module_is_a_target() -> None:
    assert set(TARGETS) == {path.stem for path in Path(targets.__path__[0]).glob("[a-z]*.py")}

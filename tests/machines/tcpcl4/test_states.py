"""The transition table is complete, and the session walks along it."""

from __future__ import annotations

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.tcpcl4.states import TRANSITIONS, State, Step, following


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", State)
def test_every_pair_has_an_answer(state: State, step: Step) -> None:
    if step in TRANSITIONS[state]:
        assert following(state, step) is TRANSITIONS[state][step]
    else:
        with pytest.raises(LocalProtocolError, match=state.value):
            following(state, step)


def test_every_step_is_possible_somewhere() -> None:
    assert {step for row in TRANSITIONS.values() for step in row} == set(Step)


def test_every_state_is_reached_and_only_closed_is_final() -> None:
    reached = {State.START}
    while new := {after for state in reached for after in TRANSITIONS[state].values()} - reached:
        reached |= new
    assert reached == set(State)
    assert [state for state in State if not TRANSITIONS[state]] == [State.CLOSED]
    assert all(row[Step.CLOSE] is State.CLOSED for state, row in TRANSITIONS.items() if state is not State.CLOSED)


def test_sess_term_only_after_the_contact_header_and_outside_of_tls() -> None:
    """RFC 9174 §6.1 and §4.4.3."""
    assert {state for state, row in TRANSITIONS.items() if Step.SESS_TERM in row} == {
        State.CONTACT,
        State.INIT,
        State.ESTABLISHED,
    }

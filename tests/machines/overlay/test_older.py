"""Interfaces that are started as the older agents' are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tumpline.machines.overlay.older import (
    GENERATIONS,
    TRANSITIONS,
    Bootstrap,
    Occasion,
    OpenTun,
    Say,
    StartRefused,
    State,
)
from tumpline.machines.overlay.starting import ATTEMPTS, PAUSE_S, Starting
from tumpline.wire.agent_json import ControlKind, Serial, Tun, encode_control
from tumpline.wire.packet_json import Generation

V1_START, V0_START = "toAgent.a.ip.tun.start", "control.tun.toAgent.a"
TUN = Tun(name="a", ipv6_prefix="bbbb", ipv6_host="3")


def asked(generation: Generation = Generation.V1, tun: Tun = TUN) -> bytes:
    return encode_control(ControlKind.TUN_START, tun, generation)


def said(bootstrap: Bootstrap) -> list[tuple[str, dict[str, Any]]]:
    outputs = bootstrap.outputs()
    return [(say.routing_key, json.loads(say.body)) for say in outputs if isinstance(say, Say)]


def test_it_waits_until_somebody_asks_it_and_says_that_it_has_started() -> None:
    bootstrap = Bootstrap("a")
    bootstrap.joined()
    assert [key for key, _ in said(bootstrap)] == ["testingtool.component.ready", "control.session"]
    bootstrap.heard(V1_START, asked())
    assert bootstrap.outputs() == [OpenTun(TUN)]
    bootstrap.heard(V1_START, asked())  # while it opens: once is enough
    assert bootstrap.outputs() == []
    bootstrap.opened(TUN)
    assert [key for key, _ in said(bootstrap)] == ["fromAgent.a.ip.tun.started", "control.tun.fromAgent.a"]


@pytest.mark.parametrize(
    ("key", "generation", "answer"),
    [
        (V1_START, Generation.V1, "fromAgent.a.ip.tun.started"),
        (V0_START, Generation.V0, "control.tun.fromAgent.a"),
    ],
)
def test_every_further_start_is_answered_in_its_generation(key: str, generation: Generation, answer: str) -> None:
    bootstrap = Bootstrap("a")
    bootstrap.opened(TUN)
    bootstrap.outputs()
    other = TUN._replace(ipv6_host="9")
    for _ in range(2):
        bootstrap.heard(key, asked(generation, other))
        ((said_under, body),) = said(bootstrap)
        assert (said_under, body["ipv6_host"]) == (answer, "3")  # what is open, not what was asked


def test_it_says_again_what_is_open_when_it_joins_again() -> None:
    bootstrap = Bootstrap("a", (Generation.V1,))
    bootstrap.opened(Serial("a", "/dev/ttyUSB0", "115200"))
    bootstrap.outputs()
    bootstrap.joined()
    (_, started) = said(bootstrap)
    assert started[0] == "fromAgent.a.802154.serial.started"
    assert started[1]["boudrate"] == "115200"


def test_what_could_not_be_opened_may_be_asked_for_again() -> None:
    bootstrap = Bootstrap("a")
    bootstrap.heard(V0_START, asked(Generation.V0))
    bootstrap.ended()
    bootstrap.outputs()
    bootstrap.heard(V1_START, asked())
    assert bootstrap.outputs() == [OpenTun(TUN)]


@pytest.mark.parametrize(
    "body",
    [b"", b'{"data": 300}', b'{"ipv6_prefix": "bbbb", "ipv6_host": "x"}', b"[" * 3000],
)
def test_a_start_that_cannot_be_is_told_and_counted(body: bytes) -> None:
    bootstrap = Bootstrap("a")
    bootstrap.heard(V1_START, body)
    (refused,) = bootstrap.outputs()
    assert isinstance(refused, StartRefused)
    assert bootstrap.malformed == 1
    assert bootstrap.state is State.WAITING


@pytest.mark.parametrize(
    "key",
    ["toAgent.a.ip.tun.packet.raw", "fromAgent.a.ip.tun.start", "testingtool.component.ready", "chat", "toAgent.a.x"],
)
def test_what_is_no_start_is_passed_over(key: str) -> None:
    bootstrap = Bootstrap("a")
    bootstrap.heard(key, asked())
    assert bootstrap.outputs() == []


def test_without_older_agents_it_says_nothing() -> None:
    bootstrap = Bootstrap("a", ())
    bootstrap.joined()
    bootstrap.opened(TUN)
    bootstrap.heard(V1_START, asked())
    assert bootstrap.outputs() == []
    assert bootstrap.bindings() == ()


def test_keys_to_listen_to() -> None:
    assert set(Bootstrap("a").bindings()) == {
        V1_START,
        "toAgent.a.802154.serial.start",
        V0_START,
        "control.serial.toAgent.a",
    }


def test_the_table_says_what_happens_in_every_state() -> None:
    assert {(state, Occasion.OPENED) for state in State} | {(state, Occasion.ENDED) for state in State} <= set(
        TRANSITIONS
    )


def test_an_agent_is_asked_until_it_answers() -> None:
    starting = Starting(TUN)
    starting.begin(10.0)
    assert {say.routing_key for say in starting.outputs()} == {V1_START, V0_START}
    starting.heard("fromAgent.b.ip.tun.started", asked())  # another
    starting.heard("fromAgent.a.ip.tun.started", b"{")
    assert starting.next_timeout() == 10.0 + PAUSE_S
    starting.handle_timeout(10.0 + PAUSE_S)
    assert len(starting.outputs()) == len(GENERATIONS)
    starting.heard("control.tun.fromAgent.a", encode_control(ControlKind.TUN_STARTED, TUN, Generation.V0))
    assert starting.started == TUN
    assert starting.next_timeout() is None


def test_an_agent_that_does_not_answer_is_given_up() -> None:
    starting = Starting(TUN)
    starting.begin(0.0)
    asked_how_often = 0
    while (due := starting.next_timeout()) is not None:
        asked_how_often += len(starting.outputs())
        starting.handle_timeout(due)
    assert starting.has_failed
    assert asked_how_often == ATTEMPTS * len(GENERATIONS)
    starting.heard("control.tun.fromAgent.a", encode_control(ControlKind.TUN_STARTED, TUN, Generation.V0))
    assert starting.started is None


def test_what_started_says_is_bound() -> None:
    assert set(Starting(TUN).bindings()) == {"fromAgent.a.ip.tun.started", "control.tun.fromAgent.a"}

"""Routing keys of both generations of older agents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.wire.agent_keys import (
    AgentKey,
    Direction,
    Topic,
    control_key,
    is_agent_name,
    packet_key,
    read_agent_key,
)
from tumpline.wire.packet_json import Generation

FROM, TO = Direction.FROM_AGENT, Direction.TO_AGENT
V0, V1 = Generation.V0, Generation.V1


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("fromAgent.a.ip.tun.packet.raw", AgentKey(V1, FROM, "a", Topic.IP_PACKET, False)),
        ("toAgent.coap_client.ip.tun.packet.raw", AgentKey(V1, TO, "coap_client", Topic.IP_PACKET, False)),
        ("fromAgent.a.802154.serial.packet.raw", AgentKey(V1, FROM, "a", Topic.FRAME, True)),
        ("toAgent.a.ip.tun.start", AgentKey(V1, TO, "a", Topic.TUN_START, False)),
        ("fromAgent.a.ip.tun.started", AgentKey(V1, FROM, "a", Topic.TUN_STARTED, False)),
        ("fromAgent.a.802154.serial.started", AgentKey(V1, FROM, "a", Topic.SERIAL_STARTED, True)),
        ("toAgent.a.802154.serial.start", AgentKey(V1, TO, "a", Topic.SERIAL_START, True)),
        ("data.tun.fromAgent.a", AgentKey(V0, FROM, "a", Topic.IP_PACKET, False)),
        ("data.serial.toAgent.a", AgentKey(V0, TO, "a", Topic.FRAME, True)),
        ("control.tun.toAgent.a", AgentKey(V0, TO, "a", Topic.CONTROL, False)),
        ("control.serial.fromAgent.a", AgentKey(V0, FROM, "a", Topic.CONTROL, True)),
    ],
)
def test_keys_of_agents(text: str, key: AgentKey) -> None:
    assert read_agent_key(text) == key
    write = packet_key if key.topic in (Topic.IP_PACKET, Topic.FRAME) else control_key
    topic = Topic.SERIAL_STARTED if key.topic is Topic.CONTROL and key.is_serial else key.topic
    assert write(key.generation, key.direction, key.name, topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fromAgent",
        "fromAgent.a",
        "fromAgent.a.ip.tun",
        "fromAgent.a.b.ip.tun.packet.raw",  # a name with a dot is no name
        "fromAgent.*.ip.tun.packet.raw",
        "fromAgent..ip.tun.packet.raw",
        "fromAgent.toAgent.ip.tun.packet.raw",
        "fromAgent.a.control",
        "tumpline.packet.a.b",
        "data.http.fromAgent.a",
        "data.tun.fromAgent.a.b",
        "data.tun.sideways.a",
        "control.session",
        "log.info.packet_router",
    ],
)
def test_other_keys(text: str) -> None:
    assert read_agent_key(text) is None


@given(st.text(max_size=80))
def test_anything_is_a_key_or_none(text: str) -> None:
    read_agent_key(text)
    assert is_agent_name(text) == (read_agent_key(f"data.tun.fromAgent.{text}") is not None)


@pytest.mark.parametrize("name", ["a", "agent_1", "coap-client", "é" * 32])
def test_names(name: str) -> None:
    assert is_agent_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "*", "a#", "a b", "a\tb", "a\0", "fromAgent", "tumpline", "é" * 33])
def test_no_names(name: str) -> None:
    assert not is_agent_name(name)

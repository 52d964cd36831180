"""Control messages of both generations, octet for octet as an agent of version 0.2.20 published them to RabbitMQ."""

from __future__ import annotations

import json
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.agent_json import (
    CONTROL_OCTETS_MOST,
    READY_DESCRIPTION,
    Component,
    Control,
    ControlKind,
    ControlMessage,
    LossyLink,
    Serial,
    Tun,
    addresses,
    control_kind_of,
    decode_control_untrusted,
    encode_control,
    network_behind,
    tun_of,
)
from tumpline.wire.agent_keys import read_agent_key
from tumpline.wire.packet_json import TEXT_OCTETS_MOST, Generation

V0, V1 = Generation.V0, Generation.V1
# As published by agent 0.2.20 under fromAgent.agent_1.ip.tun.started and testingtool.component.ready.
STARTED = (
    b'{"_api_version": "1.2.15", "ipv4_address": "10.2.0.1", "ipv4_host": null, "ipv4_netmask": "255.255.255.0", '
    b'"ipv4_network": "10.2.0.0", "ipv6_host": "1", "ipv6_no_forwarding": false, "ipv6_prefix": "bbbb", "name": "agent_1", '
    b'"re_route_packets_host": null, "re_route_packets_if": null, "re_route_packets_prefix": null}'
)
READY = b'{"_api_version": "1.2.15", "component": "agent_1", "description": "Component READY to start test suite."}'
TUN = Tun(
    name="agent_1",
    ipv6_prefix="bbbb",
    ipv6_host="1",
    ipv6_no_forwarding=False,
    ipv4_address="10.2.0.1",
    ipv4_network="10.2.0.0",
    ipv4_netmask="255.255.255.0",
)


def kind_of_key(key: str) -> ControlKind | None:
    read = read_agent_key(key)
    return control_kind_of(key, read and read.topic)


def test_an_agent_that_started() -> None:
    assert encode_control(ControlKind.TUN_STARTED, TUN, V1) == STARTED
    kind = kind_of_key("fromAgent.agent_1.ip.tun.started")
    assert decode_control_untrusted(STARTED, kind) == ControlMessage(ControlKind.TUN_STARTED, TUN)
    assert addresses(TUN) == (IPv6Interface("bbbb::1/64"), IPv6Interface("fe80::1/64"), IPv4Interface("10.2.0.1/24"))
    assert network_behind(TUN) is None


def test_an_agent_that_is_ready() -> None:
    body = Component("agent_1", READY_DESCRIPTION)
    assert encode_control(ControlKind.COMPONENT_READY, body, V1) == READY
    read = decode_control_untrusted(READY, kind_of_key("testingtool.component.ready"))
    assert read == ControlMessage(ControlKind.COMPONENT_READY, body)


def test_version_0_says_in_the_body_what_it_is() -> None:
    body = b'{"_type": "tun.start", "ipv6_prefix": "bbbb", "ipv6_host": ":3", "name": "agent_TT"}'
    kind, tun = decode_control_untrusted(body, kind_of_key("control.tun.toAgent.agent_TT"))
    assert kind is ControlKind.TUN_START
    assert tun == Tun(name="agent_TT", ipv6_prefix="bbbb", ipv6_host=":3")
    assert isinstance(tun, Tun)
    assert addresses(tun)[0] == IPv6Interface("bbbb::3/64")
    assert json.loads(encode_control(ControlKind.TUN_STARTED, tun, V0))["_type"] == "tun.started"


def test_hosts_and_networks_may_be_numbers_and_lists() -> None:
    body = b'{"ipv6_prefix": "bbbb", "ipv6_host": 3, "ipv4_host": [10, 2, 0, 3], "ipv4_netmask": [255, 255, 0, 0]}'
    _, tun = decode_control_untrusted(body, ControlKind.TUN_STARTED)
    assert isinstance(tun, Tun)
    assert addresses(tun) == (IPv6Interface("bbbb::3/64"), IPv6Interface("fe80::3/64"), IPv4Interface("10.2.0.3/16"))


@pytest.mark.parametrize(
    ("prefix", "host", "address"),
    [
        ("bbbb", "3", "bbbb::3"),
        ("bbbb::", "::3", "bbbb::3"),
        ("bbbb", "1415:9200::2", None),  # two gaps
        ("2001:db8:0:7", "1:2:3:4", "2001:db8:0:7:1:2:3:4"),
        ("2001:db8:0:7", "2", "2001:db8:0:7::2"),
        ("bbbb", "g", None),
    ],
)
def test_an_address_from_its_pieces(prefix: str, host: str, address: str | None) -> None:
    tun = Tun(ipv6_prefix=prefix, ipv6_host=host)
    if address is None:
        with pytest.raises(MalformedError, match="no address"):
            addresses(tun)
    else:
        assert addresses(tun)[0] == IPv6Interface(f"{address}/64")


@given(st.integers(1 << 96, (1 << 128) - 1), st.integers(1, (1 << 32) - 1), st.integers(0, 32))
def test_what_is_open_is_said_in_pieces_that_fit_together(six: int, four: int, bits: int) -> None:
    if six >> 118 == 0x3FA or not six % (1 << 64):  # fe80::/10, and a host of zeros is none
        return
    known = IPv6Interface((six, 64)), IPv4Interface((four, bits))
    link_local = IPv6Interface("fe80::9/64")
    tun = tun_of("agent_1", (link_local, *known, IPv6Interface("cccc::1/64"), IPv4Interface("10.2.0.9/24")))
    read = addresses(tun)
    assert (read[0], read[-1]) == known
    assert addresses(tun_of("agent_1", ())) == ()


def test_what_the_wheel_says_of_the_same_addresses() -> None:
    assert tun_of("agent_1", addresses(TUN)) == TUN


def test_a_network_behind_an_agent() -> None:
    tun = Tun(re_route_packets_if="eth1", re_route_packets_prefix="cccc", re_route_packets_host="2")
    assert network_behind(tun) == IPv6Network("cccc::/64")
    with pytest.raises(MalformedError, match="no network"):
        network_behind(Tun(re_route_packets_prefix="cc cc"))


def test_a_probe_and_its_speed_as_they_spell_it() -> None:
    octets = encode_control(ControlKind.SERIAL_STARTED, Serial("a", "/dev/ttyUSB0", "460800"), V1)
    assert octets == b'{"_api_version": "1.2.15", "boudrate": "460800", "name": "a", "port": "/dev/ttyUSB0"}'
    assert decode_control_untrusted(octets, ControlKind.SERIAL_STARTED).body == Serial("a", "/dev/ttyUSB0", "460800")


def test_packets_to_drop() -> None:
    kind = kind_of_key("routing.lossy.link.start")
    assert encode_control(ControlKind.LOSSY_LINK_START, LossyLink(3), V1) == (
        b'{"_api_version": "1.2.15", "number_of_packets_to_drop": 3}'
    )
    assert decode_control_untrusted(b'{"number_of_packets_to_drop": 0}', kind).body == LossyLink(0)
    assert decode_control_untrusted(b"{}", kind).body == LossyLink(1)
    with pytest.raises(MalformedError):
        decode_control_untrusted(b'{"number_of_packets_to_drop": -1}', kind)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"ipv6_host": {}}',
        b'{"ipv4_network": [10, 2, 0]}',
        b'{"ipv4_network": [10, 2, 0, 256]}',
        b'{"ipv6_prefix": "' + b"b" * (TEXT_OCTETS_MOST + 1) + b'"}',
        b'{"x": ' + b"[" * 5000,
        b'{"name": "\xff"}',
        b" " * (CONTROL_OCTETS_MOST + 1),
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(MalformedError, match="control message"):
        decode_control_untrusted(body, ControlKind.TUN_STARTED)


def test_version_0_of_an_unknown_kind() -> None:
    with pytest.raises(MalformedError, match="'chat' is no kind"):
        decode_control_untrusted(b'{"_type": "chat"}', None)
    with pytest.raises(MalformedError, match="None is no kind"):
        decode_control_untrusted(b"{}", None)


TEXTS = st.none() | st.text(max_size=20)


@given(
    st.builds(Tun, TEXTS, TEXTS, TEXTS, st.none() | st.booleans(), TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
    | st.builds(Serial, TEXTS, TEXTS, TEXTS)
    | st.builds(LossyLink, st.integers(0, 1000)),
    st.sampled_from(Generation),
)
def test_what_is_written_is_read(body: Control, generation: Generation) -> None:
    kind = {Tun: ControlKind.TUN_START, Serial: ControlKind.SERIAL_START, LossyLink: ControlKind.LOSSY_LINK_START}[
        type(body)
    ]
    octets = encode_control(kind, body, generation)
    assert json.dumps(json.loads(octets), sort_keys=True).encode() == octets
    assert decode_control_untrusted(octets, kind if generation is V1 else None) == (kind, body)


@given(
    st.binary(max_size=100)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_anything_is_a_message_or_malformed(body: bytes) -> None:
    for kind in (None, *ControlKind):
        try:
            _, read = decode_control_untrusted(body, kind)
            if isinstance(read, Tun):
                addresses(read)
        except MalformedError:
            pass

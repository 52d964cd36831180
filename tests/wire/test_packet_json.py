"""Packets of both generations of older agents, octet for octet but for the blanks between numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.packet_json import (
    BODY_OCTETS_MOST,
    PACKET_OCTETS_MOST,
    Generation,
    Kind,
    Packet,
    check_packet_untrusted,
    decode_packet_untrusted,
    encode_packet,
)

IP = Packet(bytes([96, 0, 0, 0]), "tun0", 1_795_223_949.25)
FRAME = Packet(bytes([65, 136, 1]), "serial", 7.5, bytes([0xC0, 65, 136, 1, 0xC0]))


def test_version_1_as_an_agent_publishes_it() -> None:
    assert encode_packet(IP, Generation.V1) == (
        b'{"_api_version": "1.2.15", "data": [96,0,0,0], "interface_name": "tun0", "timestamp": 1795223949}'
    )
    assert encode_packet(FRAME, Generation.V1) == (
        b'{"_api_version": "1.2.15", "data": [65,136,1], "data_slip": [192,65,136,1,192], '
        b'"interface_name": "serial", "timestamp": 7}'
    )


def test_version_0_says_what_it_is() -> None:
    assert encode_packet(IP, Generation.V0, Kind.INJECT) == (
        b'{"_type": "packet.to_inject.raw", "data": [96,0,0,0], "interface_name": "tun0", "timestamp": "1795223949.25"}'
    )


@given(
    st.binary(min_size=1, max_size=200),
    st.text(max_size=20),
    st.none() | st.integers(0, 1 << 40).map(float),
    st.none() | st.binary(max_size=50),
    st.sampled_from(Generation),
    st.sampled_from(Kind),
)
def test_as_a_json_library_writes_and_reads_it(
    data: bytes, name: str, time_s: float | None, slip: bytes | None, generation: Generation, kind: Kind
) -> None:
    packet = Packet(data, name, time_s, slip)
    body = encode_packet(packet, generation, kind)
    read = json.loads(body)
    assert json.dumps(read, sort_keys=True).encode().replace(b" ", b"") == body.replace(b" ", b"")
    assert bytes(read["data"]) == data
    expected = kind if generation is Generation.V0 else Kind.SNIFFED
    assert decode_packet_untrusted(body) == (packet, generation, expected)


@pytest.mark.parametrize(
    ("body", "packet"),
    [
        ('{"data": [1]}', Packet(b"\1", "")),
        ('{"data":[1],"interface_name":null,"timestamp":null}', Packet(b"\1", "")),
        ('{"data": [1], "timestamp": 5, "more": {"x": [{}]}}', Packet(b"\1", "", 5.0)),
        ('{"data": [1], "timestamp": "soon"}', Packet(b"\1", "")),
    ],
)
def test_what_may_be_missing(body: str, packet: Packet) -> None:
    assert decode_packet_untrusted(body.encode()) == (packet, Generation.V1, Kind.SNIFFED)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '{"data": []}',
        '{"data": [300]}',
        '{"data": [-1]}',
        '{"data": [1.5]}',
        '{"data": "AAEC"}',
        '{"data": null}',
        '{"data": [1], "data_slip": [256]}',
        '{"data": [1], "interface_name": 7}',
        '{"data": [1], "_type": "tun.start"}',
        '{"data": [1]} x',
        '{"data": [1], "x": ' + "[" * 100_000,
        '{"data": ' + str([0] * (PACKET_OCTETS_MOST + 1)) + "}",
        '{"data": [1], "x": "' + "y" * BODY_OCTETS_MOST + '"}',
    ],
    ids=lambda body: body[:40],
)
def test_malformed_bodies(body: str) -> None:
    with pytest.raises(MalformedError):
        decode_packet_untrusted(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '{"data": []}',
        "[1, 2]",
        '{"data": [1, 300]}',
        '{"data": [-1]}',
        '{"data": [1.5]}',
        '{"data": null}',
        '{"data": [1]} x',
        '{"data": [1], "x": ' + "[" * 100_000,
        '{"data": [1], "x": "' + "y" * BODY_OCTETS_MOST + '"}',
    ],
    ids=lambda body: body[:40],
)
def test_what_would_end_an_agent_is_found_without_decoding(body: str) -> None:
    with pytest.raises(MalformedError):
        check_packet_untrusted(body.encode())


@given(st.data())
def test_what_can_be_decoded_passes_the_check(data: st.DataObject) -> None:
    octets = bytearray(encode_packet(FRAME, data.draw(st.sampled_from(Generation))))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_packet_untrusted(bytes(octets))
    except MalformedError:
        return
    check_packet_untrusted(bytes(octets))


@given(st.data())
def test_altered_octets(data: st.DataObject) -> None:
    octets = bytearray(encode_packet(FRAME, data.draw(st.sampled_from(Generation))))
    for _ in range(data.draw(st.integers(1, 5))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        packet, _, _ = decode_packet_untrusted(bytes(octets))
    except MalformedError:
        return
    assert packet.data


@pytest.mark.parametrize("stamp", ['"nan"', '"inf"', "1e300", '"-1e40"', '"soon"', "null"])
def test_times_that_are_none_say_nothing(stamp: str) -> None:
    """They could not be written again, in the other version or for a capture."""
    packet, _, _ = decode_packet_untrusted(f'{{"data": [96], "timestamp": {stamp}}}'.encode())
    assert packet.time_s is None
    encode_packet(packet, Generation.V1)

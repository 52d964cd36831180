"""Routing keys, sealed heads and announcements of the packet overlay."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.overlay import (
    Claim,
    Format,
    Hello,
    Kind,
    Mode,
    OverlayKey,
    Purpose,
    Role,
    SealedHead,
    SignedHello,
    decode_hello_untrusted,
    decode_key_untrusted,
    decode_sealed_head_untrusted,
    encode_signed_hello,
    name_problem,
)

NAMES = st.text(min_size=1, max_size=64).filter(lambda text: name_problem(text) is None)
ADDRESSES = st.one_of(
    st.builds(Claim, st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.builds(Claim, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
)
NUMBERS = st.integers(0, (1 << 64) - 1)


@st.composite
def hellos(draw: st.DrawFn) -> Hello:
    mode = draw(st.sampled_from(Mode))
    is_given = mode is Mode.GIVEN
    return Hello(
        draw(NAMES),
        draw(st.binary(min_size=8, max_size=8)),
        draw(NUMBERS),
        mode,
        draw(st.binary(min_size=8, max_size=8) if is_given else st.binary(min_size=32, max_size=32)),
        draw(st.sampled_from(Role)),
        draw(NUMBERS),
        draw(st.integers(1, 3600)),
        b"" if is_given else draw(st.binary(min_size=32, max_size=32)),
        tuple(draw(st.lists(ADDRESSES, max_size=8))),
        tuple(sorted(draw(st.sets(st.sampled_from([0, 1]))))),
        tuple(one for one in Format if draw(st.booleans())),
        draw(st.text(max_size=100)),
        draw(st.booleans()),
        draw(st.booleans()),
    )


@pytest.mark.parametrize("name", ["a", "coap_client", "x" * 64, "é" * 32, "mixed-Case_9"])
def test_names_that_can_be(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "at least one"),
        ("a.b", "'.'"),
        ("a*", r"'\*'"),
        ("#", "'#'"),
        ("a b", "' '"),
        ("a\n", "n'"),
        ("\x7f", "x7f"),
        ("x" * 65, "at most 64"),
        ("é" * 33, "at most 64"),
        ("\ud800", "is text"),
        ("fromAgent", "something else"),
        ("toAgent", "something else"),
        ("tumpline", "something else"),
    ],
)
def test_names_that_cannot_be(name: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        assert name_problem(name) is None, name_problem(name)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("tumpline.hello.a", OverlayKey(Purpose.HELLO, "", "a")),
        ("tumpline.who", OverlayKey(Purpose.WHO, "", "")),
        ("tumpline.packet.b.a", OverlayKey(Purpose.PACKET, "b", "a")),
        ("tumpline.via.b.a", OverlayKey(Purpose.VIA, "b", "a")),
        ("tumpline.flood.a", OverlayKey(Purpose.FLOOD, "", "a")),
        ("tumpline.bundle.b.a", OverlayKey(Purpose.BUNDLE, "b", "a")),
        ("tumpline.router.r", OverlayKey(Purpose.ROUTER, "", "r")),
    ],
)
def test_keys(text: str, key: OverlayKey) -> None:
    assert decode_key_untrusted(text) == key
    assert str(key) == text


def test_a_router_passes_a_message_on_without_breaking_its_seal() -> None:
    via, packet = decode_key_untrusted("tumpline.via.b.a"), decode_key_untrusted("tumpline.packet.b.a")
    assert via.associated == packet.associated == b"packet.b.a"
    assert decode_key_untrusted("tumpline.bundle.b.a").associated != packet.associated


NO_KEYS = """- tumpline tumpline. tumpline.what.a tumpline.who.a tumpline.hello tumpline.hello.a.b tumpline.packet.a
    tumpline.packet.a.b.c tumpline.packet..b other.hello.a tumpline.flood.#"""


@pytest.mark.parametrize("text", NO_KEYS.split())
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(MalformedError):
        decode_key_untrusted(text)


@given(st.text(max_size=300))
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    try:
        assert str(decode_key_untrusted("tumpline." + text)) == "tumpline." + text
    except MalformedError:
        pass


def test_a_sealed_head_is_nineteen_octets() -> None:
    head = SealedHead(Mode.IDENTITIES, Kind.FRAME, True, b"instance", 0x0102030405060708)
    assert head.encode() == bytes.fromhex("01 02 81") + b"instance" + bytes(range(1, 9))
    assert decode_sealed_head_untrusted(head.encode() + bytes(16)) == head


@pytest.mark.parametrize("octets", ["02 01 00", "01 00 00", "01 03 00", "01 01 03", "01 01 83"])
def test_sealed_heads_that_are_none(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_sealed_head_untrusted(bytes.fromhex(octets) + bytes(32))


def test_a_sealed_message_has_room_for_its_tag() -> None:
    head = SealedHead(Mode.GIVEN, Kind.IP, False, bytes(8), 1).encode()
    with pytest.raises(MalformedError, match="34 octets"):
        decode_sealed_head_untrusted(head + bytes(15))


@given(hellos(), st.binary(max_size=64))
def test_an_announcement_says_what_was_said(hello: Hello, proof: bytes) -> None:
    signed = hello.encode()
    assert decode_hello_untrusted(encode_signed_hello(signed, proof)) == SignedHello(hello, signed, proof)


@given(hellos(), st.data())
def test_an_altered_announcement_is_malformed_or_another_one(hello: Hello, data: st.DataObject) -> None:
    body = bytearray(encode_signed_hello(hello.encode(), bytes(32)))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        said = decode_hello_untrusted(bytes(body))
    except MalformedError:
        return
    assert (said.signed, said.proof) != (hello.encode(), bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"name": "a.b"},
        {"name": 1},
        {"instance": b"short"},
        {"sequence": -1},
        {"sequence": True},
        {"mode": 3},
        {"key": bytes(31)},
        {"agreement_key": b""},
        {"interval_s": 0},
        {"interval_s": 3601},
        {"addresses": [[bytes(5), 1]]},
        {"addresses": [[bytes(4), 33]]},
        {"addresses": [[bytes(4)]]},
        {"addresses": [[bytes(4), 1]] * 65},
        {"formats": "binary"},
        {"node_id": "x" * 1025},
        {"is_leaving": 0},
    ],
)
def test_announcements_that_are_none(change: dict[str, object]) -> None:
    hello = Hello("a", bytes(8), 1, Mode.IDENTITIES, bytes(32), agreement_key=bytes(32))
    fields = cbor2.loads(hello.encode()) | change
    with pytest.raises(MalformedError):
        decode_hello_untrusted(encode_signed_hello(cbor2.dumps(fields, canonical=True), bytes(64)))


def test_what_later_versions_add_is_passed_over() -> None:
    hello = Hello("a", bytes(8), 1, Mode.GIVEN, bytes(8))
    signed = cbor2.dumps(cbor2.loads(hello.encode()) | {"zeta": [1, {"a": 2}]}, canonical=True)
    assert decode_hello_untrusted(encode_signed_hello(signed, b"proof")).hello == hello


@pytest.mark.parametrize("body", [b"", b"\xa0", b"\xa0\x40", b"\x40\xa0", b"\xa0\x40\x00", b"\xff", bytes(9000)])
def test_bodies_that_are_no_announcement(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_hello_untrusted(body)


@pytest.mark.parametrize(
    ("address", "bits", "own_bits"),
    [("bbbb" + "0" * 27 + "1", 64, 128), ("cccc" + "0" * 28, 64, 64), ("0a020001", 24, 32), ("0a020000", 24, 24)],
)
def test_an_address_without_host_bits_claims_its_network(address: str, bits: int, own_bits: int) -> None:
    assert Claim(bytes.fromhex(address), bits).network_bits == own_bits

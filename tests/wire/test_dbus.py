"""D-Bus: messages, values, names, match rules and lines of authentication, and hostile octets of each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.dbus import (
    FIRST_OCTETS,
    AuthLine,
    Command,
    Kind,
    MatchRule,
    Message,
    Variant,
    arguments_of,
    decode_auth_line_untrusted,
    decode_identity_untrusted,
    decode_message_untrusted,
    decode_values_untrusted,
    encode_auth_line,
    encode_identity,
    encode_message,
    encode_values,
    is_bus_name,
    is_guid,
    is_interface,
    is_member,
    is_namespace,
    is_object_path,
    message_octets,
    parse_match_untrusted,
    parse_signature,
    parse_single,
)
from tumpline.wire.dbus.message import FDS_MOST, FIELDS_OCTETS_MOST
from tumpline.wire.dbus.signature import BASIC_CODES

CALL = Message(Kind.CALL, 1, "/a", "org.example.A", "Do", destination=":1.7")
SIGNAL = Message(Kind.SIGNAL, 9, "/a/b", "org.example.A", "Done", sender=":1.2")

# What `dbus-send --peer=... --type=method_call /a org.example.A.Do string:x` (1.14.10) writes.
SENT = bytes.fromhex(
    "6c01000106000000010000003f000000"
    "01016f00020000002f61000000000000"
    "020173000d0000006f72672e6578616d706c652e41000000"
    "0301730002000000446f000000000000"
    "0801670001730000"
    "010000007800"
)


def body(signature: str, octets: str, *, big_endian: bool = False) -> tuple[Any, ...]:
    return decode_values_untrusted(bytes.fromhex(octets), signature, big_endian=big_endian)


# ---- values ----------------------------------------------------------------------------------------------------------

# D-Bus specification, "Marshaling": alignment, lengths, NUL behind texts; written down by hand from its rules.
VECTORS = [
    ("y", (255,), "ff", "ff"),
    ("b", (True,), "01000000", "00000001"),
    ("nq", (-2, 2), "feff0200", "fffe0002"),
    ("yi", (1, -3), "01000000fdffffff", "01000000fffffffd"),
    ("yt", (1, 4), "01000000000000000400000000000000", "01000000000000000000000000000004"),
    ("d", (1.0,), "000000000000f03f", "3ff0000000000000"),
    ("s", ("foo",), "03000000666f6f00", "00000003666f6f00"),
    ("s", ("",), "0000000000", "0000000000"),
    ("o", ("/a",), "020000002f6100", "000000022f6100"),
    ("g", ("a{sv}",), "05617b73767d00", "05617b73767d00"),
    ("h", (1,), "01000000", "00000001"),
    ("ay", (b"\x01\x02",), "020000000102", "000000020102"),
    ("ax", ([5],), "08000000000000000500000000000000", "00000008000000000000000000000005"),
    ("ax", ([],), "0000000000000000", "0000000000000000"),  # padding to an element that is not there
    ("y(y)", (1, (2,)), "010000000000000002", "010000000000000002"),
    ("v", (Variant("u", 7),), "0175000007000000", "0175000000000007"),
    ("a{ys}", ({1: "x"},), "0a0000000000000001000000010000007800", "0000000a0000000001000000000000017800"),
]


@pytest.mark.parametrize(("signature", "values", "little", "big"), VECTORS)
def test_values_in_both_byte_orders(signature: str, values: tuple[Any, ...], little: str, big: str) -> None:
    assert encode_values(values, signature).hex() == little
    assert encode_values(values, signature, big_endian=True).hex() == big
    assert body(signature, little) == values
    assert body(signature, big, big_endian=True) == values


@pytest.mark.parametrize(
    ("signature", "octets"),
    [
        ("b", "02000000"),  # neither true nor false
        ("yi", "01010000fdffffff"),  # padding
        ("s", "03000000666f6f01"),  # no NUL behind it
        ("s", "0300000066006f00"),  # NUL within
        ("s", "02000000c32800"),  # no UTF-8
        ("s", "ffffffff00"),
        ("o", "020000002f2f00"),
        ("g", "016200ff"),  # more than the signature says
        ("g", "017a00"),  # no type
        ("v", "000000"),  # no type
        ("v", "0279790001"),  # two types
        ("ai", "0300000001000000"),  # no whole elements
        ("as", "0400000003000000666f6f00"),  # the element is longer than its array
        ("ay", "01000004"),  # 64 MiB and one octet
        ("ai", "ffffffff"),
        ("i", "0000"),
        ("", "00"),
    ],
)
def test_what_is_no_body(signature: str, octets: str) -> None:
    with pytest.raises(MalformedError):
        body(signature, octets)


def test_an_array_of_64_mib_is_the_longest() -> None:
    longest = bytes(1 << 26)
    assert decode_values_untrusted(encode_values((longest,), "ay"), "ay") == (longest,)
    with pytest.raises(MalformedError, match="at most 67108864"):
        encode_values((longest + b"\0",), "ay")


def test_values_nested_64_deep_and_no_deeper() -> None:
    deep: Any = Variant("y", 1)
    for _ in range(63):
        deep = Variant("v", deep)
    octets = encode_values((deep,), "v")
    assert decode_values_untrusted(octets, "v") == (deep,)
    with pytest.raises(MalformedError, match="64 deep"):
        encode_values((Variant("v", deep),), "v")
    with pytest.raises(MalformedError, match="64 deep"):
        decode_values_untrusted(b"\x01v\0" + octets, "v")


def test_the_number_of_values_is_bounded() -> None:
    octets = encode_values(([Variant("y", 1)] * 10,), "av")
    assert decode_values_untrusted(octets, "av", values_most=21)
    with pytest.raises(MalformedError, match="more values"):
        decode_values_untrusted(octets, "av", values_most=20)


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("y", (256,)), ("i", ("1",)), ("s", (1,)), ("s", ("a\0b",)), ("o", ("a",)), ("g", ("(",)), ("ay", (3,)),
        ("s", ("\ud800",)), ("as", (1,)), ("v", (1,)), ("(yy)", ((1,),)), ("y", ()), ("a{ss}", ([],)),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(signature: str, values: tuple[Any, ...]) -> None:
    with pytest.raises(MalformedError, match="D-Bus"):
        encode_values(values, signature)


def _values_of(code: str) -> st.SearchStrategy[Any]:
    bits = {"n": 16, "i": 32, "x": 64}
    if code in bits:
        return st.integers(-(1 << bits[code] - 1), (1 << bits[code] - 1) - 1)
    unsigned = {"y": 8, "q": 16, "u": 32, "t": 64, "h": 32}
    if code in unsigned:
        return st.integers(0, (1 << unsigned[code]) - 1)
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
    others: dict[str, st.SearchStrategy[Any]] = {
        "b": st.booleans(),
        "d": st.floats(allow_nan=False),
        "s": text,
        "o": st.from_regex(r"/|(/[A-Za-z0-9_]{1,3}){1,3}", fullmatch=True),
        "g": st.sampled_from(["", "s", "a{sv}", "(ii)"]),
    }
    return others[code]


def _typed() -> st.SearchStrategy[tuple[str, Any]]:
    """A signature of one complete type, and a value of it."""
    basic = st.sampled_from(BASIC_CODES).flatmap(lambda code: st.tuples(st.just(code), _values_of(code)))

    def containers(inner: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[tuple[str, Any]]:
        return st.one_of(
            inner.map(lambda typed: ("v", Variant(*typed))),
            inner.filter(lambda typed: typed[0] != "y").map(lambda typed: ("a" + typed[0], [typed[1]] * 2)),
            st.lists(inner, min_size=1, max_size=3).map(
                lambda parts: (f"({''.join(code for code, _ in parts)})", tuple(value for _, value in parts))
            ),
            st.tuples(basic, inner).map(lambda pair: (f"a{{{pair[0][0]}{pair[1][0]}}}", {pair[0][1]: pair[1][1]})),
        )

    return st.recursive(basic, containers, max_leaves=6)


@given(st.lists(_typed(), max_size=4), st.booleans())
def test_whatever_is_said_is_heard(typed: list[tuple[str, Any]], big_endian: bool) -> None:
    signature, values = "".join(code for code, _ in typed), tuple(value for _, value in typed)
    message = CALL._replace(big_endian=big_endian).with_body(signature, *values)
    octets = encode_message(message)
    assert message_octets(octets[:FIRST_OCTETS]) == len(octets)
    heard = decode_message_untrusted(octets)
    assert heard == message
    assert heard.body_values() == values


# ---- signatures and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "z",
        "(",
        ")",
        "()",
        "(i",
        "{ss}",
        "a{s}",
        "a{vs}",
        "a{sss}",
        "a{ss",
        "a{(i)s}",
        "aa",
        "é",
        "r",
        "e",
        "a" * 33 + "y",
        "(" * 33 + "y" + ")" * 33,
        "y" * 256,
        "a{s" * 33 + "y" + "}" * 33,
    ],
)
def test_what_is_no_signature(text: str) -> None:
    with pytest.raises(MalformedError, match="signature"):
        parse_signature(text)


def test_the_deepest_and_longest_signatures() -> None:
    parse_single("a" * 32 + "(" * 32 + "y" + ")" * 32)
    assert len(parse_signature("y" * 255)) == 255
    with pytest.raises(MalformedError, match="instead of one"):
        parse_single("yy")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (is_interface, ["a.b", "org.example.A_1"], ["a", "", "a..b", ".a.b", "a.1b", "a.b-c", "a.b\n", "é.b"]),
        (is_member, ["Do", "_1"], ["", "1a", "a.b", "a-b", "a" * 256]),
        (is_bus_name, ["a.b", "a-b.c", ":1.7", ":a.b-c"], ["a", ":1", "a.1", ":", "", "a.b" * 100]),
        (is_namespace, ["a", "a.b"], ["", "a.", ":1.2"]),
        (is_object_path, ["/", "/a", "/a/1_"], ["", "a", "//", "/a/", "/a-b", "/a\n"]),
        (is_guid, ["0" * 32], ["0" * 31, "g" * 32]),
    ],
)
def test_names(check: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not check(text)] == []
    assert [text for text in bad if check(text)] == []


# ---- messages --------------------------------------------------------------------------------------------------------


def test_a_message_of_the_reference_implementation() -> None:
    message = decode_message_untrusted(SENT)
    assert message == Message(Kind.CALL, 1, "/a", "org.example.A", "Do").with_body("s", "x")
    assert encode_message(message) == SENT


def _changed(at: int, octet: int) -> bytes:
    return SENT[:at] + bytes([octet]) + SENT[at + 1 :]


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "shorter than 16"),
        (SENT[:15], "shorter than 16"),
        (SENT[:-1], "86 octets comes as 85"),
        (SENT + b"\0", "86 octets comes as 87"),
        (_changed(0, ord("x")), "no byte order"),
        (_changed(1, 0), "type 0"),
        (_changed(3, 2), "version 2"),
        (_changed(8, 0), "serial 0"),
        (_changed(16, 0), "field 0 is invalid"),
        (_changed(16, 2), "INTERFACE has type 'o'"),
        (_changed(32, 1), "field 1 is invalid, or there twice"),
        (_changed(32, 3), "MEMBER cannot be 'org.example.A'"),
        (_changed(31, 1), "padding at 27"),
        (_changed(79, 1), "padding behind the header"),
    ],
)
def test_what_is_no_message(octets: bytes, why: str) -> None:
    assert decode_message_untrusted(SENT)
    with pytest.raises(MalformedError, match=why):
        decode_message_untrusted(octets)


def test_unknown_types_flags_and_fields_are_let_pass() -> None:
    # D-Bus specification, Message Format: unknown types, flags and fields MUST be ignored.
    assert decode_message_untrusted(_changed(1, 99)).kind == 99
    assert decode_message_untrusted(_changed(2, 0xF0)).flags == 0xF0
    unknown = Message(Kind.CALL, 1, "/a", "", "Do").with_body("s", "x")
    assert decode_message_untrusted(_changed(32, 200)) == unknown


@pytest.mark.parametrize(
    "message",
    [
        CALL._replace(path=""), CALL._replace(member=""), SIGNAL._replace(interface=""), CALL._replace(path="a"),
        Message(Kind.RETURN, 1), Message(Kind.ERROR, 1, reply_serial=1), Message(Kind.ERROR, 1, error_name="a.b"),
        CALL._replace(destination="a"), CALL._replace(interface="a"), CALL._replace(member="a.b"),
        CALL._replace(path="/org/freedesktop/DBus/Local"), SIGNAL._replace(interface="org.freedesktop.DBus.Local"),
        CALL._replace(unix_fds=FDS_MOST + 1), CALL._replace(path="/" + "a" * FIELDS_OCTETS_MOST),
        CALL._replace(signature="y", body=bytes(1 << 27)),
    ],
)  # fmt: skip
def test_what_nobody_may_send(message: Message) -> None:
    with pytest.raises(MalformedError):
        decode_message_untrusted(encode_message(message))


def test_lengths_are_refused_before_their_octets_come() -> None:
    with pytest.raises(MalformedError, match="at most 134217728"):
        message_octets(b"l\x01\0\x01" + b"\xf8\xff\xff\x07" + b"\x01\0\0\0" + b"\x08\0\0\0")
    with pytest.raises(MalformedError, match="at most 131072"):
        message_octets(b"l\x01\0\x01" + b"\0\0\0\0" + b"\x01\0\0\0" + b"\xff\xff\xff\x7f")


def test_a_body_needs_a_signature() -> None:
    with pytest.raises(MalformedError, match="without signature"):
        decode_message_untrusted(encode_message(CALL._replace(body=b"x")))


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_malformed(octets: bytes) -> None:
    for data in (octets, SENT[:16] + octets):
        try:
            message = decode_message_untrusted(data)
        except MalformedError:
            continue
        assert decode_message_untrusted(encode_message(message)) == message


# ---- match rules -----------------------------------------------------------------------------------------------------

QUOTED = MatchRule(arguments=((0, "", "'"), (1, "", "\\"), (2, "", ","), (3, "", "\\\\")))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", MatchRule()),
        ("type='signal'", MatchRule(kind=Kind.SIGNAL)),
        ("type=signal,member='Done',", MatchRule(kind=Kind.SIGNAL, member="Done")),
        ("sender='org.example', path='/a'", MatchRule(sender="org.example", path="/a")),
        # The examples of the specification: all four mean arg0 = ' \ , \\
        (r"arg0=''\''',arg1='\',arg2=',',arg3='\\'", QUOTED),
        (r"arg0=\',arg1=\,arg2=',',arg3=\\", QUOTED),
        ("arg0namespace='a.b',arg63path='/a/'", MatchRule(arguments=((0, "namespace", "a.b"), (63, "path", "/a/")))),
        ("eavesdrop='true'", MatchRule(eavesdrop=True)),
    ],
)  # fmt: skip
def test_rules(text: str, rule: MatchRule) -> None:
    assert parse_match_untrusted(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "type='x'",
        "type='signal',type='signal'",
        "arg64='x'",
        "arg1namespace='a'",
        "arg0='x",
        "arg='x'",
        "sender=''",
        "path='/a',path_namespace='/a'",
        "member='a.b'",
        "member='" + "a" * 1024 + "'",
        "argx='1'",
        "=",
        "eavesdrop=yes",
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(MalformedError, match="match rule"):
        parse_match_untrusted(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True), ("type='signal'", True), ("type='error'", False),
        ("interface='org.example.A',member='Done'", True), ("interface='org.example.B'", False), ("member='D'", False),
        ("path='/a/b'", True), ("path='/a'", False), ("path_namespace='/a'", True), ("path_namespace='/'", True),
        ("path_namespace='/a/bc'", False), ("sender=':1.2'", True), ("sender='org.example'", True),
        ("sender=':1.3'", False), ("destination=':1.9'", False),
        ("arg0='org.x'", True), ("arg0='org'", False), ("arg0namespace='org'", True), ("arg0namespace='or'", False),
        ("arg1='/p/q'", False), ("arg1path='/p/q'", True), ("arg1path='/p/'", True), ("arg1path='/p'", False),
        ("arg1path='/p/q/'", False), ("arg2path='/d/e'", True), ("arg3='1'", False), ("arg9='x'", False),
    ],
)  # fmt: skip
def test_what_a_rule_wants(text: str, wanted: bool) -> None:
    signal = SIGNAL.with_body("sosi", "org.x", "/p/q", "/d/", 1)
    rule = parse_match_untrusted(text)
    assert rule.matches(signal, arguments_of(signal), {":1.2", "org.example"}) is wanted


# ---- authentication --------------------------------------------------------------------------------------------------


def test_lines_of_authentication() -> None:
    line = encode_auth_line(Command.AUTH, "EXTERNAL", encode_identity("1000"))
    assert line == b"AUTH EXTERNAL 31303030\r\n"
    assert decode_auth_line_untrusted(line[:-2]) == AuthLine(Command.AUTH, "EXTERNAL 31303030")
    assert decode_identity_untrusted("31303030") == "1000"
    assert decode_auth_line_untrusted(b"FOO bar") == AuthLine(Command.UNKNOWN, "bar")


@pytest.mark.parametrize("line", [b"AUTH\0", b"\xff", b"A" * 1025, b"OK\r"])
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(MalformedError, match="no line"):
        decode_auth_line_untrusted(line)


@pytest.mark.parametrize("text", ["3", "xx", "31 30", "ff"])
def test_what_is_no_identity(text: str) -> None:
    with pytest.raises(MalformedError, match="no identity"):
        decode_identity_untrusted(text)

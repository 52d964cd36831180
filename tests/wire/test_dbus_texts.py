"""Addresses and match rules as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.dbus import (
    Kind,
    MatchRule,
    ServerAddress,
    encode_address,
    encode_match,
    parse_addresses,
    parse_match_untrusted,
)

KEYS = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
ADDRESSES = st.builds(
    ServerAddress,
    KEYS,
    st.dictionaries(KEYS, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)),
)
RULES = st.builds(
    MatchRule,
    kind=st.sampled_from([0, *Kind]),
    sender=st.sampled_from(["", ":1.5", "org.example.A"]),
    interface=st.sampled_from(["", "org.example.A"]),
    path_namespace=st.just(""),
    destination=st.sampled_from(["", ":1.7"]),
    member=st.sampled_from(["", "Said"]),
    path=st.sampled_from(["", "/", "/a/b"]),
    arguments=st.lists(
        st.tuples(st.integers(0, 63), st.sampled_from(["", "path"]), st.text(max_size=10)),
        max_size=3,
        unique_by=lambda asked: asked[:2],
    ).map(lambda found: tuple(sorted(found))),
    eavesdrop=st.booleans(),
)


@given(st.lists(ADDRESSES, min_size=1, max_size=4))
def test_addresses_say_the_same_again(addresses: list[ServerAddress]) -> None:
    assert parse_addresses(";".join(map(encode_address, addresses))) == addresses


@given(RULES)
def test_rules_say_the_same_again(rule: MatchRule) -> None:
    assert parse_match_untrusted(encode_match(rule)) == rule


def test_what_the_specification_shows() -> None:
    # Server Addresses: "unix:path=/tmp/dbus-test", and escapes.
    assert parse_addresses("unix:path=/tmp/dbus-test;tcp:host=127.0.0.1,port=4242") == [
        ServerAddress("unix", {"path": "/tmp/dbus-test"}),
        ServerAddress("tcp", {"host": "127.0.0.1", "port": "4242"}),
    ]
    assert parse_addresses("unix:path=/a%2Cb%3b") == [ServerAddress("unix", {"path": "/a,b;"})]
    assert encode_address(ServerAddress("unix", {"path": "/a,b é"})) == "unix:path=/a%2cb%20%c3%a9"
    assert encode_match(MatchRule(arguments=((0, "", "it's"), (1, "", "")))) == "arg0='it'\\''s',arg1=''"


@pytest.mark.parametrize(
    "text", ["", ";", "unix", ":path=/x", "unix:path", "unix:=x", "unix:a=1,a=2", "unix:path=%00", "a:;" * 17]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(MalformedError, match="D-Bus address"):
        parse_addresses(text)

"""What a person wrote becomes an agent's settings, or one sentence that says what to write."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.overlay.keys import read_identity, read_key, read_pins
from tumpline.drivers.ports.tun import TunConfig
from tumpline.errors import ConfigError
from tumpline.node.overlay.addresses import Asked, addresses_of, link_local_of
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.wire.overlay import Claim, Format

URL = "amqp://anna:s3cret@broker.example/session"
KEY = bytes(range(100, 132))


def wish(**wishes: Any) -> Wish:
    return Wish(**{"name": "alice", "url": URL, **wishes})


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("agent_1", Asked(), ["bbbb::1/64", "10.2.0.1/24"]),
        ("agent_6", Asked(), ["bbbb::6/64", "10.2.0.6/24"]),
        ("agent_7", Asked(), ["bbbb::fedc:2b29/64"]),
        ("agent_1", Asked(ipv6_host="9"), ["bbbb::9/64"]),
        ("agent_1", Asked(ipv4_address="10.9.0.1"), ["10.9.0.1/24"]),
        ("alice", Asked(ipv6_prefix="cccc", ipv6_host=":3"), ["cccc::3/64"]),
        ("alice", Asked(ipv6_prefix="2001:db8:1:2::", ipv6_host="1:2"), ["2001:db8:1:2::1:2/64"]),
        (
            "alice",
            Asked(("fd00::1/48", "10.0.0.7/8"), None, None, "10.2.0.9"),
            ["fd00::1/48", "10.0.0.7/8", "10.2.0.9/24"],
        ),
    ],
)
def test_addresses(name: str, asked: Asked, found: list[str]) -> None:
    assert addresses_of(name, asked) == found


@pytest.mark.parametrize(("format", "expected"), [("auto", True), ("binary", True), ("v1", False), ("v0", False)])
def test_the_kernel_cuts_packets_for_those_who_send_one_a_message(format: str, expected: bool) -> None:
    port = settings_of(wish(format=format)).port_config
    assert isinstance(port, TunConfig)
    assert port.super_packets is expected


def test_link_local_addresses_have_the_same_host() -> None:
    assert link_local_of(["10.2.0.1/24", "bbbb::1:2/64"]) == "fe80::1:2/64"
    assert link_local_of(["10.2.0.1/24"]) == ""


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"name": "a.b"}, "--name a.b: '.' cannot stand in a name"),
        ({"address": ("10.2.0.300",)}, "10.2.0.300 is no address; write it as 10.2.0.1/24 or bbbb::1/64"),
        ({"ipv6_prefix": "zz"}, "is no IPv6 address; write --ipv6-prefix bbbb --ipv6-host 1"),
        ({"mtu": 20}, "--mtu: expected `int` >= 1280"),
        ({"url": "http://x/"}, '--url: AMQP URL: it begins with "http:"'),
        ({"exchange": "amq.direct"}, "--exchange amq.direct: that is no topic exchange; write amq.topic"),
        ({"ca": Path("ca.pem")}, "--ca: the URL begins with amqp://, which is not encrypted; write amqps://"),
        ({"serial": True}, "--serial: where is the probe? write --serial-port /dev/ttyUSB0"),
        ({"peer": ("bob",)}, "--peer bob: write NAME=KEY"),
        ({"force_bootstrap": False, "format": "binary"}, "--wait-for-bootstrap: coordinators write in the clear"),
        ({"re_route_packets_host": "2"}, "which interface, and which network lies there"),
    ],
)
def test_mistakes_are_sentences(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(wish(**wishes))
    assert sentence in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_what_is_announced_from_the_beginning() -> None:
    settings = settings_of(wish(ipv6_host="1", re_route_packets_if="eth1", re_route_packets_prefix="cccc"))
    config = settings.port_config
    assert isinstance(config, TunConfig)
    assert (config.addresses, config.link_local) == (["bbbb::1/64"], "fe80::1/64")
    behind = Claim(bytes.fromhex("cccc") + bytes(14), 64)
    assert behind in settings.attachment.member.addresses
    assert behind.network_bits == 64
    assert settings_of(wish(force_bootstrap=False)).attachment.member.addresses == ()


def test_two_starts_are_two_instances_with_two_identities() -> None:
    one, other = (settings_of(wish()).attachment.member for _ in range(2))
    assert one.instance != other.instance
    assert one.identity != other.identity


@pytest.mark.parametrize(
    ("wishes", "formats"),
    [
        ({}, set(Format)),
        ({"format": "v0"}, {Format.V0}),
        ({"key": True}, {Format.BINARY}),
        ({"key": True, "format": "v1"}, {Format.V1}),
    ],
)
def test_under_a_key_the_clear_has_to_be_asked_for(
    tmp_path: Path, wishes: dict[str, Any], formats: set[Format]
) -> None:
    if "key" in wishes:
        (tmp_path / "key").write_text(KEY.hex())
        wishes = {**wishes, "key": tmp_path / "key"}
    assert set(settings_of(wish(**wishes)).attachment.member.formats) == formats


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode() + b"\n", base64.b64encode(KEY) + b"\n"])
def test_a_key_in_three_spellings(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert read_key(tmp_path / "key") == KEY


def test_passphrases_are_stretched_also_those_of_32_letters(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keys = set()
    for phrase in ("correct horse battery", "x" * 32, "x" * 33):
        path.write_text(f"{phrase}\n")
        keys.add(read_key(path))
        path.write_text(phrase)
        keys.add(read_key(path))
    assert len(keys) == 3
    assert {len(key) for key in keys} == {32}
    assert b"x" * 32 not in keys


@pytest.mark.parametrize(("content", "said"), [(b"short", "12 characters"), (b"\xff" * 31, "no text"), (b"", "12")])
def test_what_is_no_key(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_key(tmp_path / "key")


def test_an_identity_is_made_once_and_for_our_eyes(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    assert read_identity(path) == read_identity(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    path.write_text("something else")
    with pytest.raises(ConfigError, match="remove it, and one is made"):
        read_identity(path)


def test_pins() -> None:
    text = base64.b64encode(KEY).decode()
    assert read_pins((f"bob={KEY.hex()}", f"carol={text}")) == {"bob": KEY, "carol": KEY}

"""`ioppytest-agent connect`: what is asked, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tumpline.errors import ConfigError
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.ui.agents.ioppytest import main, wish_of
from tumpline.ui.agents.ioppytest_arguments import SERIAL_PORT, SERIAL_SPEED, parse

# Every option of the older agent, of both generations.
OPTIONS = (
    "--url",
    "--exchange",
    "--name",
    "--dump",
    "--force-bootstrap",
    "--ipv6-prefix",
    "--ipv6-host",
    "--ipv4-address",
    "--re-route-packets-if",
    "--re-route-packets-prefix",
    "--re-route-packets-host",
    "--serial",
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMQP_URL", "AMQP_EXCHANGE", SERIAL_PORT, SERIAL_SPEED):
        monkeypatch.delenv(name, raising=False)


def wish(*options: str) -> Wish:
    return wish_of(parse(["connect", *options]))


def test_help_says_what_each_option_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["connect", "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for option in OPTIONS:
        assert option in told
    for variable in ("AMQP_URL", "AMQP_EXCHANGE", SERIAL_PORT, SERIAL_SPEED):
        assert variable in told


@pytest.mark.parametrize(
    ("options", "opens_at_once", "addresses"),
    [
        # 0.2: names that bring addresses; all three given; 0.1: forced, with what it took for granted.
        (["--name", "agent_1"], True, ["bbbb::1/64", "10.2.0.1/24"]),
        (["--name", "agent_6", "--force-bootstrap"], True, ["bbbb::6/64", "10.2.0.6/24"]),
        (["--name", "agent_1", "--no-force-bootstrap"], False, None),
        (
            ["--name", "x", "--ipv6-prefix", "cccc", "--ipv6-host", ":7", "--ipv4-address", "10.2.0.7"],
            True,
            ["cccc::7/64", "10.2.0.7/24"],
        ),
        (["--name", "x", "--force-bootstrap"], True, ["bbbb::1/64"]),
        (["--name", "x", "--force-bootstrap", "--ipv6-prefix", "cccc"], True, ["cccc::1/64"]),
        (["--name", "x", "--ipv6-host", "9"], True, ["bbbb::9/64"]),
        (["--name", "x", "--ipv4-address", "10.2.0.9/16"], True, ["10.2.0.9/16"]),
        (["--name", "coap_client"], False, None),
    ],
)
def test_when_an_interface_opens_and_with_which_addresses(
    options: list[str], opens_at_once: bool, addresses: list[str] | None
) -> None:
    settings = settings_of(wish(*options))
    assert settings.opens_at_once is opens_at_once
    if addresses is not None:
        assert settings.port_config.addresses == addresses


def test_what_is_not_said_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://paul:s3cret@broker/session05")
    monkeypatch.setenv("AMQP_EXCHANGE", "other")
    asked = wish("--name", "x")
    assert (asked.url, asked.exchange) == ("amqp://paul:s3cret@broker/session05", "other")
    assert wish("--name", "x", "--url", "amqp://h/").url == "amqp://h/"


def test_a_new_name_if_none_is_given() -> None:
    assert wish().name != wish().name
    assert settings_of(wish()).attachment.member.name.startswith("agent-")


def test_where_a_dump_goes() -> None:
    assert wish("--name", "x").dump is None
    assert wish("--name", "x", "--dump").dump == Path("x.pcapng")
    assert wish("--name", "x", "--dump", "y.pcapng").dump == Path("y.pcapng")


def test_a_probe_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=f"{SERIAL_PORT} and {SERIAL_SPEED} is not set"):
        wish("--name", "x", "--serial")
    monkeypatch.setenv(SERIAL_PORT, "/dev/ttyUSB7")
    monkeypatch.setenv(SERIAL_SPEED, "460800")
    asked = wish("--name", "x", "--serial")
    assert (asked.serial, asked.serial_port, asked.baudrate, asked.force_bootstrap) == (
        True,
        "/dev/ttyUSB7",
        460_800,
        True,
    )
    monkeypatch.setenv(SERIAL_SPEED, "fast")
    with pytest.raises(ConfigError, match="'fast', no number"):
        wish("--name", "x", "--serial")


def test_what_is_behind_the_agent_is_handed_on() -> None:
    asked = wish(
        *("--name", "coap_client", "--force-bootstrap", "--re-route-packets-if", "eth1"),
        *("--re-route-packets-prefix", "cccc", "--re-route-packets-host", "2"),
    )
    told = (asked.re_route_packets_if, asked.re_route_packets_prefix, asked.re_route_packets_host)
    assert told == ("eth1", "cccc", "2")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--name", "a.b"], "--name a.b"),
        (["--name", "fromAgent"], "--name fromAgent"),
        (["--name", "x", "--url", "http://h/"], "--url"),
        (["--name", "x", "--ipv6-host", "zz"], "no IPv6 address"),
        (["--name", "x", "--ipv4-address", "300.1.1.1"], "no address"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ioppytest-agent: ")
    assert told in said
    assert said.count("\n") == 1


def test_the_password_is_never_told(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Any] = [main(["connect", "--name", "x", "--url", "amqp://u:s3cret@h:port/"])]
    settings = settings_of(wish("--name", "x", "--url", "amqp://u:s3cret@h/v"))
    told += [repr(settings), str(settings), *capsys.readouterr()]
    assert "s3cret" not in str(told)

"""What `tumpline tunnel connect` and `tunnel status` say to people."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tumpline.drivers.overlay import PortDown, SessionAway, SessionJoined, SessionLost
from tumpline.machines.overlay import BundleMessage, ControlReceived, Departure, MemberJoined, MemberLeft
from tumpline.ui.cli.common import Common
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.tunnel_status import status_lines
from tumpline.ui.cli.tunnel_telling import Teller
from tumpline.wire.overlay import Claim, Hello, Mode

AWAY = SessionAway("10.0.0.1:5672: connection refused", 0.5)
HELLO = Hello(
    "bob",
    bytes(8),
    1,
    Mode.GIVEN,
    bytes(8),
    addresses=(Claim(bytes.fromhex("bbbb") + bytes(13) + b"\2", 64), Claim(bytes.fromhex("fe80") + bytes(13) + b"\2", 64)),
)  # fmt: skip


def told(*events: Any, json_wanted: bool = False) -> list[str]:
    out, err = io.StringIO(), io.StringIO()
    teller = Teller(Output(Common(json=json_wanted), out, err))
    for event in events:
        teller.tell(event)
    return (out if json_wanted else err).getvalue().splitlines()


@pytest.mark.parametrize(
    ("events", "lines"),
    [
        ([SessionJoined()], []),
        (
            [SessionJoined(), SessionLost("bye"), AWAY, AWAY, SessionJoined()],
            [
                "the session is lost: bye",
                "not in the session: 10.0.0.1:5672: connection refused; trying again",
                "in the session again",
            ],
        ),
        ([MemberJoined("bob", HELLO)], ["bob is there with bbbb::2"]),
        ([MemberJoined("bob", None)], ["bob is there"]),
        ([MemberLeft("bob", Departure.SAID_SO)], ["bob left: said so"]),
        ([MemberLeft("bob", Departure.DISCONNECTED)], []),
        ([PortDown("/dev/ttyUSB0", "unplugged")], ["/dev/ttyUSB0 is gone: unplugged"]),
        ([ControlReceived("control.session", b"{}")], []),
    ],
)
def test_sentences(events: list[Any], lines: list[str]) -> None:
    assert told(*events) == lines


def test_objects() -> None:
    bundle = BundleMessage("bob", memoryview(b"\xff" * 1000))
    control = ControlReceived("testingtool.component.ready", b'{"component": "bob"}')
    lines = [json.loads(line) for line in told(AWAY, MemberJoined("bob", HELLO), bundle, control, json_wanted=True)]
    assert [line["event"] for line in lines] == ["session_away", "member_joined", "control_received"]
    assert lines[1]["hello"]["addresses"][0] == {"address": "bbbb" + "00" * 13 + "02", "prefix_bits": 64}
    assert lines[2]["body"] == '{"component": "bob"}'


AGENT: dict[str, Any] = {
    "name": "alice",
    "pid": 7,
    "uptime_s": 61,
    "session": {"url": "amqp://anna@broker/s", "joined": True, "last_loss": "", "losses": 0},
    "member": {
        "identity": "aa",
        "routers": ["hub"],
        "members": [
            {
                "name": "bob", "role": "member", "claims": ["bbbb::2/128", "fe80::2/128", "cccc::/64"],
                "learned": ["10.2.0.2"], "formats": ["binary"], "trust": "first_use", "identity": "bb",
            }
        ],
        "counters": {"malformed": 3, "packets_in": 9},
    },
    "ports": [
        {
            "name": "tumpline0", "addresses": ["bbbb::1/64"], "packets_out": 1, "octets_out": 2048, "packets_in": 2,
            "octets_in": 5, "dropped": 4,
        }
    ],
}  # fmt: skip


def test_status() -> None:
    lines = status_lines([AGENT], Output(Common(), io.StringIO()))
    assert lines == [
        "alice  amqp://anna@broker/s  up for 1m01s  process 7",
        "  key aa  routers hub",
        "  tumpline0  bbbb::1/64  out 1 packets / 2.0 KiB  in 2 packets / 5 B",
        "  MEMBER  ROLE    ADDRESSES                     FORMATS  TRUST      KEY",
        "  bob     member  bbbb::2, cccc::/64, 10.2.0.2  binary   first use  bb",
        "  since start: malformed 3, port dropped 4",
    ]


def test_status_of_one_that_is_away_and_alone() -> None:
    session = {**AGENT["session"], "joined": False, "last_loss": "connection refused"}
    agent = {**AGENT, "session": session, "member": {**AGENT["member"], "members": [], "routers": []}, "ports": []}
    lines = status_lines([agent, AGENT], Output(Common(), io.StringIO()))
    assert lines[0].startswith("alice  amqp://anna@broker/s  down for")
    rest = [
        "  not in the session: connection refused",
        "  key aa",
        "  nobody else is there",
        "  since start: malformed 3",
        "",
    ]
    assert lines[1:6] == rest

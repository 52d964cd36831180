"""Verbs over control: what they ask, what they show, how they end."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

BUNDLE = {
    "seq": 7,
    "id": "dtn://ground/source 850000000000 1",
    "source": "dtn://ground/source",
    "destination": "dtn://rover/sink",
    "created_ms": 850_000_000_000,
    "sequence": 1,
    "lifetime_ms": 86_400_000,
    "expires_ms": 850_086_400_000,
    "received_ms": 850_000_000_000,
    "previous": "",
    "octets": 2048,
    "payload_octets": 2000,
    "fragment_offset": None,
    "total_adu_octets": None,
}
SUMMARY = {
    "event": "summary",
    "to": "dtn://rover/echo",
    "sent": 1,
    "received": 1,
    "duplicates": 0,
    "loss": 0.0,
    "min_ms": 1.5,
    "avg_ms": 1.5,
    "median_ms": 1.5,
    "max_ms": 1.5,
    "exit_code": 0,
}


# ---- see -------------------------------------------------------------------------------------------------------------


def test_status_for_people(agent: Any, tumpline: Any) -> None:
    said = tumpline("status")
    assert said.code == 0
    assert said.out.splitlines()[0] == "dtn://ground/ (ipn:12.0)  up 3h12m  store 41 bundles / 18.2 MiB of 1.0 GiB"
    assert "dtn://rover/  tcpcl4  192.0.2.7:4556  up     TLSv1.3   yes     3" in said.out
    assert "bundles_received 12" in said.out
    assert "\033" not in said.out


def test_status_for_programs_is_what_the_agent_told(agent: Any, tumpline: Any) -> None:
    said = tumpline("status", "--json")
    assert said.value == agent.answers["GET /v1/status"]
    assert len(said.out.splitlines()) == 1


@pytest.mark.parametrize("what", ["peers", "links", "routes", "contacts"])
def test_lists(what: str, agent: Any, tumpline: Any) -> None:
    agent.answers[f"GET /v1/{what}"] = {what: agent.answers["GET /v1/status"][what]}
    verb = [what] if what == "peers" else [what, "ls"]
    assert tumpline(*verb, "--json").value == agent.answers[f"GET /v1/{what}"]
    lines = tumpline(*verb).out.splitlines()
    assert len(lines) == 1 + len(agent.answers["GET /v1/status"][what])
    assert lines[0] == lines[0].upper()


# ---- steer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "path", "asked"),
    [
        (
            ["routes", "add", "dtn://rover/**", "dtn://relay/", "--save"],
            "/v1/routes",
            {"to": "dtn://rover/**", "via": "dtn://relay/", "priority": 10, "save": True},
        ),
        (
            ["contacts", "add", "dtn://rover/", "--duration", "10m", "--rate", "128 kbit/s"],
            "/v1/contacts",
            {"peer": "dtn://rover/", "start": "+0s", "duration": "10m", "rate": "128 kbit/s", "save": False},
        ),
        (
            ["links", "add", "tcpcl4", "--listen", "[::]:4556", "--connect", "a:1", "--connect", "b:2"],
            "/v1/links",
            {"kind": "tcpcl4", "listen": "[::]:4556", "connect": ["a:1", "b:2"], "save": False},
        ),
    ],
)
def test_add(typed: list[str], path: str, asked: dict[str, Any], agent: Any, tumpline: Any) -> None:
    agent.answers[f"POST {path}"] = {"ok": True}
    assert tumpline(*typed).code == 0
    assert (agent.asked[-1].path, agent.asked[-1].value) == (path, asked)
    assert tumpline(*typed, "--json").value == {"ok": True}


def test_a_link_with_a_ca_is_asked_to_prove_node_ids(agent: Any, tumpline: Any) -> None:
    agent.answers["POST /v1/links"] = {"name": "tcpcl4"}
    tumpline("links", "add", "tcpcl4", "--ca", "ca.pem", "--cert", "g.pem", "--key", "g.key")
    files = {"ca": "ca.pem", "cert": "g.pem", "key": "g.key"}
    paths = {name: str(Path.cwd() / file) for name, file in files.items()}
    assert agent.asked[-1].value["tls"] == {"mode": "required", "authenticate": "node", **paths}


@pytest.mark.parametrize(
    ("typed", "path", "query"),
    [
        (["routes", "rm", "ipn:7.*", "ipn:7.0"], "/v1/routes", {"to": "ipn:7.*", "via": "ipn:7.0", "save": "false"}),
        (["contacts", "rm", "ipn:7.0"], "/v1/contacts", {"peer": "ipn:7.0", "save": "false"}),
        (["links", "rm", "tcpcl4", "--save"], "/v1/links", {"name": "tcpcl4", "save": "true"}),
        (["bundles", "rm", "7"], "/v1/bundles/7", {}),
    ],
)
def test_remove(typed: list[str], path: str, query: dict[str, str], agent: Any, tumpline: Any) -> None:
    agent.answers[f"DELETE {path}"] = {"removed": True}
    assert tumpline(*typed).code == 0
    assert agent.asked[-1].query == query
    agent.answers[f"DELETE {path}"] = {"removed": False}
    said = tumpline(*typed)
    assert said.code == 1
    assert "ls`" in said.err


# ---- how commands end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1, 2, 3, 5])
def test_the_agents_error_is_ours(code: int, agent: Any, tumpline: Any) -> None:
    agent.answers["GET /v1/peers"] = {"error": "the reason", "exit_code": code}
    said = tumpline("peers")
    assert (said.code, said.out, said.err) == (code, "", "tumpline: the reason\n")
    assert tumpline("peers", "--json").value == {"error": "the reason", "exit_code": code}


def test_no_agent(tumpline: Any) -> None:
    said = tumpline("status")
    assert said.code == 4
    assert "tumpline up" in said.err
    assert tumpline("status", "--node", "/no/such/place.sock").code == 4
    assert tumpline("status", "--node", "nobody").code == 4


def test_a_socket_that_a_killed_agent_left_is_no_agent(agent: Any, tumpline: Any) -> None:
    agent.socket.with_name("dead.sock").touch()
    assert tumpline("status").code == 0


def test_several_agents(agent: Any, tumpline: Any) -> None:
    agent.socket.with_name("relay.sock").symlink_to(agent.socket)
    said = tumpline("status")
    assert said.code == 2
    assert "ground, relay" in said.err
    assert tumpline("status", "--node", "relay").code == 0


def test_an_unexpected_error_shows_its_place_only_when_asked(
    agent: Any, tumpline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answers["GET /v1/status"] = {"nothing": "that status has"}
    said = tumpline("status")
    assert said.code == 1
    assert said.err == "tumpline: unexpected KeyError: 'node_id' (-vv shows where)\n"
    assert "Traceback" in tumpline("status", "-vv").err


def test_ctrl_c(agent: Any, tumpline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tumpline.node.client.Client.get", interrupted)
    said = tumpline("status")
    assert (said.code, said.out, said.err) == (130, "", "")


# ---- probes ----------------------------------------------------------------------------------------------------------


def test_ping(agent: Any, tumpline: Any) -> None:
    reply = {
        "event": "reply",
        "number": 1,
        "rtt_ms": 1.5,
        "octets": 64,
        "source": "dtn://rover/echo",
        "duplicate": False,
    }
    agent.answers["POST /v1/ping"] = [{"event": "sent", "number": 1, "bundle": "x"}, reply, SUMMARY]
    said = tumpline("ping", "dtn://rover/", "--count", "1")
    assert said.code == 0
    assert agent.asked[-1].value["to"] == "dtn://rover/echo"
    assert "64 octets from dtn://rover/echo: number=1 time=1.5 ms" in said.out
    assert "1 sent, 1 received, 0% lost" in said.out
    assert tumpline("ping", "dtn://rover/", "--json").events[1] == reply
    tumpline("ping", "ipn:7.0")
    assert agent.asked[-1].value["to"] == "ipn:7.7"


def test_ping_without_answer(agent: Any, tumpline: Any) -> None:
    nothing = dict.fromkeys(("min_ms", "avg_ms", "median_ms", "max_ms"))
    agent.answers["POST /v1/ping"] = [SUMMARY | nothing | {"received": 0, "loss": 1.0, "exit_code": 3}]
    said = tumpline("ping", "dtn://rover/echo", "--timeout", "2s")
    assert said.code == 3
    assert agent.asked[0].value["timeout_s"] == 2
    assert "100% lost" in said.out
    assert said.err == "tumpline: no answer from dtn://rover/echo within 2 s\n"


# ---- the store -------------------------------------------------------------------------------------------------------


def test_bundles_ls_reads_every_page(agent: Any, tumpline: Any) -> None:
    agent.answers["GET /v1/bundles"] = {"bundles": [BUNDLE, BUNDLE | {"seq": 8}], "next_after": 8}
    said = tumpline("bundles", "ls", "--limit", "4", "--json")
    assert [event["seq"] for event in said.events] == [7, 8, 7, 8]
    assert [asked.query for asked in agent.asked] == [{"after": "0", "limit": "4"}, {"after": "8", "limit": "2"}]
    assert "dtn://rover/sink" in tumpline("bundles", "ls", "--limit", "2").out


def test_bundles_show(agent: Any, tumpline: Any) -> None:
    agent.answers["GET /v1/bundles/7"] = BUNDLE
    assert tumpline("bundles", "show", "7", "--json").value == BUNDLE
    assert "payload_octets    2000" in tumpline("bundles", "show", "7").out


def test_bundles_export_overwrites_nothing(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    agent.answers["GET /v1/bundles/7/octets"] = b"\x9f\xff"
    target = tmp_path / "bundle"
    assert tumpline("bundles", "export", "7", str(target), "--json").value == {"file": str(target), "octets": 2}
    assert target.read_bytes() == b"\x9f\xff"
    target.write_bytes(b"precious")
    said = tumpline("bundles", "export", "7", str(target))
    assert said.code == 1
    assert "--force" in said.err
    assert target.read_bytes() == b"precious"
    assert tumpline("bundles", "export", "7", str(target), "--force").code == 0
    assert target.read_bytes() == b"\x9f\xff"


def test_bundles_export_of_nothing_leaves_no_file(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    assert tumpline("bundles", "export", "9", str(tmp_path / "bundle")).code == 2
    assert list(tmp_path.iterdir()) == []


def test_bundles_import(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    agent.answers["POST /v1/bundles/import"] = {"bundle": "dtn://ground/source 1 1"}
    (tmp_path / "bundle").write_bytes(b"\x9f\x00\xff")
    assert tumpline("bundles", "import", str(tmp_path / "bundle")).code == 0
    assert agent.asked[-1].body == b"\x9f\x00\xff"
    assert tumpline("bundles", "import", str(tmp_path / "absent")).err.count("\n") == 1


# ---- endpoints -------------------------------------------------------------------------------------------------------


def _adu(seq: int) -> dict[str, Any]:
    return {"seq": seq, "source": "dtn://rover/x", "destination": "dtn://ground/in", "created_ms": 1, "lifetime_ms": 1}


def test_sink_shows_and_keeps(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    agent.adus = [(_adu(1), b"one"), (_adu(2), b"\xff\x00")]
    said = tumpline("sink", "in", "--count", "2", "--json")
    assert said.code == 0
    assert [event["octets"] for event in said.events] == [3, 2]
    assert agent.done == [1, 2]
    agent.adus = [(_adu(3), b"three")]
    tumpline("sink", "in", "--count", "1", "--directory", str(tmp_path))
    assert (tmp_path / "0000000003.adu").read_bytes() == b"three"


def test_sink_says_when_the_agent_could_not_keep_that_it_is_done(agent: Any, tumpline: Any) -> None:
    agent.adus = [(_adu(1), b"one")]
    agent.unkept = {"error": "ADU 1: not kept as done: disk full", "exit_code": 1, "not_done": [1]}
    said = tumpline("sink", "in", "--count", "1")
    assert said.code == 1
    assert "not kept as done: disk full" in said.err


def test_source_sends_what_it_is_given(agent: Any, tumpline: Any) -> None:
    agent.answers["POST /v1/adus"] = {"bundle": "dtn://ground/ 1 1"}
    said = tumpline("source", "dtn://rover/in", "hello", "--lifetime", "1h", "--json")
    assert said.value == {"bundle": "dtn://ground/ 1 1", "octets": 5}
    assert agent.asked[-1].body == b"hello"
    assert agent.asked[-1].query == {"to": "dtn://rover/in", "lifetime_s": "3600.0"}


def test_status_can_be_read_as_json_by_others(agent: Any, tumpline: Any) -> None:
    assert json.loads(tumpline("--json", "status").out)["store"]["quota_octets"] == 1 << 30


# ---- files -----------------------------------------------------------------------------------------------------------

STORED = {"event": "stored", "transfer": "00", "name": "a.txt", "octets": 3, "chunks": 1, "resumed": 0}


def _finished(code: int) -> list[dict[str, Any]]:
    hashing = {"event": "progress", "phase": "hash", "octets": 3, "total": 3}
    end = [{"event": "delivered", "name": "a.txt"}] if code == 0 else []
    return [hashing, STORED, *end, {"event": "finished", "exit_code": code, "reason": None}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    return path


@pytest.mark.parametrize("code", [0, 5, 6])
def test_send_ends_as_the_transfer_does(code: int, agent: Any, tumpline: Any, file: Path) -> None:
    agent.answers["POST /v1/send"] = _finished(code)
    said = tumpline("send", str(file), "dtn://rover/", "--timeout", "5s", "--json")
    assert said.code == code
    assert said.events == _finished(code)
    asked = agent.asked[0].value
    assert asked == {"path": str(file), "to": "dtn://rover/", "lifetime_s": 604_800.0, "wait_s": 5.0}


def test_send_without_waiting_is_content_with_stored(agent: Any, tumpline: Any, file: Path) -> None:
    agent.answers["POST /v1/send"] = _finished(6)
    said = tumpline("send", str(file), "dtn://rover/", "--no-wait", "--name", "b.txt")
    assert said.code == 0
    assert agent.asked[-1].value["wait_s"] == 0
    assert agent.asked[-1].value["name"] == "b.txt"
    assert "3 B stored in 1 bundles" in said.err


def test_send_of_nothing_is_a_usage_error(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    assert tumpline("send", str(tmp_path / "absent"), "dtn://rover/").code == 2
    assert agent.asked == []


def test_pipe_sends_standard_input(agent: Any, tumpline: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stream").write_bytes(b"stream of octets")
    with (tmp_path / "stream").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        agent.answers["POST /v1/pipe"] = _finished(0)
        assert tumpline("pipe", "dtn://rover/", "--name", "log").code == 0
    assert agent.asked[-1].body == b"stream of octets"
    assert agent.asked[-1].query["name"] == "log"


def _with_inbox(agent: Any, inbox: Path) -> None:
    inbox.mkdir()
    agent.answers["GET /v1/status"] = agent.answers["GET /v1/status"] | {
        "services": {"files": {"directory": str(inbox)}}
    }


def test_recv_tells_of_files(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    _with_inbox(agent, tmp_path / "inbox")
    fields = {"service": "files", "source": "dtn://ground/send", "file": "a.txt", "octets": 3}
    agent.events = [{"event": "file_received", "fields": fields}]
    said = tumpline("recv", "--count", "1", "--json")
    assert said.code == 0
    assert said.events == [{"event": "file_received", "path": str(tmp_path / "inbox" / "a.txt")} | fields]


def test_recv_moves_and_overwrites_nothing(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    _with_inbox(agent, tmp_path / "inbox")
    (tmp_path / "inbox" / "a.txt").write_text("new")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.txt").write_text("old")
    said = tumpline("recv", str(tmp_path / "here"), "--count", "1", "--json")
    assert said.events[0]["path"] == str(tmp_path / "here" / "a (1).txt")
    assert (tmp_path / "here" / "a.txt").read_text() == "old"
    assert (tmp_path / "here" / "a (1).txt").read_text() == "new"


def test_recv_in_vain(agent: Any, tumpline: Any, tmp_path: Path) -> None:
    _with_inbox(agent, tmp_path / "inbox")
    assert tumpline("recv", "--timeout", "100ms").code == 3


def test_recv_without_the_service(agent: Any, tumpline: Any) -> None:
    said = tumpline("recv")
    assert said.code == 2
    assert "[services.files]" in said.err


def test_source_of_many(agent: Any, tumpline: Any) -> None:
    summary = {"event": "summary", "to": "dtn://rover/sink", "stored": 5, "octets": 500, "bundles_per_s": 9.0}
    agent.answers["POST /v1/source"] = [summary]
    assert "5 ADUs, 500 B, are stored" in tumpline("source", "dtn://rover/sink", "--count", "5").out
    assert agent.asked[-1].value["count"] == 5


def test_trace(agent: Any, tumpline: Any) -> None:
    events: list[dict[str, Any]] = [
        {"event": "sent", "bundle": "x"},
        {"event": "reported", "node": "dtn://relay/", "did": ["received"], "time_ms": 1, "after_ms": 4.2, "reason": 0},
        {"event": "delivered", "by": "dtn://rover/echo", "after_ms": 9.0},
        {"event": "summary", "to": "dtn://rover/echo", "reports": 1, "delivered": True, "exit_code": 0},
    ]
    agent.answers["POST /v1/trace"] = events
    said = tumpline("trace", "dtn://rover/")
    assert said.code == 0
    assert agent.asked[-1].value == {"to": "dtn://rover/echo", "timeout_s": 10.0}
    assert "dtn://relay/  received" in said.out
    assert tumpline("trace", "dtn://rover/", "--json").events == events
    agent.answers["POST /v1/trace"] = [events[0], events[3] | {"delivered": False, "exit_code": 3}]
    assert tumpline("trace", "dtn://rover/").code == 3

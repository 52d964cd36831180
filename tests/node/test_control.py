"""Control: the client against the server, over real sockets, with an agent in memory."""

import asyncio
import io
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

import tumpline
from tumpline.errors import (
    ConfigError,
    MalformedError,
    NoAnswerError,
    NotReachableError,
    RefusedError,
    StateError,
    StorageError,
)
from tumpline.machines.contract import FileRange
from tumpline.machines.effects import Notice
from tumpline.node import client
from tumpline.node.client import Client, ControlError
from tumpline.node.control import sockets, stream
from tumpline.node.control.operations import OPERATIONS
from tumpline.node.control.server import ControlServer, TcpControl
from tumpline.node.services import _patience, echo, endpoints, files, ping, send, sink, source, trace
from tumpline.testing.control import MemoryAgent
from tumpline.testing.services import MemoryFile, MemoryNode, read_payload
from tumpline.wire.bundle7 import Bundle, PrimaryBlock, encode_bundle
from tumpline.wire.eid import Eid

TOKEN = "a-token-of-some-length"


class Running(NamedTuple):
    agent: MemoryAgent
    server: ControlServer
    path: Path
    client: Client


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    node = MemoryNode("dtn://ground/", tmp_path / "ground")
    await node.add(echo.SPEC, echo.Echo())
    await node.add(ping.SPEC, ping.Ping())
    await node.add(trace.SPEC, trace.Trace())
    await node.add(send.SPEC, send.Send())
    await node.add(source.SPEC, source.Source())
    await node.add(sink.SPEC, sink.Sink(sink.SinkConfig(verify=True)))
    await node.add(endpoints.SPEC, endpoints.Endpoints())
    await node.add(files.SPEC, files.Files(files.FilesConfig(directory=str(tmp_path / "inbox"))))
    agent = MemoryAgent(node)
    path = tmp_path / "control" / "ground.sock"
    server = ControlServer(agent, [path], TcpControl("127.0.0.1", 0, TOKEN))
    await server.start()
    async with tumpline.connect(path) as connected:
        yield Running(agent, server, path, connected)
    await server.stop()
    await node.stop()


def url(server: ControlServer) -> str:
    assert server.tcp_address is not None
    return f"http://127.0.0.1:{server.tcp_address[1]}"


def encoded(payload: bytes = b"hello", sequence: int = 0) -> bytes:
    primary = PrimaryBlock(
        0,
        2,
        Eid.parse("dtn://rover/x"),
        Eid.parse("dtn://ground/y"),
        Eid.parse("dtn:none"),
        800_000_000_000,
        sequence,
        60_000,
    )
    return encode_bundle(Bundle(primary, (), payload))


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


# ---- steering --------------------------------------------------------------------------------------------------------


async def test_status(running: Running) -> None:
    assert (await running.client.status())["node_id"] == "dtn://ground/"
    for what in ("peers", "links", "routes", "contacts"):
        assert await running.client.get(f"/v1/{what}") == {what: []}


async def test_every_steering_request_reaches_the_agent_as_it_was_meant(running: Running) -> None:
    talk = running.client
    assert await talk.post("/v1/routes", {"to": "dtn://rover/**", "via": "dtn://relay/"}) == {"ok": True}
    assert await talk.delete("/v1/routes", {"to": "dtn://rover/**", "via": "dtn://relay/", "save": True}) == {
        "removed": True
    }
    await talk.post("/v1/contacts", {"peer": "dtn://rover/", "start": "+30s", "duration": "5m", "rate": "1 Mbit/s"})
    assert await talk.delete("/v1/contacts", {"peer": "dtn://rover/"}) == {"removed": False}
    assert await talk.post("/v1/links", {"kind": "tcpcl4", "listen": "[::]:4556", "save": True}) == {"name": "tcpcl4"}
    await talk.delete("/v1/links", {"name": "tcpcl4", "save": False})
    assert running.agent.asked == [
        ("add_route", "dtn://rover/**", "dtn://relay/", 10, False),
        ("remove_route", "dtn://rover/**", "dtn://relay/", True),
        ("add_contact", "dtn://rover/", "+30s", "5m", "1 Mbit/s", None, False),
        ("remove_contact", "dtn://rover/", None, False),
        ("add_link", {"kind": "tcpcl4", "listen": "[::]:4556"}, True),
        ("remove_link", "tcpcl4", False),
    ]


@pytest.mark.parametrize("graceful", [True, False])
async def test_down_is_answered_before_the_agent_ends(running: Running, graceful: bool) -> None:
    assert await running.client.post("/v1/down", {"graceful": graceful}) == {"ok": True}
    assert await running.agent.stopped is graceful
    ending = asyncio.get_running_loop().create_task(running.client.gone())
    await running.server.stop()
    await ending
    assert not running.path.exists()


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (MalformedError("that is no pattern"), 400, ConfigError),
        (ConfigError("no such link"), 400, ConfigError),
        (RefusedError("the quota is used up"), 403, RefusedError),
        (NoAnswerError("nobody there"), 504, NoAnswerError),
        (NotReachableError("away"), 502, NotReachableError),
        (StorageError("disk full"), 507, ControlError),
        (StateError("held"), 500, ConfigError),
    ],
)
async def test_errors_come_back_as_what_they_were(
    running: Running, error: Exception, status: int, kind: type[Exception]
) -> None:
    request = {"to": "x", "via": "y"}
    running.agent.wrong = error
    with pytest.raises(kind, match=str(error)):
        await running.client.post("/v1/routes", request)
    running.agent.wrong = error
    async with unix_session(running.path) as session, session.post("http://x/v1/routes", json=request) as response:
        assert response.status == status
        assert (await response.json())["error"] == str(error)


async def test_a_mistake_of_the_agent_is_told_and_logged(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.agent.wrong = ZeroDivisionError("oh")
    with pytest.raises(ControlError, match="the agent made a mistake: ZeroDivisionError"):
        await running.client.post("/v1/routes", {"to": "x", "via": "y"})
    assert "control POST /v1/routes failed" in caplog.text
    assert running.agent.asked == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("/v1/routes", {}, "to"),
        ("/v1/routes", {"to": "a", "via": "b", "viaa": "c"}, "viaa"),
        ("/v1/routes", {"to": "a", "via": "b", "priority": "high"}, "priority"),
        ("/v1/ping", {"to": "dtn://x/echo", "size": 3}, "size"),
        ("/v1/links", {"kind": "tcpcl4", "save": "perhaps"}, "save"),
        ("/v1/nowhere", {}, "/openapi.json"),
        ("/v1/status", {}, "does not know POST"),
    ],
)
async def test_wrong_requests_say_what_is_wrong(running: Running, path: str, value: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        await running.client.post(path, value)


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff", b"nonsense"])
async def test_a_body_that_is_no_object(running: Running, body: bytes) -> None:
    async with unix_session(running.path) as session, session.post("http://x/v1/routes", data=body) as response:
        assert response.status == 400
        assert (await response.json())["exit_code"] == 2


async def test_a_body_that_is_too_large_is_not_read(running: Running) -> None:
    body = io.BytesIO(b'{"to": "' + bytes(2 << 20) + b'"}')
    async with unix_session(running.path) as session, session.post("http://x/v1/routes", data=body) as response:
        assert response.status == 413


# ---- the store -------------------------------------------------------------------------------------------------------


async def test_bundles_page_by_page(running: Running) -> None:
    for sequence in range(5):
        running.agent.hold(encoded(sequence=sequence))
    first = await running.client.get("/v1/bundles", {"limit": 3})
    assert [bundle["sequence"] for bundle in first["bundles"]] == [0, 1, 2]
    second = await running.client.get("/v1/bundles", {"limit": 3, "after": first["next_after"]})
    assert [bundle["sequence"] for bundle in second["bundles"]] == [3, 4]
    assert second["next_after"] is None
    shown = first["bundles"][0]
    assert (shown["source"], shown["destination"], shown["payload_octets"]) == ("dtn://ground/y", "dtn://rover/x", 5)
    assert shown["octets"] == len(encoded())
    with pytest.raises(ConfigError, match="limit"):
        await running.client.get("/v1/bundles", {"limit": 0})


@pytest.mark.parametrize("in_file", [False, True])
async def test_a_bundle_goes_out_octet_by_octet(running: Running, in_file: bool) -> None:
    octets = encoded(os.urandom(3_000_000 if in_file else 50))
    bundle = running.agent.hold(octets, in_file)
    listed = (await running.client.get("/v1/bundles"))["bundles"][0]
    for name in ("1", client.quote(listed["id"])):
        assert b"".join([piece async for piece in running.client.octets(f"/v1/bundles/{name}/octets")]) == octets
        assert await running.client.get(f"/v1/bundles/{name}") == listed
    if isinstance(bundle.payload, FileRange):
        assert isinstance(bundle.payload.handle, MemoryFile)
        assert bundle.payload.handle.readers == 1, "what control held is released"


async def test_removing_a_bundle(running: Running) -> None:
    running.agent.hold(encoded())
    assert await running.client.delete("/v1/bundles/1") == {"removed": True}
    assert await running.client.delete("/v1/bundles/1") == {"removed": False}
    with pytest.raises(ControlError, match="no bundle 1 is held"):
        await running.client.get("/v1/bundles/1")


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_import(running: Running, size: int) -> None:
    octets = encoded(os.urandom(size))
    answer = await running.client.upload("/v1/bundles/import", octets)
    assert answer["bundle"].startswith("dtn://ground/y@")
    assert len(running.agent.sinks) == (size > 100_000)
    assert [bundle.length for bundle in running.agent.bundles] == [len(octets)]


async def test_import_needs_a_length_and_a_bundle(running: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(ConfigError, match="Content-Length"):
        await running.client.upload("/v1/bundles/import", pieces())
    with pytest.raises(ConfigError):
        await running.client.upload("/v1/bundles/import", b"no bundle")
    running.agent.node.refuse = "the quota is used up"
    with pytest.raises(RefusedError, match="quota"):
        await running.client.upload("/v1/bundles/import", bytes(200_000))


async def test_an_import_that_breaks_off_is_given_back(running: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(running.path)
    writer.write(b"POST /v1/bundles/import HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + bytes(1000))
    await writer.drain()
    await until(lambda: running.agent.sinks)
    writer.close()
    await writer.wait_closed()
    await until(lambda: running.agent.sinks[0].aborted)
    assert reader is not None


# ---- ADUs, endpoints, events -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 500_000])
async def test_an_adu_is_sent_as_asked(running: Running, size: int) -> None:
    payload = os.urandom(size)
    bundle = await running.client.send_adu("dtn://rover/app", payload, source="me", lifetime_s=60)
    adu = running.agent.node.sent[-1]
    assert bundle.startswith("dtn://ground/me@")
    assert (adu.destination, adu.source_demux, adu.lifetime_ms) == (Eid.parse("dtn://rover/app"), "me", 60_000)
    assert read_payload(adu.payload, 0, size + 1) == payload
    assert isinstance(adu.payload, FileRange) == (size > 100_000)


async def test_a_refused_adu_leaves_nothing(running: Running) -> None:
    running.agent.node.refuse = "the quota is used up"
    with pytest.raises(RefusedError, match="quota"):
        await running.client.send_adu("dtn://rover/app", bytes(500_000))
    with pytest.raises(ConfigError, match="lifetime_s"):
        await running.client.send_adu("dtn://rover/app", b"", lifetime_s=0)
    with pytest.raises(ConfigError, match="endpoint"):
        await running.client.send_adu("rover", b"")


async def test_an_adu_waits_for_room(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "LOOK_S", 0.01)
    node = running.agent.node
    node.full = "the quota is used up"
    with pytest.raises(NoAnswerError, match=r"no room came within 0.02 s: the quota is used up"):
        await running.client.send_adu("dtn://rover/app", bytes(500_000), wait_s=0.02)
    with pytest.raises(NoAnswerError, match="did not answer"):
        async with tumpline.connect(running.path, timeout_s=0.05) as impatient:
            await impatient.send_adu("dtn://rover/app", b"of a client that went away")
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(running.client.send_adu("dtn://rover/app", b"patient"), name="patient")
        await until(lambda: node.asked_for_room > 20)
        node.empty()
    assert sent.result().startswith("dtn://ground/")
    assert [read_payload(adu.payload, 0, 99) for adu in node.sent] == [b"patient"]


async def test_an_endpoint_keeps_an_adu_stored_until_its_client_is_done(running: Running) -> None:
    node = running.agent.node
    async with running.client.endpoint("app") as mine:
        assert mine.eid == "dtn://ground/app"
        await running.client.send_adu("dtn://ground/app", b"one", source="me")
        await running.client.send_adu("dtn://ground/app", b"two")
        first, second = await anext(mine), await anext(mine)
        assert (first.payload, first.source, second.payload) == (b"one", "dtn://ground/me", b"two")
        assert len(node.waiting) == 2
        await mine.done(first.seq)
        await mine.done(first.seq)
        await until(lambda: len(node.waiting) == 1)
        with pytest.raises(RefusedError, match="another client"):
            async with running.client.endpoint("app"):
                pass
    await until(lambda: "app" not in node.owners)
    node.contexts["endpoints"].retry()
    async with running.client.endpoint("app") as again:
        assert (await anext(again)).payload == b"two"


async def test_what_is_done_is_confirmed_once_it_is_kept(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "CONFIRM_S", 0.0)
    node = running.agent.node
    async with running.client.endpoint("app") as mine:
        for payload in (b"one", b"two", b"three"):
            await running.client.send_adu("dtn://ground/app", payload)
        first = await anext(mine)
        node.confirms = False
        await mine.done(first.seq, confirm=False)
        running.agent.failure = "disk full: free some"
        with pytest.raises(
            ControlError, match=rf"ADU {first.seq}: not kept as done: disk full: free some; .* again"
        ) as problem:
            await mine.confirmed()
        assert problem.value.exit_code == 1
        service = running.agent.service("endpoints")
        assert isinstance(service, endpoints.Endpoints)
        service.committed([first.seq])
        await mine.confirmed()
        node.confirms = True
        assert (await anext(mine)).payload == b"two", "what came meanwhile was kept"
        third = await anext(mine)
        await mine.done(second := third.seq - 1, third.seq)
        await mine.done(second)


async def test_nothing_is_confirmed_that_was_never_handed_over(running: Running) -> None:
    async with running.client.endpoint("app") as mine:
        with pytest.raises(ConfigError, match="done 7: no ADU of that number came"):
            await mine.done(7)


async def test_an_agent_that_ends_confirms_nothing(running: Running) -> None:
    async with running.client.endpoint("app") as mine:
        await running.client.send_adu("dtn://ground/app", b"one")
        adu = await anext(mine)
        running.agent.node.confirms = False
        await mine.done(adu.seq, confirm=False)
        await until(lambda: not running.agent.node.waiting)
        async with asyncio.TaskGroup() as group:
            group.create_task(running.server.stop(), name="stop")
            with pytest.raises(NotReachableError, match="may come again"):
                await mine.confirmed()


async def test_an_endpoint_of_a_service_is_taken(running: Running) -> None:
    with pytest.raises(RefusedError, match="belongs to the service echo"):
        async with running.client.endpoint("echo"):
            pass


@pytest.mark.parametrize("answer", ["{}", "nonsense", '{"done": "x"}'])
async def test_an_answer_that_makes_no_sense_ends_the_endpoint(running: Running, answer: str) -> None:
    async with running.client._websocket("/v1/endpoints/app", None) as mine:
        await mine.receive()
        await mine.send_str(answer)
        problem = await mine.receive()
        assert json.loads(problem.data)["exit_code"] == 2
        assert (await mine.receive()).type is aiohttp.WSMsgType.CLOSE
    await until(lambda: "app" not in running.agent.node.owners)


async def test_an_endpoint_with_slashes(running: Running) -> None:
    async with running.client.endpoint("a/b") as mine:
        assert mine.eid == "dtn://ground/a/b"


async def test_events_come_in_order_and_only_those_asked_for(running: Running) -> None:
    async with running.client.events() as everything, running.client.events("path_up", "path_down") as paths:
        await until(lambda: len(running.agent.callbacks) == 2)
        running.agent.tell("path_up", peer=Eid.parse("dtn://rover/"))
        running.agent.tell("bundle_stored", seq=1)
        running.agent.tell("path_down", reason="over")
        assert [(await anext(everything))["event"] for _ in range(3)] == ["path_up", "bundle_stored", "path_down"]
        assert await anext(paths) == {"event": "path_up", "fields": {"peer": "dtn://rover/"}}
        assert (await anext(paths))["event"] == "path_down"
    await until(lambda: not running.agent.callbacks)


async def test_a_slow_client_is_told_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING", 3)
    mailbox = stream.Mailbox()
    for number in range(5):
        mailbox.put(Notice("n", {"number": number}))
    taken = await mailbox.take()
    assert [(event.event, event.fields) for event in taken] == [
        ("events_dropped", {"count": 2}),
        *(("n", {"number": number}) for number in (2, 3, 4)),
    ]


async def test_the_event_stream_ends_with_the_agent(running: Running) -> None:
    async with running.client.events() as events:
        await until(lambda: running.agent.callbacks)
        await running.server.stop()
        assert [event async for event in events] == []


# ---- long operations -------------------------------------------------------------------------------------------------


async def test_ping_over_control(running: Running) -> None:
    request = {"to": "dtn://ground/echo", "count": 3, "interval_s": 0}
    events = [event async for event in running.client.stream("/v1/ping", request)]
    assert [event["event"] for event in events].count("reply") == 3
    assert events[-1]["event"] == "summary"
    assert events[-1]["exit_code"] == 0


async def test_a_stream_whose_reader_goes_away_is_ended(running: Running) -> None:
    stream = running.client.stream("/v1/ping", {"to": "dtn://ground/echo", "interval_s": 0.001})
    assert (await anext(stream))["event"] == "sent"
    await stream.aclose()
    pinger = running.agent.node.contexts["ping"].service
    await until(lambda: pinger.describe() == {"running": []})


async def test_an_error_in_the_middle_of_a_stream_is_raised(running: Running) -> None:
    events = running.client.stream("/v1/ping", {"to": "dtn://ground/echo", "interval_s": 0})
    await anext(events)
    running.agent.node.refuse = "the store is full"
    with pytest.raises(RefusedError, match="full"):
        [event async for event in events]


async def test_source_and_sink(running: Running) -> None:
    request = {"to": "dtn://ground/sink", "count": 700, "size": 40}
    events = [event async for event in running.client.stream("/v1/source", request)]
    assert (events[-1]["stored"], events[-1]["octets"]) == (700, 28_000)
    await until(lambda: not running.agent.node.waiting)
    report = await running.client.get("/v1/sink", {"reset": True})
    assert (report["bundles"], report["octets"], report["verified"]) == (700, 28_000, 700)
    assert (report["missing"], report["duplicates"], report["damaged"], report["misordered"]) == (0, 0, 0, 0)
    assert (await running.client.get("/v1/sink"))["bundles"] == 0


async def test_a_service_that_is_not_there_is_named(running: Running) -> None:
    del running.agent.node.contexts["sink"]
    with pytest.raises(ControlError, match=r"\[services.sink\]"):
        await running.client.get("/v1/sink")


async def test_send_and_pipe_over_control(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    request = {"path": str(tmp_path / "a.txt"), "to": "dtn://ground/", "wait_s": 20}
    events = [event async for event in running.client.stream("/v1/send", request)]
    assert events[-1] == {"event": "finished", "exit_code": 0, "reason": None}

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"0123456789" * 1000

    query = {"to": "dtn://ground/", "name": "b.bin", "wait_s": 20, "chunk_octets": 300_000}
    events = [event async for event in running.client.upload_stream("/v1/pipe", pieces(), query)]
    assert events[-1]["exit_code"] == 0
    assert (tmp_path / "inbox" / "a.txt").read_bytes() == b"hello"
    assert (tmp_path / "inbox" / "b.bin").read_bytes() == b"0123456789" * 100_000


async def test_trace_over_control(running: Running) -> None:
    events = [event async for event in running.client.stream("/v1/trace", {"to": "dtn://ground/echo"})]
    assert [event["event"] for event in events] == ["sent", "delivered", "summary"]


# ---- who may -------------------------------------------------------------------------------------------------------


def unix_session(path: Path) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)))


async def test_the_socket_is_for_its_user_alone(running: Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.path.parent.stat().st_mode) == 0o700


async def test_pages_of_a_browser_are_not_answered(running: Running) -> None:
    headers = {"Origin": "http://evil.example"}
    async with unix_session(running.path) as session, session.get("http://x/v1/status", headers=headers) as response:
        assert response.status == 403


async def test_over_tcp_the_token_opens(running: Running) -> None:
    async with tumpline.connect(url(running.server), token=TOKEN) as remote:
        assert (await remote.status())["node_id"] == "dtn://ground/"
        async with remote.events() as events:
            await until(lambda: running.agent.callbacks)
            running.agent.tell("x")
            assert (await anext(events))["event"] == "x"


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "ü" * 20])
async def test_over_tcp_nothing_without_the_token(running: Running, token: str | None) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        for row in OPERATIONS:
            async with session.request(row.method, url(running.server) + "/v1/status") as response:
                assert response.status in (403, 404, 405)
                assert b"dtn://ground" not in await response.read()
            async with session.request(row.method, url(running.server) + row.path) as response:
                assert response.status == 403, row.path
    assert running.agent.asked == []


async def test_over_tcp_the_agent_opens_no_file(running: Running, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    async with tumpline.connect(url(running.server), token=TOKEN) as remote:
        with pytest.raises(RefusedError, match="UNIX socket"):
            async for _ in remote.stream("/v1/send", {"path": str(tmp_path / "secret"), "to": "dtn://rover/"}):
                pass


async def test_a_short_token_is_refused_at_the_start(running: Running) -> None:
    with pytest.raises(ConfigError, match="16 characters"):
        ControlServer(running.agent, [], TcpControl("127.0.0.1", 0, "short"))


# ---- sockets ---------------------------------------------------------------------------------------------------------


async def test_a_socket_in_use_is_left_alone(running: Running) -> None:
    with pytest.raises(StateError, match="another agent answers"):
        await ControlServer(running.agent, [running.path]).start()
    assert (await running.client.status())["node_id"] == "dtn://ground/"


async def test_a_socket_that_a_killed_agent_left_is_replaced(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "left" / "x.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = ControlServer(running.agent, [path])
    await server.start()
    async with tumpline.connect(path) as connected:
        assert await connected.status()
    await server.stop()


async def test_a_file_in_the_way_is_not_removed(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("mine")
    with pytest.raises(StateError, match="no socket"):
        await ControlServer(running.agent, [path]).start()
    assert path.read_text() == "mine"


async def test_a_start_that_fails_leaves_nothing(running: Running, tmp_path: Path) -> None:
    good = tmp_path / "good.sock"
    with pytest.raises(StateError):
        await ControlServer(running.agent, [good, running.path]).start()
    assert not good.exists()


async def test_paths_longer_than_the_kernel_takes(running: Running, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / ("y" * 100) / "control.sock"
    server = ControlServer(running.agent, [path])
    await server.start()
    async with tumpline.connect(path.parent) as connected:
        assert (await connected.status())["node_id"] == "dtn://ground/"
    await server.stop()
    assert not path.exists()


@pytest.mark.parametrize("name", ["nothing.sock", "no/such/dir.sock", "y" * 120 + "/" + "z" * 120 + ".sock"])
async def test_no_agent(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotReachableError, match="start it with `tumpline up`") as caught:
        async with tumpline.connect(tmp_path / name) as connected:
            await connected.status()
    assert caught.value.exit_code == 4


async def test_agents_are_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("TUMPLINE_NODE", raising=False)
    directory = sockets.runtime_dir()
    assert directory == tmp_path / "tumpline"
    assert client.find("ground") == str(directory / "ground.sock")
    directory.mkdir()
    (directory / "only.sock").touch()
    assert client.find() == str(directory / "only.sock")
    (directory / "other.sock").touch()
    with pytest.raises(ConfigError, match="only, other"):
        client.find()
    monkeypatch.setenv("TUMPLINE_NODE", "other")
    assert client.find() == str(directory / "other.sock")
    assert client.find("./x") == "./x"
    assert client.find(tmp_path) == str(tmp_path / "control.sock")


async def test_without_asyncio(running: Running) -> None:
    def work() -> tuple[Any, ...]:
        with tumpline.connect_sync(running.path) as agent:
            bundle = agent.send_adu("dtn://rover/x", b"hello")
            events = list(agent.stream("/v1/ping", {"to": "dtn://ground/echo", "count": 1}))
            return agent.get("/v1/status")["node_id"], bundle[:14], events[-1]["received"]

    assert await asyncio.to_thread(work) == ("dtn://ground/", "dtn://ground/@", 1)


# ---- OpenAPI ---------------------------------------------------------------------------------------------------------


async def test_openapi_describes_every_operation(running: Running) -> None:
    document = await running.client.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(row.method, row.path.replace(":.+", "")) for row in OPERATIONS}
    names = [row["operationId"] for methods in document["paths"].values() for row in methods.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)
    for reference in references(document):
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


async def test_openapi_tells_where_parameters_go(running: Running) -> None:
    paths = (await running.client.get("/openapi.json"))["paths"]
    octets = paths["/v1/bundles/{id}/octets"]["get"]
    assert [(one["name"], one["in"], one["required"]) for one in octets["parameters"]] == [("id", "path", True)]
    adu = paths["/v1/adus"]["post"]
    assert {one["name"]: one["required"] for one in adu["parameters"]}["to"] is True
    assert "application/octet-stream" in adu["requestBody"]["content"]
    assert "application/x-ndjson" in paths["/v1/ping"]["post"]["responses"]["200"]["content"]
    assert paths["/v1/routes"]["post"]["parameters"] == []


async def test_openapi_tells_what_a_websocket_carries(running: Running) -> None:
    endpoint = (await running.client.get("/openapi.json"))["paths"]["/v1/endpoints/{demux}"]["get"]
    assert 'The client says {"done": seq}' in endpoint["description"]
    frames = {
        side: {each["$ref"].rpartition("/")[2] for each in schema["anyOf"]}
        for side, schema in endpoint["x-frames"].items()
    }
    assert frames == {"hears": {"EndpointOpen", "AduHead", "Done", "NotDone"}, "says": {"Done"}}

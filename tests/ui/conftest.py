"""A small control server in a thread, so that the command line talks to a real socket."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import WSMsgType, web

from tumpline.ui.cli.app import run


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class FakeAgent:
    """Answers what the test wrote down; remembers what it was asked. A list answers as NDJSON, bytes as octets."""

    def __init__(self, path: Path) -> None:
        self.socket = path
        self.answers: dict[str, Any] = {}  # "GET /v1/status" -> value
        self.asked: list[Asked] = []
        self.adus: list[tuple[dict[str, Any], bytes]] = []  # for whoever opens an endpoint
        self.done: list[int] = []
        self.unkept: dict[str, Any] | None = None  # said instead of confirming what is done
        self.events: list[dict[str, Any]] = []  # for whoever listens
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._begin())
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _begin(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/endpoints/{demux}", self._endpoint)
        app.router.add_get("/v1/events", self._events)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        await web.UnixSite(runner, str(self.socket)).start()
        return runner

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.method, request.path, dict(request.query), await request.read()))
        answer = self.answers.get(f"{request.method} {request.path}")
        if isinstance(answer, list):
            return web.Response(text="".join(json.dumps(event) + "\n" for event in answer))
        if isinstance(answer, bytes):
            return web.Response(body=answer)
        if answer is None:
            answer = {"error": f"there is no {request.path} here", "exit_code": 2}
        return web.json_response(answer, status=400 if "exit_code" in answer and "error" in answer else 200)

    async def _endpoint(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(json.dumps({"endpoint": f"dtn://ground/{request.match_info['demux']}"}))
        for head, payload in self.adus:
            await socket.send_str(json.dumps(head))
            await socket.send_bytes(payload)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                done = json.loads(message.data)["done"]
                self.done += done
                await socket.send_str(json.dumps(self.unkept or {"done": done}))
        return socket

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for event in self.events:
            await socket.send_str(json.dumps(event))
        async for _ in socket:
            pass
        return socket


STATUS = {
    "name": "ground",
    "node_id": "dtn://ground/",
    "aliases": ["ipn:12.0"],
    "version": "0.1.0",
    "pid": 1,
    "uptime_s": 11520.0,
    "config": None,
    "state_dir": "/state",
    "control": [],
    "store": {"kind": "sqlite", "bundles": 41, "octets": 19_083_264, "quota_octets": 1 << 30},
    "counters": {"bundles_received": 12, "bundles_forwarded": 0},
    "peers": [
        {
            "id": "dtn://rover/",
            "link": "tcpcl4",
            "address": "192.0.2.7:4556",
            "state": "up",
            "security": "TLSv1.3",
            "authenticated": True,
            "queue": 3,
        }
    ],
    "links": [{"name": "tcpcl4", "kind": "tcpcl4", "listening": ["[::]:4556"], "tls": "required", "sessions": [{}]}],
    "routes": [{"to": "dtn://rover/**", "via": "dtn://relay/", "priority": 10, "name": ""}],
    "contacts": [],
    "services": {},
}


@pytest.fixture(autouse=True)
def own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test finds the agents or configurations of the person who runs it."""
    base = tmp_path_factory.mktemp("xdg")
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        (base / name).mkdir()
        monkeypatch.setenv(name, str(base / name))
    for option in ("NODE", "JSON", "TIMEOUT", "COUNT", "CONFIG"):
        monkeypatch.delenv(f"TUMPLINE_{option}", raising=False)
    return base


@pytest.fixture
def agent(own_directories: Path) -> Iterator[FakeAgent]:
    directory = own_directories / "XDG_RUNTIME_DIR" / "tumpline"
    directory.mkdir()
    fake = FakeAgent(directory / "ground.sock")
    fake.answers["GET /v1/status"] = STATUS
    fake.answers["GET /v1/links"] = {"links": STATUS["links"]}
    fake.start()
    yield fake
    fake.stop()


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        return json.loads(self.out)

    @property
    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def tumpline(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run one command in this process."""

    def call(*arguments: str) -> Said:
        code = run(arguments)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call

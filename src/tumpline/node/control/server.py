"""Serves control: HTTP/JSON and WebSocket over UNIX sockets, and over TCP to those who have the token."""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from tumpline.drivers.dial import parse_address
from tumpline.errors import ConfigError, RefusedError, StateError, TumplineError
from tumpline.node.config.model import ControlSection
from tumpline.node.control import sockets
from tumpline.node.control.answers import USAGE_EXIT_CODE, error_response, json_response
from tumpline.node.control.api import Agent
from tumpline.node.control.operation import Kind, Operation
from tumpline.node.control.operations import OPERATIONS
from tumpline.node.control.stream import ndjson
from tumpline.node.control.values import Problem
from tumpline.node.keys import replace_file

MAX_JSON_OCTETS = 1 << 20
MIN_TOKEN_LENGTH = 16  # shorter ones can be tried out
DEFAULT_TCP_PORT = 8456
STOP_S = 2.0  # how long a request under way may take when the agent stops

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)


class TcpControl(NamedTuple):
    """Control over TCP. Whoever has the token may steer the agent, but not act with its rights on its machine."""

    host: str
    port: int
    token: str


def tcp_control(section: ControlSection) -> TcpControl | None:
    """What `[control]` says of TCP; the token's file is made if it is not there. Raises: ConfigError, StateError."""
    if section.listen is None or section.token_file is None:
        return None
    where = parse_address(section.listen, DEFAULT_TCP_PORT)
    try:
        if not section.token_file.exists():
            replace_file(section.token_file, secrets.token_urlsafe(32).encode() + b"\n")
        token = section.token_file.read_text().strip()
    except OSError as error:
        raise StateError(f"control.token_file: {section.token_file}: {error.strerror}; choose another file") from error
    return TcpControl(where.host, where.port, token)


class ControlServer:
    """Control of one agent. `paths`: UNIX sockets to serve on."""

    def __init__(self, agent: Agent, paths: Sequence[Path], tcp: TcpControl | None = None) -> None:
        if tcp is not None and len(tcp.token) < MIN_TOKEN_LENGTH:
            raise ConfigError(f"control.token: too short; write at least {MIN_TOKEN_LENGTH} characters")
        self._agent = agent
        self._paths = list(paths)
        self._tcp = tcp
        self._runners: list[web.AppRunner] = []
        self._listening: list[Path] = []
        self.tcp_address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen everywhere. Raises: StateError with the remedy; nothing listens then."""
        try:
            await self._start_unix()
            if self._tcp is not None:
                await self._start_tcp(self._tcp)
        except BaseException:
            await self.stop()
            raise

    async def _start_unix(self) -> None:
        runner = await self._runner(None)
        for path in self._paths:
            listener = sockets.listen(path)
            self._listening.append(path)
            await web.SockSite(runner, listener).start()

    async def _start_tcp(self, tcp: TcpControl) -> None:
        runner = await self._runner(tcp.token)
        try:
            listener = socket.create_server((tcp.host, tcp.port), backlog=sockets.BACKLOG)
        except OSError as error:
            raise StateError(f"control cannot listen on {tcp.host}:{tcp.port}: {error.strerror}") from error
        self.tcp_address = listener.getsockname()[:2]
        await web.SockSite(runner, listener).start()

    async def _runner(self, token: str | None) -> web.AppRunner:
        runner = web.AppRunner(application(self._agent, token), handle_signals=False, shutdown_timeout=STOP_S)
        self._runners.append(runner)
        await runner.setup()
        return runner

    async def stop(self) -> None:
        """Take no more requests, end those under way, and remove the socket files. Idempotent."""
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
        paths, self._listening = self._listening, []
        for path in paths:
            path.unlink(missing_ok=True)


def application(agent: Agent, token: str | None) -> web.Application:
    """The routes of the table. With a token, whoever asks must show it, and local operations are refused."""
    app = web.Application(middlewares=[_guard(token)], client_max_size=MAX_JSON_OCTETS)
    for row in OPERATIONS:
        app.router.add_route(row.method, row.path, _handler(agent, row, remote=token is not None))
    return app


def _guard(token: str | None) -> Any:
    @web.middleware
    async def guard(http: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check_token(http, token)
            return await handler(http)
        except web.HTTPException as error:
            return json_response(Problem(_http_sentence(http, error), USAGE_EXIT_CODE), error.status)
        except TumplineError as error:
            return error_response(error)
        except Exception as error:
            _log.exception("control %s %s failed", http.method, http.path)
            return error_response(error)

    return guard


def _check_token(http: web.Request, token: str | None) -> None:
    if token is None:
        # A page in the user's browser must not steer the agent through a forwarded socket: browsers send Origin.
        if "Origin" in http.headers:
            raise RefusedError("requests from web pages are not answered here")
        return
    shown = http.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(shown.encode(), token.encode()):
        raise RefusedError("the token is missing or wrong: send `Authorization: Bearer TOKEN`")


def _http_sentence(http: web.Request, error: web.HTTPException) -> str:
    if error.status == 404:
        return f"there is no {http.path} here: /openapi.json lists what there is"
    if error.status == 405:
        return f"{http.path} does not know {http.method}"
    return error.reason or str(error)


def _handler(agent: Agent, row: Operation, remote: bool) -> Handler:
    async def handle(http: web.Request) -> web.StreamResponse:
        if row.local and remote:
            raise RefusedError(f"{row.name} is possible only over the agent's UNIX socket")
        request = await read_request(http, row)
        if row.kind is Kind.JSON:
            return json_response(await row.handler(agent, request))
        if row.kind is Kind.NDJSON:
            return await ndjson(http, row.handler(agent, request))
        response: web.StreamResponse = await row.handler(agent, request, http)
        return response

    return handle


async def read_request(http: web.Request, row: Operation) -> Any:
    """The request's value, from path, query and (unless the body is octets) JSON. Raises: ConfigError."""
    given: dict[str, Any] = {**http.query, **http.match_info}
    if not row.body and http.can_read_body:
        given = {**_json_object(await http.read()), **given}
    try:
        return msgspec.convert(given, row.request, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{row.method} {row.path}: {error}") from error


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data or b"{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigError(f"the body is no JSON object: {error}") from error

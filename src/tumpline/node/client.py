"""Talks to a running agent: `async with tumpline.connect() as agent: ...`, and without asyncio, `connect_sync()`.

Answers are plain JSON values, as `/openapi.json` of the agent describes them.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import urllib.parse
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import aiohttp

from tumpline.errors import (
    ConfigError,
    NoAnswerError,
    NotReachableError,
    RefusedError,
    TumplineError,
)
from tumpline.node.control import sockets

T = TypeVar("T")
Json = dict[str, Any]
MAX_LINE_OCTETS = 1 << 20  # one event of a stream
MAX_FRAME_OCTETS = 1 << 31  # one ADU of an endpoint
GONE_POLL_S = 0.02


class ControlError(TumplineError):
    """The agent could not do what it was asked; `exit_code` is the one it gave."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_ERRORS: dict[int, type[TumplineError]] = {
    2: ConfigError,
    3: NoAnswerError,
    4: NotReachableError,
    5: RefusedError,
}


class Received(NamedTuple):
    """An ADU that came to an endpoint. It stays stored in the node until `Endpoint.done(seq)`."""

    seq: int
    source: str
    destination: str
    created_ms: int
    lifetime_ms: int
    payload: bytes


def find(node: str | Path | None = None) -> str:
    """The socket path (or http URL) of an agent: itself, or the agent's name; by default $TUMPLINE_NODE, or the only
    agent that this user runs. Raises: NotReachableError, ConfigError (there are several)."""
    name = str(node or os.environ.get("TUMPLINE_NODE") or "")
    if name.startswith(("http://", "https://")):
        return name
    if os.path.isdir(name):
        return os.path.join(name, "control.sock")
    if "/" in name:
        return name
    directory = sockets.runtime_dir()
    if name:
        return str(directory / f"{name}.sock")
    found = sorted(directory.glob("*.sock")) if directory.is_dir() else []
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise ConfigError(f"several agents run here ({names}): choose one with --node NAME or TUMPLINE_NODE")
    return str(found[0] if found else directory / "*.sock")


def connect(node: str | Path | None = None, *, timeout_s: float | None = None, token: str | None = None) -> Client:
    """A client of the agent (see `find`), to be used in `async with`. `timeout_s` bounds each request; `token` is for
    an http URL (default: $TUMPLINE_TOKEN)."""
    return Client(find(node), timeout_s, token or os.environ.get("TUMPLINE_TOKEN"))


class Client:
    """One connection pool to one agent. Every method raises NotReachableError if no agent answers, and the error that
    the agent tells: ConfigError (exit code 2), NoAnswerError (3), RefusedError (5), else ControlError."""

    def __init__(self, target: str, timeout_s: float | None = None, token: str | None = None) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._token = token
        self._cleanup = ExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        """Connect. Raises: NotReachableError."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
        if self.target.startswith("http"):
            self._base = self.target.rstrip("/")
            connector: aiohttp.BaseConnector = aiohttp.TCPConnector()
        else:
            self._base = "http://agent"
            connector = aiohttp.UnixConnector(self._short_path())
        self._session = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=timeout, read_bufsize=MAX_LINE_OCTETS
        )
        return self

    def _short_path(self) -> str:
        try:
            return self._cleanup.enter_context(sockets.reachable(Path(self.target)))
        except OSError as error:
            raise self._not_reachable() from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Free the connections. Idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._cleanup.close()

    # ---- requests ----------------------------------------------------------------------------------------------------

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        return await self._json("GET", path, query=query)

    async def post(self, path: str, value: Mapping[str, Any] | None = None) -> Json:
        return await self._json("POST", path, body=_dumps(value or {}))

    async def delete(self, path: str, value: Mapping[str, Any] | None = None) -> Json:
        return await self._json("DELETE", path, query=value)

    async def upload(
        self, path: str, octets: bytes | AsyncIterable[bytes], query: Mapping[str, Any] | None = None
    ) -> Json:
        """POST octets (an async iterable is sent as it comes, without a length)."""
        return await self._json("POST", path, query=query, body=_body(octets))

    async def _json(self, method: str, path: str, *, more_s: float = 0.0, **how: Any) -> Json:
        timeout_s = None if self._timeout_s is None else self._timeout_s + more_s
        try:
            async with asyncio.timeout(timeout_s), self._request(method, path, **how) as response:
                answer: Json = await response.json()
                return answer
        except TimeoutError as error:
            raise NoAnswerError(f"the agent did not answer {method} {path} within {timeout_s} s") from error

    async def stream(self, path: str, value: Mapping[str, Any] | None = None) -> AsyncGenerator[Json, None]:
        """POST, and yield the events of a long operation (NDJSON). `timeout_s` does not bound it."""
        async with self._request("POST", path, body=_dumps(value or {})) as response:
            async for event in _events(response):
                yield event

    async def upload_stream(
        self, path: str, octets: bytes | AsyncIterable[bytes], query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Json]:
        """As `stream`, with octets as the request's body."""
        async with self._request("POST", path, query=query, body=_body(octets)) as response:
            async for event in _events(response):
                yield event

    async def octets(self, path: str) -> AsyncIterator[bytes]:
        """GET octets, piece by piece."""
        async with self._request("GET", path) as response:
            async for piece in response.content.iter_any():
                yield piece

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is used in `async with`"
        try:
            async with self._session.request(method, self._base + path, params=_query(query), data=body) as response:
                if response.status >= 400:
                    raise await _error(response)
                yield response
        except aiohttp.ClientConnectionError as error:
            raise self._not_reachable() from error
        except aiohttp.ClientPayloadError as error:
            raise NotReachableError(f"the agent on {self.target} ended in the middle of its answer") from error

    def _not_reachable(self) -> NotReachableError:
        return NotReachableError(f"no agent answers on {self.target}: start it with `tumpline up`")

    # ---- WebSockets --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _websocket(
        self, path: str, query: Mapping[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        assert self._session is not None, "the client is used in `async with`"
        try:
            async with self._session.ws_connect(
                self._base + path, params=_query(query), max_msg_size=MAX_FRAME_OCTETS
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise RefusedError(f"{path} was refused: HTTP {error.status}") from error
        except aiohttp.ClientConnectionError as error:
            raise self._not_reachable() from error

    @asynccontextmanager
    async def events(self, *names: str) -> AsyncIterator[AsyncIterator[Json]]:
        """`async with agent.events() as events: async for event in events` - what happens from now on, all or only
        events of these names. Ends with the agent."""
        async with self._websocket("/v1/events", {"names": ",".join(names)}) as socket:
            yield _frames(socket)

    @asynccontextmanager
    async def endpoint(self, demux: str) -> AsyncIterator[Endpoint]:
        """An endpoint of the node, ours until the end of the block. Raises: RefusedError (somebody else has it)."""
        async with self._websocket(f"/v1/endpoints/{demux}", None) as socket:
            yield await Endpoint.open(socket)

    # ---- conveniences ------------------------------------------------------------------------------------------------

    async def status(self) -> Json:
        return await self.get("/v1/status")

    async def send_adu(self, to: str, payload: bytes | AsyncIterable[bytes], **query: Any) -> str:
        """Send one ADU (options: source, lifetime_s, report_to, wait_s: how long to wait for room when the node's quota is
        reached); the identity of its bundle, once it is stored. Raises: NoAnswerError (no room), RefusedError."""
        more_s = float(query.get("wait_s") or 0.0)  # the agent's answer says more than our own impatience
        answer = await self._json("POST", "/v1/adus", query={"to": to, **query}, body=_body(payload), more_s=more_s)
        return str(answer["bundle"])

    async def gone(self, timeout_s: float | None = None) -> None:
        """Wait until the agent answers no more. Raises: NoAnswerError if it still does after `timeout_s`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                await self.get("/v1/status")
            except NotReachableError:
                return
            if deadline is not None and time.monotonic() > deadline:
                raise NoAnswerError(f"the agent on {self.target} still runs after {timeout_s} s")
            await asyncio.sleep(GONE_POLL_S)


class Endpoint:
    """An active registration (RFC 9171 §3.2): ADUs come in order, and are forgotten by the node once they are done.

    One task may take ADUs while others say that they are done with some."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, eid: str) -> None:
        self._socket = socket
        self.eid = eid
        self._reading = asyncio.Lock()
        self._head: Json = {}
        self._ended = False
        self._came: deque[Received] = deque()  # while somebody waited for a confirmation: bounded by the node's window
        self._said: set[int] = set()  # done, not confirmed yet
        self._trouble: TumplineError | None = None  # what the node told of some of them

    @classmethod
    async def open(cls, socket: aiohttp.ClientWebSocketResponse) -> Endpoint:
        hello = await _frame(socket)
        if hello is None:
            raise NotReachableError("the agent closed the endpoint")
        _raise_problem(hello)
        return cls(socket, hello["endpoint"])

    def __aiter__(self) -> Endpoint:
        return self

    async def __anext__(self) -> Received:
        await self._read_until(lambda: bool(self._came) or self._ended)
        if not self._came:
            raise StopAsyncIteration
        return self._came.popleft()

    async def done(self, *seqs: int, confirm: bool = True) -> None:
        """These ADUs have been dealt with: the node may forget them. Returns when it has, durably; without `confirm` at
        once (`confirmed` waits for all of them together, which is much faster for many).

        Raises: ControlError (not kept so far, as on a full disk: it may come again), NotReachableError."""
        self._said.update(seqs)
        try:
            await self._socket.send_str(json.dumps({"done": list(seqs)}))
        except ConnectionError as error:
            raise self._over() from error
        if confirm:
            await self.confirmed(*seqs)

    async def confirmed(self, *seqs: int) -> None:
        """Wait until these (by default all that were said to be done) are forgotten. Raises: as `done`."""
        awaited = set(seqs) or self._said
        await self._read_until(lambda: self._ended or self._trouble is not None or not awaited & self._said)
        if self._trouble is not None and awaited & self._said:
            trouble, self._trouble = self._trouble, None
            raise trouble
        if awaited & self._said:
            raise self._over()

    def _over(self) -> NotReachableError:
        return NotReachableError(
            "the agent closed the endpoint before it confirmed that all was done: some may come again"
        )

    async def _read_until(self, is_so: Callable[[], bool]) -> None:
        """Whoever waits reads for all."""
        while not is_so():
            async with self._reading:
                if not is_so():
                    await self._read()

    async def _read(self) -> None:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            facts = {name: self._head[name] for name in Received._fields if name != "payload"}
            self._came.append(Received(**facts, payload=message.data))
        elif message.type is aiohttp.WSMsgType.TEXT:
            self._take(json.loads(message.data))
        else:
            self._ended = True

    def _take(self, frame: Json) -> None:
        if "seq" in frame:
            self._head = frame  # its payload is the next frame
        elif "done" in frame:
            done = frame["done"]
            self._said.difference_update(done if isinstance(done, list) else [done])
        elif "not_done" in frame:
            self._trouble = _problem(frame)
        else:
            _raise_problem(frame)


def quote(name: str) -> str:
    """A bundle's identity (or any text) as one part of a path."""
    return urllib.parse.quote(name, safe="")


# ---- JSON on the wire ------------------------------------------------------------------------------------------------


def _dumps(value: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(value)).encode()


def _body(octets: bytes | AsyncIterable[bytes]) -> Any:
    """Large octets go piece by piece, so that the loop stays responsive."""
    return io.BytesIO(octets) if isinstance(octets, bytes) else octets


def _query(query: Mapping[str, Any] | None) -> dict[str, str]:
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in given.items()}


async def _error(response: aiohttp.ClientResponse) -> TumplineError:
    try:
        return _problem(json.loads(await response.read()))
    except (ValueError, KeyError, TypeError):
        return ControlError(f"{response.url.path}: HTTP {response.status}, and no sentence with it")


def _problem(value: Json) -> TumplineError:
    code = int(value["exit_code"])
    kind = _ERRORS.get(code)
    return kind(str(value["error"])) if kind is not None else ControlError(str(value["error"]), code)


def _raise_problem(event: Json) -> None:
    if "error" in event and "exit_code" in event and "event" not in event:
        raise _problem(event)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    while line := await response.content.readline():
        event: Json = json.loads(line)
        _raise_problem(event)
        yield event


async def _frame(socket: aiohttp.ClientWebSocketResponse) -> Json | None:
    """The next text frame, None at the end."""
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        return None
    value: Json = json.loads(message.data)
    return value


async def _frames(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[Json]:
    while (value := await _frame(socket)) is not None:
        yield value


# ---- without asyncio -------------------------------------------------------------------------------------------------


def connect_sync(
    node: str | Path | None = None, *, timeout_s: float | None = None, token: str | None = None
) -> SyncClient:
    """As `connect`, for programs without asyncio: `with tumpline.connect_sync() as agent: agent.get("/v1/status")`."""
    return SyncClient(connect(node, timeout_s=timeout_s, token=token))


class SyncClient:
    """The same agent, a call at a time. Not for several threads at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._runner = asyncio.Runner()

    def __enter__(self) -> SyncClient:
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._client.close())
        finally:
            self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        return self._run(self._client.get(path, query))

    def post(self, path: str, value: Mapping[str, Any] | None = None) -> Json:
        return self._run(self._client.post(path, value))

    def delete(self, path: str, value: Mapping[str, Any] | None = None) -> Json:
        return self._run(self._client.delete(path, value))

    def upload(self, path: str, octets: bytes, query: Mapping[str, Any] | None = None) -> Json:
        return self._run(self._client.upload(path, octets, query))

    def send_adu(self, to: str, payload: bytes, **query: Any) -> str:
        return self._run(self._client.send_adu(to, payload, **query))

    def stream(self, path: str, value: Mapping[str, Any] | None = None) -> Iterator[Json]:
        """The events of a long operation, as they come."""
        events = self._client.stream(path, value)

        async def following() -> Json | None:
            return await anext(events, None)

        try:
            while (event := self._run(following())) is not None:
                yield event
        finally:
            self._run(events.aclose())

"""The two ends of a UDPCL conversation as programs of their own: endpoints without a bundle agent.

    python -m tumpline.bench.framework.udpcl_ends sink '{"octets": 100, "config": {}, "node_id": "dtn://rover/"}'

Each line on standard input is a task, each line on standard output its result (JSON). The sink tells its address first.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tumpline.bench.framework.numbered import Numbered, Tally
from tumpline.drivers.dial import Address, parse_address
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.drivers.links._udpcl_endpoint import UdpclEndpoint
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.machines.udpcl.congestion import Congestion, Pace
from tumpline.machines.udpcl.events import DtlsFailed, Event, PathMtuFound
from tumpline.wire.eid import Eid

AHEAD = 512  # bundles made before they are sent: those of some milliseconds


class _Host:
    """EndpointHost of both ends."""

    def __init__(self) -> None:
        self.take: Callable[[list[bytes]], None] = _nothing
        self.went: Callable[[int], None] = _nothing
        self.ended: Callable[[str], None] = _nothing
        self.is_searched = asyncio.Event()  # the path MTU

    def received(self, _: Talk, bundles: list[bytes]) -> None:
        self.take(bundles)

    def sent(self, _: Talk, tokens: list[int]) -> None:
        self.went(len(tokens))

    def failed(self, _: Talk, tokens: list[int], reason: str) -> None:
        raise SystemExit(f"{len(tokens)} bundles failed: {reason}")

    def happened(self, _: Talk, event: Event) -> None:
        if isinstance(event, PathMtuFound):
            self.is_searched.set()
        elif isinstance(event, DtlsFailed):
            self.ended(event.text)

    def forgotten(self, talk: Talk, reason: str) -> None:
        """The endpoint is closed."""

    def notice(self, name: str, **fields: Any) -> None:
        """Nobody reads it."""


def _nothing(_: Any) -> None:
    """Until there is a task."""


def _fail(text: str) -> None:
    raise SystemExit(f"the conversation ended: {text}")


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _tell(result: Any) -> None:
    print(json.dumps(result), flush=True)


def _endpoint(config: dict[str, Any], node_id: str, host: _Host) -> UdpclEndpoint:
    chance = random.Random(node_id).random
    return UdpclEndpoint(msgspec.convert(config, UdpclConfig), Eid.parse(node_id), chance, host)


async def sink(octets: int, config: dict[str, Any], node_id: str) -> None:
    """Takes and verifies; each task asks what came since the last one."""
    host, tally = _Host(), Tally(octets)
    host.take = tally.take
    endpoint = _endpoint(config, node_id, host)
    _tell(endpoint.listen(Address("127.0.0.1", 0)))
    tasks = await _lines()
    while await tasks.readline():
        buffers = next(iter(endpoint.describe()["buffer_octets"].values()))
        _tell({**tally.report(), "receive_buffer": buffers[0]})
    endpoint.close()


async def source(octets: int, config: dict[str, Any], node_id: str, address: str) -> None:
    """Sends `count` bundles at `per_s` for each task; tells how many seconds that took."""
    host = _Host()
    host.ended = _fail
    endpoint = _endpoint(config, node_id, host)
    talk = endpoint.talk_with(parse_address(address, 0), keep=True)
    async with asyncio.timeout(20):
        await host.is_searched.wait()
    numbered, tasks = Numbered(octets), await _lines()
    while line := await tasks.readline():
        task = json.loads(line)
        loop = asyncio.get_running_loop()
        pace = Pace(fixed_octets_s=task["per_s"] * (len(numbered.bundle(1 << 20)) + 8))
        talk.machine.congestion = Congestion(pace, loop.time())
        sending = _Sending(endpoint, talk, numbered, task["count"])
        host.went = sending.went
        began = time.perf_counter()
        sending.feed()
        await sending.is_over.wait()
        seconds = time.perf_counter() - began
        _tell(
            {
                "seconds": seconds,
                "send_buffer": talk.socket.buffer_octets[1],
                "datagram": talk.machine.sizing.datagram_octets,
            }
        )
    host.ended = _nothing
    endpoint.close()


class _Sending:
    """One task: makes bundles a little ahead of what is sent."""

    def __init__(self, endpoint: UdpclEndpoint, talk: Talk, numbered: Numbered, count: int) -> None:
        self.is_over = asyncio.Event()
        self._endpoint, self._talk, self._bundle, self._count = endpoint, talk, numbered.bundle, count
        self._made = self._sent = 0

    def feed(self) -> None:
        last = min(self._count, self._sent + AHEAD)
        if last - self._made >= AHEAD // 4 or (last == self._count and last > self._made):
            bundle = self._bundle
            made, self._made = self._made, last
            self._endpoint.send(self._talk, [(number, bundle(number)) for number in range(made, last)])

    def went(self, count: int) -> None:
        self._sent += count
        if self._sent == self._count:
            self.is_over.set()
        else:
            self.feed()


if __name__ == "__main__":
    _role, _task = sys.argv[1], json.loads(sys.argv[2])
    asyncio.run(sink(**_task) if _role == "sink" else source(**_task))

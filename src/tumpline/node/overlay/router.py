"""The packet router as a program: its settings, its life, what it shows."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import yaml

from tumpline import __version__
from tumpline.drivers.amqp import AmqpUrl
from tumpline.drivers.overlay import SessionFailed
from tumpline.drivers.overlay.keys import new_identity, read_identity, read_key, read_pins
from tumpline.drivers.overlay.router import RouterAttachment, RouterAttachmentConfig
from tumpline.drivers.overlay.share_queues import QueueKind, QueueOptions
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.impairment import Impairment
from tumpline.machines.impairment_text import parse_impairment
from tumpline.machines.overlay import MemberConfig
from tumpline.machines.packet_router import SHARDS_MOST, RouterConfig
from tumpline.machines.quantities import parse_duration_s
from tumpline.node.overlay.addresses import known_addresses
from tumpline.node.overlay.status import StatusSocket, socket_path
from tumpline.node.overlay.topologies import find_topology, shipped_topologies
from tumpline.wire.overlay import INSTANCE_OCTETS, name_problem

QUEUE_LENGTHS: Final = range(10, 1_000_001)


@dataclass(frozen=True, kw_only=True)
class RouterWish:
    """The options of `tumpline router`, by their names."""

    url: str
    name: str | None = None
    exchange: str = "amq.topic"
    config: str | None = None
    shards: int = 1
    queue_type: str = "classic"
    queue_length: int = 1000
    queue_expires: str = "60s"
    impair: str | None = None
    key: Path | None = None
    identity: Path | None = None
    peer: tuple[str, ...] = ()
    ca: Path | None = None


def router_settings_of(wish: RouterWish) -> RouterAttachmentConfig:
    """Raises: ConfigError, one sentence a mistake."""
    name = wish.name or f"router_{secrets.token_hex(4)}"
    if (problem := name_problem(name)) is not None:
        raise ConfigError(f"--name {name}: {problem}")
    if not 1 <= wish.shards <= SHARDS_MOST:
        raise ConfigError(f"--shards {wish.shards}: write 1 (any number of routers, one works) to {SHARDS_MOST}")
    topology = find_topology(wish.config) if wish.config is not None else None
    guesses = usual_places() if topology is None else {}
    router = RouterConfig(_member(wish, name), wish.shards, topology, impairment_of(wish.impair), guesses)
    return RouterAttachmentConfig(_broker(wish), router, wish.exchange, _queues(wish))


def usual_places() -> dict[bytes, tuple[str, ...]]:
    """Which names may have an address, by the plans that many use: agent_1 to agent_6, and the shipped topologies' nodes."""
    places: dict[bytes, dict[str, None]] = {}
    for name, addresses in known_addresses().items():
        for address in addresses:
            places.setdefault(ip_address(address).packed, {})[name] = None
    for topology in shipped_topologies():
        for name, claim in topology.addresses:
            places.setdefault(claim.address, {})[name] = None
    return {address: tuple(names) for address, names in places.items()}


def impairment_of(text: str | None) -> Impairment | None:
    """`delay: 20 ms, loss: 1 %`. Raises: ConfigError."""
    if not text:
        return None
    try:
        # A comma ends a value here as in the file of a laboratory; the braces may be left out.
        return parse_impairment(yaml.safe_load("{" + re.sub(r"^\s*\{|\}\s*$", "", text) + "}"))
    except yaml.YAMLError as error:
        raise ConfigError(f"--impair {text!r}: write for example 'delay: 20 ms, loss: 1 %'") from error
    except ConfigError as error:
        raise ConfigError([f"--impair: {problem}" for problem in error.problems]) from error


def _member(wish: RouterWish, name: str) -> MemberConfig:
    return MemberConfig(
        name=name,
        instance=secrets.token_bytes(INSTANCE_OCTETS),
        identity=read_identity(wish.identity) if wish.identity is not None else new_identity(),
        started_ms=time.time_ns() // 1_000_000,
        given_key=read_key(wish.key) if wish.key is not None else None,
        pins=read_pins(wish.peer),
    )


def _queues(wish: RouterWish) -> QueueOptions:
    if wish.queue_length not in QUEUE_LENGTHS:
        raise ConfigError(f"--queue-length {wish.queue_length}: write {QUEUE_LENGTHS[0]} to {QUEUE_LENGTHS[-1]}")
    try:
        expires_s = parse_duration_s(wish.queue_expires)
    except ConfigError as error:
        raise ConfigError(f"--queue-expires {wish.queue_expires}: {error}") from error
    if expires_s < 1:
        raise ConfigError(f"--queue-expires {wish.queue_expires}: write 1s or more, for example 60s")
    return QueueOptions(QueueKind(wish.queue_type), wish.queue_length, expires_s=expires_s)


def _broker(wish: RouterWish) -> AmqpUrl:
    try:
        url = AmqpUrl.parse(wish.url)
    except TumplineError as error:
        raise ConfigError(f"--url: {error}") from error
    return url if wish.ca is None else url._replace(ca=str(wish.ca))


class RouterProgram:
    """`start`, `stopped`, `close`."""

    def __init__(self, config: RouterAttachmentConfig, tell: Callable[[Any], None]) -> None:
        self.name = config.router.name
        self.stopped = asyncio.Event()
        self.failure: BaseException | None = None
        self.attachment = RouterAttachment(config, self._heard)
        self._tell = tell
        self._status = StatusSocket(socket_path("router", self.name), self.snapshot)
        self._tasks = TaskOwner(self._task_failed)
        self._started_at = time.monotonic()

    def start(self, ready: Callable[[RouterProgram], None]) -> None:
        """Begin; `ready` is called when packets are passed on. What fails is `failure`, and ends it."""
        self._tasks.start(self._start(ready), "start")

    async def _start(self, ready: Callable[[RouterProgram], None]) -> None:
        await self._status.start()
        await self.attachment.start()
        ready(self)

    async def close(self) -> None:
        """Hand over, say goodbye, leave no queue. Idempotent."""
        await self._tasks.stop()
        await self._status.stop()
        await self.attachment.stop()

    def snapshot(self) -> dict[str, Any]:
        """Everything for people, as JSON can carry it."""
        uptime = round(time.monotonic() - self._started_at, 3)
        about = {"name": self.name, "version": __version__, "pid": os.getpid(), "uptime_s": uptime}
        return about | self.attachment.describe()

    def _heard(self, event: Any) -> None:
        self._tell(event)
        if type(event) is SessionFailed:
            self._end(event.error)

    def _task_failed(self, _: str, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.stopped.set()


async def serve_router(
    config: RouterAttachmentConfig, *, tell: Callable[[Any], None], ready: Callable[[RouterProgram], None]
) -> None:
    """Run a router until it is told to stop (SIGINT, SIGTERM), or cannot go on.

    Raises: TumplineError with the remedy; nothing of it is left then."""
    program = RouterProgram(config, tell)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, program.stopped.set)
    try:
        program.start(ready)
        await program.stopped.wait()
    finally:
        await program.close()
    if program.failure is not None:
        raise program.failure

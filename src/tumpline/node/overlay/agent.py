"""The overlay's agent: an attachment to a session, a port, a capture, and the older agents' bootstrap, put together."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import msgspec

from tumpline import __version__
from tumpline.drivers.overlay import Attachment, AttachmentConfig, PortDown, SessionFailed
from tumpline.drivers.ports._api import PortSpec
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import NoAnswerError, TumplineError
from tumpline.machines.overlay.older import Bootstrap
from tumpline.node.overlay.dump import Dump, DumpConfig
from tumpline.node.overlay.starting import Beyond, Starter, generations_of
from tumpline.node.overlay.status import StatusSocket, socket_path


class TunnelSettings(NamedTuple):
    """One agent, as its user wants it."""

    attachment: AttachmentConfig
    port: PortSpec
    port_config: Any  # of the class that the port's SPEC names
    opens_at_once: bool = True  # or when a coordinator says so
    beyond: Beyond = Beyond()
    dump: DumpConfig | None = None  # every packet goes there, for Wireshark


class OverlayAgent:
    """`start`, `stopped`, `close`."""

    def __init__(self, settings: TunnelSettings, tell: Callable[[Any], None]) -> None:
        self.settings = settings
        self.attachment = Attachment(settings.attachment)
        self.stopped = asyncio.Event()
        self.failure: BaseException | None = None
        self._tell = tell
        self._dump: Dump | None = None
        self._tasks = TaskOwner(self._task_failed)
        bootstrap = Bootstrap(settings.attachment.member.name, generations_of(settings.attachment.member.formats))
        self._starter = Starter(self.attachment, bootstrap, settings.beyond, self._open_tun, self.spawn, tell)
        self._opening = asyncio.Lock()
        self._started_at = time.monotonic()

    async def start(self) -> None:
        """Join, then open the port: a name that is taken, or a wrong password, shall leave this machine as it is.

        Raises: TumplineError with the remedy; `close` is to be called then, too."""
        self.attachment.listen(self._heard)
        if self.settings.dump is not None:
            self._dump = Dump(self.settings.dump)
            self.attachment.taps.append(self._dump.packets)
        await self.attachment.start()
        if self.settings.opens_at_once:
            await self._open_port(self.settings.port_config)

    async def _open_port(self, config: Any) -> None:
        """Once: a coordinator may ask while we open it by ourselves."""
        async with self._opening:
            if not self.attachment.ports:
                await self.attachment.add_port(self.settings.port.open(config))

    async def _open_tun(self, addresses: list[str]) -> None:
        """As a coordinator asked; what else the user wrote of the interface holds."""
        config = self.settings.port_config
        told = {"addresses": addresses, "link_local": ""}
        known = {name: value for name, value in told.items() if name in config.__struct_fields__}
        await self._open_port(msgspec.structs.replace(config, **known))

    async def close(self) -> None:
        """Say goodbye and undo everything. Idempotent."""
        await self._tasks.stop()
        await self.attachment.stop()
        if self._dump is not None:
            self._dump.close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run it as long as the agent runs; its failure is the agent's."""
        self._tasks.start(work, name)

    def stop(self) -> None:
        """Let whoever waits for `stopped` go on."""
        self.stopped.set()

    def _heard(self, event: Any) -> None:
        self._tell(event)
        self._starter.heard(event)
        if type(event) is SessionFailed:
            self._end(event.error)
        elif type(event) is PortDown and self._is_for_good():
            self._end(TumplineError(f"{event.reason}; somebody removed it: start the agent again"))

    def _is_for_good(self) -> bool:
        """A probe that was unplugged comes back, an interface does not. Who gave us an open device knows when it ends."""
        return self.settings.port.scheme == "tun" and self.settings.port_config.fd < 0

    def _task_failed(self, _: str, error: BaseException) -> None:
        self._end(error)

    def _end(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.stop()

    def snapshot(self) -> dict[str, Any]:
        """Everything for people, as JSON can carry it."""
        about = {
            "name": self.settings.attachment.member.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self._started_at, 3),
        }
        dump = self._dump.snapshot() if self._dump is not None else None
        return about | self.attachment.describe() | {"dump": dump}


async def serve(
    settings: TunnelSettings,
    *,
    tell: Callable[[Any], None],
    ready: Callable[[OverlayAgent], None],
    join_s: float | None = None,
) -> None:
    """Run an agent until it is told to stop (SIGINT, SIGTERM), or cannot go on. `join_s`: how long it may take to join.

    Raises: TumplineError with the remedy; nothing of it is left then."""
    agent = OverlayAgent(settings, tell)
    status = StatusSocket(socket_path("tunnel", settings.attachment.member.name), agent.snapshot)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, agent.stop)

    async def begin() -> None:
        await status.start()
        try:
            async with asyncio.timeout(join_s):
                await agent.start()
        except TimeoutError:
            why = agent.attachment.counts.last_loss or "the broker did not answer"
            raise NoAnswerError(f"not in the session after {join_s:g} s: {why}") from None
        ready(agent)
        # What was made until now, modules above all, stays to the end: the collector would walk through it again and
        # again, some 20 ms in which no packet moves.
        gc.collect()
        gc.freeze()

    try:
        agent.spawn(begin(), "start")
        await agent.stopped.wait()
    finally:
        await status.stop()
        await agent.close()
    if agent.failure is not None:
        raise agent.failure

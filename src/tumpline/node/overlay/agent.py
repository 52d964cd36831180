"""The overlay's agent: an attachment to a session, a port, a capture, and the older agents' bootstrap, put together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tumpline import __version__
from tumpline.drivers.overlay import Attachment, AttachmentConfig
from tumpline.drivers.overlay.attachment import SessionFailed
from tumpline.drivers.ports._api import PortSpec
from tumpline.drivers.tasks import TaskOwner
from tumpline.node.overlay.dump import Dump, DumpConfig
from tumpline.node.overlay.status import StatusSocket, socket_path


class TunnelSettings(NamedTuple):
    """One agent, as its user wants it."""

    attachment: AttachmentConfig
    port: PortSpec
    port_config: Any  # of the class that the port's SPEC names
    opens_at_once: bool = True  # or when a coordinator says so
    dump: Path | None = None  # every packet goes there, for Wireshark


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
        self._started_at = time.monotonic()

    async def start(self) -> None:
        """Join, then open the port: a name that is taken, or a wrong password, shall leave this machine as it is.

        Raises: TumplineError with the remedy; `close` is to be called then, too."""
        self.attachment.listen(self._heard)
        if self.settings.dump is not None:
            self._dump = Dump(DumpConfig(self.settings.dump))
            self.attachment.taps.append(self._dump.packets)
        await self.attachment.start()
        if self.settings.opens_at_once:
            await self.attachment.add_port(self.settings.port.open(self.settings.port_config))

    async def close(self) -> None:
        """Say goodbye and undo everything. Idempotent."""
        await self._tasks.stop()
        await self.attachment.stop()
        if self._dump is not None:
            self._dump.close()

    def stop(self) -> None:
        """Let whoever waits for `stopped` go on."""
        self.stopped.set()

    def _heard(self, event: Any) -> None:
        self._tell(event)
        if type(event) is SessionFailed:
            self._end(event.error)

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
    settings: TunnelSettings, *, tell: Callable[[Any], None], ready: Callable[[OverlayAgent], None]
) -> None:
    """Run an agent until it is told to stop (SIGINT, SIGTERM), or cannot go on.

    Raises: TumplineError with the remedy; nothing of it is left then."""
    agent = OverlayAgent(settings, tell)
    status = StatusSocket(socket_path("tunnel", settings.attachment.member.name), agent.snapshot)
    interrupted = _stop_on_signals(agent)
    try:
        starting = asyncio.create_task(agent.start(), name="start")
        await asyncio.wait((starting, interrupted), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await status.start()
            ready(agent)
            await agent.stopped.wait()
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
    finally:
        interrupted.cancel()
        await status.stop()
        await agent.close()
    if agent.failure is not None:
        raise agent.failure


def _stop_on_signals(agent: OverlayAgent) -> asyncio.Task[bool]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, agent.stop)
    return loop.create_task(agent.stopped.wait(), name="interrupt")

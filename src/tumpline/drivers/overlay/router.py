"""A packet router on its connection: what the machine decides is done at the broker, what comes is handed to the machine.

Control and packets share the connection: what a router says to others must not overtake the packets that it passed on.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.amqp import AmqpChannel, AmqpConnection, AmqpError, AmqpUrl, Delivery, ReturnedMessage
from tumpline.drivers.overlay._kept_session import KeptSession, SessionCounters, SessionPlace
from tumpline.drivers.overlay._session import SessionQueue
from tumpline.drivers.overlay.events import SessionFailed
from tumpline.drivers.overlay.share_queues import QueueOptions, ShareQueues, consume
from tumpline.errors import RefusedError
from tumpline.machines.overlay import Publish
from tumpline.machines.packet_router import (
    Bind,
    Cancel,
    Disagreed,
    PacketRouter,
    RouterConfig,
    Subscribe,
    Unbind,
)

_DISAGREED: Final = (
    "router {0} works on this session with another plan ({1}, not {2}): give all the same --shards and --config"
)
_Chore = Subscribe | Cancel | Bind | Unbind


class RouterAttachmentConfig(NamedTuple):
    """Where, and what is routed how."""

    url: AmqpUrl
    router: RouterConfig
    exchange: str = "amq.topic"
    queues: QueueOptions = QueueOptions()


@dataclass(slots=True)
class RouterCounters(SessionCounters):
    """What happened at the edge; the machine counts what it decided."""

    unsent: int = 0  # messages for which there was no connection, or no room before a slow broker


class RouterAttachment:
    """`start`, `stop`. Everything runs on the event loop's thread."""

    def __init__(self, config: RouterAttachmentConfig, tell: Callable[[Any], None]) -> None:
        self.config = config
        self.machine = PacketRouter(config.router, random.random)
        self.counts = RouterCounters()
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._joined: _Joined | None = None
        self._alarm = Alarm(self._expired)
        name = config.router.name
        place = SessionPlace(config.url, config.exchange, name, f"tumpline router {name}")
        self._session = KeptSession(place, self, self.counts, tell)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """When it returns, packets are passed on. Keeps trying while nobody answers.

        Raises: TumplineError that trying again cannot mend: login refused, no such vhost, an older router at work."""
        await self._session.start()

    async def stop(self) -> None:
        """Hand the shares over, say goodbye, leave no queue. Idempotent."""
        if self._joined is not None:
            self._session.is_leaving = True
            try:
                await self._hand_over(self._joined)
            except AmqpError as error:  # the connection went meanwhile: the broker tidies up by itself
                self.counts.last_loss = str(error)
        await self._session.stop()

    async def _hand_over(self, joined: _Joined) -> None:
        for share in list(joined.consumers):
            await self._cancel(joined, share)
            await joined.queues.remove(share)
        self.machine.leave()
        self.turn()

    # ---- calls of the session ----------------------------------------------------------------------------------------

    def bindings(self) -> Sequence[str]:
        """See `SessionUser`."""
        return self.machine.bindings

    async def entered(self, connection: AmqpConnection, queue: SessionQueue) -> None:
        """We hold the name (again): take our shares. Raises: AmqpError, RefusedError."""
        await queue.consume(self._told)
        sharded = self.config.router.is_sharded
        queues = ShareQueues(connection, self.config.exchange, self.config.queues, is_sharded=sharded)
        joined = self._joined = _Joined(queue.channel, queues)
        self.machine.joined(self._now())
        self.turn()
        await self._work_off(joined)  # what is refused here ends the start
        self._session.tasks.start(self._do_chores(joined), "chores")

    def left(self) -> None:
        """We route no more."""
        self._alarm.cancel()
        if self._joined is not None:
            self._joined.wake.set()  # its chores end
            self._joined = None
            self.machine.left()

    def returned(self, message: ReturnedMessage) -> None:
        """There is nobody of that name."""
        self.machine.returned(message.routing_key, self._now())
        self.turn()

    def _now(self) -> float:
        return self._loop.time()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _told(self, deliveries: Sequence[Delivery]) -> None:
        self.machine.told(deliveries, self._now())
        self.turn()

    def _packets(self, share: str, deliveries: Sequence[Delivery]) -> None:
        self.machine.packets(share, deliveries, self._now())
        self.turn()

    def turn(self) -> None:
        """Do what the machine has decided, until there is nothing more; arm the timer."""
        joined, exchange = self._joined, self.config.exchange
        while outputs := self.machine.outputs():
            for output in outputs:
                if type(output) is Publish:
                    key, pieces, properties, mandatory = output
                    if joined is None or not joined.channel.publish(
                        exchange, key, pieces, properties, mandatory=mandatory
                    ):
                        self.counts.unsent += 1
                elif isinstance(output, _Chore):
                    if joined is not None:
                        joined.chores.append(output)
                        joined.wake.set()
                else:
                    self._tell(output)
                    if type(output) is Disagreed and output.is_ours_to_go:
                        self._tell(SessionFailed(RefusedError(_DISAGREED.format(*output))))
        self._alarm.set(self.machine.next_timeout())

    def _expired(self) -> None:
        self.machine.handle_timeout(self._now())
        self.turn()

    # ---- what takes the broker's answer ------------------------------------------------------------------------------

    async def _do_chores(self, joined: _Joined) -> None:
        while self._joined is joined and not self._session.is_leaving:
            await self._work_off(joined)
            await joined.wake.wait()
            joined.wake.clear()

    async def _work_off(self, joined: _Joined) -> None:
        while joined.chores and not self._session.is_leaving:
            chore = joined.chores.popleft()
            match chore:
                case Subscribe(share, patterns):
                    await self._subscribe(joined, share, patterns)
                case Cancel(share):
                    await self._cancel(joined, share)
                case Bind(share, patterns):
                    await joined.queues.bind(share, patterns)
                case Unbind(share, patterns):
                    await joined.queues.unbind(share, patterns)

    async def _subscribe(self, joined: _Joined, share: str, patterns: tuple[str, ...]) -> None:
        def handle(deliveries: Sequence[Delivery]) -> None:
            self._packets(share, deliveries)

        channel, tag = await consume(joined.queues, share, patterns, handle)
        channel.on_closed = lambda error: self._session.start_over(str(error))
        channel.on_cancelled = lambda _: self._session.start_over(f"somebody deleted queue {share}")
        joined.consumers[share] = (channel, tag)
        self.machine.subscribed(share)
        self.turn()

    async def _cancel(self, joined: _Joined, share: str) -> None:
        channel, tag = joined.consumers.pop(share)
        await channel.cancel(tag)
        await channel.close()
        self.machine.cancelled(share, self._now())
        self.turn()

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        session = {"url": str(self.config.url), "exchange": self.config.exchange, "joined": self._joined is not None}
        return {"session": session | asdict(self.counts), **self.machine.snapshot(self._now())}


class _Joined:
    """What lasts as long as one connection."""

    def __init__(self, channel: AmqpChannel, queues: ShareQueues) -> None:
        self.channel = channel
        self.queues = queues
        self.consumers: dict[str, tuple[AmqpChannel, str]] = {}
        self.chores: deque[_Chore] = deque()
        self.wake = asyncio.Event()

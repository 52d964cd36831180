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

from tumpline.drivers.amqp import (
    AmqpChannel,
    AmqpConnection,
    AmqpError,
    AmqpUrl,
    Delivery,
    KeptConnection,
    ReturnedMessage,
)
from tumpline.drivers.overlay._session import SessionQueue
from tumpline.drivers.overlay.events import SessionAway, SessionFailed, SessionJoined, SessionLost
from tumpline.drivers.overlay.share_queues import QueueOptions, ShareQueues, consume
from tumpline.drivers.tasks import TaskOwner
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

RETRY_MOST_S: Final = 5.0
_KEPT: Final = "session"  # the task whose end is the router's
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
class RouterCounters:
    """What happened at the edge; the machine counts what it decided."""

    joins: int = 0
    losses: int = 0
    unsent: int = 0  # messages for which there was no connection, or no room before a slow broker
    last_loss: str = ""


class RouterAttachment:
    """`start`, `stop`. Everything runs on the event loop's thread."""

    def __init__(self, config: RouterAttachmentConfig, tell: Callable[[Any], None]) -> None:
        self.config = config
        self.machine = PacketRouter(config.router, random.random)
        self.counts = RouterCounters()
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._joined: _Joined | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._first_join: asyncio.Future[None] = self._loop.create_future()
        self._tasks = TaskOwner(self._task_failed)
        name = f"tumpline router {config.router.name}"
        self._kept = KeptConnection(
            config.url, name, self._set_up, self._lost, waiting=self._waiting, retry_most_s=RETRY_MOST_S
        )

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """When it returns, packets are passed on. Keeps trying while nobody answers.

        Raises: TumplineError that trying again cannot mend: login refused, no such vhost, an older router at work."""
        kept = self._tasks.start(self._kept.run(), _KEPT)
        await asyncio.wait((kept, self._first_join), return_when=asyncio.FIRST_COMPLETED)
        if kept.done():
            kept.result()

    async def stop(self) -> None:
        """Hand the shares over, say goodbye, leave no queue. Idempotent."""
        joined = self._joined
        if joined is not None:
            joined.is_leaving = True
            try:
                await self._hand_over(joined)
            except AmqpError as error:  # the connection went meanwhile: the broker tidies up by itself
                self.counts.last_loss = str(error)
        await self._tasks.stop()
        self._leave_session()

    async def _hand_over(self, joined: _Joined) -> None:
        for share in list(joined.consumers):
            await self._cancel(joined, share)
            await joined.queues.remove(share)
        self.machine.leave()
        self.turn()

    async def _set_up(self, connection: AmqpConnection) -> None:
        """The connection is there (again)."""
        session = await SessionQueue.claim(
            connection, self.config.exchange, self.config.router.name, is_first=not self._first_join.done()
        )
        await session.bind(self.machine.bindings)
        session.channel.on_return = self._returned
        session.channel.on_closed = lambda error: self._start_over(str(error))
        session.channel.on_cancelled = lambda _: self._start_over("somebody deleted our queue")
        await session.consume(self._told)
        sharded = self.config.router.is_sharded
        queues = ShareQueues(connection, self.config.exchange, self.config.queues, is_sharded=sharded)
        joined = self._joined = _Joined(connection, session.channel, queues)
        self.machine.joined(self._now())
        self.turn()
        await self._work_off(joined)  # what is refused here ends the start
        self._tasks.start(self._do_chores(joined), "chores")
        self.counts.joins += 1
        self._tell(SessionJoined())
        if not self._first_join.done():
            self._first_join.set_result(None)

    def _lost(self, reason: str) -> None:
        self.counts.losses += 1
        self.counts.last_loss = reason
        self._leave_session()
        self._tell(SessionLost(reason))

    def _waiting(self, reason: str, for_s: float) -> None:
        self.counts.last_loss = reason
        self._leave_session()  # of a connection that broke while it was set up
        self._tell(SessionAway(reason, for_s))

    def _leave_session(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._joined is not None:
            self._joined.wake.set()  # its chores end
            self._joined = None
            self.machine.left()

    def _task_failed(self, name: str, error: BaseException) -> None:
        if name != _KEPT:
            self._start_over(str(error))
        elif self._first_join.done():  # else `start` raises it
            self._leave_session()
            self._tell(SessionFailed(error))

    def _start_over(self, reason: str) -> None:
        """The session is of no use any more although the connection is there: another connection mends it."""
        if self._joined is not None and not self._joined.is_leaving:
            self.counts.last_loss = reason
            self._tasks.start(self._joined.connection.close(), "closing")

    def _now(self) -> float:
        return self._loop.time()

    # ---- messages ----------------------------------------------------------------------------------------------------

    def _told(self, deliveries: Sequence[Delivery]) -> None:
        self.machine.told(deliveries, self._now())
        self.turn()

    def _packets(self, share: str, deliveries: Sequence[Delivery]) -> None:
        self.machine.packets(share, deliveries, self._now())
        self.turn()

    def _returned(self, message: ReturnedMessage) -> None:
        self.machine.returned(message.routing_key, self._now())
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
        self._arm()

    def _arm(self) -> None:
        at = self.machine.next_timeout()
        if at is None or (self._timer is not None and self._timer.when() <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self.machine.handle_timeout(self._now())
        self.turn()

    # ---- what takes the broker's answer ------------------------------------------------------------------------------

    async def _do_chores(self, joined: _Joined) -> None:
        while self._joined is joined and not joined.is_leaving:
            await self._work_off(joined)
            await joined.wake.wait()
            joined.wake.clear()

    async def _work_off(self, joined: _Joined) -> None:
        while joined.chores and not joined.is_leaving:
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
        channel.on_closed = lambda error: self._start_over(str(error))
        channel.on_cancelled = lambda _: self._start_over(f"somebody deleted queue {share}")
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

    def __init__(self, connection: AmqpConnection, channel: AmqpChannel, queues: ShareQueues) -> None:
        self.connection = connection
        self.channel = channel
        self.queues = queues
        self.consumers: dict[str, tuple[AmqpChannel, str]] = {}
        self.chores: deque[_Chore] = deque()
        self.wake = asyncio.Event()
        self.is_leaving = False

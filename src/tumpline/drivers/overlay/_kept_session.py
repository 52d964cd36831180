"""Being in a session: a connection that is kept up, the queue on it that holds our name, and who is told of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from tumpline.drivers.amqp import AmqpConnection, AmqpUrl, KeptConnection, ReturnedMessage
from tumpline.drivers.overlay._session import SessionQueue
from tumpline.drivers.overlay.events import SessionAway, SessionFailed, SessionJoined, SessionLost
from tumpline.drivers.tasks import TaskOwner

RETRY_MOST_S: Final = 5.0  # who waits for a broker that restarts is a person
_KEPT: Final = "session"  # the task whose end is the session's


class SessionPlace(NamedTuple):
    """Where, and as whom."""

    url: AmqpUrl
    exchange: str
    name: str
    shown_as: str  # to the broker's operator


@dataclass(slots=True)
class SessionCounters:
    """How we came and went."""

    joins: int = 0
    losses: int = 0  # how often the connection ended by itself
    last_loss: str = ""


class SessionUser(Protocol):
    """Who is in the session."""

    def bindings(self) -> Iterable[str]:
        """What our queue is to receive from the beginning."""

    async def entered(self, connection: AmqpConnection, queue: SessionQueue) -> None:
        """The name is held (again): consume and greet. Raises: TumplineError (another connection is tried)."""

    def left(self) -> None:
        """The connection is gone, maybe before `entered` was done. Idempotent."""

    def returned(self, message: ReturnedMessage) -> None:
        """Nobody was there to take what we published."""


class KeptSession:
    """`start` and `stop`. What is to end with the session, or to end it by failing, runs in `tasks`."""

    def __init__(
        self, place: SessionPlace, user: SessionUser, counts: SessionCounters, tell: Callable[[Any], None]
    ) -> None:
        self.tasks = TaskOwner(self._task_failed)
        self.is_leaving = False  # set it when we go: what fails from then on is not mended
        self._place = place
        self._user = user
        self._counts = counts
        self._tell = tell
        self._connection: AmqpConnection | None = None  # while the name is held
        self._why = ""  # we ended the connection ourselves
        self._first_join: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept = KeptConnection(
            place.url, place.shown_as, self._set_up, self._lost, waiting=self._waiting, retry_most_s=RETRY_MOST_S
        )

    async def start(self) -> None:
        """Join; when it returns, the user has entered. Keeps trying while nobody answers (`tell` hears of it).

        Raises: TumplineError that trying again cannot mend: login refused, no such vhost, name taken."""
        kept = self.tasks.start(self._kept.run(), _KEPT)
        await asyncio.wait((kept, self._first_join), return_when=asyncio.FIRST_COMPLETED)
        if kept.done():
            kept.result()

    async def stop(self) -> None:
        """Give back the name; what was published is still written. Idempotent."""
        await self.tasks.stop()
        self._leave()

    def start_over(self, reason: str) -> None:
        """The session is of no use any more although the connection is there: another connection mends it."""
        connection = self._connection
        if connection is not None and connection.is_open and not self.is_leaving:
            self._why = self._why or reason
            self.tasks.start(connection.close(), "closing")

    # ---- what becomes of the connection ------------------------------------------------------------------------------

    async def _set_up(self, connection: AmqpConnection) -> None:
        """It is there (again): hold the name, bind, enter."""
        _, exchange, name, _ = self._place
        queue = await SessionQueue.claim(connection, exchange, name, is_first=not self._first_join.done())
        await queue.bind(self._user.bindings())
        queue.channel.on_return = self._user.returned
        queue.channel.on_closed = lambda error: self.start_over(str(error))
        queue.channel.on_cancelled = lambda _: self.start_over("somebody deleted our queue")
        self._connection = connection
        await self._user.entered(connection, queue)
        self._counts.joins += 1
        self._tell(SessionJoined())
        if not self._first_join.done():
            self._first_join.set_result(None)

    def _lost(self, reason: str) -> None:
        """It ended by itself; another is tried."""
        reason = self._why or reason
        self._counts.losses += 1
        self._counts.last_loss = reason
        self._leave()
        self._tell(SessionLost(reason))

    def _waiting(self, reason: str, for_s: float) -> None:
        self._counts.last_loss = reason
        self._leave()  # of a connection that broke while it was set up
        self._tell(SessionAway(reason, for_s))

    def _leave(self) -> None:
        self._connection, self._why = None, ""
        self._user.left()

    def _task_failed(self, name: str, error: BaseException) -> None:
        if name != _KEPT:
            self.start_over(str(error))
        elif self._first_join.done():  # else `start` raises it
            self._leave()
            self._tell(SessionFailed(error))

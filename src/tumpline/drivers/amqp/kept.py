"""A connection that is kept up: dialled, set up, watched, and dialled again when it is lost."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from tumpline.drivers.amqp.connection import OPEN_S, AmqpConnection
from tumpline.drivers.amqp.errors import CONNECTION_FORCED, AmqpError
from tumpline.drivers.amqp.url import AmqpUrl
from tumpline.drivers.dial import DialError
from tumpline.errors import TumplineError

RETRY_LEAST_S: Final = 0.5
RETRY_MOST_S: Final = 15.0

SetUp = Callable[[AmqpConnection], Awaitable[None]]


class KeptConnection:
    """`run` it as a task of yours; cancel that to end it in order.

    `set_up` declares and consumes on each new connection; `lost` is told the reason when one that was set up is gone;
    `waiting` is told why there is none, and for how many seconds nothing is tried. Until `set_up` has worked once, what
    trying again cannot mend ends `run`; later everything is tried again, for the broker may just be restarting.
    """

    def __init__(
        self,
        url: AmqpUrl,
        name: str,
        set_up: SetUp,
        lost: Callable[[str], None],
        *,
        waiting: Callable[[str, float], None] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = OPEN_S,
        retry_least_s: float = RETRY_LEAST_S,
        retry_most_s: float = RETRY_MOST_S,
    ) -> None:
        self.connection: AmqpConnection | None = None  # while it is set up
        self.was_set_up = False  # at least once
        self._url = url
        self._name = name
        self._set_up = set_up
        self._lost = lost
        self._waiting = waiting
        self._tls = tls
        self._timeout_s = timeout_s
        self._least_s = retry_least_s
        self._most_s = retry_most_s

    async def run(self) -> None:
        """Until it is cancelled. Raises: AmqpError, TumplineError: what trying again cannot mend."""
        pause_s = self._least_s
        while True:
            try:
                reason = await self._once()
                pause_s = self._least_s
            except TumplineError as error:
                if not self.was_set_up and _is_hopeless(error):
                    raise
                reason = str(error)
            # Not all at the same moment after a restart of the broker: half of the pause is drawn.
            drawn_s = pause_s * (0.5 + random.random() / 2)
            if self._waiting is not None:
                self._waiting(reason, drawn_s)
            await asyncio.sleep(drawn_s)
            pause_s = min(2 * pause_s, self._most_s)

    async def _once(self) -> str:
        """One connection, from its beginning to its end; why it came."""
        connection = await AmqpConnection.open(self._url, name=self._name, tls=self._tls, timeout_s=self._timeout_s)
        try:
            await self._set_up(connection)
            self.was_set_up = True
            self.connection = connection
            reason = await connection.closed()
        finally:
            was_up, self.connection = self.connection is connection, None
            await connection.close()
        if was_up:
            self._lost(reason)
        return reason


def _is_hopeless(error: TumplineError) -> bool:
    """Of a first start: what is wrong here, and what the broker says no to. That nobody answers, a connection that broke (it
    has no code) and a broker that ends will pass."""
    if isinstance(error, AmqpError):
        return error.code not in (0, CONNECTION_FORCED)
    return not isinstance(error, DialError)

"""Being on a bus and staying there: a name, objects, and the way back when the bus returns."""

from __future__ import annotations

import asyncio
import logging
import random as chance
from collections.abc import Callable
from typing import Any, Final

from tumpline.drivers.dbus.connection import BusConnection
from tumpline.drivers.dbus.dial import is_embedded
from tumpline.drivers.dbus.errors import BusError, BusUnavailableError
from tumpline.drivers.dbus.interface import Interface
from tumpline.drivers.dbus.objects import Objects
from tumpline.drivers.dbus.server import EmbeddedBus, PlaceTakenError
from tumpline.drivers.tasks import TaskOwner
from tumpline.machines.backoff import Backoff

REJOIN_FIRST_S: Final = 0.1  # a bus that is restarted is back within a moment
REJOIN_CAP_S: Final = 5.0  # and one that was away for long is not missed for long
# An embedded bus whose lock is held answers within this time, or the lock is free again; meanwhile this often is looked.
TAKEN_S: Final = 5.0
LOOK_S: Final = 0.02

log = logging.getLogger(__name__)


class Presence:
    """A service on a bus: `session`, `system`, or any address. What it exports is there again after each return.

    With `embedded` (or `embedded:path=/...`) whoever comes first hosts the bus, and when that one goes another does.
    """

    def __init__(
        self,
        address: str,
        service_name: str = "",
        *,
        joined: Callable[[BusConnection], None] = lambda _connection: None,
        left: Callable[[str], None] = lambda _reason: None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Without `service_name` the objects are found under the unique name. `joined` is called after each joining,
        `left` with the reason after each loss of the bus; both must be quick."""
        self.address = address
        self.service_name = service_name
        self._joined = joined
        self._left = left
        self._exported: dict[str, dict[str, Interface]] = {}
        self._objects = Objects()  # checks what is exported while there is no connection
        self._connection: BusConnection | None = None
        self._entering: BusConnection | None = None
        self._hosted: EmbeddedBus | None = None
        self._backoff = Backoff(random, REJOIN_FIRST_S, REJOIN_CAP_S)
        self._is_joined = asyncio.Event()
        self._tasks = TaskOwner(_defect)

    @property
    def is_hosting(self) -> bool:
        """Whether the embedded bus is in this process, by this presence."""
        return self._hosted is not None

    @property
    def connection(self) -> BusConnection | None:
        """The connection, while there is one."""
        return self._connection

    async def start(self) -> None:
        """Join. Raises: BusUnavailableError, BusError (the name is taken): nothing is left behind then."""
        try:
            await self._join()
        except BaseException:
            self._stop_hosting()
            raise
        self._tasks.start(self._stay(), f"presence on the bus {self.address}")

    async def stop(self) -> None:
        """Leave the bus; the name is free for others. Idempotent."""
        try:
            await self._tasks.stop()
        finally:  # also when whoever waits for this is cancelled
            connection, self._connection = self._connection, None
            self._is_joined.clear()
            try:
                if connection is not None:
                    await connection.close()
            finally:
                self._stop_hosting()

    async def wait_joined(self) -> BusConnection:
        """Wait until there is a connection."""
        while self._connection is None:
            await self._is_joined.wait()
        return self._connection

    # ---- what is exported --------------------------------------------------------------------------------------------

    def export(self, path: str, *interfaces: Interface) -> None:
        """Put an object there, now and after each return. Raises: LocalProtocolError, MalformedError."""
        self._objects.export(path, *interfaces)
        self._exported.setdefault(path, {}).update({each.name: each for each in interfaces})
        for connection in self._reached():
            connection.export(path, *interfaces)

    def unexport(self, path: str) -> None:
        """Take the object away. Idempotent."""
        self._objects.unexport(path)
        self._exported.pop(path, None)
        for connection in self._reached():
            connection.unexport(path)

    def emit(self, path: str, interface: str, member: str, *arguments: Any) -> None:
        """Send a signal; while there is no bus, nobody hears it. Raises: LocalProtocolError: it is not exported."""
        if self._connection is not None:
            self._connection.emit(path, interface, member, *arguments)
        else:
            self._objects.signature_of(path, interface, member)

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _join(self) -> None:
        connection = await self._open()
        self._entering = connection
        try:
            for path, interfaces in self._exported.items():
                connection.export(path, *interfaces.values())  # before the name: whoever sees it finds them
            if self.service_name:
                await connection.request_name(self.service_name)
        except BaseException:
            await connection.close()
            raise
        finally:
            self._entering = None
        self._connection = connection
        self._backoff.reset()
        self._is_joined.set()
        self._joined(connection)

    async def _open(self) -> BusConnection:
        """Raises: BusUnavailableError."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + TAKEN_S
        while True:
            self._host()
            try:
                return await BusConnection.open(self.address)
            except BusUnavailableError:
                if not is_embedded(self.address) or self._hosted is not None or loop.time() > give_up:
                    raise
                await asyncio.sleep(LOOK_S)  # who has the lock does not listen yet, or is about to leave

    def _reached(self) -> list[BusConnection]:
        """The connection, or the one that is to be it and has no name yet."""
        return [each for each in (self._connection, self._entering) if each is not None]

    def _host(self) -> None:
        """Raises: BusUnavailableError: nobody could host a bus there."""
        if is_embedded(self.address) and self._hosted is None:
            try:
                self._hosted = EmbeddedBus.start(self.address)
            except PlaceTakenError:
                return  # somebody else does
            log.info("hosting the bus %s", self._hosted.address)

    def _stop_hosting(self) -> None:
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            hosted.close()

    async def _stay(self) -> None:
        while True:
            connection = await self.wait_joined()
            reason = await connection.closed()
            self._connection = None
            self._is_joined.clear()
            log.warning("the bus %s is gone (%s); trying to join it again", self.address, reason)
            self._left(reason)
            await self._rejoin()

    async def _rejoin(self) -> None:
        while self._connection is None:
            await asyncio.sleep(self._backoff.next_delay_s())
            try:
                await self._join()
            except (BusUnavailableError, BusError) as error:
                log.info("the bus %s is not joined: %s", self.address, error)
        log.info("on the bus %s again", self.address)


def _defect(name: str, error: BaseException) -> None:
    log.error("%s ended by an error that nobody foresaw", name, exc_info=error)

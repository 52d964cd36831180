"""Those on a bus who answer for what they take: known for as long as they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from tumpline.drivers.dbus import BusConnection, MatchRule, Message, Subscription
from tumpline.wire.dbus import Kind

BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"


class OnBus(Protocol):
    """A Presence, or something like it."""

    @property
    def connection(self) -> BusConnection | None:
        """While there is one."""


class Holders:
    """`changed(any)` is called when the first one comes and when the last one has gone."""

    def __init__(self, bus: OnBus, changed: Callable[[bool], None]) -> None:
        self._bus = bus
        self._changed = changed
        self._watched: dict[str, Subscription | None] = {}  # by unique name

    async def add(self, name: str) -> None:
        """This one answers from now on. Raises: BusError."""
        connection = self._bus.connection
        if name in self._watched or connection is None:
            return
        self._watched[name] = None
        if len(self._watched) == 1:
            self._changed(True)
        rule = MatchRule(Kind.SIGNAL, BUS, BUS, "NameOwnerChanged", BUS_PATH, arguments=((0, "", name),))
        try:
            subscription = await connection.subscribe(rule, self._owner_changed)
        except BaseException:
            self.remove(name)
            raise
        if name in self._watched:
            self._watched[name] = subscription
        else:  # it has gone meanwhile
            subscription.cancel()

    def _owner_changed(self, _message: Message, values: tuple[Any, ...]) -> None:
        if not values[2]:
            self.remove(values[0])

    def remove(self, name: str) -> None:
        """This one answers no more. Idempotent."""
        if name not in self._watched:
            return
        subscription = self._watched.pop(name)
        if subscription is not None:
            subscription.cancel()
        if not self._watched:
            self._changed(False)

    def clear(self) -> None:
        """The bus is gone, and everybody on it."""
        for name in list(self._watched):
            self.remove(name)

"""Events in order, of machines that move transfers: runs of small ones and of acknowledgements become one event each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Event = TypeVar("Event")


class EventQueue(Generic[Event]):
    """`arrived` and `acked` may be appended to directly: that is the hot path."""

    __slots__ = ("_acked_event", "_arrived_event", "_events", "acked", "arrived")

    def __init__(
        self, arrived_event: Callable[[list[tuple[int, bytes]]], Event], acked_event: Callable[[list[int]], Event]
    ) -> None:
        self._arrived_event = arrived_event
        self._acked_event = acked_event
        self.arrived: list[tuple[int, bytes]] = []
        self.acked: list[int] = []
        self._events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Append an event behind everything that happened before it."""
        self._close_batches()
        self._events.append(event)

    def drain(self) -> list[Event]:
        """All events since the last call."""
        self._close_batches()
        events, self._events = self._events, []
        return events

    def _close_batches(self) -> None:
        if self.arrived:
            self._events.append(self._arrived_event(self.arrived))
            self.arrived = []
        if self.acked:
            self._events.append(self._acked_event(self.acked))
            self.acked = []

"""Being in a session, whoever it is: joined, left and joined again, each with its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tumpline.drivers.amqp import AmqpConnection, AmqpUrl, ReturnedMessage
from tumpline.drivers.overlay import NameTakenError, SessionAway, SessionFailed, SessionJoined, SessionLost
from tumpline.drivers.overlay._kept_session import KeptSession, SessionCounters, SessionPlace
from tumpline.drivers.overlay._session import SessionQueue
from tumpline.errors import RefusedError, StateError
from tumpline.testing.embedded_broker import embedded_broker


class Guest:
    """Somebody in the session; `entering` is what happens as they enter, one after the other."""

    def __init__(self, url: str, name: str = "guest") -> None:
        self.entering: list[Exception | None] = []
        self.told: list[Any] = []
        self.connection: AmqpConnection | None = None  # while in
        self.counts = SessionCounters()
        self.session = KeptSession(
            SessionPlace(AmqpUrl.parse(url), "amq.topic", name, "a test"), self, self.counts, self._hear
        )
        self._changed = asyncio.Event()

    def bindings(self) -> Sequence[str]:
        return ("for.guests.#",)

    async def entered(self, connection: AmqpConnection, queue: SessionQueue) -> None:
        await queue.consume(lambda _deliveries: None)
        self.connection = connection
        what = self.entering.pop(0) if self.entering else None
        if what is not None:
            self.session.start_over("entering goes wrong")
            raise what

    def left(self) -> None:
        self.connection = None

    def returned(self, message: ReturnedMessage) -> None:
        raise AssertionError(f"nothing was published: {message}")

    def _hear(self, event: Any) -> None:
        self.told.append(event)
        self._changed.set()

    def is_in(self) -> bool:
        """Whether they are in, and their connection is good."""
        return self.connection is not None and self.connection.is_open

    async def joined(self, times: int) -> None:
        """Until they have joined so often."""
        async with asyncio.timeout(20):
            while len([each for each in self.told if type(each) is SessionJoined]) < times:
                self._changed.clear()
                await self._changed.wait()

    @property
    def losses(self) -> list[str]:
        return [each.reason for each in self.told if type(each) is SessionLost]


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    async with embedded_broker() as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.port}/"


@asynccontextmanager
async def present(url: str, name: str = "guest") -> AsyncIterator[Guest]:
    guest = Guest(url, name)
    try:
        await guest.session.start()
        yield guest
    finally:
        await guest.session.stop()


async def test_who_has_started_is_in_and_who_stops_gives_the_name_back(broker: str) -> None:
    for _ in range(2):
        async with present(broker) as guest:
            assert guest.is_in()
            assert guest.told == [SessionJoined()]
            with pytest.raises(NameTakenError):
                async with present(broker):
                    pass
        assert not guest.is_in()
        assert guest.losses == [], "nobody lost anything"
        assert (guest.counts.joins, guest.counts.losses) == (1, 0)


async def test_a_task_that_fails_starts_the_session_over(broker: str) -> None:
    async def fail() -> None:
        raise StateError("the plan is not to be carried out")

    async with present(broker) as guest:
        guest.session.tasks.start(fail(), "plan")
        await guest.joined(2)
        assert guest.losses == ["the plan is not to be carried out"]
        assert guest.is_in()
        assert (guest.counts.joins, guest.counts.losses) == (2, 1)


async def test_who_leaves_does_not_start_over(broker: str) -> None:
    async with present(broker) as guest:
        guest.session.is_leaving = True
        guest.session.start_over("somebody deleted our queue")
        await asyncio.sleep(0)  # a closing would have begun
        assert guest.is_in()
    assert guest.losses == []


async def test_what_went_wrong_while_entering_is_not_the_reason_of_a_later_loss(broker: str) -> None:
    async with present(broker) as guest:
        guest.entering = [StateError("no room at the table"), None]
        guest.session.start_over("first")
        await guest.joined(2)
        assert "no room at the table" in [each.reason for each in guest.told if type(each) is SessionAway]
        guest.session.start_over("second")
        await guest.joined(3)
        assert guest.losses == ["first", "second"]


async def test_what_is_refused_at_the_first_entry_ends_the_start(broker: str) -> None:
    guest = Guest(broker)
    guest.entering = [RefusedError("nobody enters with such shoes")]
    with pytest.raises(RefusedError, match="such shoes"):
        await guest.session.start()
    await guest.session.stop()
    assert not guest.is_in()
    assert SessionFailed not in {type(each) for each in guest.told}, "`start` has said it"

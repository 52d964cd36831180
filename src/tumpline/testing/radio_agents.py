"""Agents of the overlay whose port is a simulated probe, with air around it; and an older agent's place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tumpline.node.overlay.agent import OverlayAgent
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.testing.older_members import OlderMember
from tumpline.testing.radio import Air, Mote, Probe, ProbeKind
from tumpline.wire.dot15d4 import decode_head_untrusted

ANSWER_S: Final = 20.0  # of a machine that has much else to do
POLL_S: Final = 0.01


class RadioAgent:
    """A place: its air, the probe there, and the agent whose port that is."""

    def __init__(self, url: str, name: str, device: Path, kind: ProbeKind | None = None, **wishes: Any) -> None:
        self.air = Air()
        self.probe = Probe(self.air, device, kind)
        self.events: list[Any] = []
        wish = Wish(name=name, url=url, serial=True, serial_port=str(device), **wishes)
        self.agent = OverlayAgent(settings_of(wish), self._told)

    @property
    def members(self) -> set[str]:
        """Whom it knows."""
        return {each["name"] for each in self.agent.snapshot()["member"]["members"]}

    @property
    def port(self) -> dict[str, Any]:
        """What the port says of itself."""
        described: dict[str, Any] = self.agent.snapshot()["ports"][0]
        return described

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Something that its events bring about, or its radio. Raises: TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            # Ports, members, air and threads each bring some of it about, and none of them tells.
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)

    def told(self, kind: str) -> list[Any]:
        """Its events of one class, by name."""
        return [event for event in self.events if type(event).__name__ == kind]

    def _told(self, event: Any) -> None:
        self.events.append(event)


@asynccontextmanager
async def radio_agent(
    url: str, name: str, device: Path, kind: ProbeKind | None = None, **wishes: Any
) -> AsyncIterator[RadioAgent]:
    """One that is a member as long as the block lasts."""
    async with started(RadioAgent(url, name, device, kind, **wishes)) as made:
        yield made


@asynccontextmanager
async def started(made: RadioAgent) -> AsyncIterator[RadioAgent]:
    """The same, of one that is made already."""
    try:
        await made.agent.start()
        yield made
    finally:
        await made.agent.close()
        made.probe.unplug()


class OlderPlace:
    """Air whose probe is an older agent's: written with kombu, heard in its own thread."""

    def __init__(self, member: OlderMember) -> None:
        self.air = Air()
        self.member = member
        self._loop = asyncio.get_running_loop()
        self.air.stations.append(self)

    def hear(self, frame: bytes) -> bool:
        """As an active probe does."""
        head = decode_head_untrusted(frame)
        is_here = any(isinstance(each, Mote) and each.address == head.destination for each in self.air.stations)
        if not head.wants_ack or is_here:
            return False
        self._loop.run_in_executor(None, self.member.send, frame)
        return True

    async def run(self) -> None:
        """Frames that come for the member go into the air. Until cancelled."""
        while True:
            while not self.member.received.empty():
                self.air.transmit(self, self.member.received.get_nowait().packet)
            await asyncio.sleep(POLL_S)

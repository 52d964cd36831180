"""Agents of the overlay whose port is memory, with a host behind it that pings and is pinged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from tumpline.drivers.overlay import PortUp
from tumpline.drivers.ports.memory import MemoryPort, MemoryPortConfig
from tumpline.node.overlay.agent import OverlayAgent
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.node.registry import load_ports
from tumpline.testing.pings import Address, Echo, decode_echo, encode_echo, reply_to

ANSWER_S: Final = 20.0  # of a machine that has much else to do


class MemoryAgent:
    """`bbbb::NUMBER` and 10.2.0.NUMBER, in the session that `url` names."""

    def __init__(self, url: str, name: str, number: int, *, interval_s: int = 10, **wishes: Any) -> None:
        self.name = name
        self.number = number
        self.addresses: tuple[Address, ...] = (IPv6Address(f"bbbb::{number:x}"), IPv4Address(f"10.2.0.{number}"))
        self.replies: Counter[int] = Counter()  # that came, by sequence number
        self.events: list[Any] = []
        self.foreign = 0  # packets that were for somebody else
        self._changed = asyncio.Event()
        settings = settings_of(Wish(name=name, url=url, **wishes))
        config = MemoryPortConfig(
            name=f"memory-{name}", addresses=[f"{self.addresses[0]}/64", f"{self.addresses[1]}/24"]
        )
        attachment = settings.attachment
        settings = settings._replace(
            attachment=attachment._replace(member=attachment.member._replace(interval_s=interval_s)),
            port=load_ports().get("memory"),
            port_config=config,
        )
        self.agent = OverlayAgent(settings, self._told)

    async def start(self) -> None:
        """Join. Raises: TumplineError."""
        await self.agent.start()

    async def stop(self) -> None:
        """Leave, in order."""
        await self.agent.close()

    async def crash(self) -> None:
        """Leave without a word."""
        self.agent.attachment.abort()
        await self.agent.close()

    @property
    def port(self) -> MemoryPort:
        """Behind which the host is."""
        port = self.agent.attachment.ports[0]
        assert isinstance(port, MemoryPort)
        return port

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """Whom it knows, by name."""
        known = self.agent.snapshot()["member"]["members"]
        return {each["name"]: each for each in known}

    async def ping(self, destination: str, sequence: int) -> None:
        """Until an answer came. Raises: TimeoutError."""
        self.ask(destination, sequence)
        await self.until(lambda: self.replies[sequence] > 0)

    def ask(self, destination: str, sequence: int) -> None:
        """Send a ping, wait for nothing."""
        there = ip_address(destination)
        source = next(each for each in self.addresses if each.version == there.version)
        self.port.put([encode_echo(Echo(source, there, False, self.number, sequence, b"tumpline"))])

    async def until(self, is_so: Any) -> None:
        """Something that its events or packets bring about. Raises: TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    def forget(self) -> None:
        """What it has heard until now, for tests that take long."""
        self.replies.clear()
        self.events.clear()

    def told(self, kind: str) -> list[Any]:
        """Its events of one class, by name."""
        return [event for event in self.events if type(event).__name__ == kind]

    def _told(self, event: Any) -> None:
        self.events.append(event)
        if type(event) is PortUp:
            self.port.on_taken = self._taken
        self._changed.set()

    def _taken(self, packets: list[bytes]) -> None:
        mine = frozenset(self.addresses)
        for packet in packets:
            echo = decode_echo(packet)
            if echo is None or echo.destination not in mine:
                self.foreign += 1
            elif echo.is_reply:
                self.replies[echo.sequence] += 1
            elif (answer := reply_to(packet, mine)) is not None:
                self.port.put([answer])
        self._changed.set()


@asynccontextmanager
async def memory_agent(url: str, name: str, number: int, **wishes: Any) -> AsyncIterator[MemoryAgent]:
    """One that is a member as long as the block lasts."""
    made = MemoryAgent(url, name, number, **wishes)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def meet(*agents: MemoryAgent) -> None:
    """Until each knows all others (and none from before it started anew), and their addresses. Raises: TimeoutError."""
    for agent in agents:
        others = [other for other in agents if other is not agent]
        await agent.until(lambda: all(_knows(agent, other) for other in others))  # noqa: B023


def _knows(agent: MemoryAgent, other: MemoryAgent) -> bool:
    known = agent.members.get(other.name)
    if known is None or known["identity"] != other.agent.attachment.member.identity.hex():
        return False
    return any(claim.startswith(str(other.addresses[0])) for claim in known["claims"])

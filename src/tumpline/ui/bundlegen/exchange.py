"""One exchange: everything that is supplied goes through a link, as fast as it comes out at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tumpline.drivers.links._api import BundleLink
from tumpline.errors import NoAnswerError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Unit
from tumpline.ui.bundlegen.ends import Receiver, Sender
from tumpline.ui.bundlegen.ledger import Ledger

# Drawn and offered at once: the link has its turn before there are more.
_BATCH_BUNDLES: Final = 128
_BATCH_OCTETS: Final = 256 * 1024
_STOP_S: Final = 5.0


class Window(NamedTuple):
    """What may be on its way at once: sent, and not come out of the other end."""

    bundles: int
    octets: int


class LinkPair(NamedTuple):
    """Two ends, not started. `address` is what the active end is to reach; a function, for only a link that has started
    knows its port."""

    active: BundleLink
    passive: BundleLink
    address: Callable[[], str]
    window: Window
    secured: bool  # nothing may go in the clear


class Exchange:
    """`run` it once; then `ledger` has the books."""

    def __init__(self, pair: LinkPair, supplied: Iterator[bytes], patience_s: float) -> None:
        self.ledger = Ledger()
        self.security = ""
        self.broken: str | None = None  # why the session ended before everything had come
        self.seconds = 0.0  # from the first bundle offered to the last one come
        self._pair = pair
        self._supplied = supplied
        self._supply_ended = False
        self._patience_s = patience_s
        self._changed = asyncio.Event()
        self._given_up = Window(0, 0)  # of what is on its way: no longer waited for
        self.sender = Sender(self._changed.set)
        self.receiver = Receiver(self.ledger, self._changed.set)
        self.receiver.link = pair.passive

    @property
    def is_good(self) -> bool:
        """Whether all that was supplied came equal, and the sending end heard so (UDPCL: sent it)."""
        return self._supply_ended and self.ledger.is_clean and self.sender.acked_count == self.ledger.sent

    async def run(self, watch: Callable[[Ledger], None]) -> None:
        """`watch` is called now and then, for people. Raises: TumplineError (no session)."""
        pair = self._pair
        try:
            await pair.passive.start(self.receiver)
            await pair.active.start(self.sender)
            pair.active.connect(pair.address())
            await self._joined()
            await self._pass_all(watch)
        finally:
            await pair.active.stop(timeout_s=_STOP_S)
            await pair.passive.stop(timeout_s=_STOP_S)

    async def _joined(self) -> None:
        """Wait for the path; one attempt is enough on one machine. Raises: NoAnswerError."""
        try:
            async with asyncio.timeout(self._patience_s):
                while not self._is_joined and not self.sender.trouble:
                    await self._change()
        except TimeoutError:
            self.sender.trouble = f"nothing came of it in {self._patience_s:g} s"
        if not self._is_joined:
            other = f" (the other end: {self.receiver.trouble})" if self.receiver.trouble else ""
            raise NoAnswerError(f"no session with {self._pair.address()}: {self.sender.trouble}{other}")

    @property
    def _is_joined(self) -> bool:
        """A path is there (and secured: that of UDPCL may be told before)."""
        info = self.sender.info
        return info is not None and (info.security != "none" or not self._pair.secured)

    async def _pass_all(self, watch: Callable[[Ledger], None]) -> None:
        assert self.sender.info is not None
        self.security = self.sender.info.security
        loop = asyncio.get_running_loop()
        began = loop.time()
        came_before_silence = -1
        while not self._is_over:
            try:
                await self._step()
            except TimeoutError:  # what is on its way does not come any more
                if self.ledger.came == came_before_silence:
                    break  # nor did anything of what was sent in its place
                came_before_silence = self.ledger.came
                self._given_up = Window(self.ledger.pending_count, self.ledger.pending_octets)
                if self._supply_ended:
                    break
            else:
                self.seconds = loop.time() - began
            watch(self.ledger)
        self.broken = self.sender.down

    @property
    def _is_over(self) -> bool:
        if self.sender.down is not None:
            return True
        waits = self.ledger.pending_count - self.sender.refused_count > 0  # what was refused does not come
        return self._supply_ended and not waits and self.sender.ended >= self.ledger.sent

    async def _step(self) -> None:
        """Send what there is room for, then wait for anything. Raises: TimeoutError."""
        if self._has_room:
            self._offer()
            await asyncio.sleep(0)
        else:
            async with asyncio.timeout(self._patience_s):
                await self._change()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    @property
    def _has_room(self) -> bool:
        ledger, window, ignored = self.ledger, self._pair.window, self._given_up
        return (
            not self._supply_ended
            and ledger.pending_count - ignored.bundles < window.bundles
            and ledger.pending_octets - ignored.octets < window.octets
        )

    def _offer(self) -> None:
        assert self.sender.info is not None
        units: list[Unit] = []
        octets = 0
        while len(units) < _BATCH_BUNDLES and octets < _BATCH_OCTETS and self._has_room:
            data = next(self._supplied, None)
            if data is None:
                self._supply_ended = True
                break
            units.append(Unit(self.ledger.send(data), data, Octets(b""), b""))
            octets += len(data)
        if units:
            self._pair.active.offer(self.sender.info.path, units)

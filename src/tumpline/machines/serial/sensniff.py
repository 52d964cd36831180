"""sensniff: a sniffer. It gives each frame with the strength and quality of its reception, and sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tumpline.machines.serial._api import DialectSpec, SerialConfig, Trailer
from tumpline.machines.serial._settings import Settings
from tumpline.wire.sensniff import (
    ASK_CHANNEL,
    MAGIC_OCTETS,
    Command,
    Head,
    decode_head,
    encode_set_channel,
    find_magic,
)

# The peripheral writes a message in one go: what is silent in its middle lost octets (the firmware waits as long for us).
SILENCE_S: Final = 0.5
_CHANNEL: Final = 0


@dataclass(slots=True)
class Counters:
    """Of messages, and of octets that belong to none."""

    messages: int = 0
    malformed: int = 0
    not_supported: int = 0
    skipped_octets: int = 0  # what the firmware prints, and what follows a lost octet


class SensniffDialect:
    """See Dialect."""

    can_send = False

    def __init__(self, config: SerialConfig) -> None:
        self._octets_most = config.octets_most
        self._settings = Settings({_CHANNEL: config.channel})
        self._counts = Counters()
        self._rest = bytearray()
        self._last_at = 0.0
        self._versions: tuple[int, ...] = (2, 1)  # whichever it is, until it has said so
        self._writes: list[bytes] = []

    @property
    def channel(self) -> int | None:
        """See Dialect."""
        return self._settings.told.get(_CHANNEL)

    def opened(self, now: float) -> None:
        """See Dialect."""
        self._rest.clear()
        self._versions = (2, 1)
        self._writes = []
        self._settings.opened(now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        for _, channel in self._settings.due(now):
            for version in self._versions:
                ask = ASK_CHANNEL[version] if channel is None else encode_set_channel(version, channel)
                self._writes.append(ask)

    def receive(self, data: bytes, now: float) -> list[bytes]:
        """See Dialect."""
        if self._rest and now - self._last_at > SILENCE_S:
            self._counts.skipped_octets += len(self._rest)
            self._rest.clear()
        self._last_at = now
        self._rest += data
        heard: list[bytes] = []
        while (message := self._next()) is not None:
            heard += self._obey(*message)
        return heard

    def _next(self) -> tuple[Head, bytes] | None:
        """The next message that is whole."""
        while True:
            self._skip(find_magic(self._rest))
            head = decode_head(self._rest)
            if head is None:
                return None
            if head.body_octets > self._octets_most:
                self._counts.malformed += 1
                self._skip(MAGIC_OCTETS)
                continue
            end = head.octets + head.body_octets
            if len(self._rest) < end:
                return None
            body = bytes(self._rest[head.octets : end])
            del self._rest[:end]
            return head, body

    def _skip(self, octets: int) -> None:
        self._counts.skipped_octets += octets
        del self._rest[:octets]

    def _obey(self, head: Head, body: bytes) -> list[bytes]:
        self._counts.messages += 1
        if head.version:
            self._versions = (head.version,)
        if head.command == Command.FRAME:
            return [body]
        if head.command == Command.CHANNEL and body:
            self._settings.answered(_CHANNEL, body[0])
        elif head.command == Command.NOT_SUPPORTED:
            self._counts.not_supported += 1
        return []

    def send(self, frames: Sequence[bytes], now: float) -> int:  # noqa: ARG002
        """It cannot: see can_send."""
        return len(frames)

    def writes(self) -> list[bytes]:
        """See Dialect."""
        writes, self._writes = self._writes, []
        return writes

    def next_timeout(self) -> float | None:
        """See Dialect."""
        return self._settings.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """See Dialect."""
        self._tell(now)

    def snapshot(self) -> dict[str, Any]:
        """See Dialect."""
        return {"sensniff": asdict(self._counts), "channel": self.channel}


SPEC: Final = DialectSpec("sensniff", "a sensniff peripheral: it only listens", Trailer.METADATA, SensniffDialect)

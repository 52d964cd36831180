"""Our own announcements: at joining, on change, when somebody asks, and again and again."""

from __future__ import annotations

from typing import Final

from tumpline.machines.bucket import Bucket
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.events import Output, Publish
from tumpline.machines.overlay.sealing import Secrets
from tumpline.wire.overlay import (
    WHO,
    Claim,
    Format,
    Hello,
    OverlayKey,
    Purpose,
    encode_signed_hello,
)

# Whoever asks makes all members speak: as often at once, and in the long run, does one answer (and ask).
ANSWERS_AT_ONCE: Final = 4.0
ANSWERS_PER_S: Final = 1.0
QUESTIONS_PER_S: Final = 0.5


class Announcer:
    """Silent until `start`; `stop` when the connection is lost."""

    def __init__(self, config: MemberConfig, secrets: Secrets, out: list[Output]) -> None:
        self._secrets = secrets
        self._out = out
        self._key = str(OverlayKey(Purpose.HELLO, "", config.name))
        self._next_at: float | None = None
        self._answers = Bucket(ANSWERS_AT_ONCE, ANSWERS_AT_ONCE, ANSWERS_PER_S, 0.0)
        self._questions = Bucket(1.0, 2.0, QUESTIONS_PER_S, 0.0)
        self.hello = Hello(
            config.name,
            config.instance,
            0,
            secrets.mode,
            secrets.key,
            config.role,
            config.started_ms,
            config.interval_s,
            secrets.agreement_public,
            config.addresses,
            tuple(int(kind) for kind in config.kinds),
            tuple(one for one in Format if one in config.formats),
            config.node_id,
            is_translator=config.is_translator,
        )

    def start(self, now: float) -> None:
        """We are in the session."""
        self.announce(now)
        self.ask(now)

    def stop(self) -> None:
        """We are not."""
        self._next_at = None

    def announce(self, now: float) -> None:
        """Say it now."""
        self._say(self.hello)
        self._next_at = now + self.hello.interval_s

    def leave(self) -> None:
        """Say that we go; nothing is said after it."""
        if self._next_at is not None:
            self._say(self.hello._replace(is_leaving=True))
            self.stop()

    def set_addresses(self, addresses: tuple[Claim, ...], now: float) -> None:
        """Ours are these from now on."""
        if addresses != self.hello.addresses:
            self.hello = self.hello._replace(addresses=addresses)
            if self._next_at is not None:
                self.announce(now)

    def asked(self, now: float) -> None:
        """Somebody wants to know who is there."""
        if self._next_at is None:
            return
        if self._answers.take(now):
            self.announce(now)
        else:
            self._next_at = min(self._next_at, now + 1.0 / ANSWERS_PER_S)

    def ask(self, now: float) -> bool:
        """Let everybody announce themselves; False: that was asked just now."""
        if not self._questions.take(now):
            return False
        self._out.append(Publish(WHO, (self.hello.name.encode(),)))
        return True

    def next_timeout(self) -> float | None:
        """When to announce again."""
        return self._next_at

    def handle_timeout(self, now: float) -> None:
        """See `next_timeout`."""
        if self._next_at is not None and self._next_at <= now:
            self.announce(now)

    def _say(self, hello: Hello) -> None:
        self.hello = self.hello._replace(sequence=self.hello.sequence + 1)
        signed = hello._replace(sequence=self.hello.sequence).encode()
        self._out.append(Publish(self._key, (encode_signed_hello(signed, self._secrets.prove(signed)),)))

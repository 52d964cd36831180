"""What a probe is told when its line opens, and again until it answers: many boards boot at that moment, for a second or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REPEAT_S: Final = 1.0
TIMES_MOST: Final = 5  # a probe that has not answered by then never does: not all firmware knows the question


class Settings:
    """`wanted`: what each parameter shall be; None: whatever it is, we want to know it."""

    def __init__(self, wanted: Mapping[int, int | None]) -> None:
        self.told: dict[int, int] = {}
        self._wanted = wanted
        self._at: float | None = None
        self._times = 0

    def opened(self, now: float) -> None:
        """The line is there (again)."""
        self.told.clear()
        self._at, self._times = now, 0

    def answered(self, param: int, value: int) -> None:
        """The probe says what a parameter is."""
        if param in self._wanted:
            self.told[param] = value
        if not self._open():
            self._at = None

    def _open(self) -> list[tuple[int, int | None]]:
        return [
            (param, wanted)
            for param, wanted in self._wanted.items()
            if param not in self.told or wanted not in (None, self.told[param])
        ]

    def due(self, now: float) -> list[tuple[int, int | None]]:
        """What is to be set (or asked for) now."""
        if self._at is None or now < self._at:
            return []
        self._times += 1
        self._at = now + REPEAT_S if self._times < TIMES_MOST else None
        return self._open()

    def next_timeout(self) -> float | None:
        """See contract.Machine."""
        return self._at

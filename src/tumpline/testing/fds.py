"""Descriptors for tests of machines: counted, without a file behind them."""

from __future__ import annotations


class CountedFd:
    """One holder when made; whoever forgets to release it, or does so twice, is found."""

    def __init__(self) -> None:
        self.holders = 1

    def retain(self) -> None:
        assert self.holders > 0, "retained after the last release"
        self.holders += 1

    def release(self) -> None:
        assert self.holders > 0, "released once too often"
        self.holders -= 1

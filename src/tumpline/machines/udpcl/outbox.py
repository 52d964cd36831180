"""Bundles that wait to be sent in one conversation, and the datagrams they become."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tumpline.machines.udpcl.segmentation import Segmenter


class Outbox:
    """`offer` bundles with tokens; `take` datagrams. A token comes back with the last datagram of its bundle."""

    def __init__(self) -> None:
        self.queued_octets = 0  # of bundles that are not cut into datagrams yet
        self._segmenter = Segmenter()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._made: deque[bytes] = deque()  # datagrams of the bundles of `_made_tokens`
        self._made_tokens: list[int] = []

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queue or self._made)

    def offer(self, token: int, bundle: bytes) -> None:
        """This one after the others."""
        self._queue.append((token, bundle))
        self.queued_octets += len(bundle)

    def cancel(self, token: int) -> bool:
        """Do not send it. False: it has begun, or is unknown."""
        for entry in self._queue:
            if entry[0] == token:
                self._queue.remove(entry)
                self.queued_octets -= len(entry[1])
                return True
        return False

    def give_back(self) -> list[int]:
        """The tokens of all that was not sent; it is not sent any more."""
        tokens = [*self._made_tokens, *(token for token, _ in self._queue)]
        self._queue.clear()
        self._made.clear()
        self._made_tokens = []
        self.queued_octets = 0
        return tokens

    def take(self, most_octets: int, datagram_octets: int, *, joins: bool) -> tuple[list[bytes], list[int]]:
        """One datagram at least, and about as many octets as are allowed."""
        made = self._made
        if not made:
            made.extend(self._cut(most_octets, datagram_octets, joins))
        datagrams: list[bytes] = []
        octets = 0
        while made and octets < most_octets:
            datagrams.append(made.popleft())
            octets += len(datagrams[-1])
        tokens: list[int] = []
        if not made:
            tokens, self._made_tokens = self._made_tokens, []
        return datagrams, tokens

    def _cut(self, most_octets: int, datagram_octets: int, joins: bool) -> list[bytes]:
        bundles: list[bytes] = []
        octets = 0
        queue, tokens = self._queue, self._made_tokens
        while queue and octets < most_octets:
            token, bundle = queue.popleft()
            octets += len(bundle)
            bundles.append(bundle)
            tokens.append(token)
        self.queued_octets -= octets
        return self._segmenter.datagrams(bundles, datagram_octets, joins=joins)

    def shorten(self, datagram_octets: int) -> None:
        """What was cut into datagrams already is cut anew: they are to be shorter."""
        made, self._made = self._made, deque()
        self._made.extend(self._segmenter.cut_again(made, datagram_octets))

    def cut_again(self, datagrams: Sequence[bytes], datagram_octets: int) -> list[bytes]:
        """The bundles of datagrams that were taken, and were too long, in shorter ones."""
        return self._segmenter.cut_again(datagrams, datagram_octets)

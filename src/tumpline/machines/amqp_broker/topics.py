"""Which bindings of a topic exchange a routing key fits (AMQP 0-9-1 specification §3.1.3.3): words between dots, `*` for one
word, `#` for any number of them.

Bindings lie in a tree of words; what a key leads to is remembered until a binding changes, for keys repeat.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

REMEMBERED: Final = 4096  # keys; strangers choose them

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("below", "targets")

    def __init__(self) -> None:
        self.below: dict[str, _Node[T]] = {}
        self.targets: dict[T, None] = {}  # in order of binding


class Topics(Generic[T]):
    """Bindings of one exchange; a target may be bound by several keys, and is found once."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._found: dict[str, tuple[T, ...]] = {}

    def bind(self, key: str, target: T) -> None:
        """Idempotent."""
        node = self._root
        for word in key.split("."):
            node = node.below.setdefault(word, _Node())
        node.targets[target] = None
        self._found.clear()

    def unbind(self, key: str, target: T) -> None:
        """Idempotent; what leads nowhere any more is forgotten."""
        self._remove(self._root, key.split("."), 0, target)
        self._found.clear()

    def _remove(self, node: _Node[T], words: list[str], at: int, target: T) -> None:
        if at == len(words):
            node.targets.pop(target, None)
            return
        below = node.below.get(words[at])
        if below is None:
            return
        self._remove(below, words, at + 1, target)
        if not below.below and not below.targets:
            del node.below[words[at]]

    def find(self, key: str) -> tuple[T, ...]:
        """Who is bound by something that this key fits."""
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._search(key.split("."))
        return found

    def _search(self, words: list[str]) -> tuple[T, ...]:
        found: dict[T, None] = {}
        seen: set[tuple[int, int]] = set()  # with `#` one place is reached on many ways
        waiting = [(self._root, 0)]
        while waiting:
            node, at = waiting.pop()
            if (id(node), at) in seen:
                continue
            seen.add((id(node), at))
            if at == len(words):
                found.update(node.targets)
            elif (below := node.below.get(words[at])) is not None:
                waiting.append((below, at + 1))
            if at < len(words) and (below := node.below.get("*")) is not None:
                waiting.append((below, at + 1))
            if (below := node.below.get("#")) is not None:
                waiting += [(below, end) for end in range(at, len(words) + 1)]
        return tuple(found)

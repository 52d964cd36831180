"""The mistakes of a configuration, collected: each with its place, what is wrong and what to write instead."""

from __future__ import annotations

from tumpline.errors import ConfigError

Step = str | int
Path = tuple[Step, ...]  # ("links", 0, "tls", "cert")


def dotted(path: Path) -> str:
    """A place in the file as people read it: `links[0].tls.cert`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Problems:
    """The mistakes of one file, in order of their lines."""

    def __init__(self, source: str, lines: dict[Path, int] | None = None) -> None:
        self.source = source  # the file, as messages name it
        self.lines = lines or {}
        self._found: list[tuple[int, str]] = []

    def add(self, path: Path, sentence: str) -> None:
        """`sentence`: "what is wrong; what to write"."""
        self.add_line(self.line(path), f"{dotted(path)}: {sentence}" if path else sentence)

    def add_line(self, line: int, text: str) -> None:
        """A mistake that belongs to a line and to no key."""
        self._found.append((line, f"{self.source}:{line}: {text}"))

    def line(self, path: Path) -> int:
        """Where `path` stands; for what is not there, where its table begins."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def __len__(self) -> int:
        return len(self._found)

    def sentences(self) -> list[str]:
        """All of them, in order of their lines."""
        return [text for _, text in sorted(self._found, key=lambda found: found[0])]

    def raise_if_any(self) -> None:
        """Raises: ConfigError with all of them."""
        if self._found:
            raise ConfigError(self.sentences())

"""A failure as a Mermaid sequence chart: paste it where Mermaid is drawn."""

from __future__ import annotations

from collections.abc import Iterable


def mermaid(story: Iterable[tuple[float, str, str, str]]) -> str:
    """The lines of a chart of (time, sender, receiver, what)."""
    lines = ["sequenceDiagram"]
    for when, sender, receiver, what in story:
        text = what.replace(";", ",").replace("#", "")
        if sender == receiver:
            lines.append(f"    Note over {sender}: {when:.3f} s {text}")
        else:
            lines.append(f"    {sender}->>{receiver}: {when:.3f} s {text}")
    return "\n".join(lines)

"""A laboratory on trial: up, every expectation measured, down; in namespaces, or simulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tumpline.lab.api import Lab
from tumpline.lab.expect import Row, check
from tumpline.lab.expect._bundles import Agents
from tumpline.lab.world import Simulated


@contextmanager
def trial(target: str, *, name: str | None = None, keep: bool = False) -> Iterator[tuple[str, Iterator[Row]]]:
    """Its name, and the rows as they are measured. It is down when the block ends, unless `keep`, and the block went well.
    Raises: ConfigError, TumplineError."""
    lab = Lab.read(target, name=name)
    if lab.file.engine == "world":
        yield lab.name, check(Simulated(lab.file))
        return
    lab.up(lasting=keep)
    try:
        yield lab.name, check(Agents(lab))
    except BaseException:
        lab.down()
        raise
    if not keep:
        lab.down()

"""What every kind of expectation is, and what it is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Protocol

import msgspec.inspect as mi
from msgspec import Meta

from tumpline.errors import TumplineError
from tumpline.lab.model import LabFile
from tumpline.node.config.model import Section
from tumpline.node.registry import did_you_mean
from tumpline.wire.eid import Eid

if TYPE_CHECKING:
    from tumpline.lab.api import Lab

# What a text of an expectation names; `mistakes` looks whether it is there.
Node = Annotated[str, Meta(extra={"names": "node"})]
AgentNode = Annotated[str, Meta(extra={"names": "agent"})]
Net = Annotated[str, Meta(extra={"names": "net"})]
# An endpoint, or a node whose agent is meant.
Endpoint = Annotated[str, Meta(extra={"names": "endpoint"})]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Wait = Annotated[float, Meta(gt=0)]


class Measured(NamedTuple):
    """What was found, in words, and whether that is as expected."""

    text: str
    ok: bool


class Row(NamedTuple):
    """A line of the table that `lab test` prints."""

    what: str
    expected: str
    measured: str
    ok: bool
    seconds: float


class Arrivals(NamedTuple):
    """What became of ADUs that were sent: seconds from sending to the arrival of the first and the last that came."""

    came: int
    first_s: float | None
    last_s: float | None
    damaged: int


class Scene(Protocol):
    """A laboratory that is up: in namespaces, or simulated."""

    @property
    def file(self) -> LabFile: ...

    @property
    def lab(self) -> Lab:
        """The namespaces. A simulation has none; `read` refuses what would ask for them."""

    def transfer(self, sender: str, receiver: str, count: int, size: int, wait_s: float) -> Arrivals:
        """Send ADUs from one node's agent to another's, and wait until all have come, at most so long."""

    def ping(self, sender: str, to: str, count: int, interval_s: float, wait_s: float) -> list[float]:
        """Round trips of the ADUs that came back, in milliseconds."""


class Expectation(Section, frozen=True):
    """One thing that must hold. Its fields are what the file may say of it."""

    kind: ClassVar[str]
    in_world: ClassVar[bool] = False  # whether a simulation can tell
    side_by_side: ClassVar[bool] = False  # whether those that follow each other are measured at the same time

    @property
    def what(self) -> str:
        """What is looked at, for the table."""
        raise NotImplementedError

    @property
    def expected(self) -> str:
        """In words."""
        raise NotImplementedError

    def measure(self, scene: Scene) -> Measured:
        """Raises: TumplineError: it cannot be measured."""
        raise NotImplementedError


@contextmanager
def threads(most: int) -> Iterator[ThreadPoolExecutor]:
    """Whoever is interrupted does not wait for them: they end with the laboratory."""
    pool = ThreadPoolExecutor(most, "expect")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


KINDS: dict[str, type[Expectation]] = {}


def kind(cls: type[Expectation]) -> type[Expectation]:
    """Makes a class known under its `kind`."""
    KINDS[cls.kind] = cls
    return cls


def seconds(value: float) -> str:
    """For the table."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.4g} s"


def mistakes(expectation: Expectation, lab: LabFile) -> Iterator[tuple[str, str]]:
    """Names that nothing has: the key and the sentence."""
    info = mi.type_info(type(expectation))
    assert isinstance(info, mi.StructType)
    for field in info.fields:
        names = _names(field.type)
        value = getattr(expectation, field.name)
        for text in value if isinstance(value, list) else [value]:
            if names is not None and text:
                yield from _mistake(lab, field.encode_name, names, text)


def _names(kind: mi.Type) -> str | None:
    """What the texts of a field name."""
    if isinstance(kind, mi.Metadata):
        return (kind.extra or {}).get("names") or _names(kind.type)
    if isinstance(kind, mi.UnionType):
        return next(filter(None, map(_names, kind.types)), None)
    return _names(kind.item_type) if isinstance(kind, mi.ListType) else None


def _mistake(lab: LabFile, key: str, names: str, text: str) -> Iterator[tuple[str, str]]:
    with_agent = [name for name, node in lab.nodes.items() if node.agent is not None]
    if names == "endpoint" and ":" in text:
        try:
            Eid.parse(text)
        except TumplineError as error:
            yield key, str(error)
    elif names == "net" and text not in lab.nets:
        yield key, f"there is no net {text!r}; {did_you_mean(text, lab.nets)}"
    elif names == "node" and text not in lab.nodes:
        yield key, f"there is no node {text!r}; {did_you_mean(text, lab.nodes)}"
    elif names in ("agent", "endpoint") and text not in with_agent:
        yield key, f"no node {text!r} has an agent; {did_you_mean(text, with_agent)}"

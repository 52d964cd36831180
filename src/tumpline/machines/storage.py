"""What a node asks of its store: operations as values.

A store takes a list of operations, carries them out in order in one transaction (all durable or none), and only then
gives back their results, in the same order. It decides nothing: quota, routing and expiry belong to the node.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from tumpline.machines.contract import StoredBundle


class AddResult(Enum):
    """What became of an Add."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # its key is held, or its key or ADU key is remembered as delivered


class Add(NamedTuple):
    """Keep a bundle. Result: AddResult. A retained FileRange payload passes to the store when STORED."""

    bundle: StoredBundle


class Remove(NamedTuple):
    """Forget a bundle and free its octets. Result: bool, whether it was there."""

    seq: int


class Remember(NamedTuple):
    """Keep an identity as delivered until `until_ms` (DTN time). Result: None."""

    key: bytes
    source: str
    until_ms: int


class Forget(NamedTuple):
    """Drop remembered identities whose time is before `now_ms`. Result: dict source -> how many were dropped."""

    now_ms: int


class PutState(NamedTuple):
    """Write (or with None erase) a record of a service. Result: None."""

    service: str
    key: str
    value: bytes | None


class GetState(NamedTuple):
    """Read the records of a service whose key starts with `prefix`. Result: dict[str, bytes]."""

    service: str
    prefix: str = ""


class Load(NamedTuple):
    """The next bundles of one queue, in order of arrival. Result: list[StoredBundle] with seq > after, at most `limit`."""

    destination: str
    after: int
    limit: int


class Get(NamedTuple):
    """Result: list[StoredBundle], those of the numbers that are there, in the order asked."""

    seqs: list[int]


class Expired(NamedTuple):
    """Bundles whose lifetime ended at or before `now_ms`, oldest first; they stay until removed. Result: list[StoredBundle],
    at most `limit`, and no further one once they have `octets` together."""

    now_ms: int
    limit: int
    octets: int


class NextExpiry(NamedTuple):
    """Result: int | None, the earliest expires_ms held."""


class Fragments(NamedTuple):
    """All held fragments of one ADU, by offset. Result: list[StoredBundle]."""

    adu_key: bytes


class Listing(NamedTuple):
    """A page of everything held, by seq. Result: list[StoredBundle] with seq > after."""

    after: int
    limit: int


Operation = (
    Add | Remove | Remember | Forget | PutState | GetState | Load | Get | Expired | NextExpiry | Fragments | Listing
)
Results = list[Any]  # one for each operation, of the type its docstring names


class Recovered(NamedTuple):
    """What a store holds when it is opened."""

    last_seq: int  # highest number ever used; never given twice
    bundles: int
    octets: int
    queues: dict[str, tuple[int, int]]  # destination -> (bundles, highest seq)
    remembered: dict[str, int]  # source -> identities remembered as delivered
    next_expiry_ms: int | None

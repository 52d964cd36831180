"""What a conversation about bundles tells its driver: past tense, in order."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.machines.effects import RefuseReason
from tumpline.machines.event_queue import EventQueue


class SessionRaised(NamedTuple):
    """Both ends know each other: units may be sent."""

    node_id: str
    mru_octets: int
    outbound: bool  # we asked for it first


class SessionLowered(NamedTuple):
    """It is over. Every unit and every large transfer had its last event before."""

    reason: str
    by_peer: bool = False  # in order, and the peer wanted it: it asks when it wants another


class TransfersReceived(NamedTuple):
    """Small bundles came whole. Each is answered by `acknowledge` or `refuse`."""

    transfers: list[tuple[int, bytes]]


class TransferStarted(NamedTuple):
    """A large bundle of this length begins: make room for it, or `refuse` it."""

    transfer: int
    octets: int


class SegmentReceived(NamedTuple):
    """Its next octets, which are good until the conversation is given more. Nothing is to be done if it was refused."""

    transfer: int
    octets: memoryview


class TransferFinished(NamedTuple):
    """It is complete (unless it was refused): answer it by `acknowledge` or `refuse`."""

    transfer: int


class TransferAborted(NamedTuple):
    """It will not be completed: give the room back, if it was not refused."""

    transfer: int


class TransfersAcked(NamedTuple):
    """The peer has stored these units."""

    tokens: list[int]


class TransferRefused(NamedTuple):
    """The peer keeps it not, or it was not sent because the peer would not."""

    token: int
    reason: RefuseReason


class TransfersLost(NamedTuple):
    """Cancelled, or without an answer when the session ended: whether they came is unknown."""

    tokens: list[int]


class TransferProgressed(NamedTuple):
    """The peer has so many octets of a large unit."""

    token: int
    octets: int


BundleEvent = (
    SessionRaised
    | SessionLowered
    | TransfersReceived
    | TransferStarted
    | SegmentReceived
    | TransferFinished
    | TransferAborted
    | TransfersAcked
    | TransferRefused
    | TransfersLost
    | TransferProgressed
)


class BundleEvents(EventQueue[BundleEvent]):
    """Small ones that arrived, and acknowledgements, in batches."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(TransfersReceived, TransfersAcked)

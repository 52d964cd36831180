"""What all connections of an agent keep their octets in, and the errors of whoever wants to put some in or take some."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.drivers.spool import Room, Spool
from tumpline.errors import TumplineError

# Transfers that one connection holds in one direction: each costs some hundred octets.
TRANSFERS_MOST = 100_000
# What keeping a small received bundle costs beside its octets: so many empty ones are bounded too.
HELD_OCTETS = 1024
# Closed connections of which something waits to be taken. Beyond, no connection receives anything.
CLOSED_MOST = 1024
# Progress of one transfer is told so often at most: a segment may take less time than telling about it.
PROGRESS_S = 0.05

SUCCESS = "success"
NEVER_BEGAN = "session terminating"
UNACKNOWLEDGED = "unacknowledged"


class Holdings(NamedTuple):
    """Bounds and places, shared by all connections."""

    spool: Spool  # large received bundles
    received: Room  # small ones, in memory
    queued: Room  # octets in memory that wait to be sent


class TransferError(TumplineError):
    """A transfer cannot be queued or taken as it was asked."""


class QueueFullError(TransferError):
    """Too much waits to be sent; wait for some of it to end."""


class UnknownTransferError(TransferError):
    """No received bundle of that number waits here."""

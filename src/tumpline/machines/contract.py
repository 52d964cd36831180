"""The contract of a machine, and the values that cross its edge.

In: octets or facts, and a clock reading (float seconds, monotonic). Out: data to send, events, and the next deadline.
A machine performs no I/O, reads no clock, draws no random number of its own and starts no task.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Machine(Protocol):
    """What every driver may rely on, whatever the protocol."""

    def next_timeout(self) -> float | None:
        """The time at which `handle_timeout` wants to be called, or None."""

    def handle_timeout(self, now: float) -> None:
        """Act on every deadline that is not after `now`."""


class Handle(Protocol):
    """Stored octets that outlive the call: a file or an anonymous memory file. Counted; the last release frees them."""

    def retain(self) -> None:
        """One more reader."""

    def release(self) -> None:
        """One reader fewer; at none the octets may be freed."""


class Octets(NamedTuple):
    """A payload held in memory. Its owner may keep it: it is no view into a receive buffer."""

    data: bytes

    @property
    def length(self) -> int:
        return len(self.data)


class FileRange(NamedTuple):
    """A payload that lies in a file (or an anonymous memory file): `length` octets from `offset`."""

    handle: Handle
    offset: int
    length: int
    crc32c: int | None = None  # of just these octets, if whoever wrote them knows it: spares reading them for it


Payload = Octets | FileRange

# Payloads of at least this many octets live in files and are never held whole in memory (ARCHITECTURE.md §4b).
FILE_PAYLOAD_OCTETS = 100_000


class StoredBundle(NamedTuple):
    """A bundle as the store keeps it: three runs of octets and what is needed to find it again.

    `head + payload + tail` is the encoded bundle: the payload block comes last (RFC 9171 §4.1), so `tail` is the CRC of
    that block and the break that ends the array.
    """

    seq: int  # the node's own number, in order of arrival; the store's primary key
    key: bytes  # identity: tumpline.wire.bundle7.BundleId.key
    adu_key: bytes  # identity of the whole ADU: equals `key` unless this is a fragment
    destination: str  # the queue it waits in: canonical text of the destination EID, or REASSEMBLY + that text
    expires_ms: int  # DTN time
    received_ms: int  # DTN time at which it came (or was created here)
    age_ms: int  # bundle age when it came, 0 without a Bundle Age block
    previous: str  # neighbour it came from, canonical text; "" if created here
    fragment_offset: int  # -1 unless a fragment
    head: bytes
    payload: Payload
    tail: bytes

    @property
    def length(self) -> int:
        """Octets of the encoded bundle."""
        return len(self.head) + self.payload.length + len(self.tail)

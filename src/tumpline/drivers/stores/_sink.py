"""Where a large bundle arrives: its octets go into a file as they come, its head is read and its CRC runs meanwhile."""

from __future__ import annotations

from tumpline.drivers.stores._files import BUFFER_OCTETS, Filling, Place
from tumpline.errors import MalformedError, StorageError
from tumpline.machines.contract import FileRange
from tumpline.machines.effects import Arrival, RefuseReason
from tumpline.wire.bundle7 import LENIENT, BundleHead, decode_head_untrusted, tail_octets
from tumpline.wire.crc import ZEROED_FIELD, RunningCrc

# Most heads are far shorter than this; only a longer one makes the sink copy more octets to look at.
HEAD_GUESS_OCTETS = 4096


class BundleSink:
    """Sink of every store. The file holds the whole encoded bundle, so every write begins on a page.

    It looks for the payload's place and no more (LENIENT): which bundles are strict enough, the node decides.
    """

    def __init__(self, place: Place, octets: int) -> None:
        """Room for a bundle of `octets` octets. Raises: StorageError."""
        place.check_room(octets)
        self._place = place
        self._filling = Filling(place)
        self._received = 0
        self._look_at = 1  # octets that must be there before the head is looked for again
        self._head: BundleHead | None = None
        self._head_octets = b""
        self._payload_end = 0
        self._crc = RunningCrc(0)
        self._tail = b""

    def buffer(self, most: int) -> memoryview:
        filling = self._filling
        return filling.buffer[filling.used : filling.used + most]

    def more(self, octets: int) -> RefuseReason | None:
        try:
            self._place.check_room(octets)
        except StorageError:
            return RefuseReason.NO_RESOURCES
        return None

    def advance(self, count: int) -> None:
        filling = self._filling
        begin, filling.used = filling.used, filling.used + count
        begin_offset, self._received = self._received, self._received + count
        try:
            if self._head is not None:
                self._pass(filling.buffer[begin : filling.used], begin_offset)
            elif self._received >= self._look_at:
                self._look_for_head()
            if filling.used == BUFFER_OCTETS:
                filling.flush()
        except (MalformedError, StorageError):
            self.abort()
            raise

    def finish(self, transfer: int) -> Arrival:
        try:
            if self._head is None:
                self._look_for_head()
            return self._arrival(transfer)
        except (MalformedError, StorageError):
            self.abort()
            raise

    def abort(self) -> None:
        self._filling.abort()

    def _look_for_head(self) -> None:
        """Nothing has left the buffer before the head is known: a longer head than MAX_HEAD_OCTETS is malformed."""
        received = self._filling.buffer[: self._received]
        octets = bytes(received[:HEAD_GUESS_OCTETS])
        head = decode_head_untrusted(octets, strictness=LENIENT)
        if head is None and self._received > HEAD_GUESS_OCTETS:
            octets = bytes(received)
            head = decode_head_untrusted(octets, strictness=LENIENT)
        if head is None:
            # Doubling: octets that come one at a time must not be parsed once for each.
            self._look_at = self._received * 2
            return
        self._head, self._head_octets = head, octets[: head.payload_offset]
        self._payload_end = head.payload_offset + head.payload_length
        self._crc = RunningCrc(head.payload_crc_type)
        self._crc.update(head.payload_prefix)
        self._pass(received[head.payload_offset :], head.payload_offset)

    def _pass(self, view: memoryview, offset: int) -> None:
        """Octets behind the head, which begin at `offset` of the bundle: payload, then tail."""
        assert self._head is not None
        inside = self._payload_end - offset
        if inside >= len(view):
            self._crc.update(view)
            return
        if inside > 0:
            self._crc.update(view[:inside])
        most = tail_octets(self._head)
        if self._received - self._payload_end > most:
            raise MalformedError(f"the bundle is longer than its head says: octets behind {self._payload_end + most}")
        self._tail += bytes(view[max(inside, 0) :])

    def _arrival(self, transfer: int) -> Arrival:
        head = self._head
        if head is None:
            raise MalformedError(f"the bundle ends inside its head, after {self._received} octets")
        expected = self._payload_end + tail_octets(head)
        # An array of definite length has no break (only lenient nodes take such a bundle).
        if expected - self._received not in (0, 1):
            raise MalformedError(f"the bundle has {self._received} octets, its head says {expected}")
        # RFC 9171 §4.2.2: the CRC covers the block with its CRC field populated with zeros.
        self._crc.update(ZEROED_FIELD[head.payload_crc_type])
        payload = FileRange(self._filling.finish(), head.payload_offset, head.payload_length)
        return Arrival(transfer, self._head_octets, payload, self._tail, self._crc.value)

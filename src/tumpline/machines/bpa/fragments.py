"""Bundle fragmentation (RFC 9171 §5.8): a bundle too long for a path is replaced, in one transaction, by fragments."""

from __future__ import annotations

from typing import NamedTuple

from tumpline.machines.bpa.accept import identity
from tumpline.machines.bpa.core import Core
from tumpline.machines.bpa.queues import Entry, Queues
from tumpline.machines.bpa.rewrite import Rewriter, decode_stored
from tumpline.machines.contract import FileRange, Octets, Payload, StoredBundle
from tumpline.machines.effects import Split
from tumpline.machines.storage import Add, Operation, Results
from tumpline.wire.bundle7 import (
    BlockFlags,
    BundleFlags,
    BundleHead,
    CanonicalBlock,
    PrimaryBlock,
    encode_head,
    encode_tail,
    payload_block_prefix,
)

# A fragment that carries less than this is mostly head: such a limit is no reason to cut.
LEAST_PAYLOAD_OCTETS = 32
MAX_PIECES = 1024  # made in one go; the last is as long as it must be, and is cut again in its turn
# What a head may still grow by before it leaves: a longer Bundle Age, a longer offset, a longer payload length.
GROWTH_OCTETS = 24


class Cut(NamedTuple):
    """A bundle being cut."""

    entry: Entry
    head: BundleHead
    pieces: list[tuple[int, int]]  # offset, length


class Fragmentation:
    """Cuts bundles."""

    def __init__(self, core: Core, queues: Queues, rewriter: Rewriter) -> None:
        self._core = core
        self._queues = queues
        self._rewriter = rewriter
        self._cuts: dict[int, Cut] = {}

    def cut(self, entry: Entry, head: BundleHead, room: int, most: int) -> bool:
        """Replace the bundle by fragments: the first at most `room` octets long, the others `most`. False: it may not, or
        need not for so little, be cut."""
        if not self._core.config.fragment or head.primary.flags & BundleFlags.MUST_NOT_FRAGMENT:
            return False
        pieces = self._pieces(entry, head, room, most)
        if len(pieces) < 2:
            return False
        self._cuts[entry[0].seq] = Cut(entry, head, pieces)
        flags, crc_type = head.payload_flags, head.payload_crc_type
        asked = [(start, length, payload_block_prefix(flags, crc_type, length)) for start, length in pieces]
        self._core.effects.append(Split(entry[0].seq, entry[0].payload, asked, crc_type))
        return True

    def _pieces(self, entry: Entry, head: BundleHead, room: int, most: int) -> list[tuple[int, int]]:
        """Where to cut: RFC 9171 §5.8, each payload longer than nothing."""
        total = head.payload_length
        first = min(room - self._overhead(entry, head, 0), total - 1)
        each = most - self._overhead(entry, head, 1)
        if first < LEAST_PAYLOAD_OCTETS or each < LEAST_PAYLOAD_OCTETS:
            return []
        pieces = [(0, first)]
        at = first
        while at < total:
            length = total - at if len(pieces) == MAX_PIECES - 1 else min(each, total - at)
            pieces.append((at, length))
            at += length
        return pieces

    def _overhead(self, entry: Entry, head: BundleHead, offset: int) -> int:
        """Octets of a fragment apart from its payload's, as it would leave."""
        octets = encode_head(*self._parts(head, offset, head.payload_length - offset))
        out = self._rewriter.head(decode_stored(octets), 0)
        return len(out) + len(entry[0].tail) + GROWTH_OCTETS

    def _parts(
        self, head: BundleHead, offset: int, length: int
    ) -> tuple[PrimaryBlock, tuple[CanonicalBlock, ...], int, int, int]:
        """Primary and extension blocks of a fragment that starts at `offset` in this bundle's payload, and its payload's
        length, flags and CRC type."""
        primary = head.primary
        base = primary.fragment_offset or 0
        total = head.payload_length if primary.total_adu_length is None else primary.total_adu_length
        fragment = primary._replace(
            flags=primary.flags | BundleFlags.IS_FRAGMENT, fragment_offset=base + offset, total_adu_length=total
        )
        blocks = head.blocks
        if offset:
            # RFC 9171 §5.8: all blocks go into the first part (of a bundle or of a fragment), those that say so into all.
            blocks = tuple(block for block in blocks if block.flags & BlockFlags.REPLICATE or _is_kept(block))
        return fragment, blocks, length, head.payload_flags, head.payload_crc_type

    def split_done(self, seq: int, crcs: list[int]) -> None:
        """The CRCs are known: replace it."""
        cut = self._cuts.pop(seq, None)
        if cut is None or self._queues.held.get(seq) is not cut.entry:
            return  # it expired, or was removed
        made = [self._fragment(cut, start, length, crc) for (start, length), crc in zip(cut.pieces, crcs, strict=True)]
        self._core.quota.held += sum(entry[3] for entry in made)
        self._core.counters["bundles_fragmented"] += 1
        operations: list[Operation] = [Add(entry[0]) for entry in made]
        self._queues.remove_with([cut.entry], operations, (cut.entry, made), self._replaced)

    def _replaced(self, context: tuple[Entry, list[Entry]], results: Results, now: float) -> None:
        entry, made = context
        self._queues.removed([entry], results, now)
        self._queues.added(made, results, now)

    def _fragment(self, cut: Cut, offset: int, length: int, crc: int) -> Entry:
        (bundle, _, queue, _), head, _ = cut
        parts = self._parts(head, offset, length)
        octets = encode_head(*parts)
        self._core.last_seq = seq = self._core.last_seq + 1
        key, adu_key = identity(parts[0], length, seq)
        fragment: StoredBundle = bundle._replace(
            seq=seq,
            key=key,
            adu_key=adu_key,
            fragment_offset=parts[0].fragment_offset or 0,
            head=octets,
            payload=part(bundle.payload, offset, length),
            tail=encode_tail(head.payload_crc_type, crc),
        )
        return fragment, None, queue, fragment.length


def part(payload: Payload, offset: int, length: int) -> Payload:
    """A part of a payload; of one in a file with a reader of its own."""
    if isinstance(payload, FileRange):
        payload.handle.retain()
        return FileRange(payload.handle, payload.offset + offset, length)
    return Octets(payload.data[offset : offset + length])


def _is_kept(block: CanonicalBlock) -> bool:
    """Blocks of RFC 9171 §4.4 that each fragment needs for its own journey.

    A bundle without creation time must have a Bundle Age (§4.4.2), and a hop limit guards every copy (§4.4.3): both are
    ours to add to any bundle (§4.4).
    """
    return block.type in (7, 10)

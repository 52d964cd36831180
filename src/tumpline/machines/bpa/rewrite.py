"""The head of a bundle as it leaves: Previous Node, Bundle Age and Hop Count renewed, all else as it came (RFC 9171 §5.4)."""

from __future__ import annotations

from functools import lru_cache
from itertools import count

from tumpline.wire.bundle7 import (
    LENIENT,
    BlockType,
    BundleHead,
    CanonicalBlock,
    bundle_age_block,
    decode_bundle_age,
    decode_head_untrusted,
    decode_hop_count,
    encode_block,
    hop_count_block,
    previous_node_block,
    reencode_head,
)
from tumpline.wire.eid import Eid

BUNDLE_START = b"\x9f"  # RFC 9171 §4.1: an array of indefinite length
NUMBER_MOST = (1 << 64) - 1  # of CBOR's unsigned integers, and so of block numbers and ages
FIRST_BLOCK_NUMBER = 2  # RFC 9171 §4.1: 0 is the primary block's, 1 the payload block's
# Bundles of one path mostly carry the same extension blocks: what becomes of them is worked out once.
MAX_SEEN = 1024
MAX_SEEN_OCTETS = 256


@lru_cache(maxsize=1024)
def _next_hop_count(block: CanonicalBlock) -> CanonicalBlock:
    """RFC 9171 §4.4.3: increased by one on each hop. There are few distinct blocks: limits and counts are below 256."""
    limit, count = decode_hop_count(block.data, canonical=False)  # what was accepted is accepted
    return hop_count_block(limit, count + 1, block.number, block.crc_type, block.flags)


def _older(block: CanonicalBlock, residence_ms: int) -> CanonicalBlock:
    """RFC 9171 §5.4 Step 4: increased by the time the bundle was here."""
    age_ms = decode_bundle_age(block.data, canonical=False) + residence_ms
    return bundle_age_block(min(age_ms, NUMBER_MOST), block.number, block.crc_type, block.flags)


def decode_stored(octets: bytes) -> BundleHead:
    """The head of a stored bundle: it was checked when it came."""
    head = decode_head_untrusted(octets, strictness=LENIENT)
    assert head is not None, "a stored head is whole"
    return head


class Rewriter:
    """Makes outgoing heads. `previous` is the node ID to announce; None: no Previous Node blocks are inserted."""

    def __init__(self, previous: Eid | None) -> None:
        self._previous = previous
        block = b"" if previous is None else encode_block(previous_node_block(previous, FIRST_BLOCK_NUMBER))
        self._alone = block  # all extension blocks of a bundle that had none
        self._seen: dict[tuple[CanonicalBlock, ...], bytes] = {}

    def head(self, head: BundleHead, residence_ms: int) -> bytes:
        """The octets before the payload, as the next node shall receive them."""
        blocks = head.blocks
        octets = self._alone if not blocks else self._seen.get(blocks)
        if octets is not None:
            return BUNDLE_START + head.primary_octets + octets + head.payload_prefix
        renewed = self.blocks(blocks, residence_ms)
        if is_repetitive(blocks):
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen[blocks] = b"".join(map(encode_block, renewed))
        return reencode_head(head, renewed)

    def blocks(self, blocks: tuple[CanonicalBlock, ...], residence_ms: int) -> list[CanonicalBlock]:
        """Extension blocks renewed, each in its place."""
        renewed: list[CanonicalBlock] = []
        previous = self._previous
        for block in blocks:
            if block.type == BlockType.HOP_COUNT:
                renewed.append(_next_hop_count(block))
            elif block.type == BlockType.BUNDLE_AGE:
                renewed.append(_older(block, residence_ms))
            elif block.type != BlockType.PREVIOUS_NODE:
                renewed.append(block)
            elif previous is not None:  # §5.4: the old block goes, ours takes its number
                renewed.append(previous_node_block(previous, block.number, block.crc_type, block.flags))
                previous = None
        if previous is not None:
            renewed.insert(0, previous_node_block(previous, free_number(blocks)))
        return renewed


def free_number(blocks: tuple[CanonicalBlock, ...]) -> int:
    """A block number that no block of the bundle has: behind the others, but where there is none, among them."""
    after = max((block.number for block in blocks), default=1) + 1
    if after <= NUMBER_MOST:
        return after
    taken = {block.number for block in blocks}
    return next(number for number in count(FIRST_BLOCK_NUMBER) if number not in taken)


def is_repetitive(blocks: tuple[CanonicalBlock, ...]) -> bool:
    """Whether other bundles may well have the very same blocks: few octets, and no age."""
    octets = 0
    for block in blocks:
        if block.type == BlockType.BUNDLE_AGE:
            return False
        octets += len(block.data)
    return octets <= MAX_SEEN_OCTETS

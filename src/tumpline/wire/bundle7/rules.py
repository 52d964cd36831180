"""The rules between the fields of a bundle, which no single block shows."""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.bundle7.values import (
    BlockFlags,
    BlockType,
    BundleFlags,
    CanonicalBlock,
    PrimaryBlock,
    Strictness,
)

_ONCE = {
    BlockType.PREVIOUS_NODE: "Previous Node",
    BlockType.BUNDLE_AGE: "Bundle Age",
    BlockType.HOP_COUNT: "Hop Count",
}
# A bundle with one of these needs a look at the rules of §4.2.3; all others keep them by having nothing to break.
SPECIAL_FLAGS = BundleFlags.IS_FRAGMENT | BundleFlags.ADMIN


def check_head(
    primary: PrimaryBlock,
    blocks: tuple[CanonicalBlock, ...],
    payload_flags: int,
    payload_length: int,
    rules: Strictness,
) -> None:
    """Raise MalformedError if the head breaks a rule that `rules` asks for."""
    if primary.flags & BundleFlags.IS_FRAGMENT:
        check_fragment(primary, payload_length)
    if blocks:
        check_numbers(blocks)
    if rules.check_source:
        check_addresses(primary)
    if rules.check_flags:
        check_flags(primary, blocks, payload_flags)
    if rules.check_blocks:
        check_once(blocks)
    if rules.require_age and not primary.created_ms and not any(b.type == BlockType.BUNDLE_AGE for b in blocks):
        raise MalformedError("the creation time is zero and there is no Bundle Age block (RFC 9171 §4.4.2)")
    if rules.require_primary_crc and not primary.crc_type and not _primary_may_be_protected(blocks):
        raise MalformedError("the primary block has no CRC, and no BIB targets it (RFC 9171 §4.3.1)")


def check_fragment(primary: PrimaryBlock, payload_length: int) -> None:
    """RFC 9171 §5.8: a fragment is a part of the ADU. It may be all of it, or nothing of it, without harm."""
    assert primary.fragment_offset is not None
    assert primary.total_adu_length is not None
    if primary.fragment_offset + payload_length > primary.total_adu_length:
        raise MalformedError("the fragment ends behind the end of its application data unit (RFC 9171 §4.3.1)")


def check_numbers(blocks: tuple[CanonicalBlock, ...]) -> None:
    """RFC 9171 §4.1: a block number is unique; 0 is the primary block's and 1 the payload block's."""
    numbers = {0, 1}
    for block in blocks:
        if block.number in numbers:
            raise MalformedError(f"block number {block.number} is used twice or reserved (RFC 9171 §4.1)")
        numbers.add(block.number)


def check_addresses(primary: PrimaryBlock) -> None:
    """RFC 9171 §4.2.5.2 for the source; RFC 9758 §5.4: ipn:! never leaves a node."""
    source = primary.source
    if not source.is_singleton and not source.is_null:
        raise MalformedError(f"the source {source} is not a node ID: it is a group (RFC 9171 §4.2.5.2)")
    for eid in (source, primary.destination):
        if eid.is_local:
            raise MalformedError(f"{eid} means the local node, and never leaves it (RFC 9758 §5.4)")


def check_flags(primary: PrimaryBlock, blocks: tuple[CanonicalBlock, ...], payload_flags: int) -> None:
    """RFC 9171 §4.2.3 and §4.2.4: what administrative records and anonymous bundles must not ask for."""
    flags = primary.flags
    anonymous = primary.source.is_null
    if not anonymous and not flags & BundleFlags.ADMIN:
        return
    what = "an anonymous bundle" if anonymous else "an administrative record"
    if flags & BundleFlags.REPORTS:
        raise MalformedError(f"{what} asks for status reports (RFC 9171 §4.2.3)")
    if anonymous and not flags & BundleFlags.MUST_NOT_FRAGMENT:
        raise MalformedError("an anonymous bundle lacks the flag 'must not be fragmented' (RFC 9171 §4.2.3)")
    if payload_flags & BlockFlags.REPORT or any(block.flags & BlockFlags.REPORT for block in blocks):
        raise MalformedError(f"a block of {what} asks for a status report (RFC 9171 §4.2.4)")


def check_once(blocks: tuple[CanonicalBlock, ...]) -> None:
    """RFC 9171 §4.4.1-3: at most one Previous Node, Bundle Age and Hop Count block."""
    seen = set()
    for block in blocks:
        if block.type in _ONCE:
            if block.type in seen:
                raise MalformedError(f"there are two {_ONCE[block.type]} blocks (RFC 9171 §4.4)")
            seen.add(block.type)


def _primary_may_be_protected(blocks: tuple[CanonicalBlock, ...]) -> bool:
    """Whether a BIB targets the primary block, or may: the targets of a BIB that a BCB encrypts cannot be read here."""
    hidden: set[int] = set()
    for block in blocks:
        if block.type == BlockType.BLOCK_CONFIDENTIALITY:
            hidden.update(_targets(block))
    return any(
        block.number in hidden or 0 in _targets(block) for block in blocks if block.type == BlockType.BLOCK_INTEGRITY
    )


def _targets(block: CanonicalBlock) -> list[int]:
    """RFC 9172 §3.6: the data of a security block begins with the array of the numbers of its target blocks."""
    try:
        cursor = cbor.Cursor(block.data)
        return [cursor.uint("security target") for _ in range(cursor.array("security targets"))]
    except MalformedError:
        return []  # whoever processes the block says what is wrong with it

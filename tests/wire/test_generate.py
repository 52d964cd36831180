"""Drawn bundles keep every rule and show every form; drawn items are well-formed; the same seed gives the same octets."""

from __future__ import annotations

import random
from collections import Counter

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from tumpline.wire import bundle7 as b7
from tumpline.wire import cbor
from tumpline.wire.admin import StatusReport, decode_admin_untrusted
from tumpline.wire.bundle7 import BlockFlags, BundleFlags
from tumpline.wire.eid import NULL
from tumpline.wire.generate import BYTES_MOST, PRIVATE_BLOCK_TYPES, draw_bundle, draw_item, draw_octets

MANY = 3000
FLAGS = {bit for name, bit in vars(BundleFlags).items() if name.isupper() and name != "REPORTS"}


def drawn(seed: int, count: int = MANY) -> list[b7.Bundle]:
    chance = random.Random(seed)
    return [draw_bundle(chance, index) for index in range(count)]


@given(st.integers(0, 2**32), st.integers(0, 2**32 - 1))
def test_the_strict_decoder_takes_all_and_encodes_them_again(seed: int, index: int) -> None:
    bundle = draw_bundle(random.Random(seed), index)
    octets = b7.encode_bundle(bundle)
    found = b7.decode_bundle_untrusted(octets, b7.STRICT)
    assert found == bundle
    assert b7.encode_bundle(found) == octets
    if bundle.primary.flags & BundleFlags.ADMIN:
        assert isinstance(decode_admin_untrusted(bundle.payload), StatusReport)


def test_the_same_seed_gives_the_same_octets_and_another_one_others() -> None:
    once, again, other = ([b7.encode_bundle(bundle) for bundle in drawn(seed, 50)] for seed in (7, 7, 8))
    assert once == again
    assert not set(once) & set(other)


def test_no_two_bundles_have_one_identity() -> None:
    identities = {b7.bundle_id(bundle.primary, len(bundle.payload)).key for bundle in drawn(1)}
    assert len(identities) == MANY


def test_every_form_of_a_bundle_turns_up() -> None:
    bundles = drawn(2)
    primaries = [bundle.primary for bundle in bundles]
    for flag in FLAGS:
        assert {bool(primary.flags & flag) for primary in primaries} == {True, False}, hex(flag)
    assert len(FLAGS) == 9
    assert not any(primary.flags & ~sum(FLAGS) for primary in primaries), "bits that RFC 9171 reserves"
    assert {primary.crc_type for primary in primaries} == {1, 2}
    assert {bundle.payload_crc_type for bundle in bundles} == {0, 1, 2}
    assert {bool(primary.created_ms) for primary in primaries} == {True, False}
    assert {primary.source is NULL for primary in primaries} == {True, False}
    assert {eid_form(primary) for primary in primaries} == {"dtn", "group", "ipn 2", "ipn 2 allocated", "ipn 3"}
    octets = [len(bundle.payload) for bundle in bundles]
    assert min(octets) == 0
    assert max(octets) > 100_000


def eid_form(primary: b7.PrimaryBlock) -> str:
    """Of its destination."""
    eid = primary.destination
    if isinstance(eid.ssp, str):
        return "dtn" if eid.is_singleton else "group"
    elements = eid.encoded[2] & 0x1F
    return f"ipn {elements} allocated" if elements == 2 and eid.ssp[0] else f"ipn {elements}"


def test_every_kind_of_block_turns_up_those_of_the_standard_at_most_once() -> None:
    seen: Counter[int] = Counter()
    flags: set[int] = set()
    for bundle in drawn(3):
        kinds = Counter(block.type for block in bundle.blocks)
        assert all(kinds[kind] <= 1 for kind in (6, 7, 10))
        seen += kinds
        flags |= {block.flags for block in bundle.blocks}
    assert set(seen) == {6, 7, 10, *PRIVATE_BLOCK_TYPES}
    for flag in (BlockFlags.REPLICATE, BlockFlags.REPORT, BlockFlags.DELETE_BUNDLE, BlockFlags.DISCARD):
        assert any(each & flag for each in flags), hex(flag)


def test_every_form_of_a_status_report_turns_up() -> None:
    reports = [
        decode_admin_untrusted(bundle.payload) for bundle in drawn(4) if bundle.primary.flags & BundleFlags.ADMIN
    ]
    for place in range(4):
        said = {(report[place].asserted, report[place].time_ms is None) for report in reports}
        assert said == {(False, True), (True, True), (True, False)}
    assert {report.fragment_offset is None for report in reports} == {True, False}
    assert {report.reason for report in reports} == set(range(12))


@given(st.integers(0, 2**32))
def test_items_are_well_formed_and_deterministic(seed: int) -> None:
    item = draw_item(random.Random(seed))
    assert cbor.scan_item(item, 0) == len(item)
    cbor2.loads(item)


def test_items_are_of_every_major_type() -> None:
    chance = random.Random(5)
    assert {draw_item(chance)[0] >> 5 for _ in range(500)} == set(range(8))


def test_octets_have_any_length_none_included() -> None:
    chance = random.Random(6)
    lengths = [len(draw_octets(chance)) for _ in range(50_000)]
    assert min(lengths) == 0
    assert max(lengths) == BYTES_MOST

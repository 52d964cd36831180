"""One suite over both decoders: whatever the fast one answers the careful one answers too, and both know the rules."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.testing.strategies import all_bundles, bundles, fragments
from tumpline.wire import bundle7 as b7
from tumpline.wire.bundle7 import careful, encode, fast
from tumpline.wire.bundle7 import decode as decode_module
from tumpline.wire.eid import NULL, Eid

Decode = Callable[..., b7.Bundle]
PRIMARY = b7.PrimaryBlock(
    0, 2, Eid.parse("dtn://rover/files"), Eid.parse("ipn:5.1"), Eid.parse("dtn://g/"), 812345678901, 5, 86400000
)
PLAIN = b7.Bundle(PRIMARY, (), b"x" * 40)
FULL = b7.Bundle(
    PRIMARY,
    (
        b7.previous_node_block(Eid.parse("dtn://relay/"), 2),
        b7.bundle_age_block(70000, 3, 1),
        b7.hop_count_block(32, 1, 4, 2, b7.BlockFlags.REPLICATE),
        b7.CanonicalBlock(200, 300, b7.BlockFlags.DISCARD, 0, b"what is this"),
    ),
    b"payload",
)


def fast_alone(data: bytes, rules: b7.Strictness = b7.STRICT) -> b7.Bundle:
    """The fast decoder may not ask the careful one."""
    with patch.object(careful, "decode_head", side_effect=MalformedError("the fast decoder did not know it")):
        return b7.decode_bundle_untrusted(data, rules)


def careful_alone(data: bytes, rules: b7.Strictness = b7.STRICT) -> b7.Bundle:
    with patch.object(fast, "decode_head", return_value=None):
        return b7.decode_bundle_untrusted(data, rules)


PATHS = [pytest.param(fast_alone, id="fast"), pytest.param(careful_alone, id="careful")]
both_paths = pytest.mark.parametrize("decode", PATHS)


@both_paths
@pytest.mark.parametrize("crc_type", [1, 2])
@pytest.mark.parametrize("bundle", [PLAIN, FULL], ids=["plain", "full"])
def test_common_shapes(decode: Decode, bundle: b7.Bundle, crc_type: int) -> None:
    bundle = bundle._replace(primary=PRIMARY._replace(crc_type=crc_type), payload_crc_type=crc_type)
    assert decode(b7.encode_bundle(bundle)) == bundle


@both_paths
def test_a_fragment(decode: Decode) -> None:
    primary = PRIMARY._replace(flags=1, fragment_offset=1000, total_adu_length=1040)
    bundle = b7.Bundle(primary, (), b"x" * 40, 0, 0)
    assert decode(b7.encode_bundle(bundle)) == bundle


@both_paths
@given(bundle=all_bundles())
def test_round_trip(decode: Decode, bundle: b7.Bundle) -> None:
    """The fast path may pass on what it does not know, so it is asked through the way that all take."""
    data = b7.encode_bundle(bundle)
    decoded = careful_alone(data) if decode is careful_alone else b7.decode_bundle_untrusted(data)
    assert decoded == bundle
    assert b7.encode_bundle(decoded) == data


@given(bundle=bundles() | fragments())
def test_the_fast_decoder_knows_all_but_few(bundle: b7.Bundle) -> None:
    known = all(eid.scheme in (1, 2) for eid in bundle.primary[2:5])
    small = bundle.payload_flags < 24 and len(bundle.payload) < 65536
    type_one = any(block.type == 1 for block in bundle.blocks)
    if known and small and not type_one:
        assert fast.decode_head(b7.encode_bundle(bundle), b7.STRICT) is not None


def verdict(decode: Decode, data: bytes, rules: b7.Strictness) -> b7.Bundle | None:
    try:
        return decode(data, rules)
    except MalformedError:
        return None


EDITS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0), st.binary(min_size=1, max_size=9)), min_size=1, max_size=3
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Some octets overwritten, left out, or put in between."""
    for kind, where, octets in edits:
        at = where % (len(data) + 1)
        behind = at if kind == 2 else at + len(octets)
        data = data[:at] + (b"" if kind == 1 else octets) + data[behind:]
    return data


@contextmanager
def every_crc_zero() -> Iterator[None]:
    """All CRCs come out as zero, in encoding and decoding: so what is altered gets past them to the other checks."""
    with ExitStack() as stack:
        for module in (encode, careful, fast, decode_module):
            for name in ("crc32c", "crc16_x25"):
                stack.enter_context(patch.object(module, name, lambda data, value=0: 0))
        yield


@settings(max_examples=300)
@given(bundle=all_bundles(), edits=EDITS, rules=st.sampled_from([b7.STRICT, b7.LENIENT]), crcs=st.booleans())
def test_both_decoders_agree_on_what_is_wrong(
    bundle: b7.Bundle, edits: list[tuple[int, int, bytes]], rules: b7.Strictness, crcs: bool
) -> None:
    with nullcontext() if crcs else every_crc_zero():
        data = edited(b7.encode_bundle(bundle), edits)
        assert verdict(b7.decode_bundle_untrusted, data, rules) == verdict(careful_alone, data, rules)


def test_without_crcs_an_altered_bundle_decodes() -> None:
    with every_crc_zero():
        data = b7.encode_bundle(PLAIN).replace(b"xxxx", b"yyyy")
        assert fast_alone(data) == careful_alone(data) == PLAIN._replace(payload=b"y" * 40)


@given(data=st.binary(max_size=200) | st.binary(max_size=100).map(b"\x9f\x89\x07".__add__))
def test_any_octets_give_only_malformed(data: bytes) -> None:
    for rules in (b7.STRICT, b7.LENIENT):
        verdict(b7.decode_bundle_untrusted, data, rules)


@both_paths
@pytest.mark.parametrize("crc_type", [1, 2])
def test_every_altered_octet_is_found(decode: Decode, crc_type: int) -> None:
    blocks = tuple(block._replace(crc_type=crc_type) for block in FULL.blocks)
    bundle = b7.Bundle(PRIMARY._replace(crc_type=crc_type), blocks, b"payload", 0, crc_type)
    data = b7.encode_bundle(bundle)
    for at in range(len(data)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 0x55, 0xAA, 0xFF):
            altered = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            assert verdict(decode, altered, b7.STRICT) is None, f"octet {at} altered by {mask:#04x}"


@both_paths
def test_every_cut_is_found(decode: Decode) -> None:
    data = b7.encode_bundle(FULL)
    assert [end for end in range(len(data)) if verdict(decode, data[:end], b7.LENIENT)] == []


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_octets(kind: type) -> None:
    data = kind(b7.encode_bundle(FULL))
    assert b7.decode_bundle_untrusted(data) == FULL
    head = b7.decode_head_untrusted(data, len(data))
    assert head is not None
    assert type(head.primary_octets) is type(head.payload_prefix) is bytes


def test_anonymous_bundle_goes_both_ways() -> None:
    bundle = PLAIN._replace(primary=PRIMARY._replace(source=NULL, flags=b7.BundleFlags.MUST_NOT_FRAGMENT))
    data = b7.encode_bundle(bundle)
    assert fast_alone(data) == careful_alone(data) == bundle


def test_blocks_that_were_verified_before_are_compared_whole() -> None:
    """The fast decoder remembers extension blocks: one altered octet of them must still be found, wherever it is."""
    eid = Eid.parse("dtn://a/b")
    primary = b7.PrimaryBlock(0, 2, eid, eid, eid, 1, 2, 3, None, None)
    blocks = (
        b7.hop_count_block(30, 4, 2),
        b7.previous_node_block(eid.node, 3),
        b7.CanonicalBlock(200, 4, 0, 1, b"x" * 30),
    )
    octets = b7.encode_bundle(b7.Bundle(primary, blocks, b"payload"))
    first = len(b7.encode_primary(primary)) + 1
    behind = first + sum(len(b7.encode_block(block)) for block in blocks)
    for _ in range(2):  # the second time they are known
        assert b7.split_whole(octets)[0].blocks == blocks
    for offset in range(first, behind):
        altered = bytearray(octets)
        altered[offset] ^= 0x01
        with pytest.raises(MalformedError):
            b7.split_whole(bytes(altered))


def test_blocks_without_crc_are_told_apart_by_their_octets() -> None:
    eid = Eid.parse("dtn://a/b")
    primary = b7.PrimaryBlock(0, 2, eid, eid, eid, 1, 2, 3, None, None)
    for last in (b"a", b"b", b"a"):
        block = b7.CanonicalBlock(200, 2, 0, 0, b"sixteen octets and more " + last)
        octets = b7.encode_bundle(b7.Bundle(primary, (block,), b""))
        assert b7.split_whole(octets)[0].blocks == (block,)


def test_a_head_made_is_the_head_decoded() -> None:
    eid = Eid.parse("ipn:5.7")
    primary = b7.PrimaryBlock(0, 2, eid, eid, eid, 1, 2, 3, None, None)
    blocks = (b7.hop_count_block(30, 4, 2),)
    octets, head = b7.make_head(primary, blocks, b7.encode_block(blocks[0]), 300, 2)
    assert octets == b7.encode_head(primary, blocks, 300)
    assert b7.decode_head_untrusted(octets) == head

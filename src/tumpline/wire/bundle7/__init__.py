"""Bundle Protocol version 7 (RFC 9171): bundles to octets and back.

`decode_*_untrusted` verify CRCs and the rules of `Strictness`, and raise MalformedError and nothing else. A bundle may be
handled without its payload in memory: `BundleHead` is all that comes before it, `encode_tail` and `check_tail` are what
comes behind it.
"""

from tumpline.wire.bundle7.blocks import (
    MAX_HOPS,
    bundle_age_block,
    decode_bundle_age,
    decode_hop_count,
    decode_previous_node,
    hop_count_block,
    previous_node_block,
)
from tumpline.wire.bundle7.decode import (
    check_tail,
    decode_bundle_untrusted,
    decode_head_untrusted,
    split_whole,
    tail_octets,
)
from tumpline.wire.bundle7.encode import (
    encode_block,
    encode_bundle,
    encode_head,
    encode_primary,
    encode_tail,
    make_head,
    payload_block_prefix,
    payload_crc,
    payload_crc32c_of,
    reencode_head,
)
from tumpline.wire.bundle7.values import (
    LENIENT,
    MAX_BLOCKS,
    MAX_HEAD_OCTETS,
    STRICT,
    VERSION,
    BlockFlags,
    BlockType,
    Bundle,
    BundleFlags,
    BundleHead,
    BundleId,
    CanonicalBlock,
    PrimaryBlock,
    ReasonCode,
    Strictness,
    bundle_id,
)
from tumpline.wire.crc import CrcType

__all__ = [
    "LENIENT",
    "MAX_BLOCKS",
    "MAX_HEAD_OCTETS",
    "MAX_HOPS",
    "STRICT",
    "VERSION",
    "BlockFlags",
    "BlockType",
    "Bundle",
    "BundleFlags",
    "BundleHead",
    "BundleId",
    "CanonicalBlock",
    "CrcType",
    "PrimaryBlock",
    "ReasonCode",
    "Strictness",
    "bundle_age_block",
    "bundle_id",
    "check_tail",
    "decode_bundle_age",
    "decode_bundle_untrusted",
    "decode_head_untrusted",
    "decode_hop_count",
    "decode_previous_node",
    "encode_block",
    "encode_bundle",
    "encode_head",
    "encode_primary",
    "encode_tail",
    "hop_count_block",
    "make_head",
    "payload_block_prefix",
    "payload_crc",
    "payload_crc32c_of",
    "previous_node_block",
    "reencode_head",
    "split_whole",
    "tail_octets",
]

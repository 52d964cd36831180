"""A bundle goes out and comes back."""

from tumpline.wire import bundle7 as b7
from tumpline.wire.eid import NULL, Eid


def test_round_trip() -> None:
    primary = b7.PrimaryBlock(
        0, 2, Eid.parse("dtn://rover/files"), Eid.parse("ipn:5.1"), NULL, 812345678901, 5, 86400000
    )
    bundle = b7.Bundle(primary, (b7.hop_count_block(32, 1, 2),), b"x" * 100)
    assert b7.decode_bundle_untrusted(b7.encode_bundle(bundle)) == bundle

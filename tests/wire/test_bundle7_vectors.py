"""Whole bundles in hex: the examples of RFC 9173 Appendix A, and bundles whose fields are spelt out."""

import pytest

from tumpline.errors import MalformedError
from tumpline.wire import bundle7 as b7
from tumpline.wire.eid import NULL, Eid

PRIMARY = "88070000820282010282028202018202820201820018281a000f4240"
PAYLOAD = "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164"
AGE = "85070200004319012c"
# RFC 9173 §A.1.4, §A.2.4, §A.3.5, §A.4.5
BIB_A1 = (
    "850b0200005856810101018202820201828201078203008181820158403bdc69b3a34a2b5d3a8554368bd1e808f606219d2a10a846eae3886a"
    "e4ecc83c4ee550fdfb1cc636b904e2f1a73e303dcd4b6ccece003e95e8164dcc89a156e1"
)
BCB_A2 = (
    "850c02010058508101020182028202018482014c5477656c76653132313231328202018203581869c411276fecddc4780df42c8a2af89296fa"
    "bf34d7fae7008204008181820150efa4b5ac0108e3816c5606479801bc04"
)
ENCRYPTED = "85010100005823" + "3a09c1e63fe23a7f66a59c7303837241e070b02619fc59c5214a22f08cd70795e73e9a"
BIB_A3 = (
    "850b030000585c8200020101820282030082820105820300828182015820cac6ce8e4c5dae57988b757e49a6dd1431dc04763541b284509826"
    "5bc817241b81820158203ed614c0d97f49b3633627779aa18a338d212bf3c92b97759d9739cd50725596"
)
BCB_A3 = (
    "850c04010058348101020182028202018382014c5477656c766531323132313282020182040081818201"
    "50efa4b5ac0108e3816c5606479801bc04"
)
BIB_A4 = (
    "850b0300005846438ed6208eb1c1ffb94d952175167df0902902064a2983910c4fb2340790bf420a7d1921d5bf7c4721e02ab87a93ab1e0b75"
    "cf62e4948727c8b5dae46ed2af05439b88029191"
)
BCB_A4 = (
    "850c0201005849820301020182028202018382014c5477656c76653132313231328202038204078281820150220ffc45c8a901999ecc60991d"
    "d78b2981820150d2c51cb2481792dae8b21d848cede99b"
)
ENCRYPTED_A4 = "85010100005823" + "90eab6457593379298a8724e16e61f837488e127212b59ac91f8a86287b7d07630a122"

RFC_9173 = [
    pytest.param([PAYLOAD], [], id="A.1.1"),
    pytest.param([BIB_A1, PAYLOAD], [11], id="A.1.4"),
    pytest.param([BCB_A2, ENCRYPTED], [12], id="A.2.4"),
    pytest.param([AGE, PAYLOAD], [7], id="A.3.1"),
    pytest.param([BIB_A3, BCB_A3, AGE, ENCRYPTED], [11, 12, 7], id="A.3.5"),
    pytest.param([BIB_A4, BCB_A4, ENCRYPTED_A4], [11, 12], id="A.4.5"),
]
# The examples have creation time zero, mostly without a Bundle Age block, and primary blocks without CRC.
AS_IN_RFC_9173 = b7.STRICT._replace(require_primary_crc=False, require_age=False)


def joined(blocks: list[str]) -> bytes:
    return bytes.fromhex("9f" + PRIMARY + "".join(blocks) + "ff")


@pytest.mark.parametrize(("blocks", "types"), RFC_9173)
def test_examples_of_rfc_9173(blocks: list[str], types: list[int]) -> None:
    data = joined(blocks)
    bundle = b7.decode_bundle_untrusted(data, AS_IN_RFC_9173)
    primary = bundle.primary
    assert [block.type for block in bundle.blocks] == types
    assert [str(eid) for eid in primary[2:5]] == ["ipn:1.2", "ipn:2.1", "ipn:2.1"]
    assert (primary.created_ms, primary.sequence, primary.lifetime_ms) == (0, 40, 1000000)
    assert len(bundle.payload) == 35
    assert b7.encode_bundle(bundle) == data


def test_the_original_payload_of_rfc_9173() -> None:
    bundle = b7.decode_bundle_untrusted(joined([PAYLOAD]), AS_IN_RFC_9173)
    assert bundle.payload == b"Ready to generate a 32-byte payload"


def test_a_bib_over_the_primary_block_stands_for_its_crc() -> None:
    """RFC 9173 §A.3.5 has a BIB that targets block 0, and a Bundle Age block: nothing is to be waived."""
    assert b7.decode_bundle_untrusted(joined([BIB_A3, BCB_A3, AGE, ENCRYPTED])).blocks[0].type == 11
    with pytest.raises(MalformedError, match="no BIB targets it"):
        b7.decode_bundle_untrusted(joined([BIB_A1.replace("850b02", "850b09", 1), AGE, PAYLOAD]))


def test_an_encrypted_bib_may_be_over_the_primary_block() -> None:
    """RFC 9173 §A.4.5: the BCB targets the BIB, whose targets nobody can read without the key."""
    rules = b7.STRICT._replace(require_age=False)
    assert len(b7.decode_bundle_untrusted(joined([BIB_A4, BCB_A4, ENCRYPTED_A4]), rules).blocks) == 2
    unencrypted = BCB_A4.replace("58498203 01".replace(" ", ""), "5849820101", 1)
    with pytest.raises(MalformedError, match="no BIB targets it"):
        b7.decode_bundle_untrusted(joined([BIB_A4, unencrypted, ENCRYPTED_A4]), rules)


DTN_PRIMARY = b7.PrimaryBlock(
    0x4 | 0x40 | 0x20000, 2, Eid.parse("dtn://rover/files"), Eid.parse("dtn://ground/"), NULL, 812345678901, 5, 86400000
)
TABLE = [
    pytest.param(
        b7.Bundle(DTN_PRIMARY, (), b"hi"),
        "9f 89 07 1a00020044 02 8201 6d2f2f726f7665722f66696c6573 8201 692f2f67726f756e642f 820100"
        " 82 1b000000bd23935c35 05 1a05265c00 44 a85fd237"
        " 86 01 01 00 02 42 6869 44 1ff585a4 ff",
        id="dtn, CRC32C",
    ),
    pytest.param(
        b7.Bundle(
            b7.PrimaryBlock(1, 1, Eid.parse("ipn:977000.9.1"), Eid.parse("ipn:5.1"), NULL, 1000, 0, 5000, 10, 300),
            (b7.previous_node_block(Eid.parse("ipn:7.0"), 3, 1), b7.hop_count_block(32, 1, 2, 0, 0x10)),
            b"part",
            1,
            1,
        ),
        "9f 8b 07 01 01 8202831a000ee8680901 8202820501 820100 82 1903e8 00 191388 0a 19012c 42 7efc"
        " 86 06 03 00 01 45 8202820700 42 7a55"
        " 85 0a 02 10 00 44 82182001"
        " 86 01 01 01 01 44 70617274 42 dc5c ff",
        id="ipn fragment, X.25",
    ),
]


@pytest.mark.parametrize(("bundle", "octets"), TABLE)
def test_value_and_octets(bundle: b7.Bundle, octets: str) -> None:
    assert b7.encode_bundle(bundle).hex() == octets.replace(" ", "")
    assert b7.decode_bundle_untrusted(bytes.fromhex(octets)) == bundle


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b7.previous_node_block(Eid.parse("dtn://n/"), 2), "8201642f2f6e2f"),
        (b7.bundle_age_block(300, 2), "19012c"),
        (b7.bundle_age_block(0, 2), "00"),
        (b7.hop_count_block(255, 24, 2), "8218ff1818"),
    ],
)
def test_block_data(block: b7.CanonicalBlock, data: str) -> None:
    assert block.data.hex() == data
    decoders = {6: b7.decode_previous_node, 7: b7.decode_bundle_age, 10: b7.decode_hop_count}
    values = {6: Eid.parse("dtn://n/"), 10: (255, 24)}
    assert decoders[block.type](block.data) == values.get(block.type, int(data[-3:], 16))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("previous_node", "8201642f2f6e2f00"),
        ("previous_node", "00"),
        ("previous_node", ""),
        ("bundle_age", "20"),
        ("bundle_age", "1801"),
        ("bundle_age", "0000"),
        ("bundle_age", ""),
        ("hop_count", "8200 00"),  # limit 0
        ("hop_count", "8219010000"),  # limit 256
        ("hop_count", "830100 00"),
        ("hop_count", "8101"),
        ("hop_count", "82010000"),
        ("hop_count", "9f0100ff"),
        ("hop_count", "1bffffffffffffffff"),
    ],
)
def test_wrong_block_data_is_malformed(kind: str, data: str) -> None:
    with pytest.raises(MalformedError):
        getattr(b7, f"decode_{kind}")(bytes.fromhex(data))


def test_block_data_in_other_encodings_where_asked() -> None:
    assert b7.decode_bundle_age(b"\x18\x01", canonical=False) == 1
    assert b7.decode_hop_count(bytes.fromhex("9f180100ff"), canonical=False) == (1, 0)
    assert b7.decode_previous_node(bytes.fromhex("9f0100ff"), canonical=False) == NULL


def test_bundle_ids() -> None:
    whole = b7.bundle_id(DTN_PRIMARY, 2)
    assert str(whole) == "dtn://ground/@812345678901-5"
    part = b7.bundle_id(DTN_PRIMARY._replace(flags=1, fragment_offset=10, total_adu_length=40), 20)
    assert str(part) == "dtn://ground/@812345678901-5-10-20"
    assert part.adu_key == whole.adu_key == whole.key
    assert part.key != whole.key
    assert whole.key.hex() == "8201692f2f67726f756e642f1b000000bd23935c3505"
    for identity in (whole, part):
        assert b7.BundleId.parse(str(identity)) == identity


@pytest.mark.parametrize("text", ["", "x", "dtn://n/", "dtn://n/@1", "dtn://n/@1-2-3", "dtn://n/@1-x", "@1-2", "y@1-2"])
def test_a_wrong_bundle_id_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        b7.BundleId.parse(text)


def test_an_ipn_source_has_one_key_in_both_encodings() -> None:
    two, three = Eid.parse("ipn:977000.100.1"), Eid.parse("ipn:977000.100.1").two_element()
    assert b7.BundleId(two, 1, 2).key == b7.BundleId(three, 1, 2).key

"""RFC 9891: the administrative record of node ID validation, and the vector of its appendix B."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.acme import (
    MAX_TOKEN_OCTETS,
    RECORD_TYPE,
    SHA_256,
    SHA_384,
    SHA_512,
    AcmeRecord,
    Digest,
    decode_acme_untrusted,
    digest_of,
    key_authorization,
    token_from_text,
    token_to_text,
)
from tumpline.wire.admin import UnknownRecord, decode_admin_untrusted, encode_admin
from tumpline.wire.bundle7 import (
    LENIENT,
    Bundle,
    BundleFlags,
    PrimaryBlock,
    decode_bundle_untrusted,
    encode_bundle,
)
from tumpline.wire.describe import describe_record
from tumpline.wire.eid import NULL, Eid

# RFC 9891 appendix B.
SERVER, CLIENT = Eid.parse("dtn://acme-server/"), Eid.parse("dtn://acme-client/")
ID_CHAL = token_from_text("dDtaviYTPUWFS3NK37YWfQ", "id_chal")
TOKEN_CHAL = token_from_text("tPUZNY4ONIk6LxErRFEjVw", "token_chal")
TOKEN_BUNDLE = token_from_text("p3yRYFU4KxwQaHQjJ2RdiQ", "token_bundle")
THUMBPRINT = token_from_text("LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ", "thumbprint")
AUTHORIZATION = "p3yRYFU4KxwQaHQjJ2RdiQtPUZNY4ONIk6LxErRFEjVw.LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
DIGEST = bytes.fromhex("99520e24441989ef17a5833a30c55241488d3c7eb85119e133d9e22795c7adec")
CHALLENGE_BUNDLE = bytes.fromhex(
    "9f880718220082016e2f2f61636d652d636c69656e742f82016e2f2f61636d652d7365727665722f820100821a000f42400019ea60"
    "8501010000582b8218ffa30150743b5abe26133d45854b734adfb6167d0250a77c916055382b1c1068742327645d8904812fff"
)
RESPONSE_BUNDLE = bytes.fromhex(
    "9f8807020082016e2f2f61636d652d7365727665722f82016e2f2f61636d652d636c69656e742f820100821a000fb770001975308501"
    "010000584d8218ffa30150743b5abe26133d45854b734adfb6167d0250a77c916055382b1c1068742327645d8903822f5820"
    "99520e24441989ef17a5833a30c55241488d3c7eb85119e133d9e22795c7adecff"
)
CHALLENGE = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, None, (SHA_256,))
RESPONSE = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, Digest(SHA_256, DIGEST))


def test_the_key_authorization_and_its_digest() -> None:
    assert key_authorization(TOKEN_BUNDLE, TOKEN_CHAL, THUMBPRINT) == AUTHORIZATION
    assert digest_of(AUTHORIZATION, SHA_256) == DIGEST
    assert [len(digest_of(AUTHORIZATION, each)) for each in (SHA_384, SHA_512)] == [48, 64]


@pytest.mark.parametrize(
    ("record", "octets", "head"),
    [
        (
            CHALLENGE,
            CHALLENGE_BUNDLE,
            (BundleFlags.ADMIN | BundleFlags.ACK_REQUESTED, CLIENT, SERVER, 1_000_000, 60_000),
        ),
        (RESPONSE, RESPONSE_BUNDLE, (BundleFlags.ADMIN, SERVER, CLIENT, 1_030_000, 30_000)),
    ],
    ids=["challenge", "response"],
)
def test_the_bundles_of_the_appendix(record: AcmeRecord, octets: bytes, head: tuple[int, Eid, Eid, int, int]) -> None:
    flags, destination, source, created_ms, lifetime_ms = head
    payload = encode_admin(UnknownRecord(RECORD_TYPE, record.encode_content()))
    primary = PrimaryBlock(flags, 0, destination, source, NULL, created_ms, 0, lifetime_ms)
    assert encode_bundle(Bundle(primary, (), payload, 0, 0)) == octets
    came = decode_bundle_untrusted(octets, LENIENT)
    assert came.primary == primary
    found = decode_admin_untrusted(came.payload)
    assert found.code == RECORD_TYPE
    assert decode_acme_untrusted(found.content) == record


def test_a_bare_digest_of_older_agents() -> None:
    record = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, Digest(None, DIGEST))
    assert record.encode_content().hex().endswith("035820" + DIGEST.hex())
    assert decode_acme_untrusted(record.encode_content()) == record


def test_algorithms_by_number_and_by_name() -> None:
    record = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, None, (SHA_512, "sha-9", 7, SHA_256))
    assert record.encode_content().hex().endswith("0484382b657368612d39072f")
    assert decode_acme_untrusted(record.encode_content()) == record


TOKENS = "0150" + ID_CHAL.hex() + "0250" + TOKEN_BUNDLE.hex()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("80", "not a map"),
        ("a0", "has an id-chal and a token-bundle"),
        ("a10150" + ID_CHAL.hex(), "has an id-chal and a token-bundle"),
        ("a2014f" + "00" * 15 + "0250" + TOKEN_BUNDLE.hex(), "id-chal has 15 octets"),
        ("a2015881" + "00" * 129 + "0250" + TOKEN_BUNDLE.hex(), "id-chal has 129 octets"),
        ("a2016161" + "0250" + TOKEN_BUNDLE.hex(), "not a byte string"),
        ("a20250" + TOKEN_BUNDLE.hex() + "0150" + ID_CHAL.hex(), "not in order"),
        ("a20150" + ID_CHAL.hex() + "0150" + ID_CHAL.hex(), "doubled"),
        ("a3" + TOKENS + "0500", "key 5 is none"),
        ("a3" + TOKENS + "20f5", "not an unsigned integer"),
        ("a3" + TOKENS + "0480", "0 hash algorithms"),
        ("a3" + TOKENS + "0491" + "00" * 17, "17 hash algorithms"),
        ("a3" + TOKENS + "0481f5", "hash algorithm"),
        ("a3" + TOKENS + "04817841" + "61" * 65, "65 octets"),
        ("a3" + TOKENS + "048161ff", "not UTF-8"),
        ("a3" + TOKENS + "03812f", "not a byte string|end"),
        ("a3" + TOKENS + "03832f40f5", "does not have 2 items"),
        ("a3" + TOKENS + "035841" + "00" * 65, "65 octets"),
        ("a3" + TOKENS + "04", "octets end"),
        ("bf" + TOKENS + "ff", "definite length"),
        ("a2" + TOKENS + "00", "1 octets too many"),
        ("b802" + TOKENS, "shortest"),
    ],
)
def test_what_is_no_record(content: str, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        decode_acme_untrusted(bytes.fromhex(content))


@pytest.mark.parametrize("text", ["", "dDtaviYTPUWFS3NK37YWfQ==", "dDtaviYTPUWFS3NK37YWf", "dDtaviYTPUWFS3NK37YWf+",
                                  "dDtaviYTPUWFS3NK37YWfR", "AAAA", "A" * 300, "é" * 22])  # fmt: skip
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(MalformedError, match="id_chal: write base64url text without '='"):
        token_from_text(text, "id_chal")


@given(st.binary(min_size=16, max_size=MAX_TOKEN_OCTETS))
def test_tokens_as_text(octets: bytes) -> None:
    assert token_from_text(token_to_text(octets), "token") == octets


algorithms = st.integers(-(1 << 32), 1 << 32) | st.text(max_size=16)
records = st.builds(
    AcmeRecord,
    st.binary(min_size=16, max_size=40),
    st.binary(min_size=16, max_size=40),
    st.none() | st.builds(Digest, st.none() | algorithms, st.binary(max_size=64)),
    st.lists(algorithms, max_size=4).map(tuple),
)


@given(records)
def test_round_trip(record: AcmeRecord) -> None:
    assert decode_acme_untrusted(record.encode_content()) == record


@given(records, st.data())
def test_altered_octets_are_a_record_or_malformed(record: AcmeRecord, data: st.DataObject) -> None:
    octets = bytearray(record.encode_content())
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_acme_untrusted(bytes(octets))
    except MalformedError:
        return
    assert found.encode_content() == octets


def test_people_see_what_a_record_says() -> None:
    told = describe_record(decode_admin_untrusted(decode_bundle_untrusted(RESPONSE_BUNDLE, LENIENT).payload))
    assert told["record"] == "ACME node ID validation"
    assert told["id_chal"] == "dDtaviYTPUWFS3NK37YWfQ"
    assert told["digest"] == {"algorithm": SHA_256, "hex": DIGEST.hex()}
    wrong = describe_record(UnknownRecord(RECORD_TYPE, b"\xa0"))
    assert wrong["problem"].startswith("an ACME record has")

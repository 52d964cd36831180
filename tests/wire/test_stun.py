"""STUN messages against the vectors of RFC 5769 and RFC 8489 Appendix B, and against hostile octets."""

from __future__ import annotations

import hmac
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.stun import (
    ATTRIBUTES_MOST,
    Attr,
    ChangeRequest,
    ErrorCode,
    Kind,
    Message,
    Method,
    PasswordAlgorithm,
    TransportAddress,
    add_fingerprint,
    add_integrity,
    add_integrity_sha256,
    data_with,
    decode_stun_untrusted,
    encode_stun,
    is_authentic,
    is_stun,
    long_term_key,
    userhash,
)

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
# RFC 5769 §2.1: short-term credentials; the padding of USERNAME is spaces.
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b1"
    "51263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
)
# RFC 5769 §2.2 and §2.3
RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599"
    "fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5"
    "bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
# RFC 5769 §2.4: long-term credentials
LONG_TERM = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39"
    "353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
# RFC 8489 Appendix B.1: USERHASH and MESSAGE-INTEGRITY-SHA256
SHA256 = bytes.fromhex(
    "0001009c2112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c678"
    "0417da0f24819415569e60b205c46e41407f1704001500296f624d61744a6f733241414143662f2f3439396b"
    "39353464364f4c33346f4c394653547679363473410000000014000b6578616d706c652e6f726700001c0020"
    "e4686c8f0edeb59013e07090010a93efccbccc544c0a45d9f830aa6d6f735a01"
)
REPAIRED = SHA256[:2] + b"\x00\x88" + SHA256[4:]
MATRIX = "マトリックス"


def binding(*attributes: tuple[int, object]) -> bytes:
    return encode_stun(Message(Kind.REQUEST, Method.BINDING, ID, attributes))


# ---- vectors ---------------------------------------------------------------------------------------------------------


def test_the_sample_request() -> None:
    message = decode_stun_untrusted(REQUEST)
    assert message[:3] == (Kind.REQUEST, Method.BINDING, ID)
    assert message.attributes[:4] == (
        (Attr.SOFTWARE, "STUN test client"),
        (Attr.PRIORITY, 0x6E0001FF),
        (Attr.ICE_CONTROLLED, 0x932FF9B151263B36),
        (Attr.USERNAME, "evtj:h6vY"),
    )
    assert message.get(Attr.FINGERPRINT) == 0xE57A3BCF
    assert is_authentic(REQUEST, PASSWORD)
    assert not is_authentic(REQUEST, PASSWORD + b"x")
    assert not is_authentic(REQUEST, PASSWORD, sha256=True)


@pytest.mark.parametrize(
    ("data", "host"), [(RESPONSE_V4, "192.0.2.1"), (RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677")]
)
def test_the_sample_responses(data: bytes, host: str) -> None:
    message = decode_stun_untrusted(data)
    assert message[:3] == (Kind.SUCCESS, Method.BINDING, ID)
    assert message.get(Attr.SOFTWARE) == "test vector"
    assert message.get(Attr.XOR_MAPPED_ADDRESS) == TransportAddress(host, 32853)
    assert is_authentic(data, PASSWORD)


def test_the_long_term_request_is_made_octet_by_octet() -> None:
    key = long_term_key(MATRIX, "example.org", "TheMatrIX")
    message = Message(
        Kind.REQUEST,
        Method.BINDING,
        LONG_TERM[8:20],
        ((Attr.USERNAME, MATRIX), (Attr.NONCE, b"f//499k954d6OL34oL9FSTvy64sA"), (Attr.REALM, "example.org")),
    )
    assert add_integrity(encode_stun(message), key) == LONG_TERM
    assert is_authentic(LONG_TERM, key)
    assert decode_stun_untrusted(LONG_TERM).attributes[:3] == message.attributes


def test_the_sha256_request_but_for_its_length() -> None:
    # The RFC's header counts its own 20 octets (0x9c for 0x88), and the HMAC was made over that: no decoder takes it as
    # it is. All else of it can be checked.
    with pytest.raises(MalformedError, match="156 octets in a datagram with 136"):
        decode_stun_untrusted(SHA256)
    key = long_term_key(MATRIX, "example.org", "TheMatrIX", sha256=True)
    assert hmac.digest(key, SHA256[:-36], "sha256") == SHA256[-32:]
    message = decode_stun_untrusted(REPAIRED)
    assert message.get(Attr.USERHASH) == userhash(MATRIX, "example.org")
    assert message.get(Attr.NONCE) == b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"
    plain = encode_stun(message._replace(attributes=message.attributes[:3]))
    resealed = add_integrity_sha256(plain, key)
    assert resealed == REPAIRED[:-32] + hmac.digest(key, REPAIRED[:-36], "sha256")
    assert is_authentic(resealed, key, sha256=True)
    assert not is_authentic(REPAIRED, key, sha256=True)


def test_the_key_of_long_term_credentials() -> None:
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"  # RFC 8489 §9.2.2


# ---- what is taken, and what is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method", "bits"),
    [
        (Kind.REQUEST, Method.BINDING, 0x0001),
        (Kind.SUCCESS, Method.BINDING, 0x0101),
        (Kind.ERROR, Method.ALLOCATE, 0x0113),
        (Kind.INDICATION, Method.DATA, 0x0017),
        (Kind.ERROR, 0xFFF, 0x3FFF),
        (Kind.REQUEST, 0xFFF, 0x3EEF),
    ],
)
def test_the_class_lies_among_the_bits_of_the_method(kind: Kind, method: int, bits: int) -> None:
    data = encode_stun(Message(kind, method, ID))
    assert data[:2] == bits.to_bytes(2, "big")
    assert decode_stun_untrusted(data) == Message(kind, method, ID)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no STUN"),
        (REQUEST[:19], "no STUN"),
        (b"\x40" + REQUEST[1:], "no STUN"),
        (REQUEST[:4] + bytes(4) + REQUEST[8:], "no STUN"),
        (REQUEST[:-1], "88 octets in a datagram with 87"),
        (REQUEST + bytes(4), "88 octets in a datagram with 92"),
        (REQUEST[:-1] + b"\0", "FINGERPRINT does not fit"),
        (REQUEST[:45] + b"\1" + REQUEST[46:], "FINGERPRINT does not fit"),
        (binding((Attr.SOFTWARE, "x" * 764)), "SOFTWARE: 764 octets, at most 763"),
        (binding((0x7F00, b"")) + b"\0\0", "octets in a datagram"),
        (binding(*[(0x8FFF, b"")] * (ATTRIBUTES_MOST + 1)), "more than 64 attributes"),
        (data_with(binding(), Attr.SOFTWARE, b"\xff\xfe"), "SOFTWARE: 'utf-8'"),
        (data_with(binding(), Attr.XOR_MAPPED_ADDRESS, bytes(8)), "XOR_MAPPED_ADDRESS: no address"),
        (data_with(binding(), Attr.MAPPED_ADDRESS, b"\0\1" + bytes(18)), "MAPPED_ADDRESS: no address"),
        (data_with(binding(), Attr.ERROR_CODE, b"\0\0\7\0"), "class 7 and number 0"),
        (data_with(binding(), Attr.ERROR_CODE, b"\0\0\4\x64"), "class 4 and number 100"),
        (data_with(binding(), Attr.ERROR_CODE, b"\0\0"), "hold no code"),
        (data_with(binding(), Attr.MESSAGE_INTEGRITY, bytes(19)), "20 octets, not 19"),
        (data_with(binding(), Attr.MESSAGE_INTEGRITY_SHA256, bytes(12)), "12 octets are no HMAC-SHA256"),
        (data_with(binding(), Attr.UNKNOWN_ATTRIBUTES, bytes(3)), "3 octets are no list"),
        (data_with(binding(), Attr.PASSWORD_ALGORITHM, bytes(8)), "2 algorithms instead of one"),
        (data_with(binding(), Attr.PASSWORD_ALGORITHMS, b"\0\1\0\5"), "claims 5 octets of 0"),
    ],
)
def test_what_does_not_follow_the_format_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        decode_stun_untrusted(data)


def test_an_attribute_may_not_reach_beyond_the_message() -> None:
    data = bytearray(binding((0x8FFF, b"abcd")))
    data[22:24] = (5).to_bytes(2, "big")
    with pytest.raises(MalformedError, match="attribute 0x8fff claims 5 octets of 4"):
        decode_stun_untrusted(bytes(data))


def test_what_follows_the_integrity_is_nobodys() -> None:
    smuggled = data_with(add_integrity(binding(), b"key"), Attr.USERNAME, b"someone")
    assert decode_stun_untrusted(smuggled).get(Attr.USERNAME) is None
    assert is_authentic(smuggled, b"key")
    sealed = add_fingerprint(add_integrity_sha256(add_integrity(binding(), b"key"), b"key"))
    kinds = [kind for kind, _ in decode_stun_untrusted(sealed).attributes]
    assert kinds == [Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256, Attr.FINGERPRINT]
    assert is_authentic(sealed, b"key")
    assert is_authentic(sealed, b"key", sha256=True)


def test_a_fingerprint_is_the_last() -> None:
    with pytest.raises(MalformedError, match="FINGERPRINT does not fit"):
        decode_stun_untrusted(data_with(add_fingerprint(binding()), Attr.SOFTWARE, b"x"))


def test_only_the_first_of_a_type_counts_and_the_unknown_are_told() -> None:
    message = decode_stun_untrusted(binding((0x7F01, b"a"), (Attr.LIFETIME, 1), (Attr.LIFETIME, 2), (0x8F01, b"")))
    assert message.get(Attr.LIFETIME) == 1
    assert message.get(Attr.REALM) is None
    assert message.not_understood == (0x7F01,)


def test_stun_is_told_from_other_datagrams() -> None:
    assert is_stun(memoryview(REQUEST))
    assert not is_stun(b"\x80" + REQUEST[1:])  # RTP
    assert not is_stun(bytes(20))


# ---- properties ------------------------------------------------------------------------------------------------------

ADDRESSES = st.builds(
    TransportAddress,
    st.one_of(
        st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
        st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    ),
    st.integers(0, 65535),
)
TEXTS = st.text(max_size=100)
U32 = st.integers(0, 2**32 - 1)
ALGORITHMS = st.builds(PasswordAlgorithm, st.integers(0, 65535), st.binary(max_size=9))
VALUES: dict[int, st.SearchStrategy[object]] = {
    Attr.MAPPED_ADDRESS: ADDRESSES,
    Attr.XOR_MAPPED_ADDRESS: ADDRESSES,
    Attr.XOR_RELAYED_ADDRESS: ADDRESSES,
    Attr.OTHER_ADDRESS: ADDRESSES,
    Attr.CHANGE_REQUEST: st.builds(ChangeRequest, st.booleans(), st.booleans()),
    Attr.USERNAME: TEXTS,
    Attr.NONCE: st.binary(max_size=763),
    Attr.ERROR_CODE: st.builds(ErrorCode, st.integers(300, 699), TEXTS),
    Attr.UNKNOWN_ATTRIBUTES: st.lists(st.integers(0, 65535), max_size=ATTRIBUTES_MOST).map(tuple),
    Attr.CHANNEL_NUMBER: st.integers(0, 65535),
    Attr.LIFETIME: U32,
    Attr.EVEN_PORT: st.booleans(),
    Attr.REQUESTED_TRANSPORT: st.integers(0, 255),
    Attr.PASSWORD_ALGORITHM: ALGORITHMS,
    Attr.PASSWORD_ALGORITHMS: st.lists(ALGORITHMS, max_size=5).map(tuple),
    Attr.ICE_CONTROLLING: st.integers(0, 2**64 - 1),
    Attr.PADDING: st.binary(max_size=2000),
    0x8FFF: st.binary(max_size=50),
    0x7FFF: st.binary(max_size=50),
}
ATTRIBUTES = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])), max_size=8
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(Kind),
    st.integers(0, 0xFFF),
    st.binary(min_size=12, max_size=12),
    ATTRIBUTES.map(tuple),
)


@given(MESSAGES, st.binary(max_size=70))
def test_every_message_comes_back_sealed_or_not(message: Message, key: bytes) -> None:
    plain = encode_stun(message)
    assert len(plain) % 4 == 0
    assert decode_stun_untrusted(plain) == message
    sealed = add_fingerprint(add_integrity_sha256(add_integrity(plain, key), key))
    assert decode_stun_untrusted(sealed).attributes[: len(message.attributes)] == message.attributes
    assert is_authentic(sealed, key)
    assert is_authentic(sealed, key, sha256=True)


@given(st.sampled_from([REQUEST, RESPONSE_V4, RESPONSE_V6]), st.data())
def test_the_fingerprint_covers_every_octet_before_it(data: bytes, draw: st.DataObject) -> None:
    bad = altered(data, draw, len(data) - 8)
    with pytest.raises(MalformedError):
        decode_stun_untrusted(bad)


@given(st.data())
def test_the_integrity_covers_every_octet(draw: st.DataObject) -> None:
    bad = altered(LONG_TERM, draw, len(LONG_TERM))
    try:
        decode_stun_untrusted(bad)
    except MalformedError:
        return
    assert not is_authentic(bad, long_term_key(MATRIX, "example.org", "TheMatrIX"))


def altered(data: bytes, draw: st.DataObject, end: int) -> bytes:
    bad = bytearray(data)
    bad[draw.draw(st.integers(0, end - 1))] ^= draw.draw(st.integers(1, 255))
    return bytes(bad)


@given(st.binary(max_size=200))
def test_nothing_but_malformed_error(data: bytes) -> None:
    for datagram in (data, REQUEST[:2] + (len(data) & ~3).to_bytes(2, "big") + REQUEST[4:20] + data[: len(data) & ~3]):
        try:
            decode_stun_untrusted(datagram)
        except MalformedError:
            continue

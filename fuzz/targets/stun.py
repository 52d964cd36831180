"""STUN messages: any datagram at a port that punches holes."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.wire.stun import (
    HEADER_OCTETS,
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
    decode_stun_untrusted,
    encode_stun,
    is_authentic,
)

_ID = bytes(range(12))
_V4, _V6 = TransportAddress("192.0.2.1", 32_853), TransportAddress("2001:db8::1", 9)
_VALUES: dict[Attr, object] = {
    Attr.MAPPED_ADDRESS: _V4,
    Attr.CHANGE_REQUEST: ChangeRequest(True, False),
    Attr.USERNAME: "evtj:h6vY",
    Attr.ERROR_CODE: ErrorCode(420, "Unknown Attribute"),
    Attr.UNKNOWN_ATTRIBUTES: (0x7F01, 0x0002),
    Attr.CHANNEL_NUMBER: 0x4000,
    Attr.LIFETIME: 600,
    Attr.XOR_PEER_ADDRESS: _V6,
    Attr.DATA: b"any data",
    Attr.REALM: "example.org",
    Attr.NONCE: b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA",
    Attr.XOR_RELAYED_ADDRESS: _V4,
    Attr.REQUESTED_ADDRESS_FAMILY: 1,
    Attr.EVEN_PORT: True,
    Attr.REQUESTED_TRANSPORT: 17,
    Attr.DONT_FRAGMENT: b"",
    Attr.PASSWORD_ALGORITHM: PasswordAlgorithm(2),
    Attr.USERHASH: bytes(32),
    Attr.XOR_MAPPED_ADDRESS: _V6,
    Attr.RESERVATION_TOKEN: bytes(8),
    Attr.PRIORITY: 0x6E0001FF,
    Attr.USE_CANDIDATE: b"",
    Attr.PADDING: bytes(100),
    Attr.RESPONSE_PORT: 7,
    Attr.ADDITIONAL_ADDRESS_FAMILY: 2,
    Attr.PASSWORD_ALGORITHMS: (PasswordAlgorithm(1), PasswordAlgorithm(2, b"xyz")),
    Attr.ALTERNATE_DOMAIN: "example.org",
    Attr.ICMP: bytes(8),
    Attr.SOFTWARE: "test vector",
    Attr.ALTERNATE_SERVER: _V4,
    Attr.ICE_CONTROLLED: 1,
    Attr.ICE_CONTROLLING: 1 << 63,
    Attr.RESPONSE_ORIGIN: _V4,
    Attr.OTHER_ADDRESS: _V6,
}


def seeds() -> list[bytes]:
    """Each attribute by itself, all together, and sealed."""
    alone = [encode_stun(Message(Kind.REQUEST, Method.BINDING, _ID, (pair,))) for pair in _VALUES.items()]
    whole = encode_stun(Message(Kind.SUCCESS, Method.ALLOCATE, _ID, tuple(_VALUES.items())))
    short = add_integrity(alone[2], b"key")
    return [*alone, whole, short, add_fingerprint(short), add_fingerprint(add_integrity_sha256(short, b"key"))]


def run(data: bytes) -> bool:
    """A message that is sent again says the same; nobody without the key can seal it."""
    message = decode_stun_untrusted(data)
    again = encode_stun(message)
    if not {Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256, Attr.FINGERPRINT} & {
        kind for kind, _ in message.attributes
    }:
        assert decode_stun_untrusted(again) == message, "it says something else"
    assert len(again) <= len(data), "octets that were not there"
    assert not is_authentic(data, b"another key"), "sealed by nobody"
    for cut in (len(data) - 1, HEADER_OCTETS - 1):
        try:
            decode_stun_untrusted(data[:cut])
        except MalformedError:
            continue
        raise AssertionError("a message without its last octets")
    return True


# A message has at most 64 attributes, each a value of some hundred octets; one that is accepted is copied for its seals.
TARGET = Target("stun", "STUN messages", seeds, run, peak_base=128 << 10, peak_factor=8)

"""STUN messages (RFC 8489): octets <-> frozen values; with the attributes of RFC 5780, RFC 8445 and RFC 8656 (TURN).

A message is encoded without its seals; `add_integrity`, `add_integrity_sha256` and `add_fingerprint` append those, in
this order. `decode_stun_untrusted` takes one whole datagram and raises nothing but MalformedError; it checks the
FINGERPRINT, which needs no key; MESSAGE-INTEGRITY is checked by `is_authentic`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Any, Final, NamedTuple
from zlib import crc32

from tumpline.errors import MalformedError

MAGIC_COOKIE: Final = b"\x21\x12\xa4\x42"  # RFC 8489 §5
HEADER_OCTETS: Final = 20
TRANSACTION_OCTETS: Final = 12
# The largest real messages (Allocate with long-term credentials) carry a dozen: more is an attempt to make us make values.
ATTRIBUTES_MOST: Final = 64
TEXT_OCTETS_MOST: Final = 763  # RFC 8489 §14.3, §14.8 to §14.10, §14.14: "as long as 763 bytes when decoding them"
_FINGERPRINT_MASK: Final = 0x5354554E  # RFC 8489 §14.7
_FAMILY_IPV4, _FAMILY_IPV6 = 1, 2  # RFC 8489 §14.1


class Kind(IntEnum):
    """The class of a message, RFC 8489 §5."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS = 0b10
    ERROR = 0b11


class Method(IntEnum):
    """RFC 8489 §18.2 and RFC 8656 §17."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009


class Attr(IntEnum):
    """Attribute types: RFC 8489 §18.3, RFC 5780 §7, RFC 8445 §16.1, RFC 8656 §18."""

    MAPPED_ADDRESS = 0x0001
    CHANGE_REQUEST = 0x0003
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    CHANNEL_NUMBER = 0x000C
    LIFETIME = 0x000D
    XOR_PEER_ADDRESS = 0x0012
    DATA = 0x0013
    REALM = 0x0014
    NONCE = 0x0015
    XOR_RELAYED_ADDRESS = 0x0016
    REQUESTED_ADDRESS_FAMILY = 0x0017
    EVEN_PORT = 0x0018
    REQUESTED_TRANSPORT = 0x0019
    DONT_FRAGMENT = 0x001A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    RESERVATION_TOKEN = 0x0022
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    PADDING = 0x0026
    RESPONSE_PORT = 0x0027
    ADDITIONAL_ADDRESS_FAMILY = 0x8000
    PASSWORD_ALGORITHMS = 0x8002
    ALTERNATE_DOMAIN = 0x8003
    ICMP = 0x8004
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C


class TransportAddress(NamedTuple):
    """A numeric IPv4 or IPv6 address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ErrorCode(NamedTuple):
    """ERROR-CODE (RFC 8489 §14.8): 300 to 699, and a phrase for people."""

    code: int
    reason: str = ""


class ChangeRequest(NamedTuple):
    """CHANGE-REQUEST (RFC 5780 §7.2): answer from the other address, from the other port."""

    address: bool
    port: bool


class PasswordAlgorithm(NamedTuple):
    """RFC 8489 §14.11: 1 is MD5, 2 is SHA-256; neither has parameters."""

    number: int
    parameters: bytes = b""


class Message(NamedTuple):
    """One message. The value of an attribute is what its type's codec makes (see `_CODECS`), octets of an unknown one."""

    kind: Kind
    method: int
    transaction: bytes
    attributes: tuple[tuple[int, Any], ...] = ()

    def get(self, wanted: Attr) -> Any:
        """The value of the first attribute of this type (RFC 8489 §14: further ones may be ignored), or None."""
        for kind, value in self.attributes:
            if kind == wanted:
                return value
        return None

    @property
    def not_understood(self) -> tuple[int, ...]:
        """Types of comprehension-required attributes that are unknown here (RFC 8489 §14)."""
        return tuple(kind for kind, _ in self.attributes if kind < 0x8000 and kind not in _CODECS)


_Decode = Callable[[bytes, bytes], Any]  # value, transaction; ValueError says what is wrong
_Encode = Callable[[Any, bytes], bytes]

_HEADER = Struct(">HH4s12s")
_TLV = Struct(">HH")
_PORT = Struct(">xBH")
_U32 = Struct(">I")
_XOR_HEAD = b"\0\0" + MAGIC_COOKIE[:2] + MAGIC_COOKIE
_KINDS = tuple(Kind)


# ---- values of attributes --------------------------------------------------------------------------------------------


def _fixed(value: bytes, octets: int) -> None:
    if len(value) != octets:
        raise ValueError(f"{octets} octets, not {len(value)}")


def _decode_address(value: bytes, _transaction: bytes) -> TransportAddress:
    # RFC 8489 §14.1: the first octet MUST be ignored by receivers.
    if len(value) == 8 and value[1] == _FAMILY_IPV4:
        return TransportAddress(f"{value[4]}.{value[5]}.{value[6]}.{value[7]}", value[2] << 8 | value[3])
    if len(value) == 20 and value[1] == _FAMILY_IPV6:
        return TransportAddress(str(IPv6Address(value[4:])), value[2] << 8 | value[3])
    raise ValueError(f"no address: {value[:20].hex()}")


def _encode_address(address: TransportAddress, _transaction: bytes) -> bytes:
    if ":" in address.host:
        return _PORT.pack(_FAMILY_IPV6, address.port) + IPv6Address(address.host).packed
    return _PORT.pack(_FAMILY_IPV4, address.port) + IPv4Address(address.host).packed


def _decode_xor_address(value: bytes, transaction: bytes) -> TransportAddress:
    return _decode_address(_xored(value, transaction), transaction)


def _encode_xor_address(address: TransportAddress, transaction: bytes) -> bytes:
    return _xored(_encode_address(address, transaction), transaction)


def _xored(value: bytes, transaction: bytes) -> bytes:
    # RFC 8489 §14.2: the port is XORed with the first half of the cookie, the address with cookie and transaction ID.
    octets = min(len(value), 20)  # an address has no more: what is longer is refused anyway
    mask = (_XOR_HEAD + transaction)[:octets]
    return (int.from_bytes(value[:octets], "big") ^ int.from_bytes(mask, "big")).to_bytes(octets, "big") + value[20:]


def _decode_text(value: bytes, _transaction: bytes) -> str:
    return _bounded(value, _transaction).decode()


def _encode_text(text: str, _transaction: bytes) -> bytes:
    return text.encode()


def _bounded(value: bytes, _transaction: bytes) -> bytes:
    if len(value) > TEXT_OCTETS_MOST:
        raise ValueError(f"{len(value)} octets, at most {TEXT_OCTETS_MOST} are taken")
    return value


def _octets(value: bytes, _transaction: bytes) -> bytes:
    return value


def _decode_error(value: bytes, _transaction: bytes) -> ErrorCode:
    if len(value) < 4:
        raise ValueError(f"{len(value)} octets hold no code")
    hundreds, number = value[2] & 0x07, value[3]
    # RFC 8489 §14.8: the class MUST be between 3 and 6, the number between 0 and 99.
    if not 3 <= hundreds <= 6 or number > 99:
        raise ValueError(f"class {hundreds} and number {number} are no code")
    return ErrorCode(hundreds * 100 + number, _decode_text(value[4:], _transaction))


def _encode_error(error: ErrorCode, _transaction: bytes) -> bytes:
    return bytes([0, 0, *divmod(error.code, 100)]) + error.reason.encode()


def _decode_types(value: bytes, _transaction: bytes) -> tuple[int, ...]:
    if len(value) % 2 or len(value) > 2 * ATTRIBUTES_MOST:
        raise ValueError(f"{len(value)} octets are no list of at most {ATTRIBUTES_MOST} types")
    return tuple(value[at] << 8 | value[at + 1] for at in range(0, len(value), 2))


def _encode_types(types: tuple[int, ...], _transaction: bytes) -> bytes:
    return b"".join(kind.to_bytes(2, "big") for kind in types)


def _decode_change(value: bytes, _transaction: bytes) -> ChangeRequest:
    _fixed(value, 4)
    return ChangeRequest(bool(value[3] & 0x04), bool(value[3] & 0x02))


def _encode_change(change: ChangeRequest, _transaction: bytes) -> bytes:
    return bytes([0, 0, 0, 0x04 * change.address | 0x02 * change.port])


def _decode_algorithms(value: bytes, _transaction: bytes) -> tuple[PasswordAlgorithm, ...]:
    return tuple(PasswordAlgorithm(*found) for found in _walk(value))


def _encode_algorithms(algorithms: tuple[PasswordAlgorithm, ...], _transaction: bytes) -> bytes:
    return b"".join(_tlv(number, parameters) for number, parameters in algorithms)


def _decode_algorithm(value: bytes, transaction: bytes) -> PasswordAlgorithm:
    found = _decode_algorithms(value, transaction)
    if len(found) != 1:
        raise ValueError(f"{len(found)} algorithms instead of one")
    return found[0]


def _encode_algorithm(algorithm: PasswordAlgorithm, _transaction: bytes) -> bytes:
    return _tlv(*algorithm)


def _decode_even_port(value: bytes, _transaction: bytes) -> bool:
    _fixed(value, 1)
    return bool(value[0] & 0x80)


def _encode_even_port(reserve: bool, _transaction: bytes) -> bytes:
    return b"\x80" if reserve else b"\x00"


def _decode_truncated_hmac(value: bytes, _transaction: bytes) -> bytes:
    # RFC 8489 §14.6: at most 32 octets, at least 16, a multiple of 4.
    if not 16 <= len(value) <= 32 or len(value) % 4:
        raise ValueError(f"{len(value)} octets are no HMAC-SHA256")
    return value


def _number(layout: str) -> tuple[_Decode, _Encode]:
    struct = Struct(layout)

    def decode(value: bytes, _transaction: bytes) -> int:
        _fixed(value, struct.size)
        return int(struct.unpack(value)[0])

    return decode, lambda number, _transaction: struct.pack(number)


def _exactly(octets: int) -> tuple[_Decode, _Encode]:
    def decode(value: bytes, _transaction: bytes) -> bytes:
        _fixed(value, octets)
        return value

    return decode, _octets


_ADDRESS = (_decode_address, _encode_address)
_XOR_ADDRESS = (_decode_xor_address, _encode_xor_address)
_TEXT = (_decode_text, _encode_text)
_FAMILY = _number(">Bxxx")

_CODECS: dict[int, tuple[_Decode, _Encode]] = {
    Attr.MAPPED_ADDRESS: _ADDRESS,
    Attr.CHANGE_REQUEST: (_decode_change, _encode_change),
    Attr.USERNAME: _TEXT,
    Attr.MESSAGE_INTEGRITY: _exactly(20),
    Attr.ERROR_CODE: (_decode_error, _encode_error),
    Attr.UNKNOWN_ATTRIBUTES: (_decode_types, _encode_types),
    Attr.CHANNEL_NUMBER: _number(">Hxx"),
    Attr.LIFETIME: _number(">I"),
    Attr.XOR_PEER_ADDRESS: _XOR_ADDRESS,
    Attr.DATA: (_octets, _octets),
    Attr.REALM: _TEXT,
    Attr.NONCE: (_bounded, _octets),
    Attr.XOR_RELAYED_ADDRESS: _XOR_ADDRESS,
    Attr.REQUESTED_ADDRESS_FAMILY: _FAMILY,
    Attr.EVEN_PORT: (_decode_even_port, _encode_even_port),
    Attr.REQUESTED_TRANSPORT: _number(">Bxxx"),
    Attr.DONT_FRAGMENT: _exactly(0),
    Attr.MESSAGE_INTEGRITY_SHA256: (_decode_truncated_hmac, _octets),
    Attr.PASSWORD_ALGORITHM: (_decode_algorithm, _encode_algorithm),
    Attr.USERHASH: _exactly(32),
    Attr.XOR_MAPPED_ADDRESS: _XOR_ADDRESS,
    Attr.RESERVATION_TOKEN: _exactly(8),
    Attr.PRIORITY: _number(">I"),
    Attr.USE_CANDIDATE: _exactly(0),
    Attr.PADDING: (_octets, _octets),
    Attr.RESPONSE_PORT: _number(">Hxx"),
    Attr.ADDITIONAL_ADDRESS_FAMILY: _FAMILY,
    Attr.PASSWORD_ALGORITHMS: (_decode_algorithms, _encode_algorithms),
    Attr.ALTERNATE_DOMAIN: _TEXT,
    Attr.ICMP: _exactly(8),
    Attr.SOFTWARE: _TEXT,
    Attr.ALTERNATE_SERVER: _ADDRESS,
    Attr.FINGERPRINT: _number(">I"),
    Attr.ICE_CONTROLLED: _number(">Q"),
    Attr.ICE_CONTROLLING: _number(">Q"),
    Attr.RESPONSE_ORIGIN: _ADDRESS,
    Attr.OTHER_ADDRESS: _ADDRESS,
}
assert set(_CODECS) == set(Attr), "every attribute that has a name has a codec"


# ---- messages --------------------------------------------------------------------------------------------------------


def is_stun(datagram: bytes | memoryview) -> bool:
    """Whether a datagram can be STUN at all (RFC 8489 §5: two zero bits, the cookie): to tell it from what else comes."""
    return len(datagram) >= HEADER_OCTETS and datagram[0] < 0x40 and datagram[4:8] == MAGIC_COOKIE


def encode_stun(message: Message) -> bytes:
    """The octets of a message, its attributes as they are given (integrity and fingerprint among them as well)."""
    body = bytearray()
    for kind, value in message.attributes:
        codec = _CODECS.get(kind)
        body += _tlv(kind, value if codec is None else codec[1](value, message.transaction))
    assert len(message.transaction) == TRANSACTION_OCTETS, "RFC 8489 §5: a transaction ID has 96 bits"
    return _HEADER.pack(_pack_type(message), len(body), MAGIC_COOKIE, message.transaction) + body


def decode_stun_untrusted(datagram: bytes) -> Message:
    """The message that a whole datagram is. Raises: MalformedError.

    Attributes behind MESSAGE-INTEGRITY are left out: nothing vouches for them (RFC 8489 §9).
    """
    if not is_stun(datagram):
        raise MalformedError("no STUN: fewer than 20 octets, or no magic cookie")
    bits, length, _, transaction = _HEADER.unpack_from(datagram)
    if length != len(datagram) - HEADER_OCTETS or length % 4:
        raise MalformedError(f"STUN message of {length} octets in a datagram with {len(datagram) - HEADER_OCTETS}")
    try:
        attributes = _decode_attributes(datagram, transaction)
    except ValueError as error:  # UnicodeDecodeError is one
        raise MalformedError(f"STUN message: {error}") from None
    kind = _KINDS[bits >> 4 & 0b01 | bits >> 7 & 0b10]
    return Message(kind, bits & 0x00F | bits >> 1 & 0x070 | bits >> 2 & 0xF80, transaction, attributes)


def _decode_attributes(datagram: bytes, transaction: bytes) -> tuple[tuple[int, Any], ...]:
    found: list[tuple[int, Any]] = []
    ignored_below = 0  # once an integrity attribute was read: the least type that still counts is another seal
    for kind, value in _walk(datagram, HEADER_OCTETS):
        if ignored_below and (kind not in _SEALS or _SEALS[kind] <= ignored_below):
            continue
        codec = _CODECS.get(kind)
        try:
            found.append((kind, value if codec is None else codec[0](value, transaction)))
        except ValueError as error:
            raise ValueError(f"{Attr(kind).name}: {error}") from None
        ignored_below = _SEALS.get(kind, ignored_below)
    if found and found[-1][0] == Attr.FINGERPRINT and found[-1][1] != _fingerprint(datagram[:-8]):
        raise ValueError("the FINGERPRINT does not fit")
    return tuple(found)


# RFC 8489 §9: behind each of these only the later ones count; §14.7: FINGERPRINT is the last.
_SEALS: dict[int, int] = {Attr.MESSAGE_INTEGRITY: 1, Attr.MESSAGE_INTEGRITY_SHA256: 2, Attr.FINGERPRINT: 3}


def _walk(octets: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Types and values of a padded list (RFC 8489 §14). Raises: ValueError."""
    count = 0
    while at < len(octets):
        if len(octets) - at < _TLV.size:
            raise ValueError(f"cut short at octet {at}")
        kind, length = _TLV.unpack_from(octets, at)
        at += _TLV.size
        if length > len(octets) - at:
            raise ValueError(f"attribute 0x{kind:04x} claims {length} octets of {len(octets) - at}")
        count += 1
        if count > ATTRIBUTES_MOST:
            raise ValueError(f"more than {ATTRIBUTES_MOST} attributes")
        yield kind, octets[at : at + length]
        at += length + -length % 4


def _tlv(kind: int, value: bytes) -> bytes:
    return _TLV.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _pack_type(message: Message) -> int:
    # RFC 8489 Figure 3: the two bits of the class lie among the twelve of the method.
    method, kind = message.method, message.kind
    return method & 0x00F | (method & 0x070) << 1 | (method & 0xF80) << 2 | (kind & 0b01) << 4 | (kind & 0b10) << 7


# ---- seals -----------------------------------------------------------------------------------------------------------


def long_term_key(username: str, realm: str, password: str, *, sha256: bool = False) -> bytes:
    """RFC 8489 §9.2.2, §18.5.1. All three as the OpaqueString profile (RFC 8265) leaves them."""
    secret = f"{username}:{realm}:{password}".encode()
    return hashlib.sha256(secret).digest() if sha256 else hashlib.md5(secret, usedforsecurity=False).digest()


def userhash(username: str, realm: str) -> bytes:
    """The value of USERHASH (RFC 8489 §14.4)."""
    return hashlib.sha256(f"{username}:{realm}".encode()).digest()


def add_integrity(data: bytes, key: bytes) -> bytes:
    """The message with MESSAGE-INTEGRITY (RFC 8489 §14.5). For short-term credentials `key` is the password (§9.1.1)."""
    return data_with(data, Attr.MESSAGE_INTEGRITY, _hmac(data, len(data), 20, key, "sha1"))


def add_integrity_sha256(data: bytes, key: bytes) -> bytes:
    """The message with MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6)."""
    return data_with(data, Attr.MESSAGE_INTEGRITY_SHA256, _hmac(data, len(data), 32, key, "sha256"))


def add_fingerprint(data: bytes) -> bytes:
    """The message with FINGERPRINT (RFC 8489 §14.7), which nothing may follow."""
    counted = _with_length(data, len(data) + 8)
    return data_with(data, Attr.FINGERPRINT, _U32.pack(_fingerprint(counted)))


def data_with(data: bytes, kind: int, value: bytes) -> bytes:
    """The message with one more attribute, whose octets are given."""
    attribute = _tlv(kind, value)
    return _with_length(data, len(data) + len(attribute)) + attribute


def is_authentic(data: bytes, key: bytes, *, sha256: bool = False) -> bool:
    """Whether a message that decodes carries the integrity that `key` makes; False also without the attribute.

    A truncated HMAC-SHA256 does not count: RFC 8489 §14.6 allows it to usages that say so, and we have none.
    """
    wanted, octets, digest = (
        (Attr.MESSAGE_INTEGRITY_SHA256, 32, "sha256") if sha256 else (Attr.MESSAGE_INTEGRITY, 20, "sha1")
    )
    at = HEADER_OCTETS
    for kind, value in _walk(data, at):
        if kind == wanted:
            return hmac.compare_digest(value, _hmac(data, at, octets, key, digest))
        at += _TLV.size + len(value) + -len(value) % 4
    return False


def _hmac(data: bytes, end: int, octets: int, key: bytes, digest: str) -> bytes:
    # RFC 8489 §14.5: the length in the header points to the end of this attribute while the HMAC is computed.
    return hmac.digest(key, _with_length(data[:end], end + _TLV.size + octets), digest)


def _with_length(data: bytes, octets: int) -> bytes:
    """The message whose header says that it has so many octets, header included."""
    return data[:2] + (octets - HEADER_OCTETS).to_bytes(2, "big") + data[4:]


def _fingerprint(data: bytes) -> int:
    return crc32(data) ^ _FINGERPRINT_MASK

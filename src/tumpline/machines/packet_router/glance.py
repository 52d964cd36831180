"""A glance at an older agent's message: from whom to whom its IP packet goes, without reading the numbers behind its head.

Reading all 1400 numbers of a packet costs three times as much as all the rest of passing it on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.packet_json import BODY_OCTETS_MOST

_TEXT_OCTETS: Final = 40 * len(b"255, ") + 40  # 40 octets of an IPv6 head, and some blanks more than anybody writes
_IPV4_OCTETS: Final = 20
_IPV6_OCTETS: Final = 40


class Addresses(NamedTuple):
    """4 or 16 octets each."""

    source: bytes
    destination: bytes

    @property
    def is_for_many(self) -> bool:
        """Multicast, or IPv4's limited broadcast."""
        return is_of_many(self.destination)

    @property
    def is_from_one(self) -> bool:
        """From an address that somebody has: not from one who looks for an address (RFC 4862 §5.4.2, RFC 2131 §4.1)."""
        return any(self.source) and not is_of_many(self.source)


def is_of_many(address: bytes) -> bool:
    """Multicast, or IPv4's limited broadcast."""
    if len(address) == 16:
        return address[0] == 0xFF
    return address[0] >> 4 == 14 or address == b"\xff\xff\xff\xff"


def glance_untrusted(body: bytes | memoryview) -> Addresses:
    """Of a packet in JSON of either generation. Raises: MalformedError."""
    if len(body) > BODY_OCTETS_MOST:
        raise MalformedError(f"packet message: {len(body)} octets, at most {BODY_OCTETS_MOST} make sense")
    if not isinstance(body, bytes):
        body = bytes(body)
    at = body.find(b"[", body.find(b'"data"') + 1) + 1
    numbers = body[at : at + _TEXT_OCTETS].partition(b"]")[0].split(b",", _IPV6_OCTETS)
    try:
        version = int(numbers[0]) >> 4
        if version == 6:
            head = bytes(map(int, numbers[8:_IPV6_OCTETS]))
            source, destination = head[:16], head[16:]
        else:
            head = bytes(map(int, numbers[12:_IPV4_OCTETS]))
            source, destination = head[:4], head[4:]
    except ValueError as error:
        raise MalformedError(f"packet message: no head of an IP packet in it ({error})") from error
    if version not in (4, 6) or len(destination) != len(source) or len(source) not in (4, 16):
        raise MalformedError("packet message: no head of an IP packet in it")
    return Addresses(source, destination)

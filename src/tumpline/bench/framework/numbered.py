"""Distinct bundles by number, and what of them came: for benches in which some may be lost."""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import Bundle, CrcType, PrimaryBlock, decode_bundle_untrusted, encode_bundle
from tumpline.wire.eid import NULL, Eid

_SOURCE, _SINK = Eid.parse("dtn://ground/source"), Eid.parse("dtn://rover/sink")
_CREATED_MS, _LIFETIME_MS = 850_000_000_000, 86_400_000


class Numbered:
    """Bundles with payloads of one length, CRC32C on both blocks."""

    def __init__(self, octets: int) -> None:
        self._filler = bytes(index * 31 % 251 for index in range(octets - 8))

    def bundle(self, number: int) -> bytes:
        """Encoded. Its payload begins with the number too."""
        crc = CrcType.CRC32C
        primary = PrimaryBlock(0, crc, _SINK, _SOURCE, NULL, _CREATED_MS, number, _LIFETIME_MS, None, None)
        return encode_bundle(Bundle(primary, (), number.to_bytes(8, "big") + self._filler, 0, crc))

    def number_of(self, data: bytes) -> int:
        """Raises: MalformedError if it is not one of these, octet for octet."""
        bundle = decode_bundle_untrusted(data)  # checks the CRCs
        number, payload = bundle.primary.sequence, bundle.payload
        if payload != number.to_bytes(8, "big") + self._filler:
            raise MalformedError(f"bundle {number} was altered")
        return number


class Tally:
    """What came of them."""

    def __init__(self, octets: int) -> None:
        self._numbered = Numbered(octets)
        self._seen: set[int] = set()
        self.damaged = 0
        self.doubled = 0

    def take(self, bundles: list[bytes]) -> None:
        """Look at each."""
        number_of, seen = self._numbered.number_of, self._seen
        for data in bundles:
            try:
                number = number_of(data)
            except MalformedError:
                self.damaged += 1
                continue
            if number in seen:
                self.doubled += 1
            seen.add(number)

    def report(self) -> dict[str, int]:
        """What came since the last report."""
        told = {"distinct": len(self._seen), "damaged": self.damaged, "doubled": self.doubled}
        self._seen.clear()
        self.damaged = self.doubled = 0
        return told

"""Bundles into datagrams of a given size: several small ones together, a large one in segments.

UDPCL has no acknowledgement ("transmit and forget"): that a datagram was sent says nothing of its arrival, and custody of a
bundle must not end with it unless whoever configured the link wants so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tumpline.wire.udpcl import KEEPALIVE, transfer_head

# The longest head of a segment has 3 octets, three numbers of 9 and a string's head of 9; one more octet would do.
DATAGRAM_OCTETS_LEAST: Final = 64
_NUMBERS: Final = 1 << 64  # draft: transfer IDs count up from 0, modulo 2^64


class Segmenter:
    """Of one conversation: numbers its transfers. Bundles that are alone in a datagram go bare, as RFC 7122 has it too."""

    def __init__(self, first_number: int = 0) -> None:
        self._next = first_number

    def datagrams(self, bundles: Iterable[bytes], datagram_octets: int) -> list[bytes]:
        """All of them, in order; no datagram is longer than `datagram_octets`."""
        assert datagram_octets >= DATAGRAM_OCTETS_LEAST, "no room for the head of a segment"
        made: list[bytes] = []
        together: list[bytes] = []
        room = datagram_octets
        for bundle in bundles:
            needed = _framed_octets_most(bundle)
            if together and needed > room:
                made.append(self._join(together))
                together, room = [], datagram_octets
            if len(bundle) > datagram_octets:
                made += self._segments(bundle, datagram_octets)
            else:
                together.append(bundle)
                room -= needed
        if together:
            made.append(self._join(together))
        return made

    def _join(self, bundles: list[bytes]) -> bytes:
        if len(bundles) == 1 and len(bundles[0]) > len(KEEPALIVE):
            return bundles[0]
        return b"".join(part for bundle in bundles for part in (transfer_head(self._number(), len(bundle)), bundle))

    def _segments(self, bundle: bytes, datagram_octets: int) -> list[bytes]:
        number, total = self._number(), len(bundle)
        made: list[bytes] = []
        offset = 0
        while offset < total:
            # The head is measured for a segment that fills the datagram: for a shorter one it is no longer.
            room = datagram_octets - len(transfer_head(number, datagram_octets, total, offset))
            data = bundle[offset : offset + room]
            made.append(transfer_head(number, len(data), total, offset) + data)
            offset += len(data)
        return made

    def _number(self) -> int:
        number = self._next
        self._next = (number + 1) % _NUMBERS
        return number


def _framed_octets_most(bundle: bytes) -> int:
    return len(transfer_head(_NUMBERS - 1, len(bundle))) + len(bundle)

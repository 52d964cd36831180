"""Bundles into datagrams of a given size: several small ones together, a large one in segments.

UDPCL has no acknowledgement ("transmit and forget"): that a datagram was sent says nothing of its arrival, and custody of a
bundle must not end with it unless whoever configured the link wants so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tumpline.wire.udpcl import KEEPALIVE, MAPS_MOST, Kind, decode_datagram_untrusted, kind_of, transfer_head

# The longest head of a segment has 3 octets, three numbers of 9 and a string's head of 9; one more octet would do.
DATAGRAM_OCTETS_LEAST: Final = 64
FRAME_OCTETS_MOST: Final = 15  # before a bundle that shares a datagram: 3, a number of 9 and a string's head of 3
_NUMBERS: Final = 1 << 64  # draft: transfer IDs count up from 0, modulo 2^64


class Segmenter:
    """Of one conversation: numbers its transfers. Bundles that are alone in a datagram go bare, as RFC 7122 has it too."""

    def __init__(self, first_number: int = 0) -> None:
        self._next = first_number

    def datagrams(self, bundles: Iterable[bytes], datagram_octets: int, *, joins: bool = True) -> list[bytes]:
        """All of them, in order; no datagram is longer than `datagram_octets`. `joins`: small ones may share one, which a
        peer of version 1 would not understand."""
        assert datagram_octets >= DATAGRAM_OCTETS_LEAST, "no room for the head of a segment"
        together_most = MAPS_MOST if joins else 1
        made: list[bytes] = []
        together: list[bytes] = []
        room = datagram_octets
        for bundle in bundles:
            needed = len(bundle) + FRAME_OCTETS_MOST
            if together and (needed > room or len(together) == together_most):
                made.append(self._join(together))
                together, room = [], datagram_octets
            if len(bundle) > datagram_octets or (needed > datagram_octets and not _may_be_bare(bundle)):
                made += self._segments(bundle, datagram_octets)
            else:
                together.append(bundle)
                room -= needed
        if together:
            made.append(self._join(together))
        return made

    def cut_again(self, datagrams: Iterable[bytes], datagram_octets: int) -> list[bytes]:
        """The bundles of datagrams that were too long, in shorter ones. Segments keep their transfer: any part of one is a
        segment too. Other items (probes) are left out."""
        made: list[bytes] = []
        whole: list[bytes] = []
        for datagram in datagrams:
            decoded = decode_datagram_untrusted(datagram)
            if decoded.kind is Kind.BUNDLE7:
                whole.append(decoded.data)
            for transfer in (each.transfer for each in decoded.maps if each.transfer is not None):
                if transfer.total is None:
                    whole.append(transfer.data)
                else:
                    made += _cut(transfer.number, transfer.total, transfer.offset, transfer.data, datagram_octets)
        return made + self.datagrams(whole, datagram_octets)

    def _join(self, bundles: list[bytes]) -> bytes:
        if len(bundles) == 1 and _may_be_bare(bundles[0]):
            return bundles[0]
        return b"".join(part for bundle in bundles for part in (transfer_head(self._number(), len(bundle)), bundle))

    def _segments(self, bundle: bytes, datagram_octets: int) -> list[bytes]:
        return _cut(self._number(), len(bundle), 0, bundle, datagram_octets)

    def _number(self) -> int:
        number = self._next
        self._next = (number + 1) % _NUMBERS
        return number


def _cut(number: int, total: int, offset: int, run: bytes, datagram_octets: int) -> list[bytes]:
    """`run`, which lies at `offset` of a bundle of `total` octets, in segments."""
    made: list[bytes] = []
    at = 0
    while at < len(run):
        # The head is measured for a segment that fills the datagram: for a shorter one it is no longer.
        room = datagram_octets - len(transfer_head(number, datagram_octets, total, offset + at))
        data = run[at : at + room]
        made.append(transfer_head(number, len(data), total, offset + at) + data)
        at += len(data)
    return made


def _may_be_bare(bundle: bytes) -> bool:
    """What begins like something else than a bundle of version 7 is framed, lest it be taken for that."""
    return len(bundle) > len(KEEPALIVE) and kind_of(bundle[0]) is Kind.BUNDLE7

"""Records of DTLS (RFC 6347, RFC 9147) as far as one must know them without keys: where each ends, and what opens a handshake.

What is inside belongs to the TLS library; this is what cuts its octets into datagrams, and strangers' datagrams into records.
"""

from __future__ import annotations

from typing import Final

HEADER_OCTETS: Final = 13  # RFC 6347 §4.1: type, version, epoch, sequence number, length
# RFC 6347 §4.1, RFC 5246 §6.2.3: 2^14 octets and at most 2048 that a cipher adds. Those of today add 40 at most; and what is
# longer, the library would read in two parts, of which it takes neither.
RECORD_OCTETS_MOST: Final = HEADER_OCTETS + 16_384 + 256
PLAINTEXT_OCTETS_MOST: Final = 16_384
RECORDS_MOST: Final = 256  # of one datagram; more are an attempt to make us work

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
_CLIENT_HELLO: Final = 1
_RANDOM_AT: Final = HEADER_OCTETS + 12 + 2  # RFC 6347 §4.2.2: behind the handshake header and client_version
_RANDOM_OCTETS: Final = 32
_LEGACY: Final = range(20, 27)  # RFC 9147 §4.1: content types that begin a header of 13 octets
_UNIFIED: Final = range(0x20, 0x40)  # RFC 9147 §4: 001CSLEE
_CID, _LONG_SEQUENCE, _HAS_LENGTH = 0x10, 0x08, 0x04


def split_records(datagram: bytes) -> list[bytes]:
    """The records of a datagram, each with its header. What is left over and is no whole record is left out: RFC 6347
    §4.1.2.7 has invalid records dropped in silence. Connection IDs are not asked for, so a record with one is none."""
    records: list[bytes] = []
    at, end = 0, len(datagram)
    while at < end and len(records) < RECORDS_MOST:
        stop = _end_of_record(datagram, at)
        if stop is None or stop > end:
            break
        if stop - at <= RECORD_OCTETS_MOST:
            records.append(datagram if stop - at == end else datagram[at:stop])
        at = stop
    return records


def _end_of_record(data: bytes, at: int) -> int | None:
    first = data[at]
    if first in _LEGACY:
        if at + HEADER_OCTETS > len(data):
            return None
        return at + HEADER_OCTETS + int.from_bytes(data[at + 11 : at + HEADER_OCTETS])
    if first not in _UNIFIED or first & _CID:
        return None
    header = 3 if first & _LONG_SEQUENCE else 2
    if not first & _HAS_LENGTH:
        return len(data)  # RFC 9147 §4: "the record consumes the entire rest of the datagram"
    length = data[at + header : at + header + 2]
    return at + header + 2 + int.from_bytes(length) if len(length) == 2 else None


def pack_records(records: list[bytes], datagram_octets: int) -> list[bytes]:
    """Datagrams, each with as many records as fit, in order. RFC 6347 §4.1.1: "Multiple DTLS records may be placed in a
    single datagram", none may span two. A record that is longer by itself goes alone."""
    datagrams: list[bytes] = []
    begin, octets = 0, 0
    for index, record in enumerate(records):
        length = len(record)
        if octets and octets + length > datagram_octets:
            datagrams.append(_joined(records, begin, index))
            begin, octets = index, 0
        octets += length
    if octets:
        datagrams.append(_joined(records, begin, len(records)))
    return datagrams


def _joined(records: list[bytes], begin: int, end: int) -> bytes:
    return records[begin] if end - begin == 1 else b"".join(records[begin:end])


def client_hello_random(datagram: bytes) -> bytes | None:
    """The random value of the ClientHello that a datagram begins with, or None if it begins with something else. Of the
    second one, with a cookie, it is the same."""
    opens = (
        datagram[:1] == b"\x16"
        and datagram[3:5] == b"\0\0"  # epoch 0: nothing is encrypted
        and datagram[HEADER_OCTETS : HEADER_OCTETS + 1] == bytes([_CLIENT_HELLO])
    )
    random = datagram[_RANDOM_AT : _RANDOM_AT + _RANDOM_OCTETS]
    return random if opens and len(random) == _RANDOM_OCTETS else None


def is_encrypted(record: bytes) -> bool:
    """Whether a record is of an epoch with keys."""
    return record[0] in _UNIFIED or record[3:5] != b"\0\0"

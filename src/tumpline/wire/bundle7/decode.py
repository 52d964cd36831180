"""From octets to a bundle or its head: the fast decoder first, the careful one for all it does not know."""

from __future__ import annotations

from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import careful, fast
from tumpline.wire.bundle7.encode import encode_tail
from tumpline.wire.bundle7.values import MAX_HEAD_OCTETS, STRICT, Bundle, BundleHead, Strictness
from tumpline.wire.cbor import TruncatedError
from tumpline.wire.crc import crc16_x25, crc32c, crc_octets

# Up to here a copy of the payload block is cheaper than a memoryview over it.
_COPY_OCTETS = 4096
_new = tuple.__new__
_INDEFINITE = 0x9F  # first octet of a bundle that ends with a break (RFC 9171 §4.1)


def decode_head_untrusted(
    data: bytes | bytearray | memoryview, total_length: int | None = None, strictness: Strictness = STRICT
) -> BundleHead | None:
    """The head of the bundle that begins `data`; None if octets are missing.

    `total_length`, where known, is the number of octets of the whole bundle, and must fit the payload's length. The CRCs
    of the primary and the extension blocks are verified. Raises MalformedError and nothing else.
    """
    octets = data if type(data) is bytes else bytes(data[:MAX_HEAD_OCTETS])
    head = fast.decode_head(octets, strictness) or _careful_head(octets, total_length, strictness)
    if head is None:
        return None
    if head.payload_offset > MAX_HEAD_OCTETS:
        raise MalformedError(f"the bundle has more than {MAX_HEAD_OCTETS} octets before its payload")
    if total_length is not None:
        _check_length(head, total_length + (octets[0] != _INDEFINITE), strictness)
    return head


def _careful_head(octets: bytes, total_length: int | None, strictness: Strictness) -> BundleHead | None:
    octets = octets[:MAX_HEAD_OCTETS]
    try:
        return careful.decode_head(octets, strictness)
    except TruncatedError:
        if len(octets) >= MAX_HEAD_OCTETS:
            raise MalformedError(f"the bundle has more than {MAX_HEAD_OCTETS} octets before its payload") from None
        if total_length is not None and len(octets) >= total_length:
            raise
        return None


def _check_length(head: BundleHead, total_length: int, strictness: Strictness) -> None:
    rest = total_length - head.payload_offset - head.payload_length
    tail = tail_octets(head)
    if rest == tail or (rest > tail and strictness.allow_trailing):
        return
    raise MalformedError(f"{rest} octets are left for the end of the bundle, where there must be {tail}")


def tail_octets(head: BundleHead) -> int:
    """Octets behind the payload: its CRC field and the break."""
    crc = crc_octets(head.payload_crc_type)
    return crc + 2 if crc else 1


def check_tail(head: BundleHead, tail: bytes, crc_value: int, strictness: Strictness = STRICT) -> None:
    """Raise MalformedError unless `tail` is what must follow a payload whose block has this CRC (`payload_crc`).

    With `allow_definite_bundle` the break may be missing.
    """
    expected = encode_tail(head.payload_crc_type, crc_value)
    if tail == expected or (strictness.allow_trailing and tail.startswith(expected)):
        return
    if strictness.allow_definite_bundle and tail == expected[:-1]:
        return
    if len(tail) < len(expected):
        raise MalformedError("the bundle ends inside the end of its payload block")
    if not tail.startswith(expected[:-1]):
        raise MalformedError("the CRC of the payload block does not match its octets")
    raise MalformedError("octets follow the payload block where the bundle must end (RFC 9171 §4.1)")


def split_whole(
    data: bytes | bytearray | memoryview, strictness: Strictness = STRICT
) -> tuple[BundleHead, bytes, bytes]:
    """Head, payload and tail of a whole bundle, all CRCs verified. Raises MalformedError and nothing else.

    The tail is `encode_tail` of the bundle even where a laxer form of it was allowed and received.
    """
    if type(data) is not bytes:
        data = bytes(data)
    head = fast.decode_head(data, strictness)
    if head is None or head.payload_offset > MAX_HEAD_OCTETS:
        head = decode_head_untrusted(data, len(data), strictness)
        if head is None:
            raise MalformedError("the bundle ends before its payload")
    start = head.payload_offset
    end = start + head.payload_length
    crc_value = _payload_crc(data, start - len(head.payload_prefix), end, head.payload_crc_type)
    tail = encode_tail(head.payload_crc_type, crc_value)
    if data[end:] != tail or data[0] != _INDEFINITE:
        _check_whole(data, head, crc_value, strictness)
    return head, data[start:end], tail


def _payload_crc(data: bytes, start: int, end: int, crc_type: int) -> int:
    """The CRC of the payload block that begins at `start` and whose data ends at `end`, its field zeroed."""
    if not crc_type:
        return 0
    block = data[start:end] if end - start < _COPY_OCTETS else memoryview(data)[start:end]
    if crc_type == 2:
        return crc32c(b"\x44\0\0\0\0", crc32c(block))
    return crc16_x25(b"\x42\0\0", crc16_x25(block))


def _check_whole(data: bytes, head: BundleHead, crc_value: int, strictness: Strictness) -> None:
    """Raise MalformedError unless the octets behind the payload may be those of this bundle in one of its forms."""
    _check_length(head, len(data) + (data[0] != _INDEFINITE), strictness)
    tail = data[head.payload_offset + head.payload_length :]
    if data[0] != _INDEFINITE:  # no break: put one where the tail of an indefinite array has it
        octets = tail_octets(head) - 1
        tail = tail[:octets] + b"\xff" + tail[octets:]
    check_tail(head, tail, crc_value, strictness._replace(allow_definite_bundle=False))


def decode_bundle_untrusted(data: bytes | bytearray | memoryview, strictness: Strictness = STRICT) -> Bundle:
    """The bundle that `data` is, all CRCs verified. Raises MalformedError and nothing else."""
    head, payload, _ = split_whole(data, strictness)
    primary, blocks, flags, crc_type, *_ = head
    return _new(Bundle, (primary, blocks, payload, flags, crc_type))

"""What two members of the packet overlay tell each other about bundles: octets inside of the overlay's sealed messages.

A message begins with a head: version, kind, the sessions of both ends, its own number and that of the last message that came
in order. OPEN tells what its sender takes, DATA holds records, the others are heads (CLOSE and RESET with a sentence). All
numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

VERSION: Final = 1
NODE_ID_OCTETS_MOST: Final = 1024
TEXT_OCTETS_MOST: Final = 512
_HEAD: Final = Struct(">BBQQQQ")
_OPEN: Final = Struct(">QIQ")
_WHOLE: Final = Struct(">BQI")
_START: Final = Struct(">BQQ")
_COUNT: Final = Struct(">BI")
_REFUSED: Final = Struct(">BQB")
_NUMBER: Final = Struct(">BQ")
HEAD_OCTETS: Final = _HEAD.size
WHOLE_HEAD_OCTETS: Final = _WHOLE.size
SEGMENT_HEAD_OCTETS: Final = _WHOLE.size
START_OCTETS: Final = _START.size
REFUSED_OCTETS: Final = _REFUSED.size


class MessageKind(IntEnum):
    """What a message is for."""

    OPEN = 1
    DATA = 2
    ACK = 3
    GAP = 4  # an acknowledgement by one who has seen that something behind it is missing
    CLOSE = 5
    RESET = 6  # the session that was spoken to is not there (any more)


class MessageHead(NamedTuple):
    """`receiver` is 0 in the OPEN of one who has not heard of the other's session yet."""

    kind: MessageKind
    sender: int
    receiver: int
    sequence: int = 0  # of DATA: 1, 2, 3 ...
    acknowledged: int = 0  # the last number that came in order


class Opening(NamedTuple):
    """What the sender of an OPEN is and takes."""

    node_id: str
    mru_octets: int  # longest bundle
    unanswered_most: int  # transfers that may wait for its answer
    unanswered_octets_most: int  # the same in octets of those that came whole in one record


class RefusalCode(IntEnum):
    """Why a transfer is refused."""

    NO_RESOURCES = 1
    COMPLETED = 2
    RETRANSMIT = 3
    NOT_ACCEPTABLE = 4


class RecordKind(IntEnum):
    """What a record of a DATA message is."""

    WHOLE = 1
    START = 2
    SEGMENT = 3
    ABORT = 4
    STORED = 5
    REFUSED = 6
    ENDING = 7


class Whole(NamedTuple):
    """A bundle in one piece."""

    transfer: int
    octets: memoryview


class Start(NamedTuple):
    """A bundle of this length begins; segments follow, in order."""

    transfer: int
    length: int


class Segment(NamedTuple):
    """The next octets of the bundle that began last."""

    transfer: int
    octets: memoryview


class Abort(NamedTuple):
    """The bundle that began last will not be completed."""

    transfer: int


class Stored(NamedTuple):
    """These transfers are kept: their sender may forget them."""

    transfers: tuple[int, ...]


class Refused(NamedTuple):
    """This transfer is not kept."""

    transfer: int
    code: int


class Ending(NamedTuple):
    """Its sender begins no further transfer."""

    text: str


Record = Whole | Start | Segment | Abort | Stored | Refused | Ending


# ---- encode ----------------------------------------------------------------------------------------------------------


def encode_head(head: MessageHead) -> bytes:
    """The octets before the body."""
    return _HEAD.pack(VERSION, *head)


def encode_opening(opening: Opening) -> bytes:
    """The body of an OPEN."""
    limits = _OPEN.pack(opening.mru_octets, opening.unanswered_most, opening.unanswered_octets_most)
    return limits + opening.node_id.encode()


def encode_text(text: str) -> bytes:
    """The body of a CLOSE or a RESET; cut where it is too long."""
    return text.encode()[:TEXT_OCTETS_MOST].decode(errors="ignore").encode()


def whole_head(transfer: int, octets: int) -> bytes:
    """What stands before the octets of a whole bundle."""
    return _WHOLE.pack(RecordKind.WHOLE, transfer, octets)


def segment_head(transfer: int, octets: int) -> bytes:
    """What stands before the octets of a segment."""
    return _WHOLE.pack(RecordKind.SEGMENT, transfer, octets)


def encode_start(transfer: int, length: int) -> bytes:
    """A large bundle begins."""
    return _START.pack(RecordKind.START, transfer, length)


def encode_abort(transfer: int) -> bytes:
    """It will not be completed."""
    return _NUMBER.pack(RecordKind.ABORT, transfer)


def encode_stored(transfers: Sequence[int]) -> bytes:
    """These are kept."""
    return _COUNT.pack(RecordKind.STORED, len(transfers)) + Struct(f">{len(transfers)}Q").pack(*transfers)


def encode_refused(transfer: int, code: RefusalCode) -> bytes:
    """This one is not."""
    return _REFUSED.pack(RecordKind.REFUSED, transfer, code)


def encode_ending(text: str) -> bytes:
    """Nothing new begins."""
    octets = encode_text(text)
    return _COUNT.pack(RecordKind.ENDING, len(octets)) + octets


# ---- decode ----------------------------------------------------------------------------------------------------------


def decode_head_untrusted(message: memoryview) -> MessageHead:
    """The head. Raises: MalformedError."""
    if len(message) < HEAD_OCTETS:
        raise MalformedError(f"overlay bundles: a message of {len(message)} octets, a head has {HEAD_OCTETS}")
    version, kind, *numbers = _HEAD.unpack_from(message)
    if version != VERSION:
        raise MalformedError(f"overlay bundles: version {version}, we speak {VERSION}")
    try:
        return MessageHead(MessageKind(kind), *numbers)
    except ValueError:
        raise MalformedError(f"overlay bundles: a message of the unknown kind {kind}") from None


def decode_opening_untrusted(body: memoryview) -> Opening:
    """The body of an OPEN. Raises: MalformedError."""
    if not _OPEN.size <= len(body) <= _OPEN.size + NODE_ID_OCTETS_MOST:
        raise MalformedError(f"overlay bundles: OPEN with a body of {len(body)} octets")
    mru, unanswered, unanswered_octets = _OPEN.unpack_from(body)
    if not mru or not unanswered or not unanswered_octets:
        raise MalformedError("overlay bundles: OPEN of one who takes nothing")
    return Opening(_text(body[_OPEN.size :]), mru, unanswered, unanswered_octets)


def decode_text_untrusted(body: memoryview) -> str:
    """The body of a CLOSE or a RESET. Raises: MalformedError."""
    if len(body) > TEXT_OCTETS_MOST:
        raise MalformedError(f"overlay bundles: a sentence of {len(body)} octets")
    return _text(body)


def decode_records_untrusted(body: memoryview) -> list[Record]:
    """The records of a DATA message; those with octets refer to `body`. Raises: MalformedError."""
    records: list[Record] = []
    at, end = 0, len(body)
    try:
        while at < end:
            kind = body[at]
            if kind == RecordKind.WHOLE:  # here, because small bundles come by the thousand
                _, transfer, length = _WHOLE.unpack_from(body, at)
                at += WHOLE_HEAD_OCTETS + length
                records.append(Whole(transfer, body[at - length : at]))
            else:
                record, at = _DECODERS[kind](body, at)
                records.append(record)
    except (StructError, KeyError):
        raise MalformedError(f"overlay bundles: no record at octet {at} of {end}") from None
    if at > end:
        raise MalformedError(f"overlay bundles: the last record is {at - end} octets longer than its message")
    return records


def _segment(body: memoryview, at: int) -> tuple[Record, int]:
    _, transfer, length = _WHOLE.unpack_from(body, at)
    at += SEGMENT_HEAD_OCTETS
    return Segment(transfer, body[at : at + length]), at + length


def _start(body: memoryview, at: int) -> tuple[Record, int]:
    _, transfer, length = _START.unpack_from(body, at)
    return Start(transfer, length), at + _START.size


def _abort(body: memoryview, at: int) -> tuple[Record, int]:
    return Abort(_NUMBER.unpack_from(body, at)[1]), at + _NUMBER.size


def _stored(body: memoryview, at: int) -> tuple[Record, int]:
    count = _COUNT.unpack_from(body, at)[1]
    at += _COUNT.size
    if count * 8 > len(body) - at:  # before that much room is asked for
        raise MalformedError(f"overlay bundles: {count} numbers in {len(body) - at} octets")
    return Stored(Struct(f">{count}Q").unpack_from(body, at)), at + 8 * count


def _refused(body: memoryview, at: int) -> tuple[Record, int]:
    _, transfer, code = _REFUSED.unpack_from(body, at)
    return Refused(transfer, code), at + _REFUSED.size


def _ending(body: memoryview, at: int) -> tuple[Record, int]:
    length = _COUNT.unpack_from(body, at)[1]
    at += _COUNT.size
    return Ending(decode_text_untrusted(body[at : at + length])), at + length


def _text(octets: memoryview) -> str:
    try:
        return str(octets, "utf-8")
    except UnicodeDecodeError:
        raise MalformedError("overlay bundles: a text that is not UTF-8") from None


_DECODERS: Final[dict[int, Callable[[memoryview, int], tuple[Record, int]]]] = {
    RecordKind.START: _start,
    RecordKind.SEGMENT: _segment,
    RecordKind.ABORT: _abort,
    RecordKind.STORED: _stored,
    RecordKind.REFUSED: _refused,
    RecordKind.ENDING: _ending,
}

"""TCPCLv4 messages (RFC 9174): octets <-> frozen values.

Every encoder returns whole messages. Every `decode_*_untrusted` takes the octets from a message's first one on and
gives the message and the offset behind it, or None while octets are missing, and raises nothing but MalformedError.
The bodies of segments are not touched: a SegmentHead is everything before them.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from tumpline.errors import MalformedError

MAGIC = b"dtn!"  # RFC 9174 §4.2
VERSION = 4
CAN_TLS = 0x01  # RFC 9174 Table 1
CRITICAL = 0x01  # RFC 9174 Tables 3 and 7
REPLY = 0x01  # RFC 9174 Table 8
TRANSFER_LENGTH = 0x0001  # RFC 9174 Table 13: the Transfer Length Extension
TRANSFER_ID_MOST = (1 << 64) - 1  # RFC 9174 §5.2.1
CONTACT_OCTETS = 6

# A node ID is a URI of some tens of octets and no session extension is registered: what is longer is an attempt to make
# us hold octets (RFC 9174 §7.10; §4.8: "SHOULD avoid the use of large data lengths").
NODE_ID_OCTETS_MOST = 2_048
EXTENSION_OCTETS_MOST = 4_096


class MessageType(IntEnum):
    """RFC 9174 Table 14."""

    XFER_SEGMENT = 0x01
    XFER_ACK = 0x02
    XFER_REFUSE = 0x03
    KEEPALIVE = 0x04
    SESS_TERM = 0x05
    MSG_REJECT = 0x06
    SESS_INIT = 0x07


class SegmentFlag(IntEnum):
    """RFC 9174 Table 5. (No IntFlag: its operators cost a microsecond, and there are many segments.)"""

    END = 0x01
    START = 0x02


WHOLE = SegmentFlag.START | SegmentFlag.END  # a transfer in one segment


class _Code(IntEnum):
    """A registry of reasons; a code that is not in it reads as its zero, "Unknown" (RFC 9174 §5.2.4, §6.1)."""

    @classmethod
    def _missing_(cls, _value: object) -> _Code:
        return cls(0)


class RefusalCode(_Code):
    """XFER_REFUSE reasons, RFC 9174 Table 15."""

    UNKNOWN = 0x00
    COMPLETED = 0x01
    NO_RESOURCES = 0x02
    RETRANSMIT = 0x03
    NOT_ACCEPTABLE = 0x04
    EXTENSION_FAILURE = 0x05
    SESSION_TERMINATING = 0x06


class TerminationCode(_Code):
    """SESS_TERM reasons, RFC 9174 Table 16."""

    UNKNOWN = 0x00
    IDLE_TIMEOUT = 0x01
    VERSION_MISMATCH = 0x02
    BUSY = 0x03
    CONTACT_FAILURE = 0x04
    RESOURCE_EXHAUSTION = 0x05


class RejectionCode(_Code):
    """MSG_REJECT reasons, RFC 9174 Table 17 (0x00 is reserved: what we read an unknown code as)."""

    RESERVED = 0x00
    TYPE_UNKNOWN = 0x01
    UNSUPPORTED = 0x02
    UNEXPECTED = 0x03


class OversizeError(MalformedError):
    """A list in a message is longer than anyone here is willing to hold."""


class ExtensionItem(NamedTuple):
    """RFC 9174 Figures 20 and 25; the same layout for sessions and transfers."""

    flags: int
    type: int
    value: bytes

    @property
    def is_critical(self) -> bool:
        return bool(self.flags & CRITICAL)


class ContactHeader(NamedTuple):
    """RFC 9174 Figure 16."""

    version: int
    flags: int

    @property
    def can_tls(self) -> bool:
        return bool(self.flags & CAN_TLS)


class SessionInit(NamedTuple):
    """RFC 9174 Figure 19. The extension list is still octets: a list that does not parse has a reason of its own."""

    keepalive_s: int
    segment_mru: int
    transfer_mru: int
    node_id: bytes
    extensions: bytes = b""


class SegmentHead(NamedTuple):
    """RFC 9174 Figure 22 up to "Data contents"; `length` octets of data follow. `extensions` only with START."""

    flags: int
    transfer: int
    extensions: bytes
    length: int


class Acknowledgment(NamedTuple):
    """RFC 9174 Figure 23; `length` counts from the start of the transfer."""

    flags: int
    transfer: int
    length: int


class Refusal(NamedTuple):
    """RFC 9174 Figure 24."""

    reason: int
    transfer: int


class Termination(NamedTuple):
    """RFC 9174 Figure 27."""

    flags: int
    reason: int


class Rejection(NamedTuple):
    """RFC 9174 Figure 21; `header` is the type octet of the message that was rejected."""

    reason: int
    header: int


_CONTACT = Struct(">4sBB")
_INIT_HEAD = Struct(">BHQQH")
_U32 = Struct(">I")
_U64 = Struct(">Q")
_ITEM = Struct(">BHH")
_SEGMENT_START = Struct(">BBQI")
SEGMENT_NEXT = Struct(">BBQQ")  # type, flags, transfer, length: a segment without START
SEGMENT_WHOLE = Struct(">BBQIQ")  # type, flags, transfer, extension octets (0), length: nearly every small transfer
ACK = Struct(">BBQQ")  # type, flags, transfer, acknowledged length
REFUSE = Struct(">BBQ")  # type, reason, transfer
_THREE = Struct(">BBB")

KEEPALIVE = bytes([MessageType.KEEPALIVE])


# ---- encoding --------------------------------------------------------------------------------------------------------


def encode_contact(header: ContactHeader) -> bytes:
    """RFC 9174 Figure 16."""
    return _CONTACT.pack(MAGIC, header.version, header.flags)


def encode_extensions(items: list[ExtensionItem]) -> bytes:
    """An extension items list without its length."""
    return b"".join(_ITEM.pack(item.flags, item.type, len(item.value)) + item.value for item in items)


def encode_init(message: SessionInit) -> bytes:
    """RFC 9174 Figure 19."""
    head = _INIT_HEAD.pack(
        MessageType.SESS_INIT, message.keepalive_s, message.segment_mru, message.transfer_mru, len(message.node_id)
    )
    return head + message.node_id + _U32.pack(len(message.extensions)) + message.extensions


def encode_segment_head(head: SegmentHead) -> bytes:
    """RFC 9174 Figure 22 up to "Data contents"."""
    if not head.flags & SegmentFlag.START:
        return SEGMENT_NEXT.pack(MessageType.XFER_SEGMENT, head.flags, head.transfer, head.length)
    start = _SEGMENT_START.pack(MessageType.XFER_SEGMENT, head.flags, head.transfer, len(head.extensions))
    return start + head.extensions + _U64.pack(head.length)


def encode_transfer_length(octets: int) -> bytes:
    """The extension items list of one Transfer Length item (RFC 9174 §5.2.5.1), not critical: who skips it loses
    nothing."""
    return encode_extensions([ExtensionItem(0, TRANSFER_LENGTH, _U64.pack(octets))])


def encode_ack(message: Acknowledgment) -> bytes:
    """RFC 9174 Figure 23."""
    return ACK.pack(MessageType.XFER_ACK, *message)


def encode_refusal(message: Refusal) -> bytes:
    """RFC 9174 Figure 24."""
    return REFUSE.pack(MessageType.XFER_REFUSE, *message)


def encode_termination(message: Termination) -> bytes:
    """RFC 9174 Figure 27."""
    return _THREE.pack(MessageType.SESS_TERM, *message)


def encode_rejection(message: Rejection) -> bytes:
    """RFC 9174 Figure 21."""
    return _THREE.pack(MessageType.MSG_REJECT, *message)


# ---- decoding --------------------------------------------------------------------------------------------------------


def decode_contact_untrusted(data: bytes | memoryview) -> ContactHeader:
    """Exactly CONTACT_OCTETS octets. Raises: MalformedError (no "dtn!")."""
    if len(data) != CONTACT_OCTETS:
        raise MalformedError(f"a contact header has {CONTACT_OCTETS} octets, not {len(data)}")
    magic, version, flags = _CONTACT.unpack(data)
    if magic != MAGIC:
        raise MalformedError(f"no TCPCL contact header: it begins with {magic.hex()}, not with 'dtn!'")
    return ContactHeader(version, flags)


def decode_extensions_untrusted(data: bytes) -> list[ExtensionItem]:
    """The items of a list. Raises: MalformedError (the last item claims more octets than there are)."""
    items = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < _ITEM.size:
            raise MalformedError(f"extension item cut short at octet {offset} of {len(data)}")
        flags, kind, length = _ITEM.unpack_from(data, offset)
        offset += _ITEM.size
        if length > len(data) - offset:
            raise MalformedError(f"extension item 0x{kind:04x} claims {length} octets of {len(data) - offset}")
        items.append(ExtensionItem(flags, kind, data[offset : offset + length]))
        offset += length
    return items


def decode_transfer_length_untrusted(item: ExtensionItem) -> int:
    """Octets that a Transfer Length item announces. Raises: MalformedError."""
    if len(item.value) != _U64.size:
        raise MalformedError(f"a Transfer Length item holds {_U64.size} octets, not {len(item.value)}")
    return int(_U64.unpack(item.value)[0])


def _sized(data: memoryview, offset: int, length: int, most: int, what: str) -> bytes | None:
    if length > most:
        raise OversizeError(f"{what} of {length} octets: at most {most} are taken")
    return None if len(data) - offset < length else bytes(data[offset : offset + length])


def decode_init_untrusted(data: memoryview, offset: int) -> tuple[SessionInit, int] | None:
    """A SESS_INIT. Raises: OversizeError."""
    if len(data) - offset < _INIT_HEAD.size:
        return None
    _, keepalive_s, segment_mru, transfer_mru, length = _INIT_HEAD.unpack_from(data, offset)
    offset += _INIT_HEAD.size
    node_id = _sized(data, offset, length, NODE_ID_OCTETS_MOST, "a node ID")
    offset += length
    if node_id is None or len(data) - offset < _U32.size:
        return None
    (length,) = _U32.unpack_from(data, offset)
    offset += _U32.size
    extensions = _sized(data, offset, length, EXTENSION_OCTETS_MOST, "a session extension list")
    if extensions is None:
        return None
    return SessionInit(keepalive_s, segment_mru, transfer_mru, node_id, extensions), offset + length


def decode_segment_untrusted(data: memoryview, offset: int) -> tuple[SegmentHead, int] | None:
    """The head of an XFER_SEGMENT and the offset of its data. Raises: OversizeError."""
    available = len(data) - offset
    if available < SEGMENT_NEXT.size:
        return None
    _, flags, transfer, length = SEGMENT_NEXT.unpack_from(data, offset)
    if not flags & SegmentFlag.START:
        return SegmentHead(flags, transfer, b"", length), offset + SEGMENT_NEXT.size
    _, flags, transfer, octets = _SEGMENT_START.unpack_from(data, offset)
    offset += _SEGMENT_START.size
    extensions = _sized(data, offset, octets, EXTENSION_OCTETS_MOST, "a transfer extension list")
    offset += octets
    if extensions is None or len(data) - offset < _U64.size:
        return None
    (length,) = _U64.unpack_from(data, offset)
    return SegmentHead(flags, transfer, extensions, length), offset + _U64.size


def decode_ack_untrusted(data: memoryview, offset: int) -> tuple[Acknowledgment, int] | None:
    """An XFER_ACK."""
    if len(data) - offset < ACK.size:
        return None
    _, flags, transfer, length = ACK.unpack_from(data, offset)
    return Acknowledgment(flags, transfer, length), offset + ACK.size


def decode_refusal_untrusted(data: memoryview, offset: int) -> tuple[Refusal, int] | None:
    """An XFER_REFUSE."""
    if len(data) - offset < REFUSE.size:
        return None
    _, reason, transfer = REFUSE.unpack_from(data, offset)
    return Refusal(reason, transfer), offset + REFUSE.size


def decode_termination_untrusted(data: memoryview, offset: int) -> tuple[Termination, int] | None:
    """A SESS_TERM."""
    if len(data) - offset < _THREE.size:
        return None
    _, flags, reason = _THREE.unpack_from(data, offset)
    return Termination(flags, reason), offset + _THREE.size


def decode_rejection_untrusted(data: memoryview, offset: int) -> tuple[Rejection, int] | None:
    """A MSG_REJECT."""
    if len(data) - offset < _THREE.size:
        return None
    _, reason, header = _THREE.unpack_from(data, offset)
    return Rejection(reason, header), offset + _THREE.size

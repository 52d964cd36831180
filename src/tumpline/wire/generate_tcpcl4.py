"""Random TCPCLv4 messages (RFC 9174), each valid by itself and of every form: for dissectors, not for sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.generate import Chance, below, draw_eid, one_of
from tumpline.wire.tcpcl4 import MessageType, RefusalCode, RejectionCode, SegmentFlag, TerminationCode

SEGMENT_MOST: Final = 2000  # octets of data
_WIDE: Final = (0, 1, 255, 65_536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1)
_PRIVATE_TYPES: Final = (0x8000, 0xABCD, 0xFFFF)  # RFC 9174 Tables 12 and 13
_PRIVATE_REASON: Final = 0xF0  # and Tables 15 and 16
_REJECTIONS: Final = (RejectionCode.TYPE_UNKNOWN, RejectionCode.UNSUPPORTED, RejectionCode.UNEXPECTED)

Value = (
    wire.SessionInit
    | wire.SegmentHead
    | wire.Acknowledgment
    | wire.Refusal
    | wire.Termination
    | wire.Rejection
    | None  # a KEEPALIVE has no fields
)


class Message(NamedTuple):
    """One message: what it says, the data of a segment behind it."""

    type: MessageType
    value: Value
    data: bytes = b""

    def encode(self) -> bytes:
        """Its octets."""
        match self.value:
            case wire.SessionInit():
                return wire.encode_init(self.value)
            case wire.SegmentHead():
                return wire.encode_segment_head(self.value) + self.data
            case wire.Acknowledgment():
                return wire.encode_ack(self.value)
            case wire.Refusal():
                return wire.encode_refusal(self.value)
            case wire.Termination():
                return wire.encode_termination(self.value)
            case wire.Rejection():
                return wire.encode_rejection(self.value)
            case None:
                return wire.KEEPALIVE


def draw_message(chance: Chance) -> Message:
    """Any message that RFC 9174 Table 14 has."""
    kind = one_of(chance, tuple(MessageType))
    match kind:
        case MessageType.SESS_INIT:
            return Message(kind, _init(chance))
        case MessageType.XFER_SEGMENT:
            return _segment(chance, kind)
        case MessageType.XFER_ACK:
            value = wire.Acknowledgment(below(chance, 4), one_of(chance, _WIDE), one_of(chance, _WIDE))
            return Message(kind, value)
        case MessageType.XFER_REFUSE:
            return Message(kind, wire.Refusal(_reason(chance, RefusalCode), one_of(chance, _WIDE)))
        case MessageType.SESS_TERM:
            return Message(kind, wire.Termination(below(chance, 2), _reason(chance, TerminationCode)))
        case MessageType.MSG_REJECT:
            return Message(kind, wire.Rejection(one_of(chance, _REJECTIONS), below(chance, 256)))
        case MessageType.KEEPALIVE:
            return Message(kind, None)


def decode_message_untrusted(data: memoryview) -> tuple[Message, int] | None:
    """The message that these octets begin with, and its length; None while octets are missing. Raises: MalformedError."""
    if not data:
        return None
    decode = _DECODERS.get(data[0])
    if decode is None:
        raise MalformedError(f"octet {data[0]:#04x} begins no message (RFC 9174 Table 14)")
    found = decode(data, 0)
    if found is None:
        return None
    kind, (value, end) = MessageType(data[0]), found
    if not isinstance(value, wire.SegmentHead):
        return Message(kind, value), end
    if end + value.length > len(data):
        return None
    return Message(kind, value, bytes(data[end : end + value.length])), end + value.length


def _decode_keepalive(_data: memoryview, offset: int) -> tuple[None, int]:
    return None, offset + 1


_DECODERS: Final[dict[int, Callable[[memoryview, int], tuple[Value, int] | None]]] = {
    MessageType.SESS_INIT: wire.decode_init_untrusted,
    MessageType.XFER_SEGMENT: wire.decode_segment_untrusted,
    MessageType.XFER_ACK: wire.decode_ack_untrusted,
    MessageType.XFER_REFUSE: wire.decode_refusal_untrusted,
    MessageType.SESS_TERM: wire.decode_termination_untrusted,
    MessageType.MSG_REJECT: wire.decode_rejection_untrusted,
    MessageType.KEEPALIVE: _decode_keepalive,
}


def _init(chance: Chance) -> wire.SessionInit:
    node_id = b"" if chance.random() < 0.2 else str(draw_eid(chance)).encode()
    mrus = one_of(chance, _WIDE[1:]), one_of(chance, _WIDE)
    return wire.SessionInit(below(chance, 1 << 16), *mrus, node_id, _extensions(chance))


def _segment(chance: Chance, kind: MessageType) -> Message:
    flags = below(chance, 4)
    data = chance.randbytes(below(chance, SEGMENT_MOST))
    extensions = b""
    if flags & SegmentFlag.START:
        extensions = _extensions(chance)
        if not flags & SegmentFlag.END:  # RFC 9174 §5.2.5.1: the length of a transfer in several segments
            extensions += wire.encode_transfer_length(len(data) + below(chance, 1 << 40))
    return Message(kind, wire.SegmentHead(flags, one_of(chance, _WIDE), extensions, len(data)), data)


def _extensions(chance: Chance) -> bytes:
    """None to two items of private types."""
    return wire.encode_extensions(
        [
            wire.ExtensionItem(below(chance, 2), one_of(chance, _PRIVATE_TYPES), chance.randbytes(below(chance, 40)))
            for _ in range(one_of(chance, (0, 0, 1, 2)))
        ]
    )


def _reason(chance: Chance, codes: type[RefusalCode] | type[TerminationCode]) -> int:
    return _PRIVATE_REASON if chance.random() < 0.1 else one_of(chance, tuple(codes))

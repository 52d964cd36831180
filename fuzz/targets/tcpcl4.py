"""TCPCLv4 messages, each decoder by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuzz import corpus
from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.wire import tcpcl4 as wire

Decoder = Callable[[memoryview, int], tuple[Any, int] | None]
DECODERS: dict[int, Decoder] = {
    wire.MessageType.XFER_SEGMENT: wire.decode_segment_untrusted,
    wire.MessageType.XFER_ACK: wire.decode_ack_untrusted,
    wire.MessageType.XFER_REFUSE: wire.decode_refusal_untrusted,
    wire.MessageType.SESS_TERM: wire.decode_termination_untrusted,
    wire.MessageType.MSG_REJECT: wire.decode_rejection_untrusted,
    wire.MessageType.SESS_INIT: wire.decode_init_untrusted,
}
ENCODERS: dict[type[Any], Callable[[Any], bytes]] = {
    wire.SegmentHead: wire.encode_segment_head,
    wire.Acknowledgment: wire.encode_ack,
    wire.Refusal: wire.encode_refusal,
    wire.Termination: wire.encode_termination,
    wire.Rejection: wire.encode_rejection,
    wire.SessionInit: wire.encode_init,
}
_START_MOST = 1 << 10  # of a stream, from each of its messages on


def seeds() -> list[bytes]:
    """What each side of a session wrote, from each message on; and the contact header."""
    found = []
    for stream in (*corpus.streams(True), *corpus.streams(False)):
        found.append(stream[: wire.CONTACT_OCTETS])
        offset = wire.CONTACT_OCTETS
        while offset < len(stream):
            found.append(stream[offset : offset + _START_MOST])
            offset += _message_octets(stream, offset)
    return sorted(set(found))


def _message_octets(stream: bytes, offset: int) -> int:
    decoder = DECODERS.get(stream[offset])
    if decoder is None:
        return 1
    parsed = decoder(memoryview(stream), offset)
    assert parsed is not None, "our own session wrote half a message"
    message, end = parsed
    return end - offset + (message.length if isinstance(message, wire.SegmentHead) else 0)


def run(data: bytes) -> bool:
    """A message is its octets, and fewer of them are no message."""
    if data[:1] == b"d":
        return bool(wire.encode_contact(wire.decode_contact_untrusted(data)) == data)
    decoder = DECODERS.get(data[0]) if data else None
    parsed = decoder(memoryview(data), 0) if decoder is not None else None
    if decoder is None or parsed is None:
        raise MalformedError("no message, or not all of it")
    message, end = parsed
    assert end <= len(data), "a message that is not there"
    assert ENCODERS[type(message)](message) == data[:end], "a message that is not its octets"
    assert decoder(memoryview(data)[: end - 1], 0) is None, "a message without its last octet"
    for item in wire.decode_extensions_untrusted(getattr(message, "extensions", b"")):
        if item.type == wire.TRANSFER_LENGTH:
            wire.decode_transfer_length_untrusted(item)
    return True


# A message has at most 6 KiB of lists; each item of five octets in them is a value of some hundred.
TARGET = Target("tcpcl4", "TCPCLv4 messages", seeds, run, peak_base=256 << 10, peak_factor=4)

"""AMQP 0-9-1 as octets: frames, methods, tables, and the properties of messages."""

from tumpline.wire.amqp.content import Properties, decode_content_header_untrusted, encode_content_header
from tumpline.wire.amqp.frame import (
    FRAME_OVERHEAD_OCTETS,
    HEARTBEAT,
    PROTOCOL_HEADER,
    Frame,
    FrameKind,
    encode_frame,
    frame_octets,
    split_frames_untrusted,
)
from tumpline.wire.amqp.methods import Method, decode_method_untrusted, encode_method
from tumpline.wire.amqp.values import decode_table_untrusted, encode_table

__all__ = [
    "FRAME_OVERHEAD_OCTETS",
    "HEARTBEAT",
    "PROTOCOL_HEADER",
    "Frame",
    "FrameKind",
    "Method",
    "Properties",
    "decode_content_header_untrusted",
    "decode_method_untrusted",
    "decode_table_untrusted",
    "encode_content_header",
    "encode_frame",
    "encode_method",
    "encode_table",
    "frame_octets",
    "split_frames_untrusted",
]

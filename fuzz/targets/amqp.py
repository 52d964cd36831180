"""AMQP: any octets from a broker, or from a client of ours: frames, and what methods and headers say."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.errors import MalformedError
from tumpline.wire.amqp import (
    FrameKind,
    Properties,
    decode_content_header_untrusted,
    decode_method_untrusted,
    encode_content_header,
    encode_frame,
    encode_method,
    split_frames_untrusted,
)
from tumpline.wire.amqp import methods as m

_FRAME_OCTETS_MOST = 4096
_TABLE = {"capabilities": {"basic.nack": True}, "list": [1, None, 0.5, b"\xff"], "x-expires": 1 << 40}
_METHODS: tuple[m.Method, ...] = (
    m.ConnectionStart(server_properties=_TABLE),
    m.ConnectionTune(2047, 131_072, 60),
    m.ConnectionClose(320, "CONNECTION_FORCED", 60, 40),
    m.QueueDeclare(queue="consumer: a.tun", auto_delete=True, arguments=_TABLE),
    m.BasicDeliver("tag", 1, False, "amq.topic", "toAgent.a.ip.tun.packet.raw"),
    m.BasicNack(1, True, False),
)
_PROPERTIES = Properties("application/json", "utf-8", {}, 2, timestamp=1, app_id="a")


def seeds() -> list[bytes]:
    """A frame of each kind, and a run of them."""
    frames = [encode_frame(FrameKind.METHOD, 1, encode_method(method)) for method in _METHODS]
    frames.append(encode_frame(FrameKind.HEADER, 1, encode_content_header(4, _PROPERTIES)))
    frames.append(encode_frame(FrameKind.BODY, 1, b"body"))
    return [*frames, b"".join(frames)]


def run(data: bytes) -> bool:
    """What is understood and said again says the same."""
    frames, taken = split_frames_untrusted(memoryview(data), _FRAME_OCTETS_MOST)
    assert taken <= len(data), "octets that were not there"
    understood = False
    for frame in frames:
        try:
            understood |= _understood(frame.kind, bytes(frame.payload))
        except MalformedError:
            continue
    return understood


def _understood(kind: int, payload: bytes) -> bool:
    if kind == FrameKind.METHOD:
        method = decode_method_untrusted(payload)
        assert repr(decode_method_untrusted(encode_method(method))) == repr(method), "it says something else"
    elif kind == FrameKind.HEADER:
        octets, properties = decode_content_header_untrusted(payload)
        again = decode_content_header_untrusted(encode_content_header(octets, properties))
        assert repr(again) == repr((octets, properties)), "it says something else"
    return True


# A field of two octets becomes an entry of a table.
TARGET = Target("amqp", "AMQP 0-9-1 frames, methods, tables", seeds, run, peak_base=1 << 18, peak_factor=64)

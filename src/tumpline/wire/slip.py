"""SLIP (RFC 1055): frames on a serial line, told apart by END octets."""

from __future__ import annotations

from typing import Final

from tumpline.errors import MalformedError

END: Final = b"\xc0"
ESC: Final = b"\xdb"
ESC_END: Final = b"\xdc"
ESC_ESC: Final = b"\xdd"


def encode_slip(frame: bytes) -> bytes:
    """A frame between two ENDs: whatever stood on the line before it is no part of it (RFC 1055, "the receiver")."""
    return END + frame.replace(ESC, ESC + ESC_ESC).replace(END, ESC + ESC_END) + END


def decode_slip_untrusted(escaped: bytes) -> bytes:
    """The frame whose octets stood between two ENDs. Raises: MalformedError."""
    if END in escaped:
        raise MalformedError("an END within a SLIP frame")
    first, *others = escaped.split(ESC)
    if not others:
        return escaped
    frame = bytearray(first)
    for other in others:
        if other[:1] == ESC_END:
            frame += END
        elif other[:1] == ESC_ESC:
            frame += ESC
        else:
            raise MalformedError(f"an ESC of SLIP before {other[:1].hex() or 'the end of the frame'}")
        frame += other[1:]
    return bytes(frame)

"""What Contiki-NG's slip-radio and its host say to each other, each message in one SLIP frame.

No text specifies it: this is what `examples/slip-radio` and the native border router write and read (release 4.9 and before).
Commands begin with "!" or "?" and a capital letter. No frame of a radio does: the second octet would name a reserved addressing
mode (IEEE Std 802.15.4-2020, Table 7-3). What the firmware prints crosses the line as text.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple


class Param(IntEnum):
    """Parameters of the radio (os/dev/radio.h). Values are 16 bits."""

    CHANNEL = 1
    PAN_ID = 2
    SHORT_ADDRESS = 3
    RX_MODE = 4  # 1: filter by address, 2: acknowledge; 0: all frames, and nothing is answered


class TxStatus(IntEnum):
    """What became of a transmission (os/net/mac/mac.h)."""

    OK = 0
    COLLISION = 1
    NO_ACK = 2
    DEFERRED = 3
    ERROR = 4
    FATAL = 5


class Frame(NamedTuple):
    """The radio received it."""

    octets: bytes


class Report(NamedTuple):
    """Of what was sent under this number."""

    number: int
    status: int  # TxStatus, or one of later releases
    transmissions: int


class Value(NamedTuple):
    """A parameter of the radio."""

    param: int
    value: int


class Address(NamedTuple):
    """The radio's own, most significant octet first."""

    octets: bytes


class Text(NamedTuple):
    """Something the firmware prints."""

    text: str


Message = Frame | Report | Value | Address | Text

ASK_ADDRESS: Final = b"?M"
_VALUE: Final = Struct(">2sHH")
_ASK: Final = Struct(">2sH")
_DEBUG_MARK: Final = 0x0D
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\r\n\t\0")
_TEXT_OCTETS_LEAST: Final = 4  # an acknowledgement is shorter


def encode_send(number: int, frame: bytes) -> bytes:
    """Transmit this. Attributes of the packet could precede it, whose numbers differ between releases: there are none."""
    return b"!S" + bytes((number, 0)) + frame


def encode_set(param: Param, value: int) -> bytes:
    """Set a parameter; the radio says nothing (but prints)."""
    return _VALUE.pack(b"!V", param, value)


def encode_ask(param: Param) -> bytes:
    """Ask for a parameter."""
    return _ASK.pack(b"?V", param)


def decode_message(octets: bytes) -> Message:
    """What one SLIP frame from the radio holds; whatever is no message of another kind is a frame."""
    head, length = octets[:2], len(octets)
    if head == b"!R" and length == 5:
        return Report(octets[2], octets[3], octets[4])
    if head == b"!V" and length == _VALUE.size:
        _, param, value = _VALUE.unpack(octets)
        return Value(param, value)
    if head == b"!M" and length in (4, 10):
        return Address(octets[2:])
    if _is_text(octets):
        return Text(octets.decode("ascii", "replace").strip("\r\n\0 "))
    return Frame(octets)


def _is_text(octets: bytes) -> bool:
    if octets[:1] and octets[0] == _DEBUG_MARK:
        return True
    if octets[:1] in (b"!", b"?") and octets[1:2].isupper():
        return True  # a command of another release
    return len(octets) >= _TEXT_OCTETS_LEAST and _PRINTABLE.issuperset(octets)

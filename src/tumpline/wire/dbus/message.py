"""Messages of D-Bus: octets <-> frozen values (D-Bus specification, "Message Format").

The body stays octets, since a bus passes it on as it came; `body_values` reads it. Both byte orders are read; what is
made here goes out little-endian, and a message that is passed on keeps the order its body has.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.dbus.names import is_bus_name, is_interface, is_member
from tumpline.wire.dbus.signature import Type, parse_single
from tumpline.wire.dbus.values import (
    VALUES_MOST,
    Buffer,
    Reader,
    byte_order,
    decode_values_untrusted,
    encode_values,
    pad,
    write_value,
)

MESSAGE_OCTETS_MOST: Final = 128 * 1024 * 1024  # D-Bus specification, Message Format: 2 to the 27th power
FIRST_OCTETS: Final = 16  # what `message_octets` needs: the fixed part and the length of the header's array
# Names and signatures have 255 octets each; this leaves a path far more than anybody has. (The specification says 64 MiB.)
FIELDS_OCTETS_MOST: Final = 128 * 1024
FIELDS_MOST_VALUES: Final = 4096  # nine fields are known, of three values each; the rest is for what may come
FDS_MOST: Final = 253  # SCM_MAX_FD of Linux: what one sendmsg passes
LOCAL_PATH: Final = "/org/freedesktop/DBus/Local"
LOCAL_INTERFACE: Final = "org.freedesktop.DBus.Local"
_VERSION: Final = 1


class Kind(IntEnum):
    """D-Bus specification, Message Format. Further types are to be ignored, not refused."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Flags(IntFlag):
    """D-Bus specification, Message Format: unknown flags are to be ignored."""

    NONE = 0
    NO_REPLY_EXPECTED = 0x1
    NO_AUTO_START = 0x2
    ALLOW_INTERACTIVE_AUTHORIZATION = 0x4


class Field(IntEnum):
    """Header fields, with their codes."""

    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8
    UNIX_FDS = 9


class Message(NamedTuple):
    """One message; a field that is not there is empty or 0. `body` is octets in the order that `big_endian` says."""

    kind: int
    serial: int
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_serial: int = 0
    destination: str = ""
    sender: str = ""
    signature: str = ""
    unix_fds: int = 0
    body: Buffer = b""
    flags: int = 0
    big_endian: bool = False

    def body_values(self, values_most: int = VALUES_MOST) -> tuple[Any, ...]:
        """The values in the body. Raises: MalformedError."""
        return decode_values_untrusted(self.body, self.signature, big_endian=self.big_endian, values_most=values_most)

    def with_body(self, signature: str, *values: Any) -> Message:
        """The same message with these values as body. Raises: MalformedError when they do not fit."""
        body = encode_values(values, signature, big_endian=self.big_endian)
        return self._replace(signature=signature, body=body)


_ORDERS: Final = {ord("l"): False, ord("B"): True}
_FIXED: Final = {False: Struct("<BBBBIII"), True: Struct(">BBBBIII")}
_FIELD_TYPES: Final = {
    **dict.fromkeys((Field.INTERFACE, Field.MEMBER, Field.ERROR_NAME, Field.DESTINATION, Field.SENDER), "s"),
    **dict.fromkeys((Field.REPLY_SERIAL, Field.UNIX_FDS), "u"),
    Field.PATH: "o",
    Field.SIGNATURE: "g",
}
_RULES: Final[dict[int, Callable[[Any], bool]]] = {
    Field.PATH: lambda path: path != LOCAL_PATH,  # "must not be used" outside of a process: the same for the interface
    Field.INTERFACE: lambda name: name != LOCAL_INTERFACE and is_interface(name),
    Field.MEMBER: is_member,
    Field.ERROR_NAME: is_interface,
    Field.REPLY_SERIAL: lambda serial: serial != 0,
    Field.DESTINATION: is_bus_name,
    Field.SENDER: is_bus_name,
    Field.UNIX_FDS: lambda count: count <= FDS_MOST,
}
_REQUIRED: Final = {
    Kind.CALL: (Field.PATH, Field.MEMBER),
    Kind.RETURN: (Field.REPLY_SERIAL,),
    Kind.ERROR: (Field.ERROR_NAME, Field.REPLY_SERIAL),
    Kind.SIGNAL: (Field.PATH, Field.INTERFACE, Field.MEMBER),
}
_BYTE, _SIGNATURE_TYPE = Type("y"), Type("g")
_TYPES: Final = {field: parse_single(code) for field, code in _FIELD_TYPES.items()}
_VARIANT: Final = Type("v")
_KEYS: Final = {field: field.name.lower() for field in Field}
# How each known field begins: its code, and the signature of its value as variants have it.
_BEGINNINGS: Final = {field: bytes([field, 1, ord(code), 0]) for field, code in _FIELD_TYPES.items()}
_PREFIXES: Final = {_BEGINNINGS[Field(field)]: (Field(field), kind) for field, kind in _TYPES.items()}


def message_octets(first: bytes | bytearray | memoryview) -> int:
    """How long the message is that begins with these 16 octets. Raises: MalformedError."""
    _, _, _, _, body_octets, _, fields_octets = _fixed_part(first)
    return FIRST_OCTETS + fields_octets + -fields_octets % 8 + body_octets


def _fixed_part(first: bytes | bytearray | memoryview) -> tuple[int, int, int, int, int, int, int]:
    if len(first) < FIRST_OCTETS or first[0] not in _ORDERS:
        raise MalformedError("no D-Bus message: shorter than 16 octets, or of no byte order")
    order, kind, flags, version, body_octets, serial, fields_octets = _FIXED[_ORDERS[first[0]]].unpack_from(first)
    if version != _VERSION or not kind or not serial:
        raise MalformedError(f"D-Bus message of version {version}, type {kind}, serial {serial}")
    if fields_octets > FIELDS_OCTETS_MOST:
        raise MalformedError(f"D-Bus header of {fields_octets} octets, at most {FIELDS_OCTETS_MOST} are taken")
    if FIRST_OCTETS + fields_octets + -fields_octets % 8 + body_octets > MESSAGE_OCTETS_MOST:
        raise MalformedError(f"D-Bus body of {body_octets} octets: a message has at most {MESSAGE_OCTETS_MOST}")
    return order, kind, flags, version, body_octets, serial, fields_octets


def decode_message_untrusted(data: Buffer) -> Message:
    """The message that these octets are, its body not looked into (of a view: a view). Raises: MalformedError."""
    order, kind, flags, _, body_octets, serial, fields_octets = _fixed_part(data)
    if len(data) != message_octets(data):
        raise MalformedError(f"D-Bus message of {message_octets(data)} octets comes as {len(data)}")
    big_endian = _ORDERS[order]
    end = FIRST_OCTETS + fields_octets
    head = bytes(data[: len(data) - body_octets])
    reader = Reader(head, FIRST_OCTETS, end, big_endian=big_endian, values_most=FIELDS_MOST_VALUES)
    fields = _read_fields(reader, head)
    if any(head[end:]):
        raise MalformedError("D-Bus padding behind the header is not zero")
    for needed in _REQUIRED.get(kind, ()):  # type: ignore[call-overload]
        if needed not in fields:
            raise MalformedError(f"D-Bus {Kind(kind).name} without {needed.name}")
    if body_octets and not fields.get(Field.SIGNATURE):
        raise MalformedError(f"D-Bus body of {body_octets} octets without signature")
    named = {_KEYS[field]: value for field, value in fields.items()}
    return Message(kind, serial, **named, body=data[len(data) - body_octets :], flags=flags, big_endian=big_endian)


def _read_fields(reader: Reader, head: bytes) -> dict[Field, Any]:
    """The header fields that are known; others are read, and ignored as the specification wants."""
    fields: dict[Field, Any] = {}
    while reader.at < reader.end:
        reader.align(8)
        known = _PREFIXES.get(head[reader.at : reader.at + 4])
        if known is None:
            _skip_field(reader, fields)
            continue
        field, kind = known
        reader.at += 4
        value = reader.read(kind)
        if field in fields:
            raise MalformedError(f"D-Bus header field {field.value} is invalid, or there twice")
        if field in _RULES and not _RULES[field](value):
            raise MalformedError(f"D-Bus header field {field.name} cannot be {str(value)[:100]!r}")
        fields[field] = value
    return fields


def _skip_field(reader: Reader, fields: Container[int]) -> None:
    """Read a field that is not known. Raises: MalformedError: it should be."""
    code, (signature, _) = reader.read(_BYTE), reader.read(_VARIANT)
    if not code or code in fields:
        raise MalformedError(f"D-Bus header field {code} is invalid, or there twice")
    if code in _TYPES:
        raise MalformedError(f"D-Bus header field {Field(code).name} has type {signature!r}")


def encode_message(message: Message) -> bytes:
    """The octets of a message. Raises: MalformedError when it breaks a rule, as a name that is none."""
    return b"".join((encode_head(message), message.body))


def encode_head(message: Message) -> bytes:
    """The octets before the body: who sends both need not join them. Raises: MalformedError, as `encode_message`."""
    big_endian = message.big_endian
    out = bytearray(FIRST_OCTETS)
    structs = byte_order(big_endian)
    for field, key in _KEYS.items():
        value = getattr(message, key)
        if value:
            _write_field(out, field, value, structs)
    fields_octets = len(out) - FIRST_OCTETS
    pad(out, 8)
    if len(out) + len(message.body) > MESSAGE_OCTETS_MOST:
        raise MalformedError(f"D-Bus message of {len(out) + len(message.body)} octets, at most {MESSAGE_OCTETS_MOST}")
    for needed in _REQUIRED.get(message.kind, ()):  # type: ignore[call-overload]
        if not getattr(message, needed.name.lower()):
            raise MalformedError(f"D-Bus {Kind(message.kind).name} without {needed.name}")
    order = ord("B" if big_endian else "l")
    head = (order, message.kind, message.flags, _VERSION, len(message.body), message.serial, fields_octets)
    _FIXED[big_endian].pack_into(out, 0, *head)
    return bytes(out)


def _write_field(out: bytearray, field: Field, value: Any, structs: dict[str, Struct]) -> None:
    if field in _RULES and not _RULES[field](value):
        raise MalformedError(f"D-Bus header field {field.name} cannot be {str(value)[:100]!r}")
    pad(out, 8)
    out += _BEGINNINGS[field]
    try:
        write_value(out, _TYPES[field], value, structs)
    except ValueError as error:
        raise MalformedError(f"D-Bus header field {field.name}: {error}") from None

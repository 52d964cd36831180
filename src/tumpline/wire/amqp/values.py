"""Values of AMQP 0-9-1: strings, and tables of fields that carry their own types (specification §4.2.5).

The types of table fields are those that RabbitMQ and its clients write, which differ from the specification's list in a few
letters (`l` is a signed 64-bit integer, `s` a signed 16-bit one).
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from tumpline.errors import MalformedError

SHORT_TEXT_OCTETS_MOST: Final = 255
DEPTH_MOST: Final = 8  # tables in tables: client capabilities are two deep
FIELDS_MOST: Final = 1024  # of a message, all its tables together

_NUMBERS: Final = {
    "b": Struct(">b"),
    "B": Struct(">B"),
    "s": Struct(">h"),
    "u": Struct(">H"),
    "I": Struct(">i"),
    "i": Struct(">I"),
    "l": Struct(">q"),
    "L": Struct(">q"),
    "f": Struct(">f"),
    "d": Struct(">d"),
    "T": Struct(">Q"),
}
_LENGTH: Final = Struct(">I")


class Reader:
    """Reads values from octets that strangers sent. Every method raises MalformedError and nothing else."""

    __slots__ = ("_data", "_fields_left", "at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at
        self._fields_left = FIELDS_MOST

    @property
    def is_at_end(self) -> bool:
        """Whether every octet was read."""
        return self.at == len(self._data)

    def octets(self, count: int) -> bytes:
        """The next octets."""
        end = self.at + count
        if end > len(self._data):
            raise MalformedError(f"AMQP: {count} octets are to follow, {len(self._data) - self.at} are there")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def number(self, layout: Struct) -> Any:
        """One fixed-size number."""
        return layout.unpack(self.octets(layout.size))[0]

    def short_text(self) -> str:
        """A string of up to 255 octets."""
        return self._text(self.octets(1)[0])

    def long_octets(self) -> bytes:
        """A string of octets, with a length of four."""
        return self.octets(self.number(_LENGTH))

    def table(self, depth: int = 0) -> dict[str, Any]:
        """A table; the last one of a name counts."""
        end = self._end_of_nested(depth)
        fields: dict[str, Any] = {}
        while self.at < end:
            name = self.short_text()
            fields[name] = self._field(depth)
        self._check_end(end)
        return fields

    def _field(self, depth: int) -> Any:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise MalformedError(f"AMQP: more than {FIELDS_MOST} fields in tables")
        kind = chr(self.octets(1)[0])
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        match kind:
            case "S":
                return self._text_or_octets()
            case "x":
                return self.long_octets()
            case "t":
                return self.octets(1) != b"\0"
            case "V":
                return None
            case "F":
                return self.table(depth + 1)
            case "A":
                return self._array(depth + 1)
            case "D":  # a decimal number: its scale, then its digits
                return self.number(_NUMBERS["B"]), self.number(_NUMBERS["I"])
        raise MalformedError(f"AMQP: a table field of unknown type {kind!r}")

    def _array(self, depth: int) -> list[Any]:
        end = self._end_of_nested(depth)
        values: list[Any] = []
        while self.at < end:
            values.append(self._field(depth))
        self._check_end(end)
        return values

    def _end_of_nested(self, depth: int) -> int:
        if depth > DEPTH_MOST:
            raise MalformedError(f"AMQP: tables more than {DEPTH_MOST} deep")
        end: int = self.number(_LENGTH) + self.at
        if end > len(self._data):
            raise MalformedError("AMQP: a table longer than what carries it")
        return end

    def _check_end(self, end: int) -> None:
        if self.at != end:
            raise MalformedError("AMQP: a field reaches beyond its table")

    def _text(self, count: int) -> str:
        try:
            return self.octets(count).decode()
        except UnicodeDecodeError as error:
            raise MalformedError("AMQP: a short string that is not UTF-8") from error

    def _text_or_octets(self) -> str | bytes:
        """Clients put texts as well as octets into `S`."""
        octets = self.long_octets()
        try:
            return octets.decode()
        except UnicodeDecodeError:
            return octets


def encode_short_text(text: str) -> bytes:
    """A string of up to 255 octets. Raises: ValueError."""
    octets = text.encode()
    if len(octets) > SHORT_TEXT_OCTETS_MOST:
        raise ValueError(f"AMQP: {text[:40]!r}... is longer than {SHORT_TEXT_OCTETS_MOST} octets")
    return bytes([len(octets)]) + octets


def encode_long_octets(octets: bytes) -> bytes:
    """A string of octets, with a length of four."""
    return _LENGTH.pack(len(octets)) + octets


def encode_table(fields: Mapping[str, Any]) -> bytes:
    """A table of texts, octets, truth values, integers, floats, None, lists, tables, and decimals as pairs of scale and
    digits. Raises: ValueError."""
    return encode_long_octets(
        b"".join(encode_short_text(name) + _encode_field(value) for name, value in fields.items())
    )


def decode_table_untrusted(data: bytes) -> dict[str, Any]:
    """A table and nothing behind it. Raises: MalformedError."""
    reader = Reader(data)
    fields = reader.table()
    if not reader.is_at_end:
        raise MalformedError("AMQP: octets behind a table")
    return fields


def _encode_field(value: Any) -> bytes:
    match value:
        case bool():
            return b"t\1" if value else b"t\0"
        case int():
            return _encode_integer(value)
        case float():
            return b"d" + _NUMBERS["d"].pack(value)
        case str():
            return b"S" + encode_long_octets(value.encode())
        case bytes():
            return b"x" + encode_long_octets(value)
        case None:
            return b"V"
        case list():
            return b"A" + encode_long_octets(b"".join(map(_encode_field, value)))
        case dict():
            return b"F" + encode_table(value)
        case (int(scale), int(digits)):
            return b"D" + _NUMBERS["B"].pack(scale) + _NUMBERS["I"].pack(digits)
    raise ValueError(f"AMQP: a table cannot hold {type(value).__name__}")


def _encode_integer(value: int) -> bytes:
    kind = "I" if -(1 << 31) <= value < 1 << 31 else "l"
    try:
        return kind.encode() + _NUMBERS[kind].pack(value)
    except StructError as error:
        raise ValueError(f"AMQP: {value} is out of range") from error

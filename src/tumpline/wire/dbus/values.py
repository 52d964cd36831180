"""Values of D-Bus: octets <-> Python values by signature (D-Bus specification, "Marshaling (Wire Format)").

Integers, floats, booleans and texts are Python's own; `h` is the index of a descriptor. An array is a list, `ay` is
bytes, an array of dict entries is a dict, a struct is a tuple, a variant is a `Variant`.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.dbus.names import is_object_path
from tumpline.wire.dbus.signature import (
    ALIGNMENTS,
    SIGNATURE_OCTETS_MOST,
    Type,
    parse_signature,
    parse_single,
)

ARRAY_OCTETS_MOST: Final = 64 * 1024 * 1024  # D-Bus specification, Marshaling: 2 to the 26th power
DEPTH_MOST: Final = 64  # ibid., Valid Signatures and variants: "total depth of 64" for message bodies
# Four octets can make a Variant of a hundred: this many values bound the memory (100 MB) and time one message may cost.
# Octets of `ay` count once for each array.
VALUES_MOST: Final = 1_000_000

_FIXED: Final = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
_LITTLE: Final = {code: Struct("<" + layout) for code, layout in _FIXED.items()}
_BIG: Final = {code: Struct(">" + layout) for code, layout in _FIXED.items()}


Buffer = (
    bytes | memoryview
)  # what a body may be: long ones are views of what was received, never copied to be looked at


class Variant(NamedTuple):
    """A value that carries its own type: one complete type as signature."""

    signature: str
    value: Any


class Reader:
    """Reads values from octets that strangers sent. Every method raises MalformedError and nothing else."""

    __slots__ = ("_cut", "_data", "_left", "_order", "_structs", "at", "end")

    def __init__(
        self,
        data: Buffer,
        at: int,
        end: int,
        *,
        big_endian: bool,
        values_most: int = VALUES_MOST,
        cut: Callable[[Buffer], Any] = bytes,
    ) -> None:
        """`cut` makes the value of an `ay` from its octets."""
        self._cut = cut
        self._data = data
        self.at = at
        self.end = end
        self._order = ">" if big_endian else "<"
        self._structs = _BIG if big_endian else _LITTLE
        self._left = values_most

    def read(self, kind: Type, depth: int = 0) -> Any:
        """The next value, of this type."""
        self._count(1)
        code = kind.code
        if code in _FIXED:
            return self.fixed(code)
        if code == "b":
            return self._boolean(self.fixed("u"))
        if code in "so":
            return self._text(code)
        if code == "g":
            return self._signature()
        if depth >= DEPTH_MOST:
            raise MalformedError(f"D-Bus values nested more than {DEPTH_MOST} deep")
        if code == "a":
            return self._array(kind.inner[0], depth + 1)
        if code == "v":
            signature = self._signature()
            return Variant(signature, self.read(parse_single(signature), depth + 1))
        self.align(8)
        return tuple([self.read(member, depth + 1) for member in kind.inner])

    def fixed(self, code: str) -> Any:
        """The next number."""
        struct = self._structs[code]
        self.align(struct.size)
        return struct.unpack_from(self._data, self._take(struct.size))[0]

    def align(self, octets: int) -> None:
        """Go over padding, which must be zero (D-Bus specification, Marshaling)."""
        gap = -self.at % octets
        if gap:
            at = self._take(gap)
            if any(self._data[at : self.at]):
                raise MalformedError(f"D-Bus padding at {at} is not zero")

    def _take(self, octets: int) -> int:
        """Where the next octets begin; they are there."""
        at = self.at
        if octets > self.end - at:
            raise MalformedError(f"D-Bus value at {at} needs {octets} octets, {self.end - at} are left")
        self.at = at + octets
        return at

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise MalformedError("D-Bus message has more values than are taken")

    def _boolean(self, number: int) -> bool:
        if number > 1:
            raise MalformedError(f"D-Bus boolean is {number}")
        return number == 1

    def _text(self, code: str) -> str:
        text = self._terminated(self.fixed("u"))
        if code == "o" and not is_object_path(text):
            raise MalformedError(f"{text[:100]!r} is no D-Bus object path")
        return text

    def _signature(self) -> str:
        text = self._terminated(self._data[self._take(1)])
        parse_signature(text)
        return text

    def _terminated(self, octets: int) -> str:
        if octets >= self.end - self.at:
            raise MalformedError(f"D-Bus text of {octets} octets at {self.at}, {self.end - self.at} are left")
        raw = bytes(self._data[self.at : self.at + octets])
        if self._data[self.at + octets] or 0 in raw:
            raise MalformedError(f"D-Bus text at {self.at}: NUL belongs behind its end, and only there")
        self.at += octets + 1
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"D-Bus text at {self.at}: {error.reason}") from None

    def _array(self, element: Type, depth: int) -> Any:
        octets = self.fixed("u")
        if octets > ARRAY_OCTETS_MOST:
            raise MalformedError(f"D-Bus array of {octets} octets, at most {ARRAY_OCTETS_MOST} are allowed")
        # Marshaling: the padding to the first element is there even when there is none, and is not counted.
        self.align(ALIGNMENTS[element.code])
        begin = self._take(octets)
        if element.code == "y":
            return self._cut(self._data[begin : self.at])
        if element.code in _FIXED:
            return self._numbers(element.code, begin, octets)
        return self._elements(element, begin, depth)

    def _numbers(self, code: str, begin: int, octets: int) -> list[Any]:
        count, rest = divmod(octets, self._structs[code].size)
        if rest:
            raise MalformedError(f"D-Bus array at {begin}: {octets} octets are no whole number of {code!r}")
        self._count(count)
        return list(Struct(f"{self._order}{count}{_FIXED[code]}").unpack_from(self._data, begin))

    def _elements(self, element: Type, begin: int, depth: int) -> Any:
        # An element that goes beyond its array goes beyond `end` meanwhile.
        outer, self.end, self.at = self.end, self.at, begin
        found: list[Any] = []
        while self.at < self.end:
            found.append(self.read(element, depth))
        self.end = outer
        return dict(found) if element.code == "{" else found


def decode_values_untrusted(
    data: Buffer, signature: str, *, big_endian: bool = False, values_most: int = VALUES_MOST
) -> tuple[Any, ...]:
    """The values that a whole body holds. Raises: MalformedError."""
    return _all(Reader(data, 0, len(data), big_endian=big_endian, values_most=values_most), signature)


def _all(reader: Reader, signature: str) -> tuple[Any, ...]:
    values = tuple([reader.read(kind) for kind in parse_signature(signature)])
    if reader.at != reader.end:
        raise MalformedError(f"D-Bus body has {reader.end - reader.at} octets more than its signature {signature!r}")
    return values


def check_values_untrusted(data: Buffer, signature: str, *, big_endian: bool = False) -> tuple[Any, ...]:
    """The same for whoever passes the body on: of an `ay` only the length, nothing long is copied. Raises: MalformedError."""
    reader = Reader(memoryview(data), 0, len(data), big_endian=big_endian, cut=len)
    return _all(reader, signature)


def encode_values(values: tuple[Any, ...], signature: str, *, big_endian: bool = False) -> bytes:
    """The octets of a body. Raises: MalformedError when the values do not fit the signature."""
    types = parse_signature(signature)
    if len(types) != len(values):
        raise MalformedError(f"D-Bus signature {signature!r} wants {len(types)} values, not {len(values)}")
    if signature == "ay" and isinstance(values[0], bytes) and len(values[0]) <= ARRAY_OCTETS_MOST:
        return (_BIG if big_endian else _LITTLE)["u"].pack(len(values[0])) + values[0]  # bundles go so: copied once
    out = bytearray()
    structs = _BIG if big_endian else _LITTLE
    try:
        for kind, value in zip(types, values, strict=True):
            write_value(out, kind, value, structs)
    except (StructError, TypeError, AttributeError, ValueError) as error:  # UnicodeEncodeError is one
        raise MalformedError(f"D-Bus values do not fit the signature {signature!r}: {error}") from None
    return bytes(out)


def write_value(out: bytearray, kind: Type, value: Any, structs: dict[str, Struct], depth: int = 0) -> None:
    """Append one value; alignment counts from the beginning of `out`. Raises also what its caller makes an error of."""
    code = kind.code
    if code in _FIXED:
        _write_fixed(out, structs[code], value)
    elif code == "b":
        _write_fixed(out, structs["u"], int(bool(value)))
    elif code in "so":
        _write_text(out, code, value, structs)
    elif code == "g":
        _write_signature(out, value)
    elif depth >= DEPTH_MOST:
        raise ValueError(f"nested more than {DEPTH_MOST} deep")
    elif code == "a":
        _write_array(out, kind.inner[0], value, structs, depth + 1)
    elif code == "v":
        _write_signature(out, value.signature)
        write_value(out, parse_single(value.signature), value.value, structs, depth + 1)
    else:
        pad(out, 8)
        for member, part in zip(kind.inner, value, strict=True):
            write_value(out, member, part, structs, depth + 1)


def pad(out: bytearray, octets: int) -> None:
    """Append zeros up to a multiple of so many octets."""
    out += bytes(-len(out) % octets)


def byte_order(big_endian: bool) -> dict[str, Struct]:
    """The layouts of numbers, for `write_value`."""
    return _BIG if big_endian else _LITTLE


def _write_fixed(out: bytearray, struct: Struct, value: Any) -> None:
    pad(out, struct.size)
    out += struct.pack(value)


def _write_text(out: bytearray, code: str, text: str, structs: dict[str, Struct]) -> None:
    raw = text.encode()
    if b"\0" in raw or (code == "o" and not is_object_path(text)):
        raise ValueError(f"{text[:100]!r} is no {'object path' if code == 'o' else 'text without NUL'}")
    _write_fixed(out, structs["u"], len(raw))
    out += raw + b"\0"


def _write_signature(out: bytearray, text: str) -> None:
    parse_signature(text)
    assert len(text) <= SIGNATURE_OCTETS_MOST
    out += bytes([len(text)]) + text.encode() + b"\0"


def _write_array(out: bytearray, element: Type, value: Any, structs: dict[str, Struct], depth: int) -> None:
    _write_fixed(out, structs["u"], 0)
    length_at = len(out) - 4
    pad(out, ALIGNMENTS[element.code])
    begin = len(out)
    if element.code == "y":
        out += memoryview(value).cast("B")  # octets only: an int would make zeros
    elif element.code in _FIXED:
        out += Struct(f"{structs['u'].format[:1]}{len(value)}{_FIXED[element.code]}").pack(*value)
    else:
        for part in value.items() if element.code == "{" else value:
            write_value(out, element, part, structs, depth)
    if len(out) - begin > ARRAY_OCTETS_MOST:
        raise ValueError(f"array of {len(out) - begin} octets, at most {ARRAY_OCTETS_MOST} are allowed")
    structs["u"].pack_into(out, length_at, len(out) - begin)

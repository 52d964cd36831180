"""CBOR (RFC 8949) as bundles use it: heads and integers by hand, everything unusual by cbor2.

`scan_item` walks an item without building it: it finds where the item ends, refuses what is not well-formed or nests too
deeply, and tells a form that is not deterministic. Only what it has passed is given to cbor2.
"""

from __future__ import annotations

from typing import Any

import cbor2

from tumpline.errors import MalformedError

# A bundle needs four levels (bundle, block, EID, SSP) and a BPSec block three more; the rest is for schemes to come.
MAX_DEPTH = 16

BREAK = 0xFF
INDEFINITE = -1  # length of an item that ends with a break

_SMALL = tuple(bytes([value]) for value in range(24))


class TruncatedError(MalformedError):
    """The octets end before the item does."""


# ---- encoding --------------------------------------------------------------------------------------------------------


def encode_head(major: int, value: int) -> bytes:
    """Initial octet and argument in the shortest form (RFC 8949 §4.2.1); `major` is the type, 0 to 7."""
    first = major << 5
    if value < 24:
        return bytes((first | value,))
    if value < 0x100:
        return bytes((first | 24, value))
    if value < 0x10000:
        return bytes((first | 25,)) + value.to_bytes(2, "big")
    if value < 0x100000000:
        return bytes((first | 26,)) + value.to_bytes(4, "big")
    return bytes((first | 27,)) + value.to_bytes(8, "big")


def encode_uint(value: int) -> bytes:
    """An unsigned integer below 2^64 in the shortest form."""
    if value < 24:
        return _SMALL[value] if value >= 0 else encode_head(1, -1 - value)
    return encode_head(0, value)


def encode_bytes(data: bytes) -> bytes:
    """A byte string of definite length."""
    return encode_head(2, len(data)) + data


def encode_item(value: Any) -> bytes:
    """Any value, by cbor2."""
    return cbor2.dumps(value)


# ---- decoding --------------------------------------------------------------------------------------------------------


def read_head(data: bytes, offset: int, *, shortest: bool = True) -> tuple[int, int, int]:
    """Major type, argument (or INDEFINITE) and the offset behind the head.

    Raises TruncatedError, or MalformedError for reserved values and, with `shortest`, for an argument that would have
    fitted a shorter head (RFC 8949 §4.2.1).
    """
    if offset >= len(data):
        raise TruncatedError(f"the octets end at {offset}, where a CBOR item should begin")
    first = data[offset]
    major, info = first >> 5, first & 0x1F
    offset += 1
    if info < 24:
        return major, info, offset
    if info == 31 and major in (2, 3, 4, 5, 7):
        return major, INDEFINITE, offset
    if info > 27:
        raise MalformedError(f"octet {first:#04x} at {offset - 1} begins no CBOR item")
    end = offset + (1 << (info - 24))
    if end > len(data):
        raise TruncatedError(f"the octets end inside the CBOR head at {offset - 1}")
    value = int.from_bytes(data[offset:end], "big")
    if shortest and major != 7 and value < (24, 0x100, 0x10000, 0x100000000)[info - 24]:
        raise MalformedError(f"the CBOR head at {offset - 1} is not in its shortest form")
    return major, value, end


class Cursor:
    """Reads one item after the other. `shortest` and `definite` refuse what RFC 8949 §4.2.1 does not make."""

    __slots__ = ("data", "definite", "offset", "shortest")

    def __init__(self, data: bytes, offset: int = 0, *, shortest: bool = True, definite: bool = True) -> None:
        self.data = data
        self.offset = offset
        self.shortest = shortest
        self.definite = definite

    def uint(self, what: str) -> int:
        """An unsigned integer; `what` names it in the error."""
        major, value = self._head(what)
        if major != 0:
            raise MalformedError(f"{what} at {self.offset} is not an unsigned integer")
        return value

    def boolean(self, what: str) -> bool:
        """True or false."""
        start = self.offset
        self._head(what)
        if self.data[start] not in (0xF4, 0xF5):
            raise MalformedError(f"{what} at {start} is neither true nor false")
        return self.data[start] == 0xF5

    def array(self, what: str) -> int:
        """Enter an array: the number of its items, or INDEFINITE. `leave` ends it."""
        major, count = self._head(what)
        if major != 4:
            raise MalformedError(f"{what} at {self.offset} is not an array")
        if count == INDEFINITE and self.definite:
            raise MalformedError(f"{what} has an indefinite length, which is not allowed here")
        return count

    def map(self, what: str) -> int:
        """Enter a map of definite length: the number of its pairs."""
        major, count = self._head(what)
        if major != 5 or count == INDEFINITE:
            raise MalformedError(f"{what} at {self.offset} is not a map of definite length")
        return count

    def leave(self, what: str, count: int, read: int) -> None:
        """The end of an array of `count` items (or INDEFINITE) of which `read` were read."""
        if count == INDEFINITE:
            if self.at_break():
                self.offset += 1
                return
        elif count == read:
            return
        raise MalformedError(f"{what} does not have {read} items")

    def at_break(self) -> bool:
        """Whether an array of indefinite length ends here."""
        return self.peek() == BREAK

    def peek(self) -> int:
        """The initial octet of the next item."""
        if self.offset >= len(self.data):
            raise TruncatedError(f"the octets end at {self.offset}")
        return self.data[self.offset]

    def string_head(self, what: str, major: int = 2) -> int:
        """Enter a byte string (or with `major` 3 a text string) of definite length: the number of its octets."""
        found, length = self._head(what)
        if found != major or length == INDEFINITE:
            kind = "byte" if major == 2 else "text"
            raise MalformedError(f"{what} at {self.offset} is not a {kind} string of definite length")
        return length

    def octets(self, what: str, length: int) -> bytes:
        """The next `length` octets."""
        start = self.offset
        if start + length > len(self.data):
            raise TruncatedError(f"the octets end inside {what}")
        self.offset = start + length
        return self.data[start : self.offset]

    def item(self) -> bytes:
        """The octets of one item, whatever it is."""
        start = self.offset
        self.offset = scan_item(self.data, start, shortest=self.shortest, definite=self.definite)
        return self.data[start : self.offset]

    def end(self, what: str) -> None:
        """Nothing may follow."""
        if self.offset != len(self.data):
            raise MalformedError(f"{len(self.data) - self.offset} octets too many behind {what}")

    def _head(self, what: str) -> tuple[int, int]:
        try:
            major, value, self.offset = read_head(self.data, self.offset, shortest=self.shortest)
        except TruncatedError as error:
            raise TruncatedError(f"{what}: {error}") from None
        except MalformedError as error:
            raise MalformedError(f"{what}: {error}") from None
        return major, value


def scan_item(data: bytes, offset: int, *, shortest: bool = True, definite: bool = True, depth: int = MAX_DEPTH) -> int:
    """The offset behind the item at `offset`.

    Raises TruncatedError, or MalformedError if the item is not well-formed, nests deeper than `depth`, or breaks what
    is asked of RFC 8949 §4.2.1: `shortest` heads and sorted map keys, `definite` lengths.
    """
    if depth < 0:
        raise MalformedError(f"CBOR nests more than {MAX_DEPTH} deep")
    major, value, end = read_head(data, offset, shortest=shortest)
    if value == INDEFINITE:
        if definite or major == 7:
            raise MalformedError(f"octet {data[offset]:#04x} at {offset}: an indefinite length is not allowed here")
        return _scan_indefinite(data, end, major, shortest, depth)
    if major in (2, 3):
        return _scan_string(data, end, major, value)
    if major == 4:
        return _scan_items(data, end, value, shortest, definite, depth)
    if major == 5:
        return _scan_map(data, end, value, shortest, definite, depth)
    if major == 6:
        return scan_item(data, end, shortest=shortest, definite=definite, depth=depth - 1)
    if major == 7 and data[offset] == 0xF8 and value < 32:
        raise MalformedError(f"the simple value at {offset} is not well-formed (RFC 8949 §3.3)")
    return end


def _scan_string(data: bytes, start: int, major: int, length: int) -> int:
    end = start + length
    if end > len(data):
        raise TruncatedError(f"the octets end inside a string of {length} octets at {start}")
    if major == 3:
        try:
            str(data[start:end], "utf-8")
        except UnicodeDecodeError:
            raise MalformedError(f"the text string at {start} is not UTF-8") from None
    return end


def _scan_items(data: bytes, offset: int, count: int, shortest: bool, definite: bool, depth: int) -> int:
    if count > len(data) - offset:
        raise TruncatedError(f"the octets end inside an array of {count} items")
    for _ in range(count):
        offset = scan_item(data, offset, shortest=shortest, definite=definite, depth=depth - 1)
    return offset


def _scan_map(data: bytes, offset: int, count: int, shortest: bool, definite: bool, depth: int) -> int:
    if count > len(data) - offset:
        raise TruncatedError(f"the octets end inside a map of {count} pairs")
    previous = b""
    for _ in range(count):
        end = scan_item(data, offset, shortest=shortest, definite=definite, depth=depth - 1)
        key = bytes(data[offset:end])
        if shortest and key <= previous:
            raise MalformedError(f"the map key at {offset} is doubled or not in order")
        previous = key
        offset = scan_item(data, end, shortest=shortest, definite=definite, depth=depth - 1)
    return offset


def _scan_indefinite(data: bytes, offset: int, major: int, shortest: bool, depth: int) -> int:
    items = 0
    while True:
        if offset >= len(data):
            raise TruncatedError("the octets end inside an item of indefinite length")
        if data[offset] == BREAK:
            break
        if major in (2, 3) and (data[offset] >> 5 != major or data[offset] & 0x1F == 31):
            raise MalformedError(f"the piece at {offset} of a string is not a string of its kind")
        offset = scan_item(data, offset, shortest=shortest, definite=False, depth=depth - 1)
        items += 1
    if major == 5 and items % 2:
        raise MalformedError(f"the map that ends at {offset} lacks a value")
    return offset + 1

"""EID patterns (draft-ietf-dtn-eid-pattern-08): text, CBOR, normal form, matching.

Items joined by `|`; a match of one is a match. `*:**` is everything, `ipn:**` all of a scheme, `ipn:0.3.[10-19]` numbers.
The draft has no items for dtn paths, so these are our own: `dtn://rover/files` is that endpoint, and with a final `**`
`dtn://rover/**` is every endpoint of rover (the administrative one and groups too), `dtn://rover/files/**` those below. In
CBOR such an item is `[1, text]`, as an ipn item is `[2, parts]`. So no path item can contain `|`, or mean a final `**`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.eid import DTN, IPN, Eid

# A pattern is configuration or part of a certificate. The draft asks for at least 10 of each.
MAX_ITEMS: Final = 256
MAX_INTERVALS: Final = 256
MAX_PATTERN_OCTETS: Final = 16 * 1024

_TOPS: Final = (2**32 - 1, 2**32 - 1, 2**64 - 1)  # allocator, node, service
_PARTS: Final = ("allocator", "node", "service")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_INTERVAL = re.compile(r"(?P<first>0|[1-9][0-9]*)(?:(?P<open>\+)|-(?P<last>0|[1-9][0-9]*))?")
_SCHEMES: Final = {"dtn": DTN, "ipn": IPN}
_NAMES: Final = {number: name for name, number in _SCHEMES.items()}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*|0|[1-9][0-9]{0,19}")
_T = TypeVar("_T")

Intervals = tuple[tuple[int, int], ...]  # first and last, both included; ascending, apart from each other
Specificity = tuple[int, int]


class AnyItem(NamedTuple):
    """`*:**`: every EID of every scheme."""

    specificity: Specificity = (0, 0)

    def matches(self, eid: Eid) -> bool:  # noqa: ARG002
        return True

    def __str__(self) -> str:
        return "*:**"


class SchemesItem(NamedTuple):
    """Every EID of these schemes: numbers, and names of which we know no number."""

    schemes: tuple[int | str, ...]

    @property
    def specificity(self) -> Specificity:
        return (1, 0)

    def matches(self, eid: Eid) -> bool:
        return eid.scheme in self.schemes

    def __str__(self) -> str:
        return "|".join(
            f"{_NAMES.get(scheme, scheme) if isinstance(scheme, int) else scheme}:**" for scheme in self.schemes
        )

    def encoded(self) -> bytes:
        octets = [cbor.encode_item(scheme) for scheme in self.schemes]
        return cbor.encode_head(4, 1 + len(octets)) + b"\xf6" + b"".join(octets)


class DtnItem(NamedTuple):
    """Our extension: a dtn SSP, or with `below` every SSP that begins with it."""

    ssp: str
    below: bool

    @property
    def specificity(self) -> Specificity:
        return (2, len(self.ssp)) if self.below else (3, 0)

    def matches(self, eid: Eid) -> bool:
        if eid.scheme != DTN or not isinstance(eid.ssp, str):
            return False
        return eid.ssp.startswith(self.ssp) if self.below else eid.ssp == self.ssp

    def __str__(self) -> str:
        return f"dtn:{self.ssp}{'**' if self.below else ''}"

    def encoded(self) -> bytes:
        text = str(self)[4:].encode("ascii")
        return b"\x82\x01" + cbor.encode_head(3, len(text)) + text


class IpnItem(NamedTuple):
    """Numbers that allocator, node and service may have."""

    allocator: Intervals
    node: Intervals
    service: Intervals

    @property
    def specificity(self) -> Specificity:
        """The smaller the set, the more specific: 128 is the number of bits that an EID has."""
        size = 1
        for part in self:
            size *= sum(last - first + 1 for first, last in part)
        return (3, 0) if size == 1 else (2, 129 - size.bit_length())

    def matches(self, eid: Eid) -> bool:
        if eid.scheme != IPN or not isinstance(eid.ssp, tuple):
            return False
        return all(
            any(first <= number <= last for first, last in part) for number, part in zip(eid.ssp, self, strict=True)
        )

    def __str__(self) -> str:
        return "ipn:" + ".".join(_part_text(part, top) for part, top in zip(self, _TOPS, strict=True))

    def encoded(self) -> bytes:
        return b"\x82\x02\x83" + b"".join(_encode_part(part, top) for part, top in zip(self, _TOPS, strict=True))


Item = AnyItem | SchemesItem | DtnItem | IpnItem


class EidPattern:
    """A set of EIDs; equal to another that is written differently but has the same normal form."""

    __slots__ = ("_matchers", "items", "specificity")

    items: tuple[Item, ...]
    specificity: Specificity  # of the most general item: greater is more specific; exact > longer > wildcard

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = _normal(items)
        self.specificity = min((item.specificity for item in self.items), default=(-1, 0))
        self._matchers: tuple[Callable[[Eid], bool], ...] = tuple(item.matches for item in self.items)

    @classmethod
    def parse(cls, text: str) -> EidPattern:
        """The pattern that `text` writes ("" matches nothing). Raises MalformedError that says what to write."""
        if len(text) > MAX_PATTERN_OCTETS or not text.isascii():
            raise MalformedError(f"an EID pattern has at most {MAX_PATTERN_OCTETS} ASCII characters")
        return cls(map(_parse_item, text.split("|"))) if text else cls(())

    def matches(self, eid: Eid) -> bool:
        """Whether `eid` is in the set, by its decoded value."""
        return any(match(eid) for match in self._matchers)

    @property
    def encoded(self) -> bytes:
        """The CBOR encoding: true for everything, else an array of items."""
        if self.items[:1] == (AnyItem(),):
            return b"\xf5"
        return cbor.encode_head(4, len(self.items)) + b"".join(
            item.encoded() for item in self.items if not isinstance(item, AnyItem)
        )

    def __str__(self) -> str:
        return "|".join(map(str, self.items))

    def __repr__(self) -> str:
        return f"EidPattern({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EidPattern) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)


# ---- normal form -----------------------------------------------------------------------------------------------------


def _normal(items: Iterable[Item]) -> tuple[Item, ...]:
    """All schemes in one item that comes first, the others sorted by their octets, none twice."""
    given = list(items)
    if len(given) > MAX_ITEMS:
        raise MalformedError(f"an EID pattern has at most {MAX_ITEMS} items")
    if AnyItem() in given:
        if len(given) > 1:
            raise MalformedError("*:** matches everything, so it stands alone in an EID pattern")
        return (AnyItem(),)
    schemes = {scheme for item in given if isinstance(item, SchemesItem) for scheme in item.schemes}
    wide = (
        [SchemesItem(tuple(sorted(schemes, key=lambda scheme: (isinstance(scheme, str), scheme))))] if schemes else []
    )
    narrow = {item for item in given if isinstance(item, DtnItem | IpnItem)}
    return (*wide, *sorted(narrow, key=lambda item: item.encoded()))


def _intervals(pairs: Iterable[tuple[int, int]], top: int, what: str) -> Intervals:
    """Reversed bounds swapped, the domain's end kept, overlapping and touching intervals merged (draft §2.2)."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((min(pair), min(max(pair), top)) for pair in pairs):
        if first > top:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    if not merged:
        raise MalformedError(f"the {what} of an ipn pattern is at most {top}")
    if len(merged) > MAX_INTERVALS:
        raise MalformedError(f"the {what} of an ipn pattern has more than {MAX_INTERVALS} intervals")
    return tuple(merged)


# ---- text ------------------------------------------------------------------------------------------------------------


def _parse_item(text: str) -> Item:
    scheme, colon, rest = text.partition(":")
    if not colon:
        raise MalformedError(f"{text[:80]!r} is no EID pattern: write dtn://node/**, ipn:0.node.* or *:**")
    if rest == "**":
        return AnyItem() if scheme == "*" else SchemesItem(_parse_schemes(scheme))
    if scheme.lower() == "ipn":
        return _parse_ipn(rest)
    if scheme.lower() == "dtn":
        return _dtn_item(rest)
    raise MalformedError(f"of the scheme {scheme[:40]!r} only all EIDs can be meant: write {scheme[:40]}:**")


def _parse_schemes(text: str) -> tuple[int | str, ...]:
    names = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    return tuple(_scheme(name.lower()) for name in names)


def _scheme(name: str) -> int | str:
    if not _SCHEME.fullmatch(name) or (name.isdecimal() and int(name) >> 64):
        raise MalformedError(f"{name[:40]!r} is neither the name nor the number of a URI scheme")
    return int(name) if name.isdecimal() else _SCHEMES.get(name, name)


def _dtn_item(ssp: str) -> DtnItem:
    below = ssp.endswith("**")
    kept = ssp[:-2] if below else ssp
    if below and kept.count("/") < 3:
        raise MalformedError(f"dtn:{ssp[:80]} has no node name before **: write dtn://node/** or dtn:**")
    return DtnItem(str(Eid.parse(f"dtn:{kept}").ssp), below)


def _parse_ipn(text: str) -> IpnItem:
    parts = text.split(".")
    if len(parts) == 2:
        return _parse_pair(text, *parts)
    if len(parts) != 3:
        raise MalformedError(f"ipn:{text[:80]} does not have the three parts allocator.node.service")
    numbers = [_parse_part(part, top, what) for part, top, what in zip(parts, _TOPS, _PARTS, strict=True)]
    return IpnItem(*numbers)


def _parse_pair(text: str, fqnn: str, service: str) -> IpnItem:
    """Two parts are an exact EID; the first is "!" or allocator and node in one number (draft §2.3)."""
    if not _NUMBER.fullmatch(service) or not (fqnn == "!" or _NUMBER.fullmatch(fqnn)):
        raise MalformedError(f"ipn:{text[:80]} has two parts and is no single EID: write ipn:0.{text[:80]}")
    number = _TOPS[1] if fqnn == "!" else _bounded(fqnn, 2**64 - 1, "node")
    exact = (number >> 32, number & 0xFFFFFFFF, _bounded(service, _TOPS[2], "service"))
    return IpnItem(*(((value, value),) for value in exact))


def _parse_part(text: str, top: int, what: str) -> Intervals:
    if text == "*":
        return ((0, top),)
    if _NUMBER.fullmatch(text):
        value = _bounded(text, top, what)
        return ((value, value),)
    if not (text.startswith("[") and text.endswith("]")):
        raise MalformedError(f"the {what} {text[:40]!r} of an ipn pattern is no number, no * and no [interval]")
    return _intervals((_parse_interval(part, top, what) for part in text[1:-1].split(",")), top, what)


def _parse_interval(text: str, top: int, what: str) -> tuple[int, int]:
    found = _INTERVAL.fullmatch(text)
    if not found or len(text) > 60:
        raise MalformedError(f"{text[:40]!r} of the {what} of an ipn pattern is none of 5, 5-9, 5+")
    first = int(found["first"])
    if found["open"]:
        return first, max(first, top)
    return first, int(found["last"]) if found["last"] else first


def _bounded(text: str, top: int, what: str) -> int:
    if len(text) > 20 or int(text) > top:
        raise MalformedError(f"the {what} {text[:40]} of an ipn pattern is greater than {top}")
    return int(text)


def _part_text(part: Intervals, top: int) -> str:
    if part == ((0, top),):
        return "*"
    if len(part) == 1 and part[0][0] == part[0][1]:
        return str(part[0][0])
    return f"[{','.join(_interval_text(first, last, top) for first, last in part)}]"


def _interval_text(first: int, last: int, top: int) -> str:
    if first == last:
        return str(first)
    return f"{first}+" if last == top else f"{first}-{last}"


# ---- octets ----------------------------------------------------------------------------------------------------------


def _encode_part(part: Intervals, top: int) -> bytes:
    """A number, true for all, or widths (last - first) of what is in and what is out, in turn, from the least number."""
    if part == ((0, top),):
        return b"\xf5"
    if len(part) == 1 and part[0][0] == part[0][1]:
        return cbor.encode_uint(part[0][0])
    numbers = [part[0][0]]
    behind = None
    for first, last in part:
        if behind is not None:
            numbers.append(first - 1 - behind)
        numbers.append(last - first)
        behind = last + 1
    if part[-1][1] == top:
        numbers.pop()  # the last width, omitted, reaches the maximum
    return cbor.encode_head(4, len(numbers)) + b"".join(map(cbor.encode_uint, numbers))


def decode_eid_pattern_untrusted(data: bytes) -> EidPattern:
    """The pattern whose encoding is all of `data`. Raises MalformedError and nothing else."""
    if len(data) > MAX_PATTERN_OCTETS:
        raise MalformedError(f"an EID pattern has at most {MAX_PATTERN_OCTETS} octets")
    if data == b"\xf5":
        return EidPattern((AnyItem(),))
    cursor = cbor.Cursor(data)
    pattern = EidPattern(_each(cursor, "EID pattern", MAX_ITEMS, lambda: _decode_item(cursor)))
    cursor.end("the EID pattern")
    return pattern


def _each(cursor: cbor.Cursor, what: str, most: int, read: Callable[[], _T]) -> list[_T]:
    count = cursor.array(what)
    if count > most:
        raise MalformedError(f"{what} has more than {most} items")
    return [read() for _ in range(count)]


def _decode_item(cursor: cbor.Cursor) -> Item:
    count = cursor.array("item of an EID pattern")
    if cursor.peek() == 0xF6:
        cursor.item()
        if not 2 <= count <= MAX_ITEMS:
            raise MalformedError("an item for all SSPs of a scheme names at least one")
        return SchemesItem(tuple(_decode_scheme(cursor) for _ in range(count - 1)))
    scheme = cursor.uint("scheme of an EID pattern")
    if count != 2 or scheme not in (DTN, IPN):
        raise MalformedError(f"an item of an EID pattern is neither for dtn nor for ipn but for {scheme}")
    if scheme == DTN:
        return _dtn_item(_text(cursor, "dtn item"))
    if cursor.array("ipn item") != 3:
        raise MalformedError("an ipn item of an EID pattern does not have three parts")
    return IpnItem(*(_decode_part(cursor, top, what) for top, what in zip(_TOPS, _PARTS, strict=True)))


def _decode_scheme(cursor: cbor.Cursor) -> int | str:
    if cursor.peek() >> 5 == 0:
        return cursor.uint("scheme")
    name = _text(cursor, "scheme")
    if name.isdecimal():
        raise MalformedError("the name of a URI scheme is a number")
    return _scheme(name)


def _text(cursor: cbor.Cursor, what: str) -> str:
    octets = cursor.octets(what, cursor.string_head(what, 3))
    if not octets.isascii() or b"|" in octets:
        raise MalformedError(f"the {what} of an EID pattern is not ASCII without '|'")
    return octets.decode("ascii")


def _decode_part(cursor: cbor.Cursor, top: int, what: str) -> Intervals:
    if cursor.peek() == 0xF5:
        cursor.item()
        return ((0, top),)
    if cursor.peek() >> 5 == 0:
        value = cursor.uint(what)
        if value > top:
            raise MalformedError(f"the {what} {value} of an ipn pattern is greater than {top}")
        return ((value, value),)
    numbers = _each(cursor, what, 2 * MAX_INTERVALS, lambda: cursor.uint(what))
    if not numbers:
        raise MalformedError(f"the {what} of an ipn pattern has no intervals")
    return _intervals(_from_widths(numbers, top), top, what)


def _from_widths(numbers: list[int], top: int) -> list[tuple[int, int]]:
    first, pairs = numbers[0], []
    for index in range(1, len(numbers), 2):
        last = first + numbers[index]
        pairs.append((first, last))
        if index + 1 < len(numbers):
            first = last + 1 + numbers[index + 1] + 1
    if len(numbers) % 2:
        pairs.append((first, max(first, top)))
    return pairs

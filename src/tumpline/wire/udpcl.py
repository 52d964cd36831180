"""Datagrams of the UDP convergence layer, version 2 (draft-ietf-dtn-udpcl) and version 1 (RFC 7122): octets <-> values.

A datagram is one bundle, or one DTLS record, or extension maps with padding behind them; four zero octets keep alive.
`decode_datagram_untrusted` takes a whole one and raises nothing but MalformedError. A known item with a value of another
type than it should have is left out and told in `Extensions.dropped`; the others count (draft: "known ones still processed").
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl_range import NUMBERS_MOST, check_range

PORT: Final = 4556  # RFC 7122 §3.2.2
KEEPALIVE: Final = bytes(4)  # RFC 7122 §3.4
DATAGRAM_OCTETS_MOST: Final = 65_507  # of UDP over IPv4
# Several small bundles may share a datagram, each in a map of its own; more are an attempt to make us make values.
MAPS_MOST: Final = 256
ITEMS_MOST: Final = 32  # of one map: eight keys are assigned
NODE_ID_OCTETS_MOST: Final = 1024  # as of any endpoint ID here
_U32, _U64 = 1 << 32, 1 << 64


class Kind(Enum):
    """What a datagram is, by its first octet."""

    KEEPALIVE = "keepalive"
    PADDING = "padding"  # without meaning; also a keepalive of another length
    BUNDLE6 = "bundle of version 6"
    BUNDLE7 = "bundle of version 7"
    DTLS = "DTLS record"
    EXTENSIONS = "extension maps"


class Key(IntEnum):
    """The assigned keys of an extension map."""

    SUPPORT = 1
    TRANSFER = 2
    LISTEN = 3
    NODE_ID = 4
    DTLS = 5
    PROBE = 6
    CONFIRMATION = 7
    ECN_COUNTS = 8


class Transfer(NamedTuple):
    """A bundle (`total` None) or a segment of one: `total` octets of which `data` lies at `offset`."""

    number: int
    data: bytes
    total: int | None = None
    offset: int = 0


class Probe(NamedTuple):
    """Peer Probe: to be confirmed `confirm_delay_ms` after the last one with this nonce."""

    nonce: int
    sequence: int
    confirm_delay_ms: int


class Confirmation(NamedTuple):
    """Peer Confirmation. `numbers` is a range as it came: what it means, `udpcl_range.certain` finds out."""

    nonce: int
    numbers: tuple[int, ...]


class EcnCounts(NamedTuple):
    """Unicast datagrams received with each mark since the conversation began, modulo 2^32."""

    ect0: int
    ect1: int
    ce: int


class Extensions(NamedTuple):
    """One extension map; None (or False) where there is no such item."""

    support: tuple[int, ...] | None = None  # a range of keys
    transfer: Transfer | None = None
    listen_ms: int | None = None
    node_id: Eid | None = None  # unauthenticated: a hint, unless DTLS has verified it
    dtls: bool = False
    probe: Probe | None = None
    confirmation: Confirmation | None = None
    ecn_counts: EcnCounts | None = None
    unknown: tuple[int, ...] = ()  # keys that mean nothing here
    dropped: tuple[str, ...] = ()  # known items that were left out, and why


class Datagram(NamedTuple):
    """One datagram. `data` is the bundle or the DTLS record."""

    kind: Kind
    data: bytes = b""
    maps: tuple[Extensions, ...] = ()
    padding_octets: int = 0


def kind_of(first: int) -> Kind | None:
    """What the first octet of a message says; None if it is unassigned."""
    return _KINDS[first]


def _kind_of(first: int) -> Kind | None:
    if first == 0x00:
        return Kind.PADDING
    if first == 0x06:
        return Kind.BUNDLE6
    if 0x14 <= first <= 0x1A or 0x20 <= first <= 0x3F:
        return Kind.DTLS  # RFC 9147 §4: content types of plain records, and the unified header of encrypted ones
    if 0x80 <= first <= 0x9F:
        return Kind.BUNDLE7
    return Kind.EXTENSIONS if 0xA0 <= first <= 0xBF else None


_KINDS: Final = tuple(_kind_of(first) for first in range(256))


def is_handshake(record: bytes) -> bool:
    """Whether a DTLS record opens a handshake: outside of a session anything else is out of sequence."""
    return record[:1] == b"\x16"


# ---- decoding --------------------------------------------------------------------------------------------------------


def decode_datagram_untrusted(data: bytes) -> Datagram:
    """What a whole datagram says. Raises: MalformedError."""
    if not data:
        raise MalformedError("UDPCL: an empty datagram")
    kind = _KINDS[data[0]]
    if kind is Kind.EXTENSIONS:
        return _decode_maps(data)
    if kind is None:
        raise MalformedError(f"UDPCL: no message begins with octet {data[0]:#04x}")
    if kind is Kind.PADDING:
        return Datagram(Kind.KEEPALIVE if data == KEEPALIVE else kind, padding_octets=len(data))
    return Datagram(kind, data)


def _decode_maps(data: bytes) -> Datagram:
    maps: list[Extensions] = []
    at = 0
    while at < len(data):
        if data[at] == 0x00:
            break  # padding, with all that follows it
        if _KINDS[data[at]] is not Kind.EXTENSIONS:
            raise MalformedError(f"UDPCL: octet {data[at]:#04x} at {at} begins neither a map nor padding")
        if len(maps) == MAPS_MOST:
            raise MalformedError(f"UDPCL: more than {MAPS_MOST} extension maps in one datagram")
        extensions, at = _decode_lone_transfer(data, at) or _decode_map(data, at)
        maps.append(extensions)
    decoded = Datagram(Kind.EXTENSIONS, b"", tuple(maps), len(data) - at)
    _check_alone(decoded)
    return decoded


def _check_alone(datagram: Datagram) -> None:
    if len(datagram.maps) > 1 and any(extensions.probe or extensions.dtls for extensions in datagram.maps):
        raise MalformedError("UDPCL: a probe and a DTLS initiation come in one map, with no other beside it")


def _decode_lone_transfer(data: bytes, at: int) -> tuple[Extensions, int] | None:
    found = _lone_transfer(data, at)
    return None if found is None else (Extensions(transfer=found[0]), found[1])


def _lone_transfer(data: bytes, at: int) -> tuple[Transfer, int] | None:
    """The map that comes most, one with nothing but a transfer, in one go; None if it is not that."""
    if data[at : at + 2] != b"\xa1\x02" or (form := data[at + 2 : at + 3]) not in (b"\x82", b"\x84"):
        return None
    total, offset = None, 0
    try:
        number, here = _uint(data, at + 3, 0x00)
        if form == b"\x84":
            total, here = _uint(data, here, 0x00)
            offset, here = _uint(data, here, 0x00)
        length, here = _uint(data, here, 0x40)
    except (IndexError, KeyError):
        return None
    octets = data[here : here + length]
    if not octets or len(octets) < length or (total is not None and offset + length > total):
        return None  # the long way says what is wrong
    return Transfer(number, octets, total, offset), here + length


def segment_in(data: bytes) -> Transfer | None:
    """The segment that is all of a datagram; None if it is anything else, which is for `decode_datagram_untrusted`."""
    found = _lone_transfer(data, 0) if data[2:3] == b"\x84" else None
    return None if found is None or found[1] != len(data) else found[0]


def wholes_in(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The bundles at the beginning of a datagram that are each alone in a map, whole: number and octets; and the octets that
    they take. What follows, anything strange included, is for `decode_datagram_untrusted`. This is what many small bundles
    come in: it is read in a fifth of the time. Raises nothing."""
    found: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while data[at : at + 3] == b"\xa1\x02\x82" and len(found) < MAPS_MOST:
        try:
            number, here = _uint(data, at + 3, 0x00)
            length, here = _uint(data, here, 0x40)
        except (IndexError, KeyError):
            break
        after = here + length
        if not length or after > end:
            break
        found.append((number, data[here:after]))
        at = after
    return found, at


def _uint(data: bytes, at: int, major: int) -> tuple[int, int]:
    """The argument of a head of this major type (its bits), and where the head ends. Raises: IndexError, KeyError if it is
    another one, or has no end."""
    first = data[at] ^ major
    if first < 24:
        return first, at + 1
    after = at + _HEADS[first]
    if after > len(data):
        raise IndexError
    return int.from_bytes(data[at + 1 : after], "big"), after


_HEADS: Final = {24: 2, 25: 3, 26: 5, 27: 9}  # octets of a head, by its additional information


def _decode_map(data: bytes, at: int) -> tuple[Extensions, int]:
    end = cbor.scan_item(data, at, shortest=False, definite=False)
    _, count, at = cbor.read_head(data, at, shortest=False)
    stop = end - (count == cbor.INDEFINITE)  # before the break
    found: dict[str, Any] = {}
    keys: set[int] = set()
    dropped: list[str] = []
    while at < stop:
        key, at = _key(data, at)
        if key in keys or len(keys) == ITEMS_MOST:
            raise MalformedError(f"UDPCL: key {key} is doubled, or more than {ITEMS_MOST} items are in one map")
        keys.add(key)
        value_end = cbor.scan_item(data, at, shortest=False, definite=False)
        if key in _ITEMS:
            name, decode = _ITEMS[key]
            try:
                found[name] = _decode_value(decode, data[at:value_end])
            except MalformedError as error:
                dropped.append(f"{Key(key).name}: {error}")
        at = value_end
    if not keys:
        raise MalformedError("UDPCL: an extension map without an item")
    if Key.DTLS in keys and len(keys) > 1:
        raise MalformedError("UDPCL: a DTLS initiation with other items")
    unknown = tuple(sorted(keys.difference(_ITEMS)))
    return Extensions(**found, unknown=unknown, dropped=tuple(dropped)), end


def _key(data: bytes, at: int) -> tuple[int, int]:
    major, value, end = cbor.read_head(data, at, shortest=False)
    if major > 1 or value > 0x7FFF:
        raise MalformedError(f"UDPCL: the key at {at} is no integer from -32768 to 32767")
    return (-1 - value if major else value), end


def _decode_value(decode: Callable[[cbor.Cursor], Any], octets: bytes) -> Any:
    cursor = cbor.Cursor(octets, shortest=False, definite=False)
    value = decode(cursor)
    cursor.end("the value")
    return value


def _transfer(cursor: cbor.Cursor) -> Transfer:
    count = cursor.array("the transfer")
    number = cursor.uint("its number")
    segmented = count == 4 or (count == cbor.INDEFINITE and cursor.peek() >> 5 == 0)
    total = cursor.uint("its total length") if segmented else None
    offset = cursor.uint("its offset") if segmented else 0
    data = cursor.octets("its data", cursor.string_head("its data"))
    cursor.leave("the transfer", count, 4 if segmented else 2)
    if not data or (total is not None and offset + len(data) > total):
        raise MalformedError(f"{len(data)} octets at {offset} are no part of {total}")
    return Transfer(number, data, total, offset)


def _uints(cursor: cbor.Cursor, count: int, below: int = _U64) -> list[int]:
    told = cursor.array("the list")
    values = [cursor.uint("a number") for _ in range(count)]
    cursor.leave("the list", told, count)
    if max(values) >= below:
        raise MalformedError(f"{max(values)} is not below {below}")
    return values


def _range(cursor: cbor.Cursor) -> tuple[int, ...]:
    told = cursor.array("the range")
    numbers: list[int] = []
    while (len(numbers) < told) if told != cbor.INDEFINITE else not cursor.at_break():
        if len(numbers) == NUMBERS_MOST:
            raise MalformedError(f"more than {NUMBERS_MOST} numbers in a range")
        major, value, cursor.offset = cbor.read_head(cursor.data, cursor.offset, shortest=False)
        if major > 1:
            raise MalformedError("a range has something else than integers")
        numbers.append(-1 - value if major else value)
    cursor.leave("the range", told, len(numbers))
    check_range(numbers)
    return tuple(numbers)


def _node_id(cursor: cbor.Cursor) -> Eid:
    length = cursor.string_head("the node ID", 3)
    if length > NODE_ID_OCTETS_MOST:
        raise MalformedError(f"{length} octets, at most {NODE_ID_OCTETS_MOST} are taken")
    node_id = Eid.parse(str(cursor.octets("the node ID", length), "utf-8"))  # the scan has found it to be UTF-8
    if not node_id.is_administrative:
        raise MalformedError(f"{node_id} names no node")
    return node_id


def _null(cursor: cbor.Cursor) -> bool:
    if cursor.item() != b"\xf6":
        raise MalformedError("the value is not null")
    return True


def _confirmation(cursor: cbor.Cursor) -> Confirmation:
    told = cursor.array("the confirmation")
    confirmation = Confirmation(cursor.uint("its nonce"), _range(cursor))
    cursor.leave("the confirmation", told, 2)
    return confirmation


_ITEMS: Final[dict[int, tuple[str, Callable[[cbor.Cursor], Any]]]] = {
    Key.SUPPORT: ("support", _range),
    Key.TRANSFER: ("transfer", _transfer),
    Key.LISTEN: ("listen_ms", lambda cursor: cursor.uint("the interval")),
    Key.NODE_ID: ("node_id", _node_id),
    Key.DTLS: ("dtls", _null),
    Key.PROBE: ("probe", lambda cursor: Probe(*_uints(cursor, 3))),
    Key.CONFIRMATION: ("confirmation", _confirmation),
    Key.ECN_COUNTS: ("ecn_counts", lambda cursor: EcnCounts(*_uints(cursor, 3, _U32))),
}
assert set(_ITEMS) == set(Key), "every key that has a name has a decoder"


# ---- encoding --------------------------------------------------------------------------------------------------------


def transfer_head(number: int, length: int, total: int | None = None, offset: int = 0) -> bytes:
    """What comes before the `length` octets of a transfer, in a map of its own: they may follow in another buffer."""
    if total is None:
        return b"\xa1\x02\x82" + cbor.encode_uint(number) + cbor.encode_head(2, length)
    numbers = cbor.encode_uint(number) + cbor.encode_uint(total) + cbor.encode_uint(offset)
    return b"\xa1\x02\x84" + numbers + cbor.encode_head(2, length)


def encode_extensions(extensions: Extensions) -> bytes:
    """The map, its keys in order. `unknown` and `dropped` tell what came, and are not sent."""
    items: list[tuple[Key, bytes]] = []
    for key, (name, encode) in _ENCODERS.items():
        value = getattr(extensions, name)
        if value is not None and value is not False:
            items.append((key, encode(value)))
    assert items, "a map has at least one item"
    return cbor.encode_head(5, len(items)) + b"".join(cbor.encode_uint(key) + value for key, value in items)


def encode_datagram(datagram: Datagram) -> bytes:
    """The octets of a datagram; padding is zeros."""
    if datagram.kind is not Kind.EXTENSIONS:
        return datagram.data + bytes(datagram.padding_octets)
    return b"".join(map(encode_extensions, datagram.maps)) + bytes(datagram.padding_octets)


def _encode_integer(value: int) -> bytes:
    return cbor.encode_uint(value) if value >= 0 else cbor.encode_head(1, -1 - value)


def _encode_integers(values: tuple[int, ...]) -> bytes:
    return cbor.encode_head(4, len(values)) + b"".join(map(_encode_integer, values))


def _encode_transfer(transfer: Transfer) -> bytes:
    return transfer_head(transfer.number, len(transfer.data), transfer.total, transfer.offset)[2:] + transfer.data


def _encode_node_id(node_id: Eid) -> bytes:
    text = str(node_id).encode()
    return cbor.encode_head(3, len(text)) + text


_ENCODERS: Final[dict[Key, tuple[str, Callable[[Any], bytes]]]] = {
    Key.SUPPORT: ("support", _encode_integers),
    Key.TRANSFER: ("transfer", _encode_transfer),
    Key.LISTEN: ("listen_ms", cbor.encode_uint),
    Key.NODE_ID: ("node_id", _encode_node_id),
    Key.DTLS: ("dtls", lambda _: b"\xf6"),
    Key.PROBE: ("probe", _encode_integers),
    Key.CONFIRMATION: ("confirmation", lambda it: b"\x82" + cbor.encode_uint(it.nonce) + _encode_integers(it.numbers)),
    Key.ECN_COUNTS: ("ecn_counts", _encode_integers),
}

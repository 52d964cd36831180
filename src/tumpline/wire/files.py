"""Messages of the files protocol: a CBOR map, and behind that of a chunk the chunk's octets. See docs/files-protocol.md."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import cbor2

from tumpline.errors import MalformedError
from tumpline.wire import cbor

VERSION: Final = 1
TRANSFER_OCTETS: Final = 16
SHA256_OCTETS: Final = 32
# A map with a name of 255 octets and all other fields takes about 400; a receipt's sentence may be longer.
MAX_HEADER_OCTETS: Final = 2048
MAX_TEXT_LENGTH: Final = 1024
MAX_CHUNK_OCTETS: Final = 1 << 30
MAX_CHUNKS: Final = 1 << 20  # a receiver keeps a bit for each: 128 KiB at most

_PIECE, _RECEIPT = 0, 1  # values of the key "type"
_VERSION, _TYPE, _TRANSFER, _CHUNK_OCTETS, _CHUNK, _NAME, _SIZE, _SHA256, _DELIVERED, _TEXT = range(10)


class Manifest(NamedTuple):
    """What the whole file is."""

    name: str
    size: int
    sha256: bytes


class Piece(NamedTuple):
    """From sender to receiver. With the number of a `chunk`, the octets behind the map belong at `chunk * chunk_octets`;
    without one nothing follows, and the receiver answers with a receipt as soon as there is something to say."""

    transfer: bytes
    chunk_octets: int
    chunk: int | None = None
    manifest: Manifest | None = None


class Receipt(NamedTuple):
    """From receiver to sender: the end of a transfer. `text` is the name under which the file is kept, or the reason."""

    transfer: bytes
    delivered: bool
    text: str


def encode(message: Piece | Receipt) -> bytes:
    """The map; a chunk's octets go behind it."""
    fields: dict[int, Any] = {_VERSION: VERSION, _TRANSFER: message.transfer}
    if isinstance(message, Receipt):
        fields |= {_TYPE: _RECEIPT, _DELIVERED: message.delivered, _TEXT: message.text[:MAX_TEXT_LENGTH]}
    else:
        fields |= {_TYPE: _PIECE, _CHUNK_OCTETS: message.chunk_octets}
        if message.chunk is not None:
            fields[_CHUNK] = message.chunk
        if message.manifest is not None:
            fields |= {
                _NAME: message.manifest.name,
                _SIZE: message.manifest.size,
                _SHA256: message.manifest.sha256,
            }
    return cbor2.dumps(dict(sorted(fields.items())))


def decode_untrusted(data: bytes) -> tuple[Piece | Receipt, int]:
    """The message that begins `data` (give at least MAX_HEADER_OCTETS, or all), and where its map ends.

    Raises: MalformedError and nothing else."""
    end = cbor.scan_item(data[:MAX_HEADER_OCTETS], 0)
    fields = _fields(cbor.Cursor(data[:end]))
    if _take(fields, _VERSION, int) != VERSION:
        raise MalformedError("no message of the files protocol, version 1")
    transfer = _sized(fields, _TRANSFER, TRANSFER_OCTETS)
    kind = _take(fields, _TYPE, int)
    if kind == _RECEIPT:
        text = _take(fields, _TEXT, str)
        if len(text) > MAX_TEXT_LENGTH:
            raise MalformedError(f"the sentence of a receipt has at most {MAX_TEXT_LENGTH} characters")
        return Receipt(transfer, _take(fields, _DELIVERED, bool), text), end
    if kind != _PIECE:
        raise MalformedError(f"{kind} is no type of message in the files protocol")
    return _piece(transfer, fields), end


def _fields(cursor: cbor.Cursor) -> dict[int, Any]:
    """The map's values by key. (Not by a CBOR library: it would make what a tag asks for, patterns and e-mails too.)"""
    fields: dict[int, Any] = {}
    for _ in range(cursor.map("message of the files protocol")):
        key, value = _value(cursor), _value(cursor)
        if type(key) is int:
            fields[key] = value
    return fields


def _value(cursor: cbor.Cursor) -> int | bool | bytes | str | None:
    """The next item; None if it is of no kind that a message has."""
    first = cursor.peek()
    match first >> 5:
        case 0:
            return cursor.uint("number")
        case 2 | 3 as major:
            octets = cursor.octets("string", cursor.string_head("string", major))
            return octets if major == 2 else octets.decode("utf-8")
    cursor.item()
    return {0xF4: False, 0xF5: True}.get(first)


def _piece(transfer: bytes, fields: dict[int, Any]) -> Piece:
    chunk_octets = _bounded(fields, _CHUNK_OCTETS, 1, MAX_CHUNK_OCTETS)
    chunk = _bounded(fields, _CHUNK, 0, MAX_CHUNKS - 1) if _CHUNK in fields else None
    manifest = None
    if _NAME in fields or _SIZE in fields or _SHA256 in fields:
        size = _bounded(fields, _SIZE, 0, MAX_CHUNKS * chunk_octets)
        manifest = Manifest(_take(fields, _NAME, str), size, _sized(fields, _SHA256, SHA256_OCTETS))
    return Piece(transfer, chunk_octets, chunk, manifest)


def _take(fields: dict[int, Any], key: int, kind: type[Any]) -> Any:
    value = fields.get(key)
    if type(value) is not kind:  # not isinstance: True is an int
        raise MalformedError(f"key {key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _bounded(fields: dict[int, Any], key: int, least: int, most: int) -> int:
    value: int = _take(fields, key, int)
    if not least <= value <= most:
        raise MalformedError(f"key {key} is {value}, not {least} to {most}")
    return value


def _sized(fields: dict[int, Any], key: int, octets: int) -> bytes:
    value: bytes = _take(fields, key, bytes)
    if len(value) != octets:
        raise MalformedError(f"key {key} has {len(value)} octets, not {octets}")
    return value

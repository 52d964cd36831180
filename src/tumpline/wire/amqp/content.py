"""The header of a message's content (AMQP 0-9-1 specification §4.2.6.1): its length and properties."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.amqp.values import Reader, encode_short_text, encode_table

BASIC: Final = 60
_HEAD: Final = Struct(">HHQH")
_OCTET, _TIME = Struct(">B"), Struct(">Q")
_CONTINUED: Final = 1  # more flags follow: no property of class basic is among them


class Properties(NamedTuple):
    """Of a message, in the order of the flags (bit 15 first); None is not there."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None  # 2: survives a restart of the broker
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None  # milliseconds, as text
    message_id: str | None = None
    timestamp: int | None = None  # seconds since 1970
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


_NUMBERS: Final = {"delivery_mode": _OCTET, "priority": _OCTET, "timestamp": _TIME}


def encode_content_header(body_octets: int, properties: Properties) -> bytes:
    """The payload of a header frame. Raises: ValueError."""
    flags, written = 0, []
    for bit, (name, value) in enumerate(zip(properties._fields, properties, strict=True)):
        if value is not None:
            flags |= 0x8000 >> bit
            written.append(_write(name, value))
    return _HEAD.pack(BASIC, 0, body_octets, flags) + b"".join(written)


def _write(name: str, value: Any) -> bytes:
    if name == "headers":
        return encode_table(value)
    layout = _NUMBERS.get(name)
    return layout.pack(value) if layout is not None else encode_short_text(value)


def decode_content_header_untrusted(payload: bytes) -> tuple[int, Properties]:
    """How long the body is, and the properties. Raises: MalformedError."""
    if len(payload) < _HEAD.size:
        raise MalformedError("AMQP: a content header that is cut off")
    kind, _, body_octets, flags = _HEAD.unpack_from(payload)
    if kind != BASIC or flags & _CONTINUED:
        raise MalformedError("AMQP: a content header of another class than basic")
    reader = Reader(payload, _HEAD.size)
    found = {name: _read(name, reader) for bit, name in enumerate(Properties._fields) if flags & 0x8000 >> bit}
    if not reader.is_at_end:
        raise MalformedError("AMQP: octets behind the properties")
    return body_octets, Properties(**found)


def _read(name: str, reader: Reader) -> Any:
    readers: dict[str, Callable[[], Any]] = {"headers": reader.table}
    if name in _NUMBERS:
        return reader.number(_NUMBERS[name])
    return readers.get(name, reader.short_text)()

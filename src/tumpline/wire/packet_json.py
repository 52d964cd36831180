"""Packets as the older packet agents write them into AMQP messages: JSON, each octet a number.

Two generations: version 1 (`_api_version`; the routing key says what a message is) and version 0 (`_type` says it). Keys are
sorted, and all is written as those agents write it but for the blanks between the numbers: they are a fifth of a body, mean
nothing (RFC 8259 §2), and no agent looks at a body but through a JSON library.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import orjson

from tumpline.errors import MalformedError

API_VERSION: Final = "1.2.15"
PACKET_OCTETS_MOST: Final = 65_535
BODY_OCTETS_MOST: Final = 2 * 5 * PACKET_OCTETS_MOST + 4096  # "255, " for each octet, of `data` and of `data_slip`
TEXT_OCTETS_MOST: Final = 256
TIME_S_MOST: Final = 1 << 53  # beyond, a float counts no single seconds


class Generation(Enum):
    """How a message is to be written, or was."""

    V0 = 0
    V1 = 1


class Kind(Enum):
    """What a message of version 0 says it is. One that is to be injected is for an agent, a sniffed one comes from one."""

    SNIFFED = "packet.sniffed.raw"
    INJECT = "packet.to_inject.raw"


class Packet(NamedTuple):
    """An IP packet (interface_name "tun0" or the like), or a radio frame ("serial") with its SLIP octets."""

    data: bytes
    interface_name: str
    time_s: float | None = None  # since 1970; agents of version 1 write whole seconds
    slip: bytes | None = None


def _numbers(octets: bytes) -> bytes:
    return orjson.dumps(list(octets))


@lru_cache
def _text(value: str) -> bytes:
    return json.dumps(value).encode()


def encode_packet(packet: Packet, generation: Generation, kind: Kind = Kind.SNIFFED) -> bytes:
    """The body of a message."""
    slip = b"" if packet.slip is None else b'"data_slip": %b, ' % _numbers(packet.slip)
    if generation is Generation.V1:
        time = b"null" if packet.time_s is None else b"%d" % packet.time_s
        head = b'"_api_version": "%b"' % API_VERSION.encode()
    else:
        time = b"null" if packet.time_s is None else b'"%b"' % str(packet.time_s).encode()
        head = b'"_type": "%b"' % kind.value.encode()
    name = _text(packet.interface_name)
    return b'{%b, "data": %b, %b"interface_name": %b, "timestamp": %b}' % (
        head, _numbers(packet.data), slip, name, time
    )  # fmt: skip


class _Body(msgspec.Struct):
    data: Any  # lists of numbers are looked at when they become octets: one by one, 1400 of them take 50 us more
    interface_name: Annotated[str, msgspec.Meta(max_length=TEXT_OCTETS_MOST)] | None = None
    timestamp: float | Annotated[str, msgspec.Meta(max_length=64)] | None = None
    data_slip: Any = None
    type: Annotated[str, msgspec.Meta(max_length=TEXT_OCTETS_MOST)] | None = msgspec.field(default=None, name="_type")


def decode_packet_untrusted(body: bytes | memoryview) -> tuple[Packet, Generation, Kind]:
    """What a message carries. Version 1 does not say which kind it is: its routing key does. Raises: MalformedError."""
    try:
        decoded = msgspec.convert(_loads(body), _Body)
    except msgspec.ValidationError as error:
        raise MalformedError(f"packet message: {error}") from error
    slip = None if decoded.data_slip is None else _octets(decoded.data_slip)
    packet = Packet(_packet_octets(decoded.data), decoded.interface_name or "", _time_of(decoded.timestamp), slip)
    if decoded.type is None:
        return packet, Generation.V1, Kind.SNIFFED
    try:
        return packet, Generation.V0, Kind(decoded.type)
    except ValueError as error:
        raise MalformedError(f"packet message: {decoded.type!r} is no packet") from error


def check_packet_untrusted(body: bytes | memoryview) -> None:
    """Whether `data` is octets to its last number: what agents look at. Raises: MalformedError."""
    said = _loads(body)
    _packet_octets(said.get("data") if isinstance(said, dict) else None)


def _loads(body: bytes | memoryview) -> Any:
    if len(body) > BODY_OCTETS_MOST:
        raise MalformedError(f"packet message: {len(body)} octets, at most {BODY_OCTETS_MOST} make sense")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"packet message: {error}") from error


def _packet_octets(numbers: object) -> bytes:
    octets = _octets(numbers)
    if not 0 < len(octets) <= PACKET_OCTETS_MOST:
        raise MalformedError(f"packet message: a packet of {len(octets)} octets")
    return octets


def _octets(numbers: object) -> bytes:
    if not isinstance(numbers, list) or len(numbers) > 2 * PACKET_OCTETS_MOST + 2:
        raise MalformedError("packet message: no list of octets")
    try:
        return bytes(bytearray(numbers))  # which looks at numbers twice as fast as bytes does
    except (TypeError, ValueError, OverflowError) as error:
        raise MalformedError(f"packet message: {error}") from error


def _time_of(value: float | str | None) -> float | None:
    """Version 0 writes a text; what is no number, or no time that could be written again, says nothing."""
    try:
        time_s = None if value is None else float(value)
    except ValueError:
        return None
    return time_s if time_s is not None and abs(time_s) <= TIME_S_MOST else None

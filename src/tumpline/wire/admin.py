"""Administrative records (RFC 9171 §6.1): a registry by type code, and the one record that RFC defines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from tumpline.errors import MalformedError
from tumpline.wire import cbor
from tumpline.wire.eid import Eid, decode_eid_untrusted

STATUS_REPORT: Final = 1


class Assertion(NamedTuple):
    """One bundle status item (RFC 9171 §6.1.1): whether it is so, and since when (DTN time) if that was asked."""

    asserted: bool = False
    time_ms: int | None = None


NOT_ASSERTED: Final = Assertion()


class StatusReport(NamedTuple):
    """Bundle status report (RFC 9171 §6.1.1). The last two are there if and only if the subject is a fragment."""

    received: Assertion
    forwarded: Assertion
    delivered: Assertion
    deleted: Assertion
    reason: int
    source: Eid
    created_ms: int
    sequence: int
    fragment_offset: int | None = None
    fragment_length: int | None = None

    def encode_content(self) -> bytes:
        """The record's content: an array of 4 or, for a fragment, 6 items."""
        items = b"\x84" if self.fragment_offset is None else b"\x86"
        stamp = b"\x82" + cbor.encode_uint(self.created_ms) + cbor.encode_uint(self.sequence)
        fragment = b""
        if self.fragment_offset is not None:
            assert self.fragment_length is not None, "the report on a fragment tells its length"
            fragment = cbor.encode_uint(self.fragment_offset) + cbor.encode_uint(self.fragment_length)
        information = b"\x84" + b"".join(map(_encode_assertion, self[:4]))
        return items + information + cbor.encode_uint(self.reason) + self.source.encoded + stamp + fragment


class UnknownRecord(NamedTuple):
    """A record of a type that is not registered; `content` is its CBOR."""

    code: int
    content: bytes


Record = Any  # StatusReport, UnknownRecord, or what a registered decoder returns
Decoder = Callable[[bytes], Record]
_D = TypeVar("_D", bound=Decoder)

_decoders: dict[int, Decoder] = {}
_codes: dict[type, int] = {}


def register_record(code: int, record: type) -> Callable[[_D], _D]:
    """Register the decoder of records of type `code`, which returns a `record`.

    The class has `encode_content() -> bytes`. The decoder gets one well-formed CBOR item and raises MalformedError only.
    """

    def register(decoder: _D) -> _D:
        if code in _decoders:
            raise ValueError(f"administrative record type {code} is registered twice")
        _decoders[code] = decoder
        _codes[record] = code
        return decoder

    return register


def encode_admin(record: Record) -> bytes:
    """An administrative record as the payload of a bundle: [type code, content]."""
    if isinstance(record, UnknownRecord):
        return b"\x82" + cbor.encode_uint(record.code) + record.content
    content: bytes = record.encode_content()
    return b"\x82" + cbor.encode_uint(_codes[type(record)]) + content


def decode_admin_untrusted(data: bytes) -> Record:
    """The record that a payload is: StatusReport, another registered kind, or UnknownRecord. Raises MalformedError."""
    cursor = cbor.Cursor(bytes(data), definite=False)
    items = cursor.array("administrative record")
    code = cursor.uint("record type")
    content = cursor.item()
    cursor.leave("administrative record", items, 2)
    cursor.end("the administrative record")
    decoder = _decoders.get(code)
    return UnknownRecord(code, content) if decoder is None else decoder(content)


def _encode_assertion(assertion: Assertion) -> bytes:
    asserted, time_ms = assertion
    # RFC 9171 §6.1.1: a time only where the status is asserted.
    if not asserted:
        return b"\x81\xf4"
    return b"\x81\xf5" if time_ms is None else b"\x82\xf5" + cbor.encode_uint(time_ms)


def _decode_assertion(cursor: cbor.Cursor) -> Assertion:
    items = cursor.array("bundle status item")
    asserted = cursor.boolean("status indicator")
    timed = not cursor.at_break() if items == cbor.INDEFINITE else items == 2
    time_ms = cursor.uint("time of the status") if timed else None
    cursor.leave("bundle status item", items, 2 if timed else 1)
    if timed and not asserted:
        raise MalformedError("a bundle status that is not asserted has a time (RFC 9171 §6.1.1)")
    return Assertion(asserted, time_ms)


@register_record(STATUS_REPORT, StatusReport)
def _decode_status_report(content: bytes) -> StatusReport:
    cursor = cbor.Cursor(content, definite=False)
    items = cursor.array("bundle status report")
    received, forwarded, delivered, deleted = _decode_information(cursor)
    reason = cursor.uint("reason code")
    source, cursor.offset = decode_eid_untrusted(content, cursor.offset, definite=False)
    stamp = cursor.array("creation timestamp")
    created_ms, sequence = cursor.uint("creation time"), cursor.uint("sequence number")
    cursor.leave("creation timestamp", stamp, 2)
    fragment = not cursor.at_break() if items == cbor.INDEFINITE else items == 6
    offset = cursor.uint("fragment offset") if fragment else None
    length = cursor.uint("fragment length") if fragment else None
    cursor.leave("bundle status report", items, 6 if fragment else 4)
    return StatusReport(received, forwarded, delivered, deleted, reason, source, created_ms, sequence, offset, length)


def _decode_information(cursor: cbor.Cursor) -> list[Assertion]:
    """RFC 9171 §6.1.1: at least four status items; what later documents may add is passed over."""
    count = cursor.array("bundle status information")
    assertions = [_decode_assertion(cursor) for _ in range(4)]
    read = 4
    while not cursor.at_break() if count == cbor.INDEFINITE else read < count:
        cursor.item()
        read += 1
    cursor.leave("bundle status information", count, read)
    return assertions

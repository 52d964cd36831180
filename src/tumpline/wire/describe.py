"""A bundle or its head as plain values that JSON can carry, for people who look at octets."""

from __future__ import annotations

from typing import Any, Final

from tumpline.errors import MalformedError
from tumpline.wire.acme import RECORD_TYPE as ACME_RECORD
from tumpline.wire.acme import decode_acme_untrusted, token_to_text
from tumpline.wire.admin import StatusReport, UnknownRecord, decode_admin_untrusted
from tumpline.wire.bundle7 import (
    BlockFlags,
    BlockType,
    Bundle,
    BundleFlags,
    BundleHead,
    CanonicalBlock,
    CrcType,
    PrimaryBlock,
    ReasonCode,
    bundle_id,
    decode_bundle_age,
    decode_hop_count,
    decode_previous_node,
)

PREVIEW_OCTETS: Final = 32  # of a payload; the rest may be gigabytes


def describe(bundle: Bundle | BundleHead) -> dict[str, Any]:
    """Everything that the bundle says. Of a payload the length and, where it is there, how it begins."""
    length = len(bundle.payload) if isinstance(bundle, Bundle) else bundle.payload_length
    return {
        "id": str(bundle_id(bundle.primary, length)),
        "primary": describe_primary(bundle.primary),
        "blocks": [describe_block(block) for block in bundle.blocks],
        "payload": _payload(bundle, length),
    }


def describe_primary(primary: PrimaryBlock) -> dict[str, Any]:
    """The primary block; the last two keys only of a fragment."""
    value: dict[str, Any] = {
        "version": 7,
        "flags": flag_names(BundleFlags, primary.flags),
        "crc": number_name(CrcType, primary.crc_type),
        "destination": str(primary.destination),
        "source": str(primary.source),
        "report_to": str(primary.report_to),
        "created_ms": primary.created_ms,
        "sequence": primary.sequence,
        "lifetime_ms": primary.lifetime_ms,
    }
    if primary.fragment_offset is not None:
        value |= {"fragment_offset": primary.fragment_offset, "total_adu_length": primary.total_adu_length}
    return value


def describe_block(block: CanonicalBlock) -> dict[str, Any]:
    """An extension block; its data as values where its type is known and the data is right, else in hex."""
    value: dict[str, Any] = {
        "type": block.type,
        "name": number_name(BlockType, block.type),
        "number": block.number,
        "flags": flag_names(BlockFlags, block.flags),
        "crc": number_name(CrcType, block.crc_type),
        "length_octets": len(block.data),
    }
    try:
        return value | _content(block)
    except MalformedError as error:
        return value | {"problem": str(error), "hex": block.data.hex()}


def _content(block: CanonicalBlock) -> dict[str, Any]:
    if block.type == BlockType.PREVIOUS_NODE:
        return {"previous_node": str(decode_previous_node(block.data))}
    if block.type == BlockType.BUNDLE_AGE:
        return {"age_ms": decode_bundle_age(block.data)}
    if block.type == BlockType.HOP_COUNT:
        limit, count = decode_hop_count(block.data)
        return {"hop_limit": limit, "hop_count": count}
    return {"hex": block.data.hex()}


def _payload(bundle: Bundle | BundleHead, length: int) -> dict[str, Any]:
    value: dict[str, Any] = {
        "flags": flag_names(BlockFlags, bundle.payload_flags),
        "crc": number_name(CrcType, bundle.payload_crc_type),
        "length_octets": length,
    }
    if isinstance(bundle, BundleHead):
        return value
    value["begins_hex"] = bundle.payload[:PREVIEW_OCTETS].hex()
    # A fragment of a record is no record (RFC 9171 §5.8).
    if bundle.primary.flags & (BundleFlags.ADMIN | BundleFlags.IS_FRAGMENT) == BundleFlags.ADMIN:
        try:
            value["administrative_record"] = describe_record(decode_admin_untrusted(bundle.payload))
        except MalformedError as error:
            value["problem"] = str(error)
    return value


def describe_record(record: Any) -> dict[str, Any]:
    """An administrative record; of a kind that has no description here, its text."""
    if isinstance(record, StatusReport):
        return {"record": "status report"} | _report(record)
    if isinstance(record, UnknownRecord) and record.code == ACME_RECORD:
        return {"record": "ACME node ID validation"} | _acme(record.content)
    if isinstance(record, UnknownRecord):
        return {"record": f"unknown {record.code}", "code": record.code, "hex": record.content.hex()}
    return {"record": type(record).__name__, "text": str(record)}


def _acme(content: bytes) -> dict[str, Any]:
    try:
        record = decode_acme_untrusted(content)
    except MalformedError as error:
        return {"problem": str(error), "hex": content.hex()}
    value: dict[str, Any] = {
        "id_chal": token_to_text(record.id_chal),
        "token_bundle": token_to_text(record.token_bundle),
    }
    if record.digest is not None:
        value["digest"] = {"algorithm": record.digest.algorithm, "hex": record.digest.octets.hex()}
    if record.algorithms:
        value["algorithms"] = list(record.algorithms)
    return value


def _report(report: StatusReport) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name in ("received", "forwarded", "delivered", "deleted"):
        asserted, time_ms = getattr(report, name)
        value[name] = {"asserted": asserted} if time_ms is None else {"asserted": asserted, "time_ms": time_ms}
    value |= {"reason": report.reason, "reason_name": number_name(ReasonCode, report.reason)}
    value |= {"source": str(report.source), "created_ms": report.created_ms, "sequence": report.sequence}
    if report.fragment_offset is not None:
        value |= {"fragment_offset": report.fragment_offset, "fragment_length": report.fragment_length}
    return value


# ---- names of registries ---------------------------------------------------------------------------------------------


def _constants(names: type[Any]) -> dict[str, int]:
    return {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, int)}


def flag_names(names: type[Any], flags: int) -> list[str]:
    """The names of the bits that are set; those without a name together as `unknown 0x...`."""
    known = {name: bit for name, bit in _constants(names).items() if bit.bit_count() == 1}
    found = [_spoken(name) for name, bit in known.items() if flags & bit]
    unknown = flags & ~sum(known.values())
    return [*found, f"unknown {unknown:#x}"] if unknown else found


def number_name(names: type[Any], number: int) -> str:
    """The name of a code, or `unknown` and the number."""
    return next((_spoken(name) for name, value in _constants(names).items() if value == number), f"unknown {number}")


def _spoken(name: str) -> str:
    return name.lower().replace("_", " ")

"""`tumpline bundles decode`: what any bundle says, without an agent."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError, MalformedError
from tumpline.ui.cli.common import DEFAULT, Common, FileOrDash
from tumpline.ui.cli.output import Output, octets, pairs
from tumpline.wire.admin import StatusReport, decode_admin_untrusted
from tumpline.wire.bundle7 import (
    LENIENT,
    STRICT,
    BlockFlags,
    BlockType,
    Bundle,
    BundleFlags,
    CanonicalBlock,
    CrcType,
    PrimaryBlock,
    decode_bundle_age,
    decode_bundle_untrusted,
    decode_hop_count,
    decode_previous_node,
)

_DTN_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # RFC 9171 §4.2.6
_MAX_FILE_OCTETS = 1 << 30  # a bundle is decoded in memory here; larger ones are looked at in the store
_PREVIEW_OCTETS = 32


def decode(what: FileOrDash, /, *, common: Common = DEFAULT) -> int:
    """Decode a bundle and check its CRCs. Exits 1 if it is no bundle.

    Parameters
    ----------
    what
        A file (binary or hex), the octets in hex, or - for standard input.
    """
    data = _read(what)
    problem = None
    try:
        bundle = decode_bundle_untrusted(data, STRICT)
    except MalformedError as error:
        bundle, problem = decode_bundle_untrusted(data, LENIENT), str(error)
    value = describe_bundle(bundle, len(data))
    if problem is not None:
        value["problem"] = problem
    Output(common).result(value, _shown(value))
    return 0 if problem is None else 1


def _read(what: str) -> bytes:
    if what == "-":
        return _unhexed(sys.stdin.buffer.read(_MAX_FILE_OCTETS + 1))
    path = Path(what)
    if len(what) < 256 and path.is_file():
        if path.stat().st_size > _MAX_FILE_OCTETS:
            raise ConfigError(f"{what} is larger than {octets(_MAX_FILE_OCTETS)}: too large to decode in memory")
        return _unhexed(path.read_bytes())
    try:
        return bytes.fromhex(what)
    except ValueError:
        raise ConfigError(f"{what!r} is neither a file nor hex digits") from None


def _unhexed(data: bytes) -> bytes:
    """The octets that a text of hex digits stands for; binary data as it is."""
    try:
        return bytes.fromhex(data.decode("ascii"))
    except ValueError:
        return data


def describe_bundle(bundle: Bundle, length: int) -> dict[str, Any]:
    """The bundle as values that JSON can carry."""
    return {
        "length_octets": length,
        "primary": _primary(bundle.primary),
        "blocks": [_block(block) for block in bundle.blocks],
        "payload": _payload(bundle),
    }


def _primary(primary: PrimaryBlock) -> dict[str, Any]:
    value: dict[str, Any] = {
        "flags": _names(BundleFlags, primary.flags),
        "crc": _name(CrcType, primary.crc_type),
        "destination": str(primary.destination),
        "source": str(primary.source),
        "report_to": str(primary.report_to),
        "created": _time(primary.created_ms),
        "created_ms": primary.created_ms,
        "sequence": primary.sequence,
        "lifetime_ms": primary.lifetime_ms,
    }
    if primary.fragment_offset is not None:
        value |= {"fragment_offset": primary.fragment_offset, "total_adu_length": primary.total_adu_length}
    return value


def _time(dtn_ms: int) -> str | None:
    """RFC 3339 text; None for time zero, which means "no clock" (RFC 9171 §4.2.7)."""
    if dtn_ms == 0:
        return None
    try:
        return (_DTN_EPOCH + timedelta(milliseconds=dtn_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return "beyond the year 9999"


def _block(block: CanonicalBlock) -> dict[str, Any]:
    value: dict[str, Any] = {
        "type": block.type,
        "name": _name(BlockType, block.type),
        "number": block.number,
        "flags": _names(BlockFlags, block.flags),
        "crc": _name(CrcType, block.crc_type),
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


def _payload(bundle: Bundle) -> dict[str, Any]:
    value: dict[str, Any] = {
        "flags": _names(BlockFlags, bundle.payload_flags),
        "crc": _name(CrcType, bundle.payload_crc_type),
        "length_octets": len(bundle.payload),
        "begins_hex": bundle.payload[:_PREVIEW_OCTETS].hex(),
    }
    if bundle.primary.flags & BundleFlags.ADMIN:
        try:
            value["administrative_record"] = _record(decode_admin_untrusted(bundle.payload))
        except MalformedError as error:
            value["problem"] = str(error)
    return value


def _record(record: Any) -> dict[str, Any]:
    fields: dict[str, Any] = record._asdict()
    name = "status report" if isinstance(record, StatusReport) else "unknown"
    return {
        "record": name,
        **{key: shown if isinstance(shown, int | tuple | None) else str(shown) for key, shown in fields.items()},
    }


def _constants(names: type[Any]) -> dict[str, int]:
    return {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, int)}


def _names(names: type[Any], flags: int) -> list[str]:
    known = [
        (name.lower().replace("_", " "), bit) for name, bit in _constants(names).items() if bit and flags & bit == bit
    ]
    unknown = flags & ~sum(bit for _, bit in known)
    return [name for name, _ in known] + ([f"unknown {unknown:#x}"] if unknown else [])


def _name(names: type[Any], number: int) -> str:
    return next(
        (name.lower().replace("_", " ") for name, value in _constants(names).items() if value == number),
        f"unknown {number}",
    )


def _shown(value: dict[str, Any]) -> list[str]:
    lines = [f"bundle of {octets(value['length_octets'])}", *_indented(value["primary"])]
    for block in value["blocks"]:
        lines += [f"block {block['number']}: {block['name']} (type {block['type']})"]
        lines += _indented({key: shown for key, shown in block.items() if key not in ("type", "name", "number")})
    lines += ["payload", *_indented(value["payload"])]
    if "problem" in value:
        lines.append(f"not as RFC 9171 wants it: {value['problem']}")
    return lines


def _indented(value: dict[str, Any]) -> list[str]:
    flat = {key: ", ".join(shown) or "none" if isinstance(shown, list) else shown for key, shown in value.items()}
    return [f"  {line}" for line in pairs(flat)]

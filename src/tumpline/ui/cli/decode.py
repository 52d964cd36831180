"""`tumpline bundles decode`: what any bundle says, without an agent."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tumpline.errors import ConfigError, MalformedError
from tumpline.ui.cli.common import DEFAULT, Common, FileOrDash
from tumpline.ui.cli.output import Output, octets, pairs
from tumpline.wire.bundle7 import LENIENT, STRICT, Bundle, decode_bundle_untrusted
from tumpline.wire.describe import describe

_DTN_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # RFC 9171 §4.2.6
_MAX_FILE_OCTETS = 1 << 30  # a bundle is decoded in memory here; larger ones are looked at in the store


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
    value = _value(bundle, len(data))
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


def _value(bundle: Bundle, length: int) -> dict[str, Any]:
    value = describe(bundle)
    value["primary"]["created"] = _time(bundle.primary.created_ms)
    return {"length_octets": length} | value


def _time(dtn_ms: int) -> str | None:
    """RFC 3339 text; None for time zero, which means "no clock" (RFC 9171 §4.2.7)."""
    if dtn_ms == 0:
        return None
    try:
        return (_DTN_EPOCH + timedelta(milliseconds=dtn_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return "beyond the year 9999"


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

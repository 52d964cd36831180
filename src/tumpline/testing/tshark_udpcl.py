"""Wireshark's view of UDPCL: tshark with the dissector that comes with the documents."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

DISSECTOR = Path(__file__).parents[3] / "docs" / "udpcl.lua"
# Of Wireshark's own dissector of bundles: payloads of no endpoint that it knows.
NO_COMPLAINT = frozenset({"Unknown type code"})
_MARK = "\x1f"


def fields(
    path: Path, names: Sequence[str], *options: str, show: str = "udp", key_log: Path | None = None
) -> list[list[str]]:
    """For each frame that passes the filter `show`: the values of these fields, joined by |."""
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), "-o", "bpv7.bp_compute_crc:TRUE", *options]
    if key_log is not None:
        command += ["-o", f"tls.keylog_file:{key_log}"]
    command += ["-Y", show, "-T", "fields", "-E", f"separator={_MARK}", "-E", "occurrence=a", "-E", "aggregator=|"]
    for name in names:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return [line.split(_MARK) for line in done.stdout.splitlines()]


def complaints(path: Path, *options: str, key_log: Path | None = None) -> list[str]:
    """All that there is to remark."""
    rows = fields(path, ["_ws.expert.message"], *options, key_log=key_log)
    return [text for (row,) in rows for text in row.split("|") if text and text not in NO_COMPLAINT]


def text(path: Path, *options: str, key_log: Path | None = None) -> str:
    """Everything that tshark shows of UDPCL, for people."""
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(path), "-O", "udpcl", *options]
    if key_log is not None:
        command += ["-o", f"tls.keylog_file:{key_log}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

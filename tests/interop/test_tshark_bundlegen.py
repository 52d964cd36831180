"""`bundlegen fullvalid 1000`: as many bundles as were sent lie on the wire, and tshark has nothing to say of any of them."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import clean_environment
from tumpline.testing.tshark import Capture, Found, remarks
from tumpline.wire.admin import decode_admin_untrusted
from tumpline.wire.bundle7 import BundleFlags
from tumpline.wire.generate import draw_bundle
from tumpline.wire.generate_tcpcl4 import draw_message

BUNDLES = 1000
SEED = 20261121
# Of a status report on a fragment, tshark 4.0 leaves the last two of its six items undissected, and remarks on both.
UNDISSECTED = "Data not fully dissected"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def bundlegen(cl: str, *options: str, directory: Path, key_log: Path | None = None) -> dict[str, Any]:
    """Run it in a process of its own; its result."""
    script = f"import sys; from tumpline.ui.bundlegen import main; sys.exit(main(sys.argv[1:], {cl!r}))"
    environment = clean_environment(directory)
    if key_log is not None:
        environment["SSLKEYLOGFILE"] = str(key_log)
    command = [sys.executable, "-c", script, "fullvalid", str(BUNDLES), "--seed", str(SEED), "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    result: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, result["faults"]) == (0, []), (done.returncode, result, done.stderr)
    return result


def undissected() -> list[str]:
    """What tshark says of these very bundles for want of knowing better."""
    chance = random.Random(SEED)
    bundles = [draw_bundle(chance, index) for index in range(BUNDLES)]
    records = [decode_admin_untrusted(bundle.payload) for bundle in bundles if bundle.primary.flags & BundleFlags.ADMIN]
    found = [UNDISSECTED] * 2 * sum(record.fragment_offset is not None for record in records)
    assert found, "the seed draws no report on a fragment"
    return found


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_tcpcl(tmp_path: Path, secured: bool) -> None:
    port, key_log = free_port(), tmp_path / "keys.log" if secured else None
    with Capture(tmp_path / "bundlegen.pcapng", port) as capture:
        options = ("--port", str(port), "--use-tls", str(secured))
        result = bundlegen("tcpcl", *options, directory=tmp_path, key_log=key_log)
    assert result["security"] == ("TLSv1.3" if secured else "none")
    assert capture.find(key_log) == Found(BUNDLES, [])
    assert remarks(capture.path, port, key_log) == undissected()
    if secured:
        assert capture.find(None).bundles == 0, "without the key log there must be nothing to read"


def test_messagegen(tmp_path: Path) -> None:
    """The dissector finds as many messages of each type as there are, and none of them malformed."""
    port = free_port()
    script = "import sys; from tumpline.ui.bundlegen.messages import main; sys.exit(main(sys.argv[1:]))"
    with Capture(tmp_path / "messages.pcapng", port) as capture:
        command = [sys.executable, "-c", script, "300", "--seed", str(SEED), "--port", str(port)]
        subprocess.run(command, check=True, env=clean_environment(tmp_path), timeout=60)
    chances = [random.Random(SEED + end) for end in range(2)]
    drawn = Counter(int(draw_message(chance).type) for chance in chances for _ in range(300))
    assert Counter(int(kind, 0) for kind in capture.values("tcpcl.v4.mhdr.type")) == drawn
    assert not [text for text in capture.values("_ws.expert.message") if "alformed" in text]

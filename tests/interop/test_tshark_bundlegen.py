"""`bundlegen fullvalid 1000`: as many bundles as were sent lie on the wire, and tshark has nothing to say of any of them."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import clean_environment
from tumpline.testing.captured import ETHERNET_OCTETS, LOOPBACK_OCTETS, captured
from tumpline.testing.tshark import find, find_udpcl, remarks, values
from tumpline.wire.admin import decode_admin_untrusted
from tumpline.wire.bundle7 import BundleFlags
from tumpline.wire.generate import draw_bundle
from tumpline.wire.generate_tcpcl4 import draw_message

BUNDLES = 1000
PORT = 4556  # in a namespace of its own
DISSECTOR = Path(__file__).parents[2] / "docs" / "udpcl.lua"
CAPTURE = "loopback.pcapng"
SEED = 20261121
# Of a status report on a fragment, tshark 4.0 leaves the last two of its six items undissected, and remarks on both.
UNDISSECTED = "Data not fully dissected"


def bundlegen(
    directory: Path, cl: str, *options: str, key_log: Path | None = None, mtu_octets: int = ETHERNET_OCTETS
) -> dict[str, Any]:
    """Its result; the capture is in `directory`."""
    script = f"import sys; from tumpline.ui.bundlegen import main; sys.exit(main(sys.argv[1:], {cl!r}))"
    environment = clean_environment(directory)
    if key_log is not None:
        environment["SSLKEYLOGFILE"] = str(key_log)
    command = [sys.executable, "-c", script, "fullvalid", str(BUNDLES), "--seed", str(SEED), "--json", *options]
    done = captured(directory / CAPTURE, PORT, command, environment, mtu_octets)
    assert done.stdout, done.stderr
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
    key_log = tmp_path / "keys.log" if secured else None
    result = bundlegen(tmp_path, "tcpcl", "--use-tls", str(secured), key_log=key_log)
    assert result["security"] == ("TLSv1.3" if secured else "none")
    path = tmp_path / CAPTURE
    found = find(path, PORT, key_log)
    assert found.bundles == BUNDLES
    assert set(found.complaints) <= {UNDISSECTED}
    assert remarks(path, PORT, key_log) == undissected()
    if secured:
        assert find(path, PORT, None).bundles == 0, "without the key log there must be nothing to read"


@pytest.mark.parametrize("length", [1400, pytest.param(60_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "dtls"])
def test_udpcl(tmp_path: Path, length: int, secured: bool) -> None:
    key_log = tmp_path / "keys.log" if secured else None
    options = ("--mtu-default", str(length), "--use-tls", str(secured))
    result = bundlegen(tmp_path, "udpcl", *options, key_log=key_log, mtu_octets=LOOPBACK_OCTETS)
    assert result["security"] == ("DTLSv1.2" if secured else "none")
    found = find_udpcl(tmp_path / CAPTURE, DISSECTOR, key_log)
    assert found.bundles == BUNDLES
    assert found.complaints == undissected()
    if secured:
        assert find_udpcl(tmp_path / CAPTURE, DISSECTOR).bundles == 0, (
            "without the key log there must be nothing to read"
        )


@pytest.mark.slow
def test_udpcl_with_datagrams_that_do_not_pass(tmp_path: Path) -> None:
    """Longer ones than the interface takes are cut again."""
    bundlegen(tmp_path, "udpcl", "--mtu-default", "60000", mtu_octets=ETHERNET_OCTETS)
    found = find_udpcl(tmp_path / CAPTURE, DISSECTOR)
    assert (found.bundles, found.complaints) == (BUNDLES, undissected())


def test_messagegen(tmp_path: Path) -> None:
    """The dissector finds as many messages of each type as there are, and none of them malformed."""
    script = "import sys; from tumpline.ui.bundlegen.messages import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "300", "--seed", str(SEED)]
    done = captured(tmp_path / CAPTURE, PORT, command, clean_environment(tmp_path))
    assert done.returncode == 0, done.stderr
    chances = [random.Random(SEED + end) for end in range(2)]
    drawn = Counter(int(draw_message(chance).type) for chance in chances for _ in range(300))
    assert Counter(int(kind, 0) for kind in values(tmp_path / CAPTURE, PORT, "tcpcl.v4.mhdr.type")) == drawn
    assert not [text for text in values(tmp_path / CAPTURE, PORT, "_ws.expert.message") if "alformed" in text]

"""`bundles decode`: hex, files, standard input; what is wrong with a bundle."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from tumpline.wire.bundle7 import (
    Bundle,
    BundleFlags,
    PrimaryBlock,
    bundle_age_block,
    encode_bundle,
    hop_count_block,
    previous_node_block,
)
from tumpline.wire.eid import NULL, Eid

PRIMARY = PrimaryBlock(
    BundleFlags.REPORT_DELIVERY | BundleFlags.MUST_NOT_FRAGMENT,
    2,
    Eid.parse("ipn:977000.100.1"),
    Eid.parse("dtn://ground/source"),
    NULL,
    811_000_000_000,
    7,
    86_400_000,
    None,
    None,
)
BLOCKS = (
    previous_node_block(Eid.parse("dtn://relay/"), 2, 2),
    bundle_age_block(1500, 3, 1),
    hop_count_block(30, 4, 4, 0),
)
BUNDLE = encode_bundle(Bundle(PRIMARY, BLOCKS, b"hello", 0, 2))


def test_everything_is_told(tumpline: Any) -> None:
    said = tumpline("bundles", "decode", BUNDLE.hex(), "--json")
    assert said.code == 0
    value = said.value
    assert value["length_octets"] == len(BUNDLE)
    assert value["primary"] == {
        "version": 7,
        "flags": ["must not fragment", "report delivery"],
        "crc": "crc32c",
        "destination": "ipn:977000.100.1",
        "source": "dtn://ground/source",
        "report_to": "dtn:none",
        "created": "2025-09-12T13:46:40.000Z",
        "created_ms": 811_000_000_000,
        "sequence": 7,
        "lifetime_ms": 86_400_000,
    }
    assert [block["crc"] for block in value["blocks"]] == ["crc32c", "x25", "none"]
    assert value["blocks"][0]["previous_node"] == "dtn://relay/"
    assert value["blocks"][1]["age_ms"] == 1500
    assert (value["blocks"][2]["hop_limit"], value["blocks"][2]["hop_count"]) == (30, 4)
    assert value["payload"]["begins_hex"] == b"hello".hex()
    assert "problem" not in value


def test_for_people(tumpline: Any) -> None:
    out = tumpline("bundles", "decode", BUNDLE.hex()).out
    assert "source       dtn://ground/source" in out
    assert "block 3: bundle age (type 7)" in out


def test_from_files_and_standard_input(tumpline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "binary").write_bytes(BUNDLE)
    (tmp_path / "text").write_text(BUNDLE.hex(" ") + "\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BUNDLE)))
    values = [
        tumpline("bundles", "decode", str(what), "--json").value
        for what in (tmp_path / "binary", tmp_path / "text", "-")
    ]
    assert values[0] == values[1] == values[2]
    assert values[0]["primary"]["sequence"] == 7


def test_every_altered_octet_of_the_payload_is_found(tumpline: Any) -> None:
    at = BUNDLE.index(b"hello")
    for index in range(at, at + 5):
        altered = bytearray(BUNDLE)
        altered[index] ^= 1
        said = tumpline("bundles", "decode", altered.hex())
        assert said.code == 1
        assert "CRC" in said.err


@pytest.mark.parametrize("what", ["", "zz", "/no/such/file", "abc"])
def test_what_is_neither_file_nor_hex_is_a_usage_error(what: str, tumpline: Any) -> None:
    assert tumpline("bundles", "decode", what).code in ({1} if what == "" else {2})


def test_octets_that_are_no_bundle(tumpline: Any) -> None:
    said = tumpline("bundles", "decode", "9f00ff", "--json")
    assert said.code == 1
    assert said.value["exit_code"] == 1
    assert said.err.startswith("tumpline: ")
    assert said.err.count("\n") == 1


def test_a_bundle_that_breaks_a_rule_is_shown_with_the_rule(tumpline: Any) -> None:
    said = tumpline("bundles", "decode", (BUNDLE + b"\x00").hex(), "--json")
    assert said.code == 1
    if "primary" in said.value:
        assert said.value["problem"]

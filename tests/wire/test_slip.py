"""SLIP as RFC 1055 has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.slip import decode_slip_untrusted, encode_slip


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        ("", "c0c0"),
        ("00", "c000c0"),
        ("c0", "c0dbdcc0"),
        ("db", "c0dbddc0"),
        ("dbdc", "c0dbdddcc0"),
        ("01c0db02", "c001dbdcdbdd02c0"),
    ],
)
def test_octets_of_the_rfc(frame: str, line: str) -> None:
    assert encode_slip(bytes.fromhex(frame)).hex() == line
    assert decode_slip_untrusted(bytes.fromhex(line)[1:-1]).hex() == frame


@pytest.mark.parametrize("escaped", ["db", "00db", "dbdb", "db00", "dbc0", "c0"])
def test_what_no_sender_writes(escaped: str) -> None:
    with pytest.raises(MalformedError):
        decode_slip_untrusted(bytes.fromhex(escaped))


@given(st.binary(max_size=300))
def test_any_frame_comes_back(frame: bytes) -> None:
    line = encode_slip(frame)
    assert line.count(b"\xc0") == 2
    assert decode_slip_untrusted(line[1:-1]) == frame


@given(st.binary(max_size=100))
def test_any_octets_are_a_frame_or_malformed(escaped: bytes) -> None:
    try:
        frame = decode_slip_untrusted(escaped)
    except MalformedError:
        return
    assert encode_slip(frame) == b"\xc0" + escaped + b"\xc0"

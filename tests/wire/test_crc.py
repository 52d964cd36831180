"""CRC check values, whole and in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.wire.crc import RunningCrc, crc16_x25, crc32c, crc32c_joined, crc_field, crc_octets

CHECK = b"123456789"
ISCSI_ASCENDING = bytes(range(32))  # RFC 7143 A.4


def test_check_values() -> None:
    assert crc16_x25(CHECK) == 0x906E
    assert crc32c(CHECK) == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(ISCSI_ASCENDING) == 0x46DD794E


@pytest.mark.parametrize(("crc_type", "whole"), [(0, 0), (1, 0x906E), (2, 0xE3069283)])
@pytest.mark.parametrize("cut", range(len(CHECK) + 1))
def test_pieces_give_what_the_whole_gives(crc_type: int, whole: int, cut: int) -> None:
    running = RunningCrc(crc_type)
    running.update(CHECK[:cut])
    running.update(memoryview(CHECK)[cut:])
    assert running.value == whole


@pytest.mark.parametrize(("crc_type", "field"), [(0, ""), (1, "4205dc"), (2, "44000005dc")])
def test_field(crc_type: int, field: str) -> None:
    assert crc_field(crc_type, 0x5DC) == bytes.fromhex(field)
    assert crc_octets(crc_type) == max(0, len(crc_field(crc_type, 1)) - 1)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_two_runs_follows_from_theirs(first: bytes, second: bytes) -> None:
    assert crc32c_joined(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)


def test_long_runs_join_too() -> None:
    first, second = b"head", bytes(range(256)) * 8192
    joined = crc32c_joined(crc32c(first), crc32c(second), len(second))
    assert joined == crc32c(first + second)
    assert crc32c_joined(crc32c(first), crc32c(second), len(second) + 1) != joined

"""Administrative records: octets, the registry, what is refused (RFC 9171 §6.1)."""

from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.testing.strategies import admin_records
from tumpline.wire import admin
from tumpline.wire.admin import (
    Assertion,
    StatusReport,
    UnknownRecord,
    decode_admin_untrusted,
    encode_admin,
    register_record,
)
from tumpline.wire.eid import Eid

NO, YES = Assertion(), Assertion(True)
TABLE = [
    (
        StatusReport(YES, NO, NO, NO, 0, Eid.parse("ipn:5.1"), 1000, 7),
        "8201 84 84 81f5 81f4 81f4 81f4 00 8202820501 82 1903e8 07",
    ),
    (
        StatusReport(NO, NO, Assertion(True, 812345678901), NO, 0, Eid.parse("dtn://n/x"), 1000, 7),
        "8201 84 84 81f4 81f4 82f51b000000bd23935c35 81f4 00 8201652f2f6e2f78 82 1903e8 07",
    ),
    (
        StatusReport(NO, NO, NO, YES, 9, Eid.parse("ipn:977000.5.1"), 0, 7, 100, 24),
        "8201 86 84 81f4 81f4 81f4 81f5 09 8202831a000ee8680501 82 00 07 1864 1818",
    ),
    (UnknownRecord(255, bytes.fromhex("a10102")), "82 18ff a10102"),
]


@pytest.mark.parametrize(("record", "octets"), TABLE)
def test_value_and_octets(record: admin.Record, octets: str) -> None:
    assert encode_admin(record).hex() == octets.replace(" ", "")
    assert decode_admin_untrusted(bytes.fromhex(octets)) == record


def test_a_time_only_where_the_status_is_asserted() -> None:
    report = StatusReport(Assertion(False, 5), NO, NO, NO, 0, Eid.parse("ipn:5.1"), 1, 1)
    assert decode_admin_untrusted(encode_admin(report)).received == NO


@given(admin_records())
def test_round_trip(record: StatusReport | UnknownRecord) -> None:
    assert decode_admin_untrusted(encode_admin(record)) == record


@given(admin_records(), st.integers(0), st.integers(0, 255))
def test_altered_records_are_records_or_malformed(record: admin.Record, at: int, octet: int) -> None:
    data = bytearray(encode_admin(record))
    data[at % len(data)] = octet
    for octets in (bytes(data), bytes(data[: at % len(data)])):
        try:
            decode_admin_untrusted(octets)
        except MalformedError:
            continue


def test_items_of_indefinite_length_and_status_items_to_come() -> None:
    octets = "9f01 9f 9f 9ff5ff 81f4 81f4 9ff505ff 81f5 00 ff 03 8202820501 9f0107ff ff ff"
    report = decode_admin_untrusted(bytes.fromhex(octets))
    assert report == StatusReport(YES, NO, NO, Assertion(True, 5), 3, Eid.parse("ipn:5.1"), 1, 7)


WRONG = [
    "",
    "01",
    "8101",
    "830100",
    "8220 00",
    "820180",
    "8201 84 83 81f5 81f4 81f4 00 8202820501 820107",
    "8201 84 84 81f5 81f4 81f4 81f4 00 8202820501 8101",
    "8201 85 84 81f5 81f4 81f4 81f4 00 8202820501 820107 00",
    "8201 84 84 82f505 81f4 81f4 81f400 00 8202820501 820107",
    "8201 84 84 82f405 81f4 81f4 81f4 00 8202820501 820107",  # a time, but not asserted
    "8201 84 84 8101 81f4 81f4 81f4 00 8202820501 820107",
    "8201 84 84 81f5 81f4 81f4 81f4 20 8202820501 820107",
    "8201 84 84 81f5 81f4 81f4 81f4 00 8202820501 820107 00",
    "8218ff" + "81" * 40 + "00",
    "82019b7fffffffffffffff",
]


@pytest.mark.parametrize("octets", WRONG)
def test_what_is_no_record(octets: str) -> None:
    with pytest.raises(MalformedError):
        decode_admin_untrusted(bytes.fromhex(octets))


class Note(NamedTuple):
    text: bytes

    def encode_content(self) -> bytes:
        return b"\x43" + self.text


def test_another_record_is_registered_by_its_code() -> None:
    with patch.dict(admin._decoders), patch.dict(admin._codes):
        register_record(64600, Note)(lambda content: Note(content[1:]))
        assert encode_admin(Note(b"abc")).hex() == "8219fc5843616263"
        assert decode_admin_untrusted(encode_admin(Note(b"abc"))) == Note(b"abc")
        with pytest.raises(ValueError, match="64600 is registered twice"):
            register_record(64600, Note)(lambda content: Note(content))
    assert isinstance(decode_admin_untrusted(bytes.fromhex("8219fc5843616263")), UnknownRecord)

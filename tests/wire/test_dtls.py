"""Records of DTLS, cut and packed without knowing what is in them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tumpline.wire.dtls import (
    HEADER_OCTETS,
    RECORD_OCTETS_MOST,
    RECORDS_MOST,
    client_hello_random,
    is_encrypted,
    pack_records,
    split_records,
)


def record(data: bytes, kind: int = 23, epoch: int = 1) -> bytes:
    return bytes([kind]) + b"\xfe\xfd" + epoch.to_bytes(2) + bytes(6) + len(data).to_bytes(2) + data


# RFC 9147 §4, figure 3: 16-bit sequence number and length; 8-bit and neither.
LONG_13 = bytes([0b0010_1110]) + b"\x12\x34" + b"\x00\x05" + b"abcde"
SHORT_13 = bytes([0b0010_0010]) + b"\x35" + b"fghij"


def test_records_are_cut_where_they_end() -> None:
    records = [record(b"one", 22, 0), record(b""), LONG_13, SHORT_13]
    assert split_records(b"".join(records)) == records


def test_what_is_no_whole_record_is_left_out() -> None:
    whole = record(b"one")
    for rest in (whole[:5], whole[:-1], b"\x9f" + whole, b"\x00" * 20, LONG_13[:3], LONG_13[:7], b"\x3e" + bytes(20)):
        assert split_records(whole + rest) == [whole]
    assert split_records(b"") == []


def test_a_record_that_no_cipher_makes_is_passed_over() -> None:
    long, short = record(bytes(RECORD_OCTETS_MOST - HEADER_OCTETS + 1)), record(b"x")
    assert split_records(long + short) == [short]
    assert len(split_records(record(b"") * (RECORDS_MOST + 5))) == RECORDS_MOST


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(1, 1000))
def test_packed_records_come_out_as_they_were(contents: list[bytes], octets: int) -> None:
    records = [record(data) for data in contents]
    datagrams = pack_records(records, octets)
    assert [each for datagram in datagrams for each in split_records(datagram)] == records
    for datagram in datagrams:
        assert len(datagram) <= octets or len(split_records(datagram)) == 1
    for before, after in pairwise(datagrams):
        assert len(before) + len(split_records(after)[0]) > octets, "there was room"


@given(st.binary(max_size=200))
def test_any_octets_can_be_cut(data: bytes) -> None:
    assert all(each in data for each in split_records(data))


def test_what_opens_a_handshake() -> None:
    random = bytes(range(32))
    hello = record(b"\x01" + bytes(11) + b"\xfe\xfd" + random + b"\0", 22, 0)
    assert client_hello_random(hello) == random
    assert client_hello_random(hello[:-3]) is None
    for other in (b"", record(b"\x02" + bytes(60), 22, 0), record(hello[13:], 23, 0), record(hello[13:], 22, 1)):
        assert client_hello_random(other) is None


def test_which_records_have_keys() -> None:
    assert not is_encrypted(record(b"x", 22, 0))
    assert is_encrypted(record(b"x", 22, 1))
    assert is_encrypted(LONG_13)

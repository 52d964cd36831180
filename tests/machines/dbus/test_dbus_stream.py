"""The stream of messages: any cuts give the same, descriptors stay with their message, nothing is kept too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.machines.dbus.stream import LONG_OCTETS, MessageStream, Outbox, Received
from tumpline.testing.fds import CountedFd
from tumpline.wire.dbus import Kind, Message, encode_message

SIGNAL = Message(Kind.SIGNAL, 1, "/a", "org.example.A", "Said")
MOST = 1 << 20


def signal(serial: int, octets: int, fds: int = 0) -> Message:
    return SIGNAL._replace(serial=serial, unix_fds=fds).with_body("ay", bytes([serial % 251]) * octets)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(
    st.lists(st.sampled_from([0, 1, 7, 100, LONG_OCTETS, LONG_OCTETS + 5]), max_size=5),
    st.lists(st.integers(1, 70_000)),
)
def test_any_cuts_give_the_same(lengths: list[int], sizes: list[int]) -> None:
    messages = [signal(at + 1, octets) for at, octets in enumerate(lengths)]
    stream, found = MessageStream(MOST), list[Received]()
    for piece in cut(b"".join(map(encode_message, messages)), sizes):
        found += stream.receive(memoryview(bytearray(piece)), ())
    assert [received.message for received in found] == messages


def test_long_bodies_are_not_copied() -> None:
    (received,) = _received_in_two(encode_message(signal(1, 3 * LONG_OCTETS)))
    assert isinstance(received.message.body, memoryview)
    (received,) = _received_in_two(encode_message(signal(1, 10)))
    assert isinstance(received.message.body, bytes)


def _received_in_two(data: bytes) -> list[Received]:
    stream = MessageStream(MOST)
    assert stream.receive(memoryview(data[:20]), ()) == []
    return stream.receive(memoryview(data[20:]), ())


def test_descriptors_go_to_the_messages_that_name_them() -> None:
    stream, fds = MessageStream(MOST), [CountedFd() for _ in range(3)]
    first, second = encode_message(signal(1, 5, fds=2)), encode_message(signal(2, 5, fds=1))
    assert stream.receive(memoryview(first[:30]), fds[:2]) == []
    found = stream.receive(memoryview(first[30:] + encode_message(signal(3, 5)) + second), fds[2:])
    assert [received.fds for received in found] == [tuple(fds[:2]), (), (fds[2],)]


@pytest.mark.parametrize(("named", "came"), [(1, 0), (0, 1), (2, 1), (1, 2)])
def test_descriptors_that_do_not_fit(named: int, came: int) -> None:
    stream, fds = MessageStream(MOST), [CountedFd() for _ in range(came)]
    with pytest.raises(MalformedError, match="descriptors"):
        stream.receive(memoryview(encode_message(signal(1, 5, fds=named))), fds)
    stream.discard()
    assert [fd.holders for fd in fds] == [0] * came


def test_descriptors_without_end() -> None:
    stream, fds = MessageStream(MOST), [CountedFd() for _ in range(400)]
    with pytest.raises(MalformedError, match="without a message"):
        stream.receive(memoryview(encode_message(signal(1, 500))[:50]), fds)
    stream.discard()
    assert {fd.holders for fd in fds} == {0}


def test_a_length_that_is_too_long() -> None:
    with pytest.raises(MalformedError, match="at most 1048576"):
        MessageStream(MOST).receive(memoryview(encode_message(signal(1, MOST))[:100]), ())


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2)), max_size=8), st.lists(st.integers(1, 4000)))
def test_what_is_queued_leaves_in_order(messages: list[tuple[int, int]], takes: list[int]) -> None:
    outbox, wanted, fds = Outbox(MOST), b"", list[CountedFd]()
    for serial, (octets, count) in enumerate(messages, 1):
        own = [CountedFd() for _ in range(count)]
        assert outbox.put_message(signal(serial, octets), own)
        wanted += encode_message(signal(serial, octets, fds=count))
        fds += own
    sent, passed = b"", list[object]()
    for take in [*takes, *[1 << 20] * 20]:
        pieces, going = outbox.front()
        taken = b"".join(pieces)[:take]
        passed += going if taken else []
        outbox.sent(len(taken))
        sent += taken
    assert sent == wanted
    assert passed == fds
    assert outbox.octets == 0
    assert all(fd.holders == 1 for fd in fds), "what was sent is held by its owner alone"


def test_a_full_outbox_takes_no_more_but_any_one_message() -> None:
    outbox, fd = Outbox(1000), CountedFd()
    assert outbox.put_message(signal(1, 5000), [fd])
    assert not outbox.put_message(signal(2, 10), [fd])
    assert fd.holders == 2
    outbox.clear()
    assert fd.holders == 1
    assert outbox.front() == ([], ())

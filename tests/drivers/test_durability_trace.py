"""What a receiving agent asks of the kernel, in order: a bundle is synced before its last segment is acknowledged."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tumpline.bench.framework.agents import PROGRAM, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS
from tumpline.node.client import connect_sync
from tumpline.testing import strace
from tumpline.testing.strace import Call
from tumpline.wire import tcpcl4

SMALL, LARGE = 1000, 400_000
CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "sqlite"
[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
{connect}
"""
HANG_S = 30.0
WAITING = "dtn://rover/nobody"  # no service has it: the bundle stays in rover's store


def record(directory: Path, sizes: Sequence[int], fault: str = "") -> list[Call]:
    """Send an ADU of each size, one after the other has been acknowledged, to an agent that is watched."""
    log = directory / "strace.log"
    program = [sys.executable, "-m", "tumpline.testing.unsynced", fault] if fault else list(PROGRAM)
    with Agents(directory) as agents:
        rover = agents.start("rover", CONFIG.format(name="rover", connect=""), program=strace.command(log) + program)
        connect = f'connect = ["{address_of(rover)}"]'
        ground = agents.start("ground", CONFIG.format(name="ground", connect=connect))
        with connect_sync(ground.socket) as agent:
            for number, size in enumerate(sizes):
                agent.upload("/v1/adus", marker(number).ljust(size, b"-"), {"to": WAITING})
                wait_until(
                    lambda: agent.get("/v1/status")["store"]["bundles"] == 0
                )  # it is forgotten once acknowledged
    return strace.read_calls(log)


def marker(number: int) -> bytes:
    """How the payload of an ADU begins."""
    return b"payload number %d of a traced stream" % number


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask again and again; a hang ends the test."""
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


class Acked(NamedTuple):
    """The call that gave the kernel the last octet of an XFER_ACK with END."""

    transfer: int
    begin: int


def acknowledgements(calls: list[Call]) -> list[Acked]:
    """Of every connection that begins with a contact header, in the order sent."""
    streams: dict[str, bytearray] = defaultdict(bytearray)
    offsets: dict[str, int] = {}
    found = []
    for call in calls:
        if call.name not in ("sendto", "sendmsg", "write", "writev") or not call.where.startswith("TCP"):
            continue
        stream = streams[call.where]
        stream += call.written
        acks, offsets[call.where] = messages(bytes(stream), offsets.get(call.where, 0))
        found += [Acked(ack.transfer, call.begin) for ack in acks if ack.flags & tcpcl4.SegmentFlag.END]
    return found


def messages(stream: bytes, offset: int) -> tuple[list[tcpcl4.Acknowledgment], int]:
    """The XFER_ACKs of what a receiver sends from an offset on, and the end of the last whole message."""
    acks, view = [], memoryview(stream)
    if not offset:
        assert stream.startswith(b"dtn!"), stream
        offset = tcpcl4.CONTACT_OCTETS
    while offset < len(stream):
        kind = stream[offset]
        if kind == tcpcl4.MessageType.KEEPALIVE:
            offset += 1
            continue
        if kind == tcpcl4.MessageType.SESS_INIT:
            whole: tuple[object, int] | None = tcpcl4.decode_init_untrusted(view, offset)
        elif kind == tcpcl4.MessageType.SESS_TERM:
            whole = tcpcl4.decode_termination_untrusted(view, offset)
        else:
            assert kind == tcpcl4.MessageType.XFER_ACK, f"message type {kind}"
            whole = tcpcl4.decode_ack_untrusted(view, offset)
        if whole is None:
            break
        message, offset = whole
        if isinstance(message, tcpcl4.Acknowledgment):
            acks.append(message)
    return acks, offset


# ---- the order -------------------------------------------------------------------------------------------------------


def check_order(calls: list[Call], sizes: Sequence[int]) -> None:
    """Every payload: written, synced with its name if it has a file, then the log that names it, then acknowledged."""
    acked = acknowledgements(calls)
    assert len(acked) == len(sizes), "not every transfer was acknowledged"
    assert {size >= FILE_PAYLOAD_OCTETS for size in sizes} == {False, True}, "a stream has both kinds of payload"
    for number, (ack, size) in enumerate(zip(acked, sizes, strict=True)):
        if size >= FILE_PAYLOAD_OCTETS:
            durable = check_file(calls, marker(number), ack.begin)
            logged = next(call for call in calls if call.begin > durable and is_log(call, "pwrite64"))
        else:
            logged = next(call for call in calls if is_log(call, "pwrite64") and marker(number) in call.written)
        synced = [call for call in calls if call.begin > logged.end and is_log(call, "fdatasync")]
        assert synced, "the log was not synced"
        assert synced[0].end < ack.begin, "the acknowledgement left before the log was synced"


def is_log(call: Call, name: str) -> bool:
    return call.name == name and call.where.endswith("/store.sqlite-wal")


def check_file(calls: list[Call], begin: bytes, acked: int) -> int:
    """A payload file and its name are synced between its last octet and `acked`. Returns: the place where both are."""
    path = next(call.where for call in calls if call.name == "pwrite64" and begin in call.written)
    assert "/payloads/" in path, path
    end = max(call.end for call in calls if call.name == "pwrite64" and call.where == path)
    places = [end]
    for where, what in ((path, "payload file"), (path.rpartition("/")[0], "directory of payload files")):
        syncs = [call for call in calls if call.name == "fsync" and call.where == where and places[-1] < call.begin]
        assert syncs, f"the {what} was not synced after it was written"
        assert syncs[0].end < acked, f"the acknowledgement left before the {what} was synced"
        places.append(syncs[0].end)
    return places[-1]


SIZES = (SMALL, LARGE, SMALL, LARGE)


def test_everything_is_synced_before_the_last_segment_is_acknowledged(tmp_path: Path) -> None:
    check_order(record(tmp_path, SIZES), SIZES)


@pytest.mark.parametrize(
    ("fault", "found"),
    [("octets", "payload file was not synced"), ("names", "directory of payload files"), ("log", "log was not synced")],
)
def test_a_sync_that_is_left_out_is_found(tmp_path: Path, fault: str, found: str) -> None:
    calls = record(tmp_path, SIZES[:2], fault)
    with pytest.raises(AssertionError, match=found):
        check_order(calls, SIZES[:2])


def test_an_acknowledgement_that_leaves_early_is_found(tmp_path: Path) -> None:
    """The same record with the syncs of the log that come before an acknowledgement put behind it."""
    calls = record(tmp_path, SIZES[:2])
    before = 0
    for ack in acknowledgements(calls):
        late = ack.begin + 1
        moved = [
            call._replace(begin=late, end=late) if is_log(call, "fdatasync") and before < call.begin < late else call
            for call in calls
        ]
        with pytest.raises(AssertionError, match="left before the log was synced"):
            check_order(sorted(moved, key=lambda call: call.end), SIZES[:2])
        before = late

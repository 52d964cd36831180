"""Extension items that we send to try a peer: those that are not critical are passed over, critical ones refused."""

from __future__ import annotations

import pytest

from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import SessionTerminated, TransferRefused, TransfersAcked
from tumpline.testing.tcpcl4 import Pair
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.tcpcl4 import CRITICAL, ExtensionItem, RefusalCode, TerminationCode

PRIVATE = ExtensionItem(0, 0x8000, b"mark-7")
BUNDLES = [b"", b"small", b"x" * 5000]  # the last one takes several segments


def pair_sending(session: tuple[ExtensionItem, ...] = (), transfer: tuple[ExtensionItem, ...] = ()) -> Pair:
    """The active end sends these with its SESS_INIT and its transfers."""
    active = SessionConfig(node_id="dtn://active/", session_extensions=session, transfer_extensions=transfer)
    return Pair(active, SessionConfig(node_id="dtn://passive/", segment_mru=1000))


def test_items_that_are_not_critical_are_passed_over() -> None:
    pair = pair_sending((PRIVATE, PRIVATE), (PRIVATE,)).connect()
    for token, data in enumerate(BUNDLES):
        pair.active.offer(token, data, pair.now)
    pair.settle()
    assert list(pair.passive.received.values()) == BUNDLES
    assert sorted(token for event in pair.active.of(TransfersAcked) for token in event.tokens) == [0, 1, 2]
    # Two in SESS_INIT, one in the first segment of each transfer, none in further segments.
    assert pair.active.sent.count(wire.encode_extensions([PRIVATE])) == 2 + len(BUNDLES)


def test_a_critical_session_extension_ends_the_session() -> None:
    pair = pair_sending((PRIVATE._replace(flags=CRITICAL),))
    pair.connect()
    (ended,) = pair.passive.of(SessionTerminated)
    assert ended.reason is TerminationCode.CONTACT_FAILURE
    assert "critical session extension 0x8000" in ended.text


@pytest.mark.parametrize("data", BUNDLES, ids=len)
def test_a_critical_transfer_extension_has_the_transfer_refused(data: bytes) -> None:
    pair = pair_sending((), (PRIVATE._replace(flags=CRITICAL),)).connect()
    pair.active.offer(7, data, pair.now)
    pair.settle()
    assert pair.active.of(TransferRefused) == [TransferRefused(7, RefusalCode.EXTENSION_FAILURE)]
    assert not pair.passive.received

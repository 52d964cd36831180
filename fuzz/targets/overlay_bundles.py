"""A conversation about bundles with a member that says anything: messages in a row, each behind three octets.

Two of these are its length. The third says what becomes of it: 0, it is a whole message; else it is what stands behind a head
that fits the session (2 DATA, 3 ACK, ... with the next number), so that the records are reached.
"""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.machines.effects import RefuseReason
from tumpline.machines.overlay.bundle_events import (
    SegmentReceived,
    SessionLowered,
    SessionRaised,
    TransferAborted,
    TransferFinished,
    TransferRefused,
    TransfersAcked,
    TransfersLost,
    TransfersReceived,
    TransferStarted,
)
from tumpline.machines.overlay.bundles import CONTROL_MOST, Conversation
from tumpline.wire.overlay_bundles import (
    MessageHead,
    MessageKind,
    Opening,
    RefusalCode,
    encode_abort,
    encode_ending,
    encode_head,
    encode_opening,
    encode_refused,
    encode_start,
    encode_stored,
    segment_head,
    whole_head,
)

_OURS = Opening("dtn://here/", 1 << 20, 64, 1 << 16)
_THEIRS = 7
_TOKENS = range(1, 7)
_WHOLE = 0
_LARGE = 100_000
_OPEN = encode_opening(Opening("dtn://there/", 1 << 20, 4, 1 << 16))


def _said(kind: int, body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + bytes([kind]) + body


def seeds() -> list[bytes]:
    """Everything that a member says in its turn, and out of it."""
    half = segment_head(3, _LARGE // 2) + bytes(_LARGE // 2)
    data = [
        whole_head(1, 5) + b"small" + whole_head(2, 0),
        encode_start(3, _LARGE),
        half,
        half,
        encode_stored([1, 2]) + encode_refused(3, RefusalCode.NO_RESOURCES),
        encode_start(4, 1 << 19),
        encode_abort(4) + encode_ending("over"),
    ]
    messages = [_said(MessageKind.DATA, each) for each in data]
    raw = [
        encode_head(MessageHead(MessageKind.OPEN, 8, 0)) + _OPEN,
        encode_head(MessageHead(MessageKind.OPEN, _THEIRS, 1)) + _OPEN,
        encode_head(MessageHead(MessageKind.CLOSE, _THEIRS, 1)) + b"over",
        encode_head(MessageHead(MessageKind.RESET, _THEIRS, 1)) + b"who?",
        encode_head(MessageHead(MessageKind.DATA, 9, 9, 1)),
    ]
    answers = [_said(MessageKind.ACK, b""), _said(MessageKind.GAP, b"")]
    return [
        b"".join(messages),
        b"".join(answers + messages[::-1]),
        *(_said(_WHOLE, each) + messages[0] for each in raw),
    ]


def run(data: bytes) -> bool:
    """Each unit ends once, segments belong to transfers that began, and it comes to rest."""
    user = _User()
    now, number = 1.0, 0
    for kind, body in _split(data):
        message = body
        if kind != _WHOLE:
            number += kind == MessageKind.DATA
            head = MessageHead(MessageKind(kind % 6 + 1), _THEIRS, user.session, number, user.sent)
            message = encode_head(head) + body
        user.conversation.received([memoryview(message)], now)
        now += 0.1
        user.check(now)
    was_kept = user.conversation.malformed == 0 and not user.was_reset
    user.conversation.drop("the end", now)
    user.check(now)
    assert user.ended == set(_TOKENS), "a unit had no end"
    return was_kept


class _User:
    """What a driver would do, and what must hold."""

    def __init__(self) -> None:
        self.conversation = Conversation(_OURS, lambda: 0.0)
        self.session = 1  # with that chance
        self.sent = 0  # DATA
        self.ended: set[int] = set()
        self.was_reset = False
        self._begun: set[int] = set()
        self.conversation.received([memoryview(encode_head(MessageHead(MessageKind.OPEN, _THEIRS, 0)) + _OPEN)], 0.0)
        self.check(0.0)
        ack = encode_head(MessageHead(MessageKind.ACK, _THEIRS, self.session))
        self.conversation.received([memoryview(ack)], 0.0)
        self.check(0.0)
        for token in _TOKENS:
            large = token % 3 == 0
            self.conversation.send(token, 3 * _LARGE if large else 9, None if large else b"some data")
        self.check(0.0)

    def check(self, now: float) -> None:
        """Handle what happened, take what is to be sent."""
        self._handle()
        for _ in range(100):
            pieces = self.conversation.pull(now)
            if pieces is None:
                break
            head = pieces[0]
            assert isinstance(head, bytes)
            self.sent += head[1] == MessageKind.DATA
            self._handle()
        else:
            raise AssertionError("it never comes to rest")

    def _handle(self) -> None:
        for event in self.conversation.events():
            match event:
                case TransfersAcked(tokens) | TransfersLost(tokens):
                    self._end(tokens)
                case TransferRefused(token, _):
                    self._end([token])
                case TransferStarted(transfer, octets):
                    assert octets <= _OURS.mru_octets, "longer than we take"
                    self._begun.add(transfer)
                case SegmentReceived(transfer, _):
                    assert transfer in self._begun, "a segment of nothing"
                case TransferFinished(transfer) | TransferAborted(transfer):
                    self._begun.remove(transfer)
                    self.conversation.refuse(transfer, RefuseReason.COMPLETED)
                case TransfersReceived(transfers):
                    assert len(transfers) <= _OURS.unanswered_most, "more than we take"
                    self.conversation.acknowledge([number for number, _ in transfers[::2]])
                case SessionLowered(_):
                    self.was_reset = True
                    self._begun.clear()
                case SessionRaised(_, _, _) | _:
                    pass

    def _end(self, tokens: list[int]) -> None:
        assert tokens
        assert self.ended.isdisjoint(tokens), "a unit ended twice"
        self.ended.update(tokens)


def _split(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 3 <= len(data) and len(found) < 50 * CONTROL_MOST:
        length = int.from_bytes(data[at : at + 2], "big")
        found.append((data[at + 2], data[at + 3 : at + 3 + length]))
        at += 3 + length
    return found


# The units' own octets are asked for by range. Records of nine octets become tuples of 100.
TARGET = Target("overlay_bundles", "bundles of an overlay's member", seeds, run, peak_base=1 << 20, peak_factor=32)

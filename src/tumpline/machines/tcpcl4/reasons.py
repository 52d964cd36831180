"""Reasons to refuse a transfer: the links' neutral words and the codes of RFC 9174 Table 15."""

from __future__ import annotations

from tumpline.machines.effects import RefuseReason
from tumpline.wire.tcpcl4 import RefusalCode

_CODES = {
    RefuseReason.NO_RESOURCES: RefusalCode.NO_RESOURCES,
    RefuseReason.COMPLETED: RefusalCode.COMPLETED,
    RefuseReason.RETRANSMIT: RefusalCode.RETRANSMIT,
    RefuseReason.NOT_ACCEPTABLE: RefusalCode.NOT_ACCEPTABLE,
}
_REASONS = {code: reason for reason, code in _CODES.items()} | {
    # Not the bundle's fault: the sender may try again.
    RefusalCode.UNKNOWN: RefuseReason.NO_RESOURCES,
    RefusalCode.EXTENSION_FAILURE: RefuseReason.NOT_ACCEPTABLE,
    RefusalCode.SESSION_TERMINATING: RefuseReason.RETRANSMIT,
}


def refusal_code(reason: RefuseReason) -> RefusalCode:
    """What to write into XFER_REFUSE."""
    return _CODES[reason]


def refuse_reason(code: RefusalCode) -> RefuseReason:
    """What a received XFER_REFUSE means to the node; a code we do not know is read as Unknown (RFC 9174 §5.2.4)."""
    return _REASONS.get(code, RefuseReason.NO_RESOURCES)

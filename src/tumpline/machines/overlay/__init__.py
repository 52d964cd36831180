"""The packet overlay without I/O: who is there, who has which address, and what packets become on their way."""

from tumpline.machines.overlay.config import ALL_FORMATS, MemberConfig, Via
from tumpline.machines.overlay.events import (
    AddressConflict,
    AddressLearned,
    BindingsChanged,
    BundleMessage,
    ControlReceived,
    Departure,
    Event,
    KeyMismatch,
    MemberChanged,
    MemberJoined,
    MemberLeft,
    Message,
    Output,
    Publish,
    ToPort,
)
from tumpline.machines.overlay.member import Member

__all__ = [
    "ALL_FORMATS",
    "AddressConflict",
    "AddressLearned",
    "BindingsChanged",
    "BundleMessage",
    "ControlReceived",
    "Departure",
    "Event",
    "KeyMismatch",
    "Member",
    "MemberChanged",
    "MemberConfig",
    "MemberJoined",
    "MemberLeft",
    "Message",
    "Output",
    "Publish",
    "ToPort",
    "Via",
]

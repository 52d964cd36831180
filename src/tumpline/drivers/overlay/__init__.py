"""One membership of a session of the packet overlay: its connection, its member, the ports on it."""

from tumpline.drivers.overlay._session import QUEUE_OCTETS_MOST
from tumpline.drivers.overlay.attachment import Attachment, AttachmentConfig, AttachmentCounters, NameTakenError
from tumpline.drivers.overlay.events import PortDown, PortUp, SessionAway, SessionFailed, SessionJoined, SessionLost

__all__ = [
    "QUEUE_OCTETS_MOST",
    "Attachment",
    "AttachmentConfig",
    "AttachmentCounters",
    "NameTakenError",
    "PortDown",
    "PortUp",
    "SessionAway",
    "SessionFailed",
    "SessionJoined",
    "SessionLost",
]

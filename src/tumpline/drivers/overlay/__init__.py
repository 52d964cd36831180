"""One membership of a session of the packet overlay: its connection, its member, the ports on it."""

from tumpline.drivers.overlay.attachment import Attachment, AttachmentConfig, AttachmentCounters, NameTakenError

__all__ = ["Attachment", "AttachmentConfig", "AttachmentCounters", "NameTakenError"]

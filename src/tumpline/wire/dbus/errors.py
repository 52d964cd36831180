"""Names of errors that everybody on a bus knows (reference implementation, dbus-protocol.h)."""

from __future__ import annotations

from enum import StrEnum


class ErrorName(StrEnum):
    """One name an error; the sentence beside it is the sender's."""

    FAILED = "org.freedesktop.DBus.Error.Failed"
    NO_REPLY = "org.freedesktop.DBus.Error.NoReply"
    DISCONNECTED = "org.freedesktop.DBus.Error.Disconnected"
    SERVICE_UNKNOWN = "org.freedesktop.DBus.Error.ServiceUnknown"
    NAME_HAS_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
    ACCESS_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
    LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"
    NOT_SUPPORTED = "org.freedesktop.DBus.Error.NotSupported"
    INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
    UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
    UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
    UNKNOWN_INTERFACE = "org.freedesktop.DBus.Error.UnknownInterface"
    UNKNOWN_PROPERTY = "org.freedesktop.DBus.Error.UnknownProperty"
    PROPERTY_READ_ONLY = "org.freedesktop.DBus.Error.PropertyReadOnly"
    INCONSISTENT_MESSAGE = "org.freedesktop.DBus.Error.InconsistentMessage"
    FILE_NOT_FOUND = "org.freedesktop.DBus.Error.FileNotFound"
    MATCH_RULE_INVALID = "org.freedesktop.DBus.Error.MatchRuleInvalid"
    MATCH_RULE_NOT_FOUND = "org.freedesktop.DBus.Error.MatchRuleNotFound"
    SELINUX_CONTEXT_UNKNOWN = "org.freedesktop.DBus.Error.SELinuxSecurityContextUnknown"
    AUDIT_DATA_UNKNOWN = "org.freedesktop.DBus.Error.AdtAuditDataUnknown"
    NAME_TAKEN = "org.tumpline.Error.NameTaken"  # what RequestName says by a number

"""Errors of a bus: named, each with a sentence."""

from __future__ import annotations

from enum import StrEnum

from tumpline.errors import TumplineError

OWN_ERRORS = "org.tumpline.Error"


class ErrorName(StrEnum):
    """The names everybody knows (D-Bus specification and reference implementation, dbus-protocol.h)."""

    FAILED = "org.freedesktop.DBus.Error.Failed"
    NO_REPLY = "org.freedesktop.DBus.Error.NoReply"
    DISCONNECTED = "org.freedesktop.DBus.Error.Disconnected"
    SERVICE_UNKNOWN = "org.freedesktop.DBus.Error.ServiceUnknown"
    NAME_HAS_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
    ACCESS_DENIED = "org.freedesktop.DBus.Error.AccessDenied"
    LIMITS_EXCEEDED = "org.freedesktop.DBus.Error.LimitsExceeded"
    INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
    UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
    UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
    UNKNOWN_INTERFACE = "org.freedesktop.DBus.Error.UnknownInterface"
    UNKNOWN_PROPERTY = "org.freedesktop.DBus.Error.UnknownProperty"
    INCONSISTENT_MESSAGE = "org.freedesktop.DBus.Error.InconsistentMessage"
    FILE_NOT_FOUND = "org.freedesktop.DBus.Error.FileNotFound"
    NAME_TAKEN = "org.tumpline.Error.NameTaken"


class BusError(TumplineError):
    """A call over the bus was answered by an error."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = str(name)
        self.text = text


class BusUnavailableError(TumplineError):
    """There is no bus at this address, or it does not let us in."""

    exit_code = 4


def as_bus_error(error: TumplineError) -> BusError:
    """How an error is told to a caller on the bus."""
    return error if isinstance(error, BusError) else BusError(f"{OWN_ERRORS}.{type(error).__name__}", str(error))

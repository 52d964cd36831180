"""Errors of a bus: named, each with a sentence."""

from __future__ import annotations

from tumpline.errors import TumplineError
from tumpline.wire.dbus.errors import ErrorName

__all__ = ["OWN_ERRORS", "BusError", "BusUnavailableError", "ErrorName", "as_bus_error"]

OWN_ERRORS = "org.tumpline.Error"


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

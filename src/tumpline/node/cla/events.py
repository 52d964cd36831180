"""What a TCPCL agent tells, in order. `contact` is the number of a connection, `transfer` a decimal number as text."""

from __future__ import annotations

from typing import NamedTuple


class ConnectionOpened(NamedTuple):
    """A TCP connection is there."""

    contact: int


class ConnectionClosed(NamedTuple):
    """It is gone; what it received and nobody took yet can still be taken until ContactRemoved."""

    contact: int


class ContactRemoved(NamedTuple):
    """Nothing of that connection is left here."""

    contact: int


class SessionStateChanged(NamedTuple):
    """The session of a connection went on."""

    contact: int
    state: str


class SendStarted(NamedTuple):
    """The first octets of a transfer are on their way."""

    contact: int
    transfer: str
    octets: int  # of all of it


class SendProgressed(NamedTuple):
    """The peer has acknowledged so much. Not told for each segment when they come fast."""

    contact: int
    transfer: str
    octets: int


class SendFinished(NamedTuple):
    """A transfer has ended: "success", "session terminating" (it never began), "unacknowledged", or why the peer refused."""

    contact: int
    transfer: str
    octets: int  # of all of it
    result: str


class ReceiveStarted(NamedTuple):
    """A transfer from the peer begins."""

    contact: int
    transfer: str
    octets: int | None  # None: the peer has not announced it


class ReceiveProgressed(NamedTuple):
    """So much has come. Not told for each segment when they come fast."""

    contact: int
    transfer: str
    octets: int


class ReceiveFinished(NamedTuple):
    """It came whole and is kept ("success"), or will not ("unacknowledged", or why it was refused)."""

    contact: int
    transfer: str
    octets: int
    result: str


AgentEvent = (
    ConnectionOpened
    | ConnectionClosed
    | ContactRemoved
    | SessionStateChanged
    | SendStarted
    | SendProgressed
    | SendFinished
    | ReceiveStarted
    | ReceiveProgressed
    | ReceiveFinished
)

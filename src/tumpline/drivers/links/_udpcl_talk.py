"""One conversation as the driver has it, and the seam of the channel that secures it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tumpline.drivers.dial import display_address
from tumpline.drivers.links._udpcl_socket import Local, SocketAddress, UdpSocket
from tumpline.machines.udpcl.conversation import Batch, Conversation
from tumpline.machines.udpcl.events import StartDtls


class SecureChannel(Protocol):
    """DTLS of one conversation, without sockets. The endpoint calls it in this order: `feed` (or `write`, or
    `handle_timeout`), then looks at `failure` and `is_established`, then sends what `out` gives and arms `next_timeout`.

    It is made by the endpoint's `secure(talk, event)` when a conversation says StartDtls; the client's first flight lies
    in `out` at once, the server is fed the record that began the handshake."""

    is_established: bool  # the handshake has ended well
    failure: str  # why the session is over, "" while it is not
    certificate: bytes | None  # of the peer, DER, once established
    overhead_octets: int  # how much longer a record is than what it carries; the same for all of a session

    def feed(self, datagram: bytes, now: float) -> list[bytes]:
        """One datagram came. Returns: the plain datagrams in it. Raises nothing: what is wrong shows in `failure`."""

    def write(self, datagrams: Sequence[bytes]) -> None:
        """Plain datagrams to be sent, each in a record of its own; after the handshake only."""

    def out(self) -> list[bytes]:
        """Datagrams for the peer that have gathered."""

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called (seconds of the loop's clock), to send a flight again."""

    def handle_timeout(self, now: float) -> None:
        """It is that time."""

    def close(self) -> None:
        """Say goodbye (close_notify goes to `out`) and free everything. Idempotent."""


class Talk:
    """A socket, a remote address, and what is said between them. `machine` is the conversation's machine."""

    __slots__ = (
        "address",
        "backlog",
        "channel",
        "is_busy",
        "is_over",
        "local",
        "machine",
        "owner",
        "remote",
        "socket",
        "unreachable",
        "wake_at",
    )

    def __init__(self, socket: UdpSocket, remote: SocketAddress, local: Local | None, machine: Conversation) -> None:
        self.socket = socket
        self.remote = remote
        self.local = local  # from where to send; None: the system's choice
        self.machine = machine
        self.address = display_address(remote)
        self.channel: SecureChannel | None = None
        self.backlog: deque[Batch] = deque()  # what the socket did not take yet
        self.wake_at: float | None = None  # the one valid entry of the endpoint's timers
        self.is_busy = False  # its turn is under way
        self.is_over = False
        self.unreachable = 0  # how often ICMP said that nobody takes our datagrams there
        self.owner: Any = None  # whatever the endpoint's host keeps here


Secure = Callable[[Talk, StartDtls], SecureChannel]

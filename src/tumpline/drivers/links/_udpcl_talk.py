"""One conversation as the driver has it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from tumpline.drivers.dial import display_address
from tumpline.drivers.links._udpcl_socket import Local, SocketAddress, UdpSocket
from tumpline.machines.udpcl.conversation import Batch, Conversation
from tumpline.machines.udpcl.identity import PeerIdentity, Reference

if TYPE_CHECKING:
    from tumpline.drivers.dtls.channel import DtlsChannel


class Talk:
    """A socket, a remote address, and what is said between them. `machine` is the conversation's machine."""

    __slots__ = (
        "address",
        "backlog",
        "channel",
        "dtls_begun_at",
        "identity",
        "is_answering",
        "is_busy",
        "is_over",
        "local",
        "machine",
        "owner",
        "reference",
        "remote",
        "renewals",
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
        self.channel: DtlsChannel | None = None
        self.dtls_begun_at = 0.0  # by us
        self.renewals = 0  # of the channel, those that the machine knows of
        self.reference = Reference(str(remote[0]).removeprefix("::ffff:"))
        self.identity: PeerIdentity | None = None  # once secured
        self.backlog: deque[Batch] = deque()  # what the socket did not take yet
        self.wake_at: float | None = None  # the one valid entry of the endpoint's timers
        self.is_answering = False  # DTLS: the peer has confirmed what this session carried
        self.is_busy = False  # its turn is under way
        self.is_over = False
        self.unreachable = 0  # how often ICMP said that nobody takes our datagrams there
        self.owner: Any = None  # whatever the endpoint's host keeps here

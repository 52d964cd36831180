"""One connection of a TCPCL agent: its session's state, what goes out over it and what came in."""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple, Protocol

from tumpline.drivers.links._api import Sink
from tumpline.drivers.links._tcpcl4_connection import Connection
from tumpline.drivers.payload import release
from tumpline.drivers.spool import BytesHandle, OpenFile, Room, Spool, memory_file, name_file, reading, write_file
from tumpline.errors import TumplineError
from tumpline.machines.contract import FileRange, Octets, Payload
from tumpline.machines.effects import Arrival, RefuseReason, Unit
from tumpline.machines.tcpcl4.authenticate import (
    AuthenticationPolicy,
    Decision,
    Demand,
    Finding,
    authenticate_host,
    authenticate_node,
)
from tumpline.machines.tcpcl4.events import (
    ContactHeaderExchanged,
    Event,
    SessionEnding,
    SessionEstablished,
    TransferStarted,
)
from tumpline.machines.tcpcl4.states import State
from tumpline.node.cla.events import (
    AgentEvent,
    ReceiveFinished,
    ReceiveProgressed,
    ReceiveStarted,
    SendFinished,
    SendProgressed,
    SendStarted,
    SessionStateChanged,
)
from tumpline.wire.tcpcl4 import TerminationCode

SUCCESS = "success"
NEVER_BEGAN = "session terminating"
UNACKNOWLEDGED = "unacknowledged"
# Transfers of one connection that wait for their end: each costs some hundred octets, a file also its descriptor.
QUEUED_MOST = 100_000
FILES_MOST = 256
# Progress of one transfer is told so often: a segment may take less than telling about it.
PROGRESS_S = 0.05
READ_OCTETS_MOST = 64 << 20  # given away in one value: the largest array of D-Bus


class SessionState:
    """Of a session, in the older agent's words."""

    CONNECTING = "connecting"
    CONTACT = "contact-negotiating"
    SESSION = "session-negotiating"
    ESTABLISHED = "established"
    ENDING = "ending"


class TransferError(TumplineError):
    """A transfer cannot be queued or taken as it was asked."""


class QueueFullError(TransferError):
    """Too much waits to be sent; wait for some of it to end."""


class UnknownTransferError(TransferError):
    """No received bundle of that number waits here."""


class Stores(NamedTuple):
    """Where all connections of an agent keep what they hold."""

    spool: Spool
    received: Room  # of small ones in memory
    queued: Room  # of octets in memory that wait to be sent


class Host(Protocol):
    """What a contact needs of its agent."""

    stores: Stores
    umask: int
    verifies: bool  # certificates of peers: without that they prove nothing

    def tell(self, event: AgentEvent) -> None: ...

    def offer(self, path: int, unit: Unit) -> None: ...

    def let_go(self, contact: Contact) -> None:
        """When this connection ends, it is not to be made again."""

    def emptied(self, contact: Contact) -> None:
        """The last received bundle was taken."""


class _Sending:
    """A transfer on its way out."""

    __slots__ = ("begun", "in_memory", "offered", "payload", "told_at")

    def __init__(self, payload: Payload, in_memory: int | None) -> None:
        self.payload = payload
        self.in_memory = in_memory  # octets lent of the room; None: a file
        self.offered = False  # the link has it, and gives the payload back
        self.begun = False
        self.told_at = 0.0


class _Arriving:
    """A large transfer on its way in. Watcher of its sink."""

    __slots__ = ("_contact", "_told_at", "number")

    def __init__(self, contact: Contact, number: int) -> None:
        self._contact = contact
        self.number = number
        self._told_at = 0.0

    def came(self, octets: int) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + PROGRESS_S:
            self._told_at = now
            self._contact.tell(ReceiveProgressed(self._contact.number, str(self.number), octets))

    def dropped(self, octets: int) -> None:
        self._contact.dropped(self, octets)


class Parameters(NamedTuple):
    """Of a session. `authn_*`: what a certificate vouches for; False: it names others; None: it names none."""

    peer_nodeid: str
    peer_dnsid: str | None
    peer_ipaddrid: str
    authn_nodeid: str | bool | None
    authn_dnsid: str | bool | None
    authn_ipaddrid: str | bool | None
    keepalive: int
    peer_transfer_mru: int
    peer_segment_mru: int


class Contact:
    """Lasts until its connection is closed and everything it received was taken."""

    def __init__(self, host: Host, number: int, connection: Connection) -> None:
        self.number = number
        self.connection = connection
        self.state = SessionState.CONNECTING
        self.is_open = True
        self._path = -1  # until it can carry transfers
        self._host = host
        self._sending: dict[int, _Sending] = {}
        self._last = 0  # transfer number
        self._files = 0  # of those, how many hold a descriptor
        self._starting: TransferStarted | None = None  # what `reserve` is asked for right after
        self._arriving: _Arriving | None = None
        self._received: dict[str, Payload] = {}
        self._taken: set[str] = set()  # of those, being written to a file now

    # ---- what is known of it -----------------------------------------------------------------------------------------

    @property
    def is_secure(self) -> bool:
        """Whether TLS protects it."""
        return self.connection.security != "none"

    @property
    def is_idle(self) -> bool:
        """Whether no transfer waits or is under way, in either direction."""
        return not self._sending and self._arriving is None

    def parameters(self) -> Parameters | None:
        """None before the session is established."""
        session = self.connection.session.established
        if session is None:
            return None
        remote = self.connection.remote
        certificate = self.connection.certificate if self._host.verifies else None
        policy = AuthenticationPolicy(Demand.CHECK, Demand.CHECK, allow_uri_san=True)
        return Parameters(
            session.node_id,
            remote.name,
            remote.ip,
            _verdict(authenticate_node(certificate, session.node_id, policy), session.node_id),
            _verdict(authenticate_host(certificate, remote.name, None, policy), remote.name),
            _verdict(authenticate_host(certificate, None, remote.ip, policy), remote.ip),
            session.keepalive_s,
            session.transfer_mru,
            session.segment_mru,
        )

    def tell(self, event: AgentEvent) -> None:
        """To whoever listens to the agent."""
        self._host.tell(event)

    # ---- ending ------------------------------------------------------------------------------------------------------

    def terminate(self, reason: int) -> None:
        """SESS_TERM: what is under way is finished. Before the session is established the connection is closed."""
        self._host.let_go(self)
        self.connection.terminate("terminated here", TerminationCode(reason))

    def close(self) -> None:
        """End the connection without SESS_TERM."""
        if self.is_open:
            self._host.let_go(self)
            self.connection.close()

    # ---- sending -----------------------------------------------------------------------------------------------------

    def send_data(self, data: bytes) -> str:
        """Queue a transfer; its number. Raises: QueueFullError."""
        if not self._host.stores.queued.take(len(data)):
            most = self._host.stores.queued.octets_most
            raise QueueFullError(
                f"{most} octets wait to be sent: wait for send_bundle_finished, or send large bundles as files"
            )
        # As a handle even if small: the link then tells when it begins.
        payload = FileRange(BytesHandle(data), 0, len(data)) if data else Octets(b"")
        return self._send(_Sending(payload, len(data)))

    def send_file(self, payload: FileRange) -> str:
        """Queue an open file, whose one reader is the transfer from now on; its number. Raises: QueueFullError."""
        if self._files >= FILES_MOST:
            release(payload)
            raise QueueFullError(f"{FILES_MOST} files wait to be sent here: wait for send_bundle_finished")
        self._files += 1
        return self._send(_Sending(payload, None))

    def _send(self, sending: _Sending) -> str:
        if len(self._sending) >= QUEUED_MOST:
            self._free(sending)
            raise QueueFullError(f"{QUEUED_MOST} transfers wait to be sent here: wait for send_bundle_finished")
        self._last += 1
        number = self._last
        self._sending[number] = sending
        if self.state == SessionState.ENDING or not self.is_open:
            # Who asked is told the number first.
            asyncio.get_running_loop().call_soon(self.lost, number)
        elif self._path >= 0:
            self._offer(number, sending)
        return str(number)

    def _offer(self, number: int, sending: _Sending) -> None:
        sending.offered = True
        self._host.offer(self._path, Unit(number, b"", sending.payload, b""))

    def send_queue(self) -> list[str]:
        """Transfers that have not ended."""
        return [str(number) for number in self._sending]

    def begun(self, number: int) -> None:
        """The first octets of a transfer leave."""
        sending = self._sending.get(number)
        if sending is not None and not sending.begun:
            sending.begun = True
            self.tell(SendStarted(self.number, str(number), sending.payload.length))

    def progressed(self, number: int, octets: int) -> None:
        """The peer has so much of it."""
        sending, now = self._sending[number], asyncio.get_running_loop().time()
        if now >= sending.told_at + PROGRESS_S:
            sending.told_at = now
            self.tell(SendProgressed(self.number, str(number), octets))

    def acked(self, number: int) -> None:
        """The peer has it."""
        self.begun(number)
        self._end(number, SUCCESS)

    def refused(self, number: int, reason: RefuseReason) -> None:
        """The peer (or the link, for what the peer does not take) refused it."""
        self._end(number, reason.value)

    def lost(self, number: int) -> None:
        """Its session has ended before it did."""
        sending = self._sending.get(number)
        if sending is not None:
            never_began = self.state == SessionState.ENDING and not sending.begun
            self._end(number, NEVER_BEGAN if never_began else UNACKNOWLEDGED)

    def _end(self, number: int, result: str) -> None:
        sending = self._sending.pop(number)
        self._free(sending)
        self.tell(SendFinished(self.number, str(number), sending.payload.length, result))

    def _free(self, sending: _Sending) -> None:
        if sending.in_memory is None:
            self._files -= 1
        else:
            self._host.stores.queued.give(sending.in_memory)
        if not sending.offered:
            release(sending.payload)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def reserve(self, octets: int) -> Sink | RefuseReason:
        """Where the transfer goes that the session has just announced."""
        starting = self._starting
        assert starting is not None, "a sink was asked for before the transfer was announced"
        if str(starting.transfer) in self._received:
            return RefuseReason.NOT_ACCEPTABLE  # RFC 9174 §5.2.1: IDs are unique, and the first one waits here
        arriving = _Arriving(self, starting.transfer)
        sink = self._host.stores.spool.sink(octets, arriving)
        if not isinstance(sink, RefuseReason):
            self._arriving = arriving
            self.tell(ReceiveStarted(self.number, str(starting.transfer), starting.length))
        return sink

    def dropped(self, arriving: _Arriving, octets: int) -> None:
        """A transfer that had begun will not be completed."""
        if self._arriving is arriving:
            self._arriving = None
        result = (
            RefuseReason.NO_RESOURCES.value if self.connection.session.state is not State.CLOSED else UNACKNOWLEDGED
        )
        self.tell(ReceiveFinished(self.number, str(arriving.number), octets, result))

    def arrived(self, arrival: Arrival) -> RefuseReason | None:
        """A transfer is there whole. None: it is kept."""
        number = str(arrival.transfer)
        if arrival.payload is None:
            octets = len(arrival.data)
            if number in self._received:
                return RefuseReason.NOT_ACCEPTABLE
            if len(self._received) >= QUEUED_MOST or not self._host.stores.received.take(octets):
                return RefuseReason.NO_RESOURCES
            self._received[number] = Octets(arrival.data)
            self.tell(ReceiveStarted(self.number, number, octets))
        else:
            octets = arrival.payload.length
            self._arriving = None
            self._received[number] = arrival.payload
        self.tell(ReceiveFinished(self.number, number, octets, SUCCESS))
        return None

    def receive_queue(self) -> list[str]:
        """Received bundles that nobody took yet."""
        return [number for number in self._received if number not in self._taken]

    async def pop_data(self, number: str) -> bytes:
        """Take a bundle as octets. Raises: UnknownTransferError, TransferError (too large for that), OSError."""
        payload = self._find(number)
        if isinstance(payload, Octets):
            self._remove(number)
            return payload.data
        if payload.length > READ_OCTETS_MOST:
            raise TransferError(
                f"bundle {number} has {payload.length} octets, more than one D-Bus value holds: "
                "take it by recv_bundle_pop_file or recv_bundle_pop_fd"
            )
        with _Taking(self, number, payload) as fd:
            return await asyncio.to_thread(os.pread, fd, payload.length, 0)

    async def pop_file(self, number: str, path: str) -> None:
        """Take a bundle as a new file. Raises: UnknownTransferError, OSError (FileExistsError ...): it stays here then."""
        payload = self._find(number)
        mode = 0o666 & ~self._host.umask
        if isinstance(payload, Octets):
            with _Taking(self, number, payload):
                await write_file(payload.data, path, mode)
        else:
            with _Taking(self, number, payload) as fd:
                await name_file(fd, path, mode)

    def pop_fd(self, number: str) -> int:
        """Take a bundle as an open file, the caller's. Raises: UnknownTransferError, OSError: it stays here then."""
        payload = self._find(number)
        if isinstance(payload, Octets):
            fd = memory_file(payload.data)
        else:
            assert isinstance(payload.handle, OpenFile)
            fd = reading(payload.handle.fd)
        self._remove(number)
        return fd

    def _find(self, number: str) -> Payload:
        payload = self._received.get(number)
        if payload is None or number in self._taken:
            raise UnknownTransferError(f"no received bundle {number!r} waits here; see recv_bundle_get_queue")
        return payload

    def _remove(self, number: str) -> None:
        self._release(self._received.pop(number))
        if not self._received:
            self._host.emptied(self)

    def _release(self, payload: Payload) -> None:
        if isinstance(payload, FileRange):
            payload.handle.release()
            self._host.stores.spool.room.give(payload.length)
        else:
            self._host.stores.received.give(payload.length)

    # ---- what its session tells --------------------------------------------------------------------------------------

    def began(self) -> None:
        """The session begins."""
        self._go(SessionState.CONTACT)

    def happened(self, event: Event) -> None:
        """The session says this."""
        match event:
            case TransferStarted():
                self._starting = event
            case ContactHeaderExchanged():
                self._go(SessionState.SESSION)
            case SessionEstablished():
                self._go(SessionState.ESTABLISHED)
            case SessionEnding():
                self._go(SessionState.ENDING)
            case _:
                pass

    def up(self, path: int) -> None:
        """Transfers may begin over this path: those that waited for it do."""
        self._path = path
        for number, sending in self._sending.items():
            self._offer(number, sending)

    def closed(self) -> bool:
        """The connection is gone. Whether anything is left to be taken."""
        self.is_open = False
        for number in list(self._sending):
            self.lost(number)
        return bool(self._received)

    def discard(self) -> None:
        """Nobody will take what is left."""
        received, self._received = self._received, {}
        for payload in received.values():
            self._release(payload)

    def _go(self, state: str) -> None:
        self.state = state
        self.tell(SessionStateChanged(self.number, state))


class _Taking:
    """While a received bundle is copied: nobody else takes it, its file stays open. Gone from the contact if all went well."""

    def __init__(self, contact: Contact, number: str, payload: Payload) -> None:
        self._contact = contact
        self._number = number
        self._payload = payload

    def __enter__(self) -> int:
        self._contact._taken.add(self._number)
        if not isinstance(self._payload, FileRange):
            return -1
        assert isinstance(self._payload.handle, OpenFile)
        self._payload.handle.retain()
        return self._payload.handle.fd

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        release(self._payload)
        self._contact._taken.discard(self._number)
        if kind is None and self._number in self._contact._received:
            self._contact._remove(self._number)


def _verdict(decision: Decision, identity: str | None) -> str | bool | None:
    if decision.finding is Finding.ABSENT:
        return None
    return identity if decision.finding is Finding.SUCCESS else False

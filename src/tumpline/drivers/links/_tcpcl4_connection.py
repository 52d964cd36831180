"""The driver of one TCPCLv4 session: a socket, the session's machine and a timer.

After anything happened: drain events, write, begin what comes next, re-arm the timer (`_turn`). Verbs of the host only
ask for a turn, so that everything said in one turn of the loop leaves in one write.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.links._api import LinkHost
from tumpline.drivers.links._tcpcl4_observer import SessionObserver
from tumpline.drivers.links._tcpcl4_transfers import REFUSAL_CODES, Transfers
from tumpline.drivers.stream import BLOCKED, READ_OCTETS, STAGE_OCTETS, Stream, new_buffer
from tumpline.drivers.tls import TlsContexts, explain
from tumpline.drivers.x509 import peer_certificate
from tumpline.errors import MalformedError, StorageError, TumplineError
from tumpline.machines.authenticate import PeerCertificate
from tumpline.machines.effects import RefuseReason, Unit
from tumpline.machines.tcpcl4.events import (
    Body,
    Close,
    Read,
    SessionEstablished,
    SessionTerminated,
    TlsStart,
)
from tumpline.machines.tcpcl4.session import BUFFER_OCTETS_LEAST, Session
from tumpline.wire.tcpcl4 import TerminationCode

WAKE_OCTETS = 1 << 20  # read or written in one wake-up: other sessions must have their turn
WAKE_S = 0.01  # and no further read once so much time has gone: small messages cost more than their octets
LAST_WORDS_S = 0.1  # for what a peer said before it closed the connection
PULL_OCTETS = 256 * 1024  # asked of the session at once: what a socket buffer takes without much waiting
# After our FIN we wait so long for the peer's: closing with octets unread would reset the connection, and the peer would
# lose our last words (SESS_TERM, TLS alerts).
LINGER_S = 2.0
BUFFER_OCTETS = READ_OCTETS + BUFFER_OCTETS_LEAST


class Owner(Protocol):
    """What a connection needs of its link."""

    @property
    def host(self) -> LinkHost: ...

    @property
    def contexts(self) -> TlsContexts | None: ...

    @property
    def observer(self) -> SessionObserver | None: ...

    def established(self, connection: Connection, session: SessionEstablished) -> int:
        """Tell the host of the path; its number."""

    def terminated(self, connection: Connection, why: SessionTerminated) -> None:
        """The session is over (or never began); every unit and every sink has ended."""

    def closed(self, connection: Connection) -> None:
        """The descriptor was given back."""


class Scratch(NamedTuple):
    """Room shared by all connections of a loop: nothing stays in it between two calls."""

    received: memoryview
    staged: memoryview


def new_scratch() -> Scratch:
    """Both rooms."""
    return Scratch(new_buffer(BUFFER_OCTETS), new_buffer(STAGE_OCTETS))


class Remote(NamedTuple):
    """The other side of a connection."""

    address: str  # as people read it
    ip: str
    name: str | None  # DNS name that was resolved to reach it
    outbound: bool  # we dialled


class Connection:
    """Made with a connected socket; `begin` starts it. Lives until `Owner.closed`."""

    def __init__(self, owner: Owner, session: Session, remote: Remote, scratch: Scratch, sock: socket.socket) -> None:
        self.remote = remote
        self.path = -1  # until the session is established
        self.session = session
        self.certificate: PeerCertificate | None = None  # of the TLS peer, if it gave one
        self._owner = owner
        self._observer = owner.observer
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch
        self._stream = Stream(sock, self.readable, self.writable, scratch.staged)
        self._rest = b""  # received, but not taken by the session yet
        self._transfers = Transfers(session, owner.host, remote.address, self._loop.time, self._begun())
        self._tls_side: bool | None = None  # a TLS handshake is to begin: server_side
        self._handshaking = False
        self._turn_asked = False
        self._mute = False  # nothing can be written any more
        self._lingering = False
        self._closing = False
        self._alarm = Alarm(self._on_deadline)
        self._linger_end: asyncio.TimerHandle | None = None
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            **self._transfers.handlers,
            TlsStart: self._on_tls_start,
            SessionEstablished: self._on_established,
            SessionTerminated: self._on_terminated,
            Close: self._on_close,
        }

    # ---- what the link does ------------------------------------------------------------------------------------------

    def begin(self, first: bytes) -> None:
        """Start the session; `first` was read from the socket already."""
        self.session.connected(self._loop.time())
        self._feed(memoryview(first))
        self._turn()

    def offer(self, units: Sequence[Unit]) -> None:
        """LinkHost's `offer`."""
        self._transfers.offer(units)
        self._ask_turn()

    def cancel(self, seq: int) -> None:
        """LinkHost's `cancel`."""
        self.session.cancel(seq)
        self._ask_turn()

    def acknowledge(self, transfers: Sequence[int]) -> None:
        """LinkHost's `acknowledge`."""
        self.session.acknowledge(transfers, self._loop.time())
        self._ask_turn()

    def refuse(self, transfer: int, reason: RefuseReason) -> None:
        """LinkHost's `refuse`."""
        self.session.refuse(transfer, REFUSAL_CODES[reason], self._loop.time())
        self._ask_turn()

    def terminate(self, text: str, reason: TerminationCode = TerminationCode.UNKNOWN) -> None:
        """End the session in order: transfers under way are finished."""
        self.session.terminate(reason, self._loop.time(), text)
        self._ask_turn()

    def close(self) -> None:
        """End the connection without a word (no SESS_TERM); what the kernel was given is still sent."""
        self._lose()
        self._give_back(self._stream.close)

    def abort(self) -> None:
        """End everything now."""
        self._lose()
        self._give_back(self._stream.abort)

    def _begun(self) -> Callable[[int], None] | None:
        """Who is told of units that begin."""
        observer = self._observer
        return None if observer is None else lambda seq: observer.begun(self, seq)

    # ---- one turn ----------------------------------------------------------------------------------------------------

    def _ask_turn(self) -> None:
        """Once for everything that happens in this turn of the loop."""
        if not self._turn_asked:
            self._turn_asked = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_asked = False
        if self._stream.closed():
            return
        if self._rest and not self._handshaking:  # what was left while the session was paused
            rest, self._rest = self._rest, b""
            self._feed(memoryview(rest))
        self._handle_events()
        self._flush()
        if self._stream.closed():
            return
        if self._tls_side is not None and self._stream.drained():
            self._start_tls()
        if self._closing and (self._stream.drained() or self._mute):
            self._finish()
            return
        wanted = self._handshaking or self._lingering or self.session.wants() is not None
        self._stream.watch_reads(wanted)
        if wanted and self._stream.holds_octets():
            self._loop.call_soon(self._read_on)
        self._alarm.set(self.session.next_timeout())

    def _handle_events(self) -> None:
        handlers, observer = self._handlers, self._observer
        while events := self.session.events():
            for event in events:
                if observer is not None:
                    observer.happened(self, event)
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)

    def _on_deadline(self) -> None:
        self.session.handle_timeout(self._loop.time())
        self._turn()

    # ---- octets in ---------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        """The stream has something for us."""
        if self._handshaking:
            self._handshake()
        elif self._lingering:
            self._linger()
        else:
            self._read()
        self._ask_turn()

    def _read(self) -> None:
        try:
            self._read_some(WAKE_OCTETS)
        except OSError as error:
            self._fail(error)

    def _read_some(self, budget: int, seconds: float = WAKE_S) -> None:
        """Raises: OSError."""
        until = self._loop.time() + seconds
        while budget > 0 and self._loop.time() < until:
            want = self.session.wants()
            if want is None:
                return
            count = self._read_body(want) if isinstance(want, Body) else self._read_messages(want)
            if count == BLOCKED:
                return
            if count == 0:
                self._lose()
                return
            budget -= count
            self._handle_events()

    def _read_on(self) -> None:
        if not self._stream.closed():
            self.readable()

    def _read_messages(self, want: Read) -> int:
        room, rest = self._scratch.received, self._rest
        have = len(rest)
        assert have < BUFFER_OCTETS_LEAST, "the session left more than one message"
        room[:have] = rest
        count = self._stream.read_into(room[have : have + want.most])
        if count > 0:
            self._rest = b""
            self._feed(room[: have + count])
        return count

    def _read_body(self, want: Body) -> int:
        """Straight into the sink. (No octet is left over in front: `_feed` hands those on first.)"""
        if want.transfer is None:
            count = self._stream.read_into(self._scratch.received[: want.octets])
            if count > 0:
                self.session.body_received(count, self._loop.time())
            return count
        count = self._stream.read_into(self._transfers.room(want.transfer, want.octets))
        if count > 0:
            self._transfers.advance(want.transfer, count)
        return count

    def _feed(self, data: memoryview) -> None:
        """Hand received octets on, into the session or into sinks; what cannot be taken yet is kept."""
        session, offset, end = self.session, 0, len(data)
        while offset < end:
            want = session.wants()
            if isinstance(want, Read):
                taken = session.receive(data[offset:], self._loop.time())
            elif isinstance(want, Body):
                taken = self._fill(want, data[offset:])
            else:
                taken = 0
            self._handle_events()
            if not taken:
                break
            offset += taken
        self._rest = bytes(data[offset:])

    def _fill(self, want: Body, data: memoryview) -> int:
        count = min(want.octets, len(data))
        if want.transfer is None:
            self.session.body_received(count, self._loop.time())
            return count
        room = self._transfers.room(want.transfer, count)
        count = min(count, len(room))
        room[:count] = data[:count]
        self._transfers.advance(want.transfer, count)
        return count

    # ---- octets out --------------------------------------------------------------------------------------------------

    def writable(self) -> None:
        """The stream takes octets again."""
        if self._handshaking:
            self._handshake()
        self._turn()

    def _flush(self) -> None:
        if self._mute or self._handshaking or self._lingering:
            return
        try:
            self._stream.watch_writes(not self._write_some(WAKE_OCTETS))
        except StorageError as error:
            self._payload_failed(str(error))
        except OSError as error:
            self._mute = True
            self._read_last_words(error)

    def _write_some(self, budget: int) -> bool:
        """False: there is more, but the socket is full or others have their turn. Raises: OSError."""
        stream, session = self._stream, self.session
        while stream.write():
            self._transfers.release_ended()
            if budget <= 0:
                return False
            pieces = session.data_to_send(PULL_OCTETS, self._loop.time())
            if not pieces:
                return True
            stream.queue(self._transfers.resolve(pieces))
            budget -= PULL_OCTETS
        return False

    def _payload_failed(self, text: str) -> None:
        """Octets that were promised to the peer cannot be read: only the end of the connection tells it."""
        self._owner.host.notice("payload_unreadable", path=self.path, address=self.remote.address, reason=text)
        self._lose()

    def _read_last_words(self, error: OSError) -> None:
        """We cannot write; but acknowledgements, or the TLS alert that says why, may have come before."""
        try:
            self._read_some(1 << 30, LAST_WORDS_S)
        except OSError as last:
            error = last
        self._fail(error)

    # ---- events: the session -----------------------------------------------------------------------------------------

    def _on_established(self, event: SessionEstablished) -> None:
        self.path = self._transfers.path = self._owner.established(self, event)

    def _on_terminated(self, event: SessionTerminated) -> None:
        self._owner.terminated(self, event)

    def _on_close(self, _event: Close) -> None:
        self._closing = True

    def _on_tls_start(self, event: TlsStart) -> None:
        self._tls_side = event.server_side

    @property
    def security(self) -> str:
        """For people: "TLSv1.3", "none"."""
        return self._stream.security

    def _start_tls(self) -> None:
        """Everything before the handshake was written."""
        assert self._tls_side is not None
        assert self._owner.contexts is not None
        server_side, self._tls_side = self._tls_side, None
        try:
            context = self._owner.contexts.context(server_side)
            self._stream.start_tls(context, server_side, self.remote.name)
        except (TumplineError, OSError, ValueError) as error:
            self._tls_failed(str(error))
            return
        self._handshaking = True
        self._handshake()

    def _handshake(self) -> None:
        try:
            if not self._stream.handshake():
                return
            der = self._stream.peer_certificate
            self.certificate = peer_certificate(der) if der is not None else None
        except OSError as error:
            self._tls_failed(self._explain(error))
        except MalformedError as error:
            self._tls_failed(str(error))
        else:
            self._handshaking = False
            self._stream.watch_writes(False)
            self.session.tls_done(self.certificate, self._loop.time())
            self._ask_turn()

    def _explain(self, error: OSError) -> str:
        assert self._owner.contexts is not None
        return explain(error, self._owner.contexts.certificate)

    def _tls_failed(self, text: str) -> None:
        self._handshaking = False
        self.session.tls_failed(text, self._loop.time())
        self._ask_turn()

    # ---- ending ------------------------------------------------------------------------------------------------------

    def _fail(self, error: OSError) -> None:
        """The connection is broken."""
        if (
            isinstance(error, ssl.SSLError) and self.path < 0
        ):  # TLS 1.3: a peer judges our certificate after its handshake
            self._tls_failed(self._explain(error))
        self._lose()

    def _lose(self) -> None:
        self._mute = True
        self.session.connection_lost(self._loop.time())
        self._handle_events()
        self._closing = True
        self._ask_turn()

    def _finish(self) -> None:
        """All is written. Close, or (there may be octets under way to us) wait for the peer to close too."""
        if self._mute or self._lingering:
            self._give_back(self._stream.close)
            return
        try:
            self._stream.send_closure_alert()
            self._stream.end_writes()
        except OSError:
            self._give_back(self._stream.close)
            return
        self._lingering = True
        self._closing = False
        self._stream.watch_writes(False)
        self._stream.watch_reads(True)
        self._alarm.cancel()
        self._linger_end = self._loop.call_later(LINGER_S, self._give_back, self._stream.close)

    def _linger(self) -> None:
        """Read and forget until the peer has closed."""
        try:
            count = self._stream.read_into(self._scratch.received)
        except OSError:
            count = 0
        if count == 0:
            self._give_back(self._stream.close)

    def _give_back(self, how: Callable[[], None]) -> None:
        if self._stream.closed():
            return
        how()
        self._alarm.cancel()
        if self._linger_end is not None:
            self._linger_end.cancel()
        self._transfers.release_ended()
        self._rest = b""
        self._owner.closed(self)

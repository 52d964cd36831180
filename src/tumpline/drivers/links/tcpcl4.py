"""Bundles over TCP: the TCP convergence layer, version 4 (RFC 9174).

The protocol is `tumpline.machines.tcpcl4`; one session's socket is `_tcpcl4_connection`; here are the sessions of one
link: who listens, who is dialled, how many there may be, and which path is which session.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tumpline.drivers.dial import Address, DialError, addresses_of, dial, display_address, parse_address
from tumpline.drivers.links._api import LinkContext, LinkHost, LinkSpec
from tumpline.drivers.links._dialler import Dialler
from tumpline.drivers.links._tcpcl4_config import (
    DEFAULT_PORT,
    Tcpcl4Config,
    asks_for_proof,
    session_config,
    tls_contexts,
)
from tumpline.drivers.links._tcpcl4_connection import Connection, Remote, new_scratch
from tumpline.drivers.links._tcpcl4_observer import SessionObserver
from tumpline.drivers.links._units import lose
from tumpline.drivers.listen import Registration, listen
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import TumplineError
from tumpline.machines.authenticate import node_id_or_none
from tumpline.machines.backoff import Backoff
from tumpline.machines.bucket import Bucket
from tumpline.machines.effects import PathInfo, RefuseReason, Unit
from tumpline.machines.tcpcl4.config import Role, SessionConfig
from tumpline.machines.tcpcl4.events import SessionEstablished, SessionTerminated
from tumpline.machines.tcpcl4.session import Session
from tumpline.wire.eid import Eid
from tumpline.wire.tcpcl4 import VERSION

TOLD_AT_ONCE = 16  # rejected connections; then one notice a second with their number
ADDRESSES_MAX = 16_384  # whose connections are counted: some 4 MB


class Tcpcl4Link:
    """BundleLink over TCP sessions. Made by SPEC.open; who shows each connection to people hands in an observer."""

    host: LinkHost

    def __init__(self, config: Tcpcl4Config, context: LinkContext, observer: SessionObserver | None = None) -> None:
        self.observer = observer
        self.name = context.name
        self.contexts = tls_contexts(config.tls)
        self._config = config
        self._context = context
        self._node_id = "" if context.node_id.is_null else str(context.node_id)
        self._scratch = new_scratch()
        self._tasks = TaskOwner(self._task_failed)
        self._listening: list[Registration] = []
        self._connections: set[Connection] = set()
        self._paths: dict[int, Connection] = {}
        self._per_ip: Counter[str] = Counter()
        self._tell = Bucket(TOLD_AT_ONCE, TOLD_AT_ONCE, 1.0, 0.0)  # of rejected connections
        self._untold = 0
        self._arrivals: dict[str, Bucket] = {}  # of connections, by address
        self._diallers: dict[Address, Dialler] = {}
        self._dialled: dict[Connection, Dialler] = {}
        self._all_closed = asyncio.Event()
        self._stopping = False

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: LinkHost) -> None:
        """Bind and dial. Raises: TumplineError with the remedy."""
        self.host = host
        if self.contexts is not None:  # a file that cannot be used is said now, not at the first handshake
            self.contexts.context(True)
            self.contexts.context(False)
        try:
            for text in addresses_of(self._config.listen):
                self.listen(parse_address(text, DEFAULT_PORT))
            for text in addresses_of(self._config.connect):
                self.connect(text)
        except BaseException:
            await self.stop(graceful=False)
            raise

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """End all sessions and free everything."""
        self._stopping = True
        for registration in self._listening:
            registration.close()
        self._listening.clear()
        await self._tasks.stop()
        self._diallers.clear()
        if graceful:
            await self._end_sessions(timeout_s)
        for connection in list(self._connections):
            connection.abort()

    async def _end_sessions(self, timeout_s: float) -> None:
        for connection in list(self._connections):
            connection.terminate("the link is stopped")
        try:
            async with asyncio.timeout(timeout_s):
                while self._connections:
                    self._all_closed.clear()
                    await self._all_closed.wait()
        except TimeoutError:
            self.host.notice("sessions_cut", link=self.name, count=len(self._connections), after_s=timeout_s)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.host.notice("task_failed", link=self.name, task=name, reason=repr(error))

    # ---- verbs of whoever drives it by hand --------------------------------------------------------------------------

    def listen(self, where: Address) -> None:
        """Take connections there too. Raises: TumplineError with the remedy (port in use ...)."""
        self._listening.append(listen(where, VERSION, self._accepted, self._rejected))

    def listen_stop(self, where: Address) -> None:
        """Take no more there; sessions stay. Raises: TumplineError (it does not listen there)."""
        for registration in self._listening:
            if registration.listener.asked == where:
                registration.close()
                self._listening.remove(registration)
                return
        places = ", ".join(self.listening) or "nowhere"
        raise TumplineError(f"{self.name} does not listen on {where}; it listens on {places}")

    @property
    def listening(self) -> list[str]:
        """Where peers reach us."""
        return [registration.address for registration in self._listening]

    async def dial(self, where: Address) -> Connection:
        """One connection, tried once: its end is the caller's business. Raises: DialError."""
        sock = await dial(where, self._config.dial_s)
        if self._stopping:
            sock.close()
            raise DialError(f"{where}: {self.name} is stopped")
        return self._outbound(sock, where, None)

    def forget(self, connection: Connection) -> None:
        """If it was kept up by dialling again, that ends; the connection stays."""
        dialler = self._dialled.get(connection)
        if dialler is not None and self._diallers.pop(dialler.address, None) is not None:
            dialler.cease()

    def rest(self, reason: str) -> None:
        """Listen and dial no more; sessions stay, but for those that were dialled and are kept: they end in order."""
        for registration in self._listening:
            registration.close()
        self._listening.clear()
        for dialler in self._diallers.values():
            dialler.stop(reason)
        self._diallers.clear()

    def connection(self, path: int) -> Connection:
        """Whose path that is. Raises: KeyError (it is not up)."""
        return self._paths[path]

    # ---- verbs of the host -------------------------------------------------------------------------------------------

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Keep a session with this address."""
        where = parse_address(address, DEFAULT_PORT)
        if where in self._diallers or self._stopping:
            return
        backoff = Backoff(self._context.random, self._config.retry_s_first, self._config.retry_s_max)
        dialler = self._diallers[where] = Dialler(where, peer, backoff)
        work = dialler.keep(self._config.dial_s, self._dialled_to, self._dial_failed)
        dialler.task = self._tasks.start(work, f"{self.name} keeps {where}")

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """Stop dialling the address and end what was dialled; end the path."""
        if address is not None:
            dialler = self._diallers.pop(parse_address(address, DEFAULT_PORT), None)
            if dialler is not None:
                dialler.stop(reason)
        connection = self._paths.get(path) if path is not None else None
        if connection is not None:
            connection.terminate(reason)

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order."""
        connection = self._paths.get(path)
        if connection is not None:
            connection.offer(units)
        else:  # the path went down: the host has been told, but may not have acted yet
            lose(self.host, path, units)

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if it has not begun."""
        connection = self._paths.get(path)
        if connection is not None:
            connection.cancel(seq)

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:
        """These are stored. After the end of the path without effect."""
        connection = self._paths.get(path)
        if connection is not None:
            connection.acknowledge(transfers)

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:
        """This one is not kept. After the end of the path without effect."""
        connection = self._paths.get(path)
        if connection is not None:
            connection.refuse(transfer, reason)

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        return {
            "kind": SPEC.scheme,
            "listening": self.listening,
            "tls": self._config.tls.effective_mode,
            "handshakes": len(self._connections) - len(self._paths),
            "sessions": [_describe_session(connection) for connection in self._paths.values()],
            "dialling": [dialler.describe() for dialler in self._diallers.values()],
        }

    # ---- connections -------------------------------------------------------------------------------------------------

    def _rejected(self, address: str, reason: str) -> None:
        """Told to people, but not for each connection of a flood: the log is a disk that can be filled."""
        self._untold += 1
        if self._tell.take(asyncio.get_running_loop().time()):
            fields = {"address": address, "reason": reason, "rejected": self._untold}
            self._untold = 0
            self.host.notice("connection_rejected", link=self.name, **fields)

    def _accepted(self, sock: socket.socket, sockaddr: tuple[str | int, ...], first: bytes) -> None:
        """A peer has connected and spoken."""
        ip = str(sockaddr[0]).removeprefix("::ffff:")
        reason = self._too_many(ip)
        if reason:
            sock.close()
            self._rejected(display_address(sockaddr), reason)
            return
        remote = Remote(display_address(sockaddr), ip, None, outbound=False)
        self._connection(sock, remote, Role.PASSIVE, session_config(self._config, self._node_id, ip, None, None), first)

    def _dialled_to(self, sock: socket.socket, dialler: Dialler) -> Connection:
        """A connection that we wanted is there."""
        return self._outbound(sock, dialler.address, dialler)

    def _outbound(self, sock: socket.socket, address: Address, dialler: Dialler | None) -> Connection:
        ip = _peer_ip(sock, address)
        node_id = str(dialler.peer) if dialler is not None and dialler.peer is not None else None
        config = session_config(self._config, self._node_id, ip, address, node_id)
        remote = Remote(str(address), ip, config.expected_host, outbound=True)
        return self._connection(sock, remote, Role.ACTIVE, config, b"", dialler)

    def _dial_failed(self, dialler: Dialler, retry_s: float) -> None:
        self.host.notice(
            "connection_failed",
            link=self.name,
            address=str(dialler.address),
            reason=dialler.failure,
            retry_s=round(retry_s, 3),
        )

    def _too_many(self, ip: str) -> str:
        """Which bound would be passed by one more."""
        limits = self._config.limits
        if len(self._connections) >= limits.max_sessions:
            return f"limits.max_sessions ({limits.max_sessions}) is reached"
        if len(self._connections) - len(self._paths) >= limits.max_handshakes:
            return f"limits.max_handshakes ({limits.max_handshakes}) is reached"
        if self._per_ip[ip] >= limits.max_per_ip:
            return f"limits.max_per_ip ({limits.max_per_ip}) is reached"
        if not self._take_arrival(ip):
            return f"limits.max_per_ip_per_s ({limits.max_per_ip_per_s:g}) is passed"
        return ""

    def _take_arrival(self, ip: str) -> bool:
        """Whether one more connection from there is not too soon after the others."""
        limits, now = self._config.limits, asyncio.get_running_loop().time()
        if ip not in self._arrivals and len(self._arrivals) >= ADDRESSES_MAX:
            self._arrivals = {key: bucket for key, bucket in self._arrivals.items() if not bucket.is_full(now)}
            if len(self._arrivals) >= ADDRESSES_MAX:
                return False  # an attack from thousands of addresses
        most = limits.max_per_ip_burst
        return self._arrivals.setdefault(ip, Bucket(most, most, limits.max_per_ip_per_s, now)).take(now)

    def _connection(
        self,
        sock: socket.socket,
        remote: Remote,
        role: Role,
        config: SessionConfig,
        first: bytes,
        dialler: Dialler | None = None,
    ) -> Connection:
        """A connection begins; `first` was read from it already, `dialler` keeps it."""
        if self.observer is not None:
            config = self.observer.configure(config)
        connection = Connection(self, Session(config, role, self._context.random), remote, self._scratch, sock)
        self._connections.add(connection)
        self._per_ip[remote.ip] += 1
        if dialler is not None:
            self._dialled[connection] = dialler
        if self.observer is not None:
            self.observer.opened(connection)
        connection.begin(first)
        return connection

    def established(self, connection: Connection, session: SessionEstablished) -> int:
        """A session can carry bundles."""
        path = self.host.new_path()
        self._paths[path] = connection
        info = PathInfo(
            path=path,
            link=self.name,
            peer=node_id_or_none(session.node_id),
            address=connection.remote.address,
            authenticated=session.authenticated or not asks_for_proof(self._config.tls),
            mru_octets=session.transfer_mru,
            segment_octets=session.segment_mru,
            security=connection.security,
            outbound=connection.remote.outbound,
        )
        self.host.path_up(info)
        return path

    def terminated(self, connection: Connection, why: SessionTerminated) -> None:
        """A session is over, or came to nothing."""
        was_up = self._paths.pop(connection.path, None) is not None
        dialler = self._dialled.pop(connection, None)
        if was_up or dialler is None:  # of a dialled session that never began, its dialler tells
            self.host.notice(
                "session_terminated" if was_up else "session_failed",
                link=self.name,
                path=connection.path,
                address=connection.remote.address,
                reason=why.text,
                clean=why.clean,
            )
        if was_up:
            self.host.path_down(connection.path, why.text)
        if dialler is not None:
            dialler.ended(why.text, was_up)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._per_ip[connection.remote.ip] -= 1
        if not self._per_ip[connection.remote.ip]:
            del self._per_ip[connection.remote.ip]
        self._all_closed.set()
        if self.observer is not None:
            self.observer.closed(connection)


def _peer_ip(sock: socket.socket, address: Address) -> str:
    """Raises: DialError (the peer is gone already)."""
    try:
        return str(sock.getpeername()[0])
    except OSError as error:
        sock.close()
        raise DialError(f"{address}: the peer closed the connection at once") from error


def _describe_session(connection: Connection) -> dict[str, Any]:
    session = connection.session.established
    return {
        "path": connection.path,
        "address": connection.remote.address,
        "peer": session.node_id if session is not None else "",
        "outbound": connection.remote.outbound,
        "security": connection.security,
        "keepalive_s": session.keepalive_s if session is not None else 0,
        "state": connection.session.state.value,
    }


SPEC = LinkSpec(
    scheme="tcpcl4",
    summary="bundles over TCP and TLS (TCPCLv4, RFC 9174)",
    config=Tcpcl4Config,
    open=Tcpcl4Link,
)

"""The broker for newcomers on a TCP port: sockets and one timer around `tumpline.machines.amqp_broker`."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import cast

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.dial import ANY_HOST, Address
from tumpline.errors import TumplineError
from tumpline.machines.amqp_broker import Broker, BrokerConfig, Connection

DEFAULT_PORT = 5672  # IANA: amqp
LINGER_S = 5.0  # what a client gets to read why its connection is closed
WRITE_OCTETS_HIGH = 1 << 20  # in the transport's buffer; the machine's own bound is what slows a peer down


class _Peer(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._unsent = 0  # octets written of which the machine has not been told that they have gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_OCTETS_HIGH)
        self._connection = self._server.machine.connect(self._server.now())
        if self._connection is None:
            self._transport.abort()
            return
        self._server.peers[self._connection] = self

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._connection is not None:
            self._connection.receive(data, self._server.now())
            self._server.turn()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        if self._connection is not None:
            self._server.peers.pop(self._connection, None)
            self._connection.lost(self._server.now())
            self._server.turn()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._tell_sent()
        self._server.turn()

    def flush(self) -> None:
        """Write what the machine has for this peer."""
        assert self._transport is not None
        assert self._connection is not None
        if pieces := self._connection.data_to_send():
            self._unsent += sum(map(len, pieces))
            self._transport.writelines(pieces)
        self._tell_sent()
        if self._connection.is_closed and not self._transport.is_closing():
            self._transport.close()
            self._server.later(LINGER_S, self._transport.abort)  # if it does not read what it is told

    def follow(self) -> None:
        """Read only where the machine wants octets."""
        assert self._transport is not None
        assert self._connection is not None
        if self._connection.wants_octets is self._transport.is_reading() or self._transport.is_closing():
            return
        if self._connection.wants_octets:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _tell_sent(self) -> None:
        assert self._transport is not None
        assert self._connection is not None
        gone = self._unsent - self._transport.get_write_buffer_size()
        if gone > 0:
            self._unsent -= gone
            self._connection.sent(gone, self._server.now())


class BrokerServer:
    """`start`, `port`, `stop`. Whoever may come must be bound by the address: loopback, unless users with passwords say who."""

    def __init__(self, config: BrokerConfig) -> None:
        self.machine = Broker(config, lambda: secrets.token_urlsafe(16))
        self.peers: dict[Connection, _Peer] = {}
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._alarm = Alarm(self._expired)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call this then."""
        self._loop.call_later(delay_s, call)

    def now(self) -> float:
        """The clock of the machine."""
        return self._loop.time()

    async def start(self, where: Address) -> None:
        """Listen. Raises: TumplineError with the remedy."""
        try:
            if where.host == ANY_HOST:
                self._server = await self._loop.create_server(lambda: _Peer(self), sock=_everywhere(where.port))
            else:
                self._server = await self._loop.create_server(lambda: _Peer(self), where.host, where.port)
        except OSError as error:
            raise TumplineError(f"broker: cannot listen on {where}: {error.strerror}; name another port") from error

    async def stop(self) -> None:
        """Clients are told; then their connections end."""
        if self._server is not None:
            self._server.close()
        self.machine.shut_down("the broker ends", self.now())
        self.turn()
        for peer in list(self.peers.values()):
            peer.flush()
        self._alarm.cancel()
        if self._server is not None:
            await self._server.wait_closed()

    def turn(self) -> None:
        """Write what there is to write, until nothing is; re-arm the timer."""
        while outputs := self.machine.outputs():
            for connection in outputs:
                if (peer := self.peers.get(connection)) is not None:
                    peer.flush()
        for peer in self.peers.values():
            peer.follow()
        self._alarm.set(self.machine.next_timeout())

    def _expired(self) -> None:
        self.machine.handle_timeout(self.now())
        self.turn()


def _everywhere(port: int) -> socket.socket:
    """Of both versions, on one port: asyncio would take :: for IPv6 alone. Raises: OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server((ANY_HOST, port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))

"""The broker: connections, users, virtual hosts, and memory that all share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tumpline.machines.amqp_broker.connection import Connection
from tumpline.machines.amqp_broker.errors import Fault, Reply
from tumpline.machines.amqp_broker.queue import Memory
from tumpline.machines.amqp_broker.virtual_host import VirtualHost

VIRTUAL_HOST_NAME_OCTETS_MOST: Final = 128


class BrokerConfig(NamedTuple):
    """Who may come, and how much they may take."""

    users: Mapping[str, str] = {"guest": "guest"}  # user and password; a driver lets no stranger try these
    virtual_hosts_most: int = 64  # made when first named: a session of an interoperability event is one
    connections_most: int = 1024
    memory_octets: int = 256 << 20


class Broker:
    """Without I/O. After each call, `outputs` names the connections that have something to send."""

    def __init__(self, config: BrokerConfig, new_id: Callable[[], str]) -> None:
        self.memory = Memory(config.memory_octets)
        self.connections: set[Connection] = set()
        self._config = config
        self._new_id = new_id
        self._hosts: dict[str, VirtualHost] = {}
        self._outputs: dict[Connection, None] = {}
        self._is_blocked = False

    def connect(self, now: float) -> Connection | None:
        """A client has come; None if there are too many."""
        if len(self.connections) >= self._config.connections_most:
            return None
        connection = Connection(self, now)
        self.connections.add(connection)
        return connection

    def outputs(self) -> list[Connection]:
        """Those with something to send, each once."""
        self._look_at_memory()
        outputs, self._outputs = list(self._outputs), {}
        return outputs

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        times = [connection.next_timeout() for connection in self.connections]
        times += [at for host in self._hosts.values() if (at := host.next_timeout()) is not None]
        first = min(times, default=float("inf"))
        return None if first == float("inf") else first

    def handle_timeout(self, now: float) -> None:
        """Heartbeats, silent clients, queues that nobody uses."""
        for connection in list(self.connections):
            connection.handle_timeout(now)
        for host in self._hosts.values():
            host.handle_timeout(now)

    def shut_down(self, text: str, now: float) -> None:
        """All connections are closed, in order."""
        for connection in list(self.connections):
            connection.shut_down(text, now)

    # ---- connection.Owner --------------------------------------------------------------------------------------------

    def password_of(self, user: str) -> str | None:
        """See `connection.Owner`."""
        return self._config.users.get(user)

    def virtual_host(self, name: str) -> VirtualHost:
        """See `connection.Owner`."""
        host = self._hosts.get(name)
        if host is None:
            if (
                len(name.encode()) > VIRTUAL_HOST_NAME_OCTETS_MOST
                or len(self._hosts) >= self._config.virtual_hosts_most
            ):
                raise Fault(Reply.NOT_ALLOWED, f"vhost {name[:80]} not found: there are as many as there may be")
            host = self._hosts[name] = VirtualHost(self.memory)
        return host

    def new_name(self, prefix: str) -> str:
        """See `connection.Owner`."""
        return prefix + self._new_id()

    def has_output(self, connection: Connection) -> None:
        """See `connection.Owner`."""
        self._outputs[connection] = None

    def left(self, connection: Connection, _now: float) -> None:
        """See `connection.Owner`."""
        self.connections.discard(connection)

    def _look_at_memory(self) -> None:
        if self.memory.is_full is not self._is_blocked:
            self._is_blocked = self.memory.is_full
            for connection in self.connections:
                connection.blocked(self._is_blocked)

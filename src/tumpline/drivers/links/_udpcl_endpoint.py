"""UDPCL's sockets and the many conversations over them: for the udpcl link, and for convergence-layer agents without a node.

    endpoint = UdpclEndpoint(config, node_id, chance, host)
    endpoint.listen(Address("::", 4556), groups=[Group("ff05::114", "eth0")])      # listen_stop(...)
    talk = endpoint.talk_with(Address("192.0.2.7", 4556))                         # numeric; TalkOptions say from where
    endpoint.send(talk, [(token, bundle), ...])                                   # host.sent or host.failed tells the end
    talk.machine.search_path_mtu(now, steps); endpoint.touch(talk)                # event PathMtuFound
    endpoint.close()

Everything else comes by the calls of `EndpointHost`. DTLS is spoken as `config.tls` says (_udpcl_security).
All calls run on the loop's thread, none blocks.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from tumpline.drivers.dial import Address
from tumpline.drivers.links._udpcl_addresses import in_use, interface_number, is_any, numeric, places
from tumpline.drivers.links._udpcl_config import UdpclConfig, conversation_config
from tumpline.drivers.links._udpcl_socket import Local, Received, SocketAddress, UdpSocket
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.links._udpcl_wakes import Wakes
from tumpline.errors import TumplineError
from tumpline.machines.udpcl.conversation import Batch, Conversation
from tumpline.machines.udpcl.events import DtlsFailed, DtlsUnanswered, Event, PathMtuFound, PeerNamed, StartDtls
from tumpline.machines.udpcl.feedback import NOT_ECT
from tumpline.machines.udpcl.reassembly import Reassembly
from tumpline.wire.dtls import split_records
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import Kind, kind_of

if TYPE_CHECKING:
    from tumpline.drivers.dtls.channel import DtlsChannel
    from tumpline.drivers.links._udpcl_security import Security

READS_MOST: Final = 64  # of one socket in a wake-up: others must have their turn
QUEUE_FULL_S: Final = 0.002
TRIES_MOST: Final = 24  # shorter and shorter datagrams until they pass: a size is at least a quarter smaller each time


class Group(NamedTuple):
    """A multicast group, and the interface to take it on ("": the system's choice)."""

    address: str
    interface: str = ""


class EndpointHost(Protocol):
    """Whom an endpoint serves."""

    def received(self, talk: Talk, bundles: list[bytes], /) -> None:
        """Bundles came whole. `talk.address`, `talk.local` and `talk.socket.port` say from where to where."""

    def sent(self, talk: Talk, tokens: list[int], /) -> None:
        """The last datagrams of these bundles were handed to the system."""

    def failed(self, talk: Talk, tokens: list[int], reason: str, /) -> None:
        """These bundles cannot be sent, or not any more."""

    def happened(self, talk: Talk, event: Event, /) -> None:
        """Something of machines/udpcl/events."""

    def forgotten(self, talk: Talk, reason: str, /) -> None:
        """The conversation is over; what waited was told by `failed` before."""

    def notice(self, name: str, **fields: Any) -> None:
        """For people (log, event stream)."""


class Counters:
    """Of datagrams that belong to no conversation."""

    __slots__ = ("crowded_out", "garbage")

    def __init__(self) -> None:
        self.garbage = 0  # from strangers, without meaning
        self.crowded_out = 0  # from strangers, when no more conversations were to be remembered


class _Incomplete:
    """Stands for the deadline of incomplete bundles."""

    __slots__ = ("wake_at",)

    def __init__(self) -> None:
        self.wake_at: float | None = None


class UdpclEndpoint:
    """Sockets, conversations by address, one timer. Ends with `close`."""

    def __init__(
        self,
        config: UdpclConfig,
        node_id: Eid | None,
        chance: Callable[[], float],
        host: EndpointHost,
    ) -> None:
        """Raises: TumplineError (files of `config.tls` that cannot be used)."""
        self.config = config
        self.conversation_config = conversation_config(config, node_id)
        self.counts = Counters()
        self.reassembly = Reassembly(config.reassembly())
        self.talks: dict[tuple[UdpSocket, SocketAddress], Talk] = {}
        self._host = host
        self._security = _security(config, node_id, host)
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._listening: dict[Address, list[UdpSocket]] = {}  # as asked
        self._sockets: list[UdpSocket] = []
        self._strangers: OrderedDict[tuple[UdpSocket, SocketAddress], Talk] = OrderedDict()  # silent longest first
        self._wakes: Wakes[Talk | _Incomplete] = Wakes(self._woken)
        self._incomplete = _Incomplete()
        self._is_paused = False
        self._blocked: dict[UdpSocket, dict[Talk, None]] = {}  # talks whose socket takes nothing more for now

    # ---- sockets -----------------------------------------------------------------------------------------------------

    def listen(self, address: Address, groups: Sequence[Group] = (), *, both: bool = False) -> str:
        """Take datagrams there. `address` is numeric or a name of this machine; `both`: "::" stands for every address, of
        IPv4 too. Returns: where, with the port chosen if 0 was asked for. Raises: TumplineError with the remedy."""
        if address in self._listening:
            raise in_use(address, "by this endpoint itself")
        opened: list[UdpSocket] = []
        try:
            for family, where in places(address, both):
                if opened and address.port == 0:
                    where = (where[0], opened[0].port, *where[2:])
                opened.append(self._open(family, where, address))
            for group in groups:
                self._join(opened, group)
        except BaseException:
            for each in opened:
                self._close(each)
            raise
        self._listening[address] = opened
        return opened[0].address

    def listen_stop(self, address: Address) -> None:
        """End what `listen` began; conversations over its sockets end. Raises: TumplineError if there is none."""
        opened = self._listening.pop(address, None)
        if opened is None:
            raise TumplineError(f"nothing listens on {address}; look at what does first")
        for each in opened:
            self._close(each)

    @property
    def listening(self) -> list[str]:
        """Where datagrams are taken."""
        return [each.address for opened in self._listening.values() for each in opened]

    def _open(self, family: socket.AddressFamily, where: SocketAddress, asked: Address) -> UdpSocket:
        config = self.config
        try:
            opened = UdpSocket(family, where, config.buffers(), marks=config.ecn_feedback, ttl=config.multicast.ttl)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise in_use(asked, "by another program") from error
            raise TumplineError(f"cannot listen on {asked}: {error.strerror}; choose another `listen`") from error
        self._sockets.append(opened)
        if not self._is_paused:
            self._loop.add_reader(opened.sock, self._readable, opened)
        return opened

    def join(self, group: Group) -> None:
        """Take what is sent to a group, where something listens already. Raises: TumplineError."""
        self._join([each for opened in self._listening.values() for each in opened], group)

    @staticmethod
    def _join(opened: list[UdpSocket], group: Group) -> None:
        family = socket.AF_INET6 if ":" in group.address else socket.AF_INET
        fitting = [each for each in opened if each.family == family]
        if not fitting:
            raise TumplineError(f"the group {group.address} needs a `listen` address of its own family; add one")
        max(fitting, key=lambda each: each.is_wildcard).join(group.address, interface_number(group.interface))

    def _close(self, closing: UdpSocket) -> None:
        for talk in [talk for talk in self.talks.values() if talk.socket is closing]:
            self.forget(talk, "the socket was closed")
        self._loop.remove_reader(closing.sock)
        self._loop.remove_writer(closing.sock)
        self._blocked.pop(closing, None)
        self._sockets.remove(closing)
        closing.close()

    def describe(self) -> dict[str, Any]:
        """For people: what belongs to no single conversation."""
        incomplete = {"held_octets": self.reassembly.held_octets, **asdict(self.reassembly.counts)}
        return {
            "conversations": len(self.talks),
            "strangers_garbage": self.counts.garbage,
            "strangers_crowded_out": self.counts.crowded_out,
            "transfers": incomplete,
            "buffer_octets": {each.address: each.buffer_octets for each in self._sockets},
        }

    def close(self) -> None:
        """End everything. Idempotent."""
        for talk in list(self.talks.values()):
            self.forget(talk, "the link is stopped")
        for each in list(self._sockets):
            self._close(each)
        self._listening.clear()
        self._wakes.close()

    # ---- conversations -----------------------------------------------------------------------------------------------

    def talk_with(
        self,
        remote: Address,
        local: Address | None = None,
        interface: str | int = "",
        *,
        keep: bool = False,
        listen_s: float | None = None,
        name: str | None = None,
        expected: Eid | None = None,
    ) -> Talk:
        """The conversation with this numeric address, begun if there is none. `local`: from where ("" or a wildcard and
        port 0: whatever fits); `interface`: out of which. `keep` a relation with it, and tell it every `listen_s` that we
        listen (by default as configured). Its certificate is to name the DNS `name` that was resolved, and the node that is
        `expected` there. Raises: TumplineError."""
        family, sockaddr = numeric(remote)
        using = self._socket_for(family, local)
        source = Local("" if local is None or is_any(local.host) else local.host, interface_number(interface))
        talk = self.talks.get((using, sockaddr))
        if talk is None:
            talk = self._begin(using, sockaddr, source if source != Local() else None)
        self._strangers.pop((using, sockaddr), None)
        talk.reference = talk.reference._replace(host=name, node_id=expected)
        talk.machine.want(self._loop.time(), keep=keep, listen_s=listen_s)
        self.touch(talk)
        return talk

    def _socket_for(self, family: socket.AddressFamily, local: Address | None) -> UdpSocket:
        """One that listens, so that answers come where we take them; or a new one."""
        wanted = local or Address("", 0)
        fitting = [
            each
            for each in self._sockets
            if each.family == family
            and wanted.port in (0, each.port)
            and (is_any(wanted.host) or each.is_wildcard or each.host == wanted.host)
        ]
        if fitting:
            return max(fitting, key=lambda each: (each.host == wanted.host, each.is_wildcard))
        any_host = "::" if family == socket.AF_INET6 else "0.0.0.0"
        return self._open(family, (wanted.host or any_host, wanted.port), wanted)

    def _begin(self, using: UdpSocket, remote: SocketAddress, local: Local | None) -> Talk:
        now = self._loop.time()
        key = (using, remote)
        machine = Conversation(self.conversation_config, self.reassembly, key, self._chance, now)
        talk = self.talks[key] = Talk(using, remote, local, machine)
        return talk

    def forget(self, talk: Talk, reason: str) -> None:
        """The conversation is over: what waits is not sent. Idempotent."""
        if talk.is_over:
            return
        talk.is_over = True
        key = (talk.socket, talk.remote)
        self.talks.pop(key, None)
        self._strangers.pop(key, None)
        self.reassembly.forget_peer(talk.machine.transfers_of)
        self._fail(talk, reason)
        if talk.channel is not None:
            talk.channel.close()
            talk.socket.send(talk.channel.out(), talk.remote, NOT_ECT, talk.local)
        if self._security is not None:
            self._security.settled(talk)
        self._blocked.get(talk.socket, {}).pop(talk, None)
        self._host.forgotten(talk, reason)

    def _fail(self, talk: Talk, reason: str) -> None:
        tokens = [token for batch in talk.backlog for token in batch.tokens] + talk.machine.outbox.give_back()
        talk.backlog.clear()
        if tokens:
            self._host.failed(talk, tokens, reason)

    def send(self, talk: Talk, bundles: Iterable[tuple[int, bytes]]) -> None:
        """Send these, in order, after those before."""
        now = self._loop.time()
        offer = talk.machine.offer
        for token, bundle in bundles:
            offer(token, bundle, now)
        self.touch(talk)

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Read nothing: the kernel keeps what its buffers hold, and drops the rest."""
        if not self._is_paused:
            self._is_paused = True
            for each in self._sockets:
                self._loop.remove_reader(each.sock)

    def resume(self) -> None:
        """Read again."""
        if self._is_paused:
            self._is_paused = False
            for each in self._sockets:
                self._loop.add_reader(each.sock, self._readable, each)

    def _readable(self, from_socket: UdpSocket) -> None:
        now = self._loop.time()
        touched: dict[Talk, list[bytes]] = {}
        for _ in range(READS_MOST):
            read = from_socket.receive()
            if read is None:
                break
            if read.datagrams:
                self._take(from_socket, read, touched, now)
        if not touched:
            self._look_at_errors(from_socket, now)  # what woke us, if no datagram did
        for talk, bundles in touched.items():
            if bundles and not talk.is_over:
                self._host.received(talk, bundles)
            self.touch(talk)
        self._arm_reassembly()

    def _look_at_errors(self, from_socket: UdpSocket, now: float) -> None:
        """What ICMP says of datagrams that we sent. Only sizes are acted on: anybody on the way can say the rest."""
        for remote, too_long in from_socket.errors():
            talk = self.talks.get((from_socket, remote))
            if talk is not None and too_long:
                talk.machine.path_too_long(too_long, now)
                self.touch(talk)
            elif talk is not None:
                talk.unreachable += 1

    def _take(self, from_socket: UdpSocket, read: Received, touched: dict[Talk, list[bytes]], now: float) -> None:
        key = from_socket, read.remote
        if self._security is not None and any(data[:1] == b"\x16" for data in read.datagrams):
            read = self._greet(self._security, from_socket, read, touched)
            if not read.datagrams:
                return
        talk = self.talks.get(key)
        if talk is None:
            talk = self._stranger(from_socket, read, touched)
            if talk is None:
                return
        elif key in self._strangers:
            self._strangers.move_to_end(key)
            talk.local = _reply_from(read)
        if talk.channel is not None:
            bundles = self._decrypt(talk, talk.channel, read, now)
        else:
            bundles = talk.machine.receive(read.datagrams, now, mark=read.mark, is_multicast=read.is_multicast)
        known = touched.get(talk)
        if known is None:
            touched[talk] = bundles
        else:
            known += bundles

    def _stranger(self, from_socket: UdpSocket, read: Received, touched: dict[Talk, list[bytes]]) -> Talk | None:
        """A conversation with somebody new, if what came has a meaning and there is room for one more."""
        first = read.datagrams[0][:1]
        kind = kind_of(first[0]) if first else None
        if kind is None or kind in (Kind.PADDING, Kind.BUNDLE6, Kind.DTLS):
            self.counts.garbage += len(read.datagrams)
            return None
        return self._begin_stranger(from_socket, read, touched)

    def _begin_stranger(self, from_socket: UdpSocket, read: Received, touched: dict[Talk, list[bytes]]) -> Talk | None:
        if len(self.talks) >= self.config.limits.conversations:
            self.counts.crowded_out += 1
            if not self._strangers:
                return None
            eldest = next(iter(self._strangers.values()))
            if bundles := touched.pop(eldest, None):
                self._host.received(eldest, bundles)
            self.forget(eldest, "others came")
        talk = self._begin(from_socket, read.remote, _reply_from(read))
        self._strangers[from_socket, read.remote] = talk
        return talk

    # ---- turns -------------------------------------------------------------------------------------------------------

    def touch(self, talk: Talk) -> None:
        """Something has changed: tell events, send what may be sent, set the timer."""
        if talk.is_over or talk.is_busy:
            return  # the turn under way looks once more
        talk.is_busy = True
        now = self._loop.time()
        self._tell_events(talk, now)
        if not talk.is_over and not talk.backlog:
            self._poll(talk, now)
        if not talk.is_over:
            self._write(talk, now)
        talk.is_busy = False
        if talk.machine.events:
            self._tell_events(talk, now)
        if not talk.is_over:
            self._arm(talk)

    def _tell_events(self, talk: Talk, now: float) -> None:
        events = talk.machine.events
        while events:
            event = events.pop(0)
            if isinstance(event, StartDtls):
                self._start_dtls(talk, now)
            elif isinstance(event, PeerNamed) and talk.identity is not None and event.is_secured:
                if refusal := talk.identity.told(event.node_id):
                    talk.machine.dtls_failed(refusal)
                    continue
            elif isinstance(event, DtlsUnanswered):
                talk.channel = None
            elif isinstance(event, PathMtuFound) and talk.channel is not None:
                self._secure.sized(talk, event.is_confirmed, now)
            self._host.happened(talk, event)
            if isinstance(event, DtlsFailed):
                self.forget(talk, event.text)  # a new handshake is a new conversation

    def _poll(self, talk: Talk, now: float) -> None:
        channel = talk.channel
        if channel is not None and not channel.is_established:
            return
        for batch in talk.machine.poll(now):
            talk.backlog.append(batch if channel is None else _sealed(channel, batch, batch.datagrams, talk))

    def _write(self, talk: Talk, now: float) -> None:
        """What waits goes to the socket; what is too long, in shorter pieces."""
        tries = 0
        while talk.backlog and not talk.is_over:
            batch = talk.backlog.popleft()
            done = talk.socket.send(batch.datagrams, talk.remote, batch.mark, talk.local)
            if done.gone == len(batch.datagrams):
                if batch.tokens:
                    self._host.sent(talk, batch.tokens)
                continue
            rest = batch._replace(datagrams=batch.datagrams[done.gone :])
            tries += 1
            if done.error or tries > TRIES_MOST:
                talk.backlog.appendleft(batch)
                self._fail(talk, f"{talk.address} cannot be reached: {done.error or 'no datagram is short enough'}")
                return
            if done.too_long:
                rest = _shortened(talk, rest, done.too_long, now)
            talk.backlog.appendleft(rest)
            if done.is_blocked:
                self._wait_for_room(talk, done.is_queue_full, now)
                return

    def _wait_for_room(self, talk: Talk, is_queue_full: bool, now: float) -> None:
        waiting = self._blocked.setdefault(talk.socket, {})
        if not waiting and is_queue_full:
            self._loop.call_later(QUEUE_FULL_S, self._writable, talk.socket)
        elif not waiting:
            self._loop.add_writer(talk.socket.sock, self._writable, talk.socket)
        waiting[talk] = None
        if is_queue_full:
            talk.machine.congestion.queue_full(now)

    def _writable(self, to_socket: UdpSocket) -> None:
        if to_socket not in self._sockets:
            return  # closed meanwhile
        self._loop.remove_writer(to_socket.sock)
        for talk in self._blocked.pop(to_socket, {}):
            self.touch(talk)

    # ---- time --------------------------------------------------------------------------------------------------------

    def _arm(self, talk: Talk) -> None:
        if talk.backlog:
            return  # the socket takes nothing more: there is a wake-up for when it does
        at = talk.machine.next_timeout()
        if not talk.machine.is_kept and talk.machine.is_idle:
            forget_at = max(talk.machine.last_heard_at, talk.machine.last_used_at) + self.config.limits.forget_s
            at = forget_at if at is None else min(at, forget_at)
        if talk.channel is not None and (again := talk.channel.next_timeout()) is not None:
            at = again if at is None else min(at, again)
        if at is not None:
            self._wakes.set(talk, at)

    def _woken(self, sleeper: Talk | _Incomplete, now: float) -> None:
        if isinstance(sleeper, Talk):
            self._wake_talk(sleeper, now)
        else:
            self.reassembly.handle_timeout(now)
            self._arm_reassembly()

    def _arm_reassembly(self) -> None:
        if (at := self.reassembly.next_timeout()) is not None:
            self._wakes.set(self._incomplete, at)

    def _wake_talk(self, talk: Talk, now: float) -> None:
        if talk.is_over:
            return
        machine = talk.machine
        last = max(machine.last_heard_at, machine.last_used_at)
        if not machine.is_kept and machine.is_idle and now >= last + self.config.limits.forget_s:
            self.forget(talk, "nothing was heard for a while")
            return
        if talk.channel is not None and (again := talk.channel.next_timeout()) is not None and again <= now:
            talk.channel.handle_timeout(now)
            self._secure.look(talk, now)
        at = machine.next_timeout()
        if at is not None and at <= now:
            machine.handle_timeout(now)
        self.touch(talk)

    # ---- DTLS --------------------------------------------------------------------------------------------------------

    @property
    def _secure(self) -> Security:
        assert self._security is not None, "nobody speaks DTLS where there is none"
        return self._security

    def _start_dtls(self, talk: Talk, now: float) -> None:
        self._poll(talk, now)  # DTLS Initiation, plainly
        self._secure.begin(talk, now)
        if talk.channel is not None:
            self._secure.look(talk, now)

    def _greet(
        self, security: Security, from_socket: UdpSocket, read: Received, touched: dict[Talk, list[bytes]]
    ) -> Received:
        """ClientHellos are no matter of a conversation yet: nothing is kept before their cookie has come back."""
        key = from_socket, read.remote

        def find() -> Talk | None:
            return self.talks.get(key)

        def begin() -> Talk | None:
            return find() or self._begin_stranger(from_socket, read, touched)

        rest = security.greet(from_socket, read, find, begin)
        talk = find()
        if talk is not None and talk.channel is not None:
            security.look(talk, self._loop.time())
            touched.setdefault(talk, [])
        return rest

    def _decrypt(self, talk: Talk, channel: DtlsChannel, read: Received, now: float) -> list[bytes]:
        """Records go through the channel; plain text beside them is refused, and counted, by the machine."""
        plain: list[bytes] = []
        for data in read.datagrams:
            if data and kind_of(data[0]) is Kind.DTLS:
                plain += channel.feed(data, now)
            else:
                talk.machine.receive([data], now)
        self._secure.look(talk, now)
        if not plain:
            return []
        return talk.machine.receive(plain, now, mark=read.mark, is_multicast=read.is_multicast, is_secured=True)


def _sealed(channel: DtlsChannel, batch: Batch, plain: list[bytes], talk: Talk) -> Batch:
    return batch._replace(datagrams=channel.seal(plain, talk.machine.sizing.path_octets), plain=plain)


def _shortened(talk: Talk, batch: Batch, octets: int, now: float) -> Batch:
    """What did not pass, in datagrams that may. Records cannot be cut: what they were made of is sealed once more."""
    if talk.channel is None:
        return batch._replace(datagrams=talk.machine.message_too_long(batch.datagrams, octets, now))
    left = sum(len(split_records(datagram)) for datagram in batch.datagrams)  # at least one of each that has not gone
    plain = talk.machine.message_too_long(batch.plain[-left:], octets, now)
    return _sealed(talk.channel, batch, plain, talk)


def _security(config: UdpclConfig, node_id: Eid | None, host: EndpointHost) -> Security | None:
    if config.tls.effective_mode == "off":
        return None
    from tumpline.drivers.links._udpcl_security import Security

    return Security(config, node_id, host.notice)


def _reply_from(read: Received) -> Local | None:
    """What came to one address of ours is answered from there; what came to a group, from where the system likes."""
    local = read.local
    return None if local is None or read.is_multicast else local._replace(interface=0)

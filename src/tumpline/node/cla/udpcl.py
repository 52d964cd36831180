"""A UDPCL endpoint without a bundle agent: datagrams to whoever is named with each bundle, and what comes is kept to be
taken."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from tumpline.drivers.dial import Address, DialError, addresses_of, parse_address, resolve
from tumpline.drivers.links._udpcl_addresses import ANY_V4
from tumpline.drivers.links._udpcl_endpoint import Group, UdpclEndpoint
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.links._units import put
from tumpline.drivers.payload import release
from tumpline.drivers.spool import Room, Spool
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import StorageError, TumplineError
from tumpline.machines.backoff import Backoff
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, FileRange, Octets, Payload
from tumpline.machines.effects import RefuseReason
from tumpline.machines.udpcl.events import Event, PathMtuFound, PathMtuShrank, PeerListening
from tumpline.node.cla.holdings import HELD_OCTETS, TRANSFERS_MOST, Holdings, TransferError
from tumpline.node.cla.received import Received, process_umask
from tumpline.node.cla.udpcl_events import (
    AgentEvent,
    BundleReceived,
    PathMtuSearched,
    PollingReceived,
    Where,
)
from tumpline.node.cla.udpcl_outgoing import Outbox, line_of
from tumpline.node.cla.udpcl_settings import Poll, UdpclAgentSettings
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import PORT

DTN_EPOCH_MS: Final = 946_684_800_000  # RFC 9171 §4.2.6: DTN time counts from 2000-01-01
NAMES_MOST: Final = 1024  # looked up and remembered
NAME_S: Final = 60.0  # for so long; a name server is not asked once for each bundle
POLL_FIRST_S: Final = 1.0  # the older agent's
PROBES_S: Final = 300.0  # a search that is not over by then came to nothing

_log = logging.getLogger("tumpline.udpcl")


class SendTo(NamedTuple):
    """Where a bundle goes, and from where ("" and 0: whatever fits)."""

    to: Address
    local_address: str = ""
    local_port: int = 0
    local_if: int = 0

    @property
    def local(self) -> Address | None:
        return Address(self.local_address, self.local_port) if self.local_address or self.local_port else None


class UdpclAgent:
    """`start`, then verbs, until `ended` returns; `close` gives everything back. `tell` hears what happens."""

    def __init__(self, settings: UdpclAgentSettings, tell: Callable[[AgentEvent], None]) -> None:
        """Raises: StorageError (no file can be made where received bundles wait), MalformedError (the node ID)."""
        self.settings = settings
        self.tell = tell
        spool = Spool(settings.spool_directory, settings.spool_octets_most)
        self.holdings = Holdings(spool, Room(settings.memory_octets_most), Room(settings.memory_octets_most))
        self._outbox = Outbox(self.holdings.queued, tell, self._end_if_done)
        self.received_bundles = Received(self.holdings, self._emptied)
        self._umask = process_umask()
        self.counters: Counter[str] = Counter()
        self._node_id = Eid.parse(settings.node_id) if settings.node_id else None
        self._endpoint: UdpclEndpoint | None = None
        self._tasks = TaskOwner(_task_failed)
        self._names: dict[Address, tuple[float, Address]] = {}  # looked up: until when, numeric
        self._last = 0  # number of a transfer, either way
        self._is_ending = False
        self._ended = asyncio.Event()

    @property
    def endpoint(self) -> UdpclEndpoint:
        """While the agent runs."""
        assert self._endpoint is not None, "the agent was started"
        return self._endpoint

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and poll as the settings say. Raises: TumplineError with the remedy."""
        link = self.settings.link
        self._endpoint = UdpclEndpoint(link, self._node_id, random.random, self)
        try:
            places = [parse_address(text, PORT) for text in addresses_of(link.listen)]
            for where in places:
                # "::" is every address, unless those of IPv4 have an entry of their own.
                self._endpoint.listen(where, both=Address(ANY_V4, where.port) not in places)
            for group in link.multicast.groups:
                self._endpoint.join(Group(*group.partition("%")[::2]))
        except BaseException:
            await self.close()
            raise
        for poll in self.settings.polls:
            self._tasks.start(self._keep_polling(poll), f"udpcl polls {poll.to}")

    async def ended(self) -> None:
        """Returns once the agent was stopped, or has shut down."""
        await self._ended.wait()

    async def close(self) -> None:
        """End what is left and give everything back. Idempotent."""
        self._is_ending = True
        await self._tasks.stop()
        if self._endpoint is not None:
            self._endpoint.close()
        self.received_bundles.discard()
        self._ended.set()

    async def pop_file(self, number: str, path: str) -> None:
        """Take a received bundle as a new file. Raises: UnknownTransferError, OSError: it stays here then."""
        await self.received_bundles.pop_file(number, path, 0o666 & ~self._umask)

    def shutdown(self) -> bool:
        """End once everything that was to be sent has left. True: that is now."""
        self._is_ending = True
        self._end_if_done()
        return self._ended.is_set()

    def stop(self) -> None:
        """End now, whatever is under way."""
        self._ended.set()

    def _end_if_done(self) -> None:
        if self._is_ending and not self._outbox.count:
            self._ended.set()

    def _check_not_ending(self) -> None:
        if self._is_ending:
            raise TumplineError("the agent shuts down: it sends nothing more and listens nowhere else")

    # ---- listening ---------------------------------------------------------------------------------------------------

    @property
    def listening(self) -> list[str]:
        """Where datagrams are taken."""
        return self.endpoint.listening

    def listen(self, where: Address, groups: Sequence[Group] = ()) -> None:
        """Take datagrams there; "": on every address. Raises: TumplineError with the remedy (port in use ...)."""
        self._check_not_ending()
        self.endpoint.listen(where, groups, both=not where.host)

    def listen_stop(self, where: Address) -> None:
        """End what `listen` began. Raises: TumplineError (it does not listen there)."""
        self.endpoint.listen_stop(where)

    async def _keep_polling(self, poll: Poll) -> None:
        """Say it again and again; a name that cannot be resolved now may be later."""
        await asyncio.sleep(POLL_FIRST_S)
        backoff = Backoff(random.random, 1.0, max(1.0, poll.interval_s))
        while True:
            try:
                talk = await self._talk_with(poll.to, poll.local)
                talk.machine.announce(int(poll.interval_s * 1000))
                self.endpoint.touch(talk)
                backoff.reset()
                delay_s = poll.interval_s
            except TumplineError as error:
                delay_s = backoff.next_delay_s()
                _log.warning("polling: %s; again in %.1f s", error, delay_s)
            await asyncio.sleep(delay_s)

    # ---- sending -----------------------------------------------------------------------------------------------------

    async def send_data(self, data: bytes, where: SendTo) -> str:
        """Queue a bundle; its number. Raises: QueueFullError, TransferError (too long), DialError, TumplineError."""
        return await self._send(Octets(data), where)

    async def send_file(self, payload: FileRange, where: SendTo) -> str:
        """Queue an open file, whose one reader is the transfer from now on; its number. Raises: as `send_data`."""
        try:
            return await self._send(payload, where)
        except BaseException:
            release(payload)
            raise

    async def _send(self, payload: Payload, where: SendTo) -> str:
        self._check(payload)
        talk = self.endpoint.talk_with(await self._numeric(where.to), where.local, _interface_name(where.local_if))
        self._last += 1
        self._outbox.put(self.endpoint, talk, self._last, payload)
        return str(self._last)

    def _check(self, payload: Payload) -> None:
        self._check_not_ending()
        most = self.settings.link.bundle_octets
        if not 0 < payload.length <= most:
            raise TransferError(f"a bundle of {payload.length} octets is not sent over UDP here: 1 to {most} are")

    async def _talk_with(self, where: Address, local: Address | None = None, interface: int = 0) -> Talk:
        """Raises: DialError, TumplineError."""
        name = where.host.rstrip(".") if where.is_name else None
        return self.endpoint.talk_with(await self._numeric(where), local, interface, name=name)

    async def _numeric(self, where: Address) -> Address:
        """Raises: DialError."""
        if not where.is_name:
            return where
        now = asyncio.get_running_loop().time()
        until, found = self._names.get(where, (0.0, where))
        if until <= now:
            sockaddr = await _looked_up(where)
            found = Address(str(sockaddr[0]), int(sockaddr[1]))
            if len(self._names) >= NAMES_MOST:
                self._names.clear()
            self._names[where] = now + NAME_S, found
        return found

    # ---- path MTU ----------------------------------------------------------------------------------------------------

    async def search_path_mtu(self, where: Address, steps: int = 0) -> None:
        """Find out how long datagrams may be; PathMtuSearched tells. `steps`: how finely sizes are divided; 0: as the
        endpoint does by itself. Raises: DialError, TumplineError."""
        talk = await self._talk_with(where)
        asked = Where(where.host, where.port)
        line_of(talk).searches.append(asked)
        loop = asyncio.get_running_loop()
        talk.machine.search_path_mtu(loop.time(), steps or None)
        self.endpoint.touch(talk)
        self._tasks.start(self._give_up(talk, asked), f"udpcl searches the path MTU to {where}")

    async def _give_up(self, talk: Talk, asked: Where) -> None:
        await asyncio.sleep(PROBES_S)
        if asked in line_of(talk).searches:
            self._searched(talk, 0)

    def _searched(self, talk: Talk, octets: int) -> None:
        line = line_of(talk)
        searches, line.searches = line.searches, []
        for asked in searches:
            self.tell(PathMtuSearched(asked, octets))

    # ---- calls of the endpoint ---------------------------------------------------------------------------------------

    def received(self, talk: Talk, bundles: list[bytes]) -> None:
        """Bundles came: kept, or dropped where there is no room."""
        source, local = _where(talk.remote), Where(_local_host(talk), talk.socket.port)
        for data in bundles:
            payload = self._keep(data)
            if payload is None:
                self.counters["bundles_dropped"] += 1
                if self.counters["bundles_dropped"].bit_count() == 1:  # the first, second, fourth, eighth ...
                    _log.warning(
                        "%d received bundles were dropped: nobody takes them", self.counters["bundles_dropped"]
                    )
                continue
            self._last += 1
            number = str(self._last)
            self.received_bundles.keep(number, payload)
            self.tell(BundleReceived(number, len(data), source, local))

    def _keep(self, data: bytes) -> Payload | None:
        if len(self.received_bundles) >= TRANSFERS_MOST:
            return None
        if len(data) < FILE_PAYLOAD_OCTETS:
            return Octets(data) if self.holdings.received.take(len(data) + HELD_OCTETS) else None
        sink = self.holdings.spool.sink(len(data), _Unwatched())
        if isinstance(sink, RefuseReason):
            return None
        try:
            put(sink, data)
            return sink.finish(0).payload
        except StorageError as error:
            _log.warning("a received bundle could not be kept: %s", error)
            return None

    def sent(self, talk: Talk, tokens: list[int]) -> None:
        """All that UDPCL can say of a bundle: it went."""
        self._outbox.sent(talk, tokens)
        self._outbox.feed(self.endpoint, talk)

    def failed(self, talk: Talk, tokens: list[int], reason: str) -> None:
        """They did not go, and those behind them will not either."""
        self._outbox.fail(talk, tokens, reason)

    def happened(self, talk: Talk, event: Event) -> None:
        """What a conversation learned."""
        if isinstance(event, PeerListening):
            node_id = "" if event.node_id is None else str(event.node_id)
            dtn_ms = int(time.time() * 1000) - DTN_EPOCH_MS
            self.tell(PollingReceived(dtn_ms, event.interval_ms, node_id, _where(talk.remote)))
        elif isinstance(event, PathMtuFound):
            _log.info("%s: datagrams of %d octets pass", talk.address, event.datagram_octets)
            self._searched(talk, event.datagram_octets if event.is_confirmed else 0)
        elif isinstance(event, PathMtuShrank):
            _log.info("%s: datagrams of %d octets at most from now on", talk.address, event.datagram_octets)

    def forgotten(self, talk: Talk, reason: str) -> None:
        """A conversation is over."""
        self.failed(talk, [], reason)
        self._searched(talk, 0)

    def notice(self, name: str, **fields: Any) -> None:
        """Into the log."""
        _log.info("%s: %s", name.replace("_", " "), ", ".join(f"{key} {value}" for key, value in fields.items()))

    def _emptied(self) -> None:
        """Everything that came was taken."""


def _interface_name(number: int) -> str:
    """ "" for 0. Raises: TumplineError (there is none of this number)."""
    try:
        return socket.if_indextoname(number) if number else ""
    except OSError as error:
        known = ", ".join(f"{each} {name}" for each, name in socket.if_nameindex())
        raise TumplineError(f"local_if {number} is no network interface; there are: {known}") from error


async def _looked_up(where: Address) -> Sequence[Any]:
    """Raises: DialError. A final dot says that a name is whole: servers know that, files of hosts do not."""
    try:
        return (await resolve(where))[0][1]
    except DialError:
        if not where.host.endswith("."):
            raise
    return (await resolve(where._replace(host=where.host.rstrip("."))))[0][1]


class _Unwatched:
    """Nobody asks how far a bundle is that is there already."""

    def came(self, octets: int) -> None:
        pass

    def dropped(self, octets: int) -> None:
        pass


def _where(sockaddr: Sequence[Any]) -> Where:
    return Where(str(sockaddr[0]).removeprefix("::ffff:"), int(sockaddr[1]))


def _local_host(talk: Talk) -> str:
    if talk.local is not None and talk.local.address:
        return talk.local.address
    return talk.socket.host


def _task_failed(name: str, error: BaseException) -> None:
    _log.error("%s ended by an error that nobody foresaw", name, exc_info=error)

"""Bundles over UDP (draft-ietf-dtn-udpcl version 2, RFC 7122). A path is a conversation: with an address that was configured
it is up from the beginning, with one that sends us bundles or says who it is, from then on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from tumpline.drivers.dial import Address, DialError, addresses_of, parse_address, resolve
from tumpline.drivers.links._api import LinkContext, LinkHost, LinkSpec
from tumpline.drivers.links._dialler import SETTLED_S
from tumpline.drivers.links._tls_config import asks_for_proof
from tumpline.drivers.links._udpcl_addresses import ANY_V4, first_routed
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.drivers.links._udpcl_describe import describe_talk, describe_tls, security_of
from tumpline.drivers.links._udpcl_endpoint import Group, UdpclEndpoint
from tumpline.drivers.links._udpcl_socket import SocketAddress
from tumpline.drivers.links._udpcl_talk import Talk
from tumpline.drivers.links._units import lose, release
from tumpline.drivers.payload import read_range
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import StorageError
from tumpline.machines.backoff import Backoff
from tumpline.machines.bucket import Bucket
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.machines.udpcl.conversation import State
from tumpline.machines.udpcl.events import (
    DtlsDone,
    DtlsFailed,
    DtlsUnanswered,
    Event,
    PathMtuFound,
    PathMtuShrank,
    PeerNamed,
    PeerSilent,
    SpokeVersion2,
)
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import PORT

# Handed to a conversation ahead of what it has sent: the rest waits where it lies.
AHEAD_OCTETS = 512 << 10
TOLD_AT_ONCE = 16  # refused handshakes; then one notice a second


class _Path:
    """What the link keeps of a conversation: `Talk.owner`."""

    __slots__ = ("arrived", "expected", "number", "outbound", "told", "units", "unsent")

    def __init__(self, number: int, expected: Eid | None, outbound: bool) -> None:
        self.number = number
        self.expected = expected  # who is there, by whoever configured the address
        self.outbound = outbound
        self.told: PathInfo | None = None  # the host knows of it
        self.arrived = 0  # numbers given to what came
        self.units: deque[Unit] = deque()  # not handed to the conversation yet
        self.unsent: dict[int, Unit] = {}  # handed to it


class _Wanted:
    """An address that was configured."""

    def __init__(self, address: str, peer: Eid | None, backoff: Backoff) -> None:
        self.address = address
        self.peer = peer
        self.backoff = backoff
        self.talk: Talk | None = None
        self.failure = ""
        self.retry_at = 0.0
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, Any]:
        """Snapshot for people, as of a dialler."""
        return {
            "address": self.address,
            "peer": str(self.peer) if self.peer is not None else None,
            "connected": self.talk is not None,
            "failures": self.backoff.attempts,
            "last_failure": self.failure,
            "retry_in_s": round(max(0.0, self.retry_at - asyncio.get_running_loop().time()), 3),
        }


class UdpclLink:
    """BundleLink over UDP. Made by SPEC.open."""

    host: LinkHost

    def __init__(self, config: UdpclConfig, context: LinkContext) -> None:
        self.name = context.name
        self._config = config
        self._context = context
        self._endpoint: UdpclEndpoint | None = None
        self._wanted: dict[str, _Wanted] = {}
        self._paths: dict[int, Talk] = {}
        self._unanswered: dict[tuple[int, int], int] = {}  # octets by path and transfer
        self._unanswered_octets = 0
        self._tasks = TaskOwner(self._task_failed)
        self._all_sent = asyncio.Event()
        self._is_stopping = False
        self._tell = Bucket(TOLD_AT_ONCE, TOLD_AT_ONCE, 1.0, 0.0)  # of strangers that were refused

    @property
    def endpoint(self) -> UdpclEndpoint:
        """While the link runs."""
        assert self._endpoint is not None, "the link was started"
        return self._endpoint

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, host: LinkHost) -> None:
        """Bind and speak to those configured. Raises: TumplineError with the remedy."""
        self.host = host
        config = self._config
        self._endpoint = UdpclEndpoint(config, self._context.node_id, self._context.random, self)
        try:
            places = [parse_address(text, PORT) for text in addresses_of(config.listen)]
            for where in places:
                # "::" is every address, unless those of IPv4 have an entry of their own.
                self._endpoint.listen(where, both=Address(ANY_V4, where.port) not in places)
            for group in config.multicast.groups:
                self._endpoint.join(Group(*group.partition("%")[::2]))
            for text in addresses_of(config.connect):
                self.connect(text)
        except BaseException:
            await self.stop(graceful=False)
            raise

    async def stop(self, *, graceful: bool = True, timeout_s: float = 5.0) -> None:
        """Send what was offered (gracefully), then free everything."""
        self._is_stopping = True
        endpoint = self._endpoint
        if endpoint is None:
            return
        if graceful:
            await self._send_rest(timeout_s)
        await self._tasks.stop()
        self._wanted.clear()
        endpoint.close()
        self._endpoint = None

    async def _send_rest(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while any(talk.owner.units or talk.owner.unsent for talk in self._paths.values()):
                    self._all_sent.clear()
                    await self._all_sent.wait()
        except TimeoutError:
            self.host.notice("sessions_cut", link=self.name, count=len(self._paths), after_s=timeout_s)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.host.notice("task_failed", link=self.name, task=name, reason=repr(error))

    # ---- verbs of the host -------------------------------------------------------------------------------------------

    def connect(self, address: str, peer: Eid | None = None) -> None:
        """Keep a conversation with this address."""
        parse_address(address, PORT)
        if address in self._wanted or self._is_stopping:
            return
        wanted = self._wanted[address] = _Wanted(address, peer, Backoff(self._context.random))
        wanted.task = self._tasks.start(self._keep(wanted), f"{self.name} keeps {address}")

    async def _keep(self, wanted: _Wanted) -> None:
        """Look the name up, and begin; begin again when the conversation was ended by something else than us."""
        while True:
            try:
                where, interface = _without_interface(parse_address(wanted.address, PORT))
                found = await resolve(where)
                wanted.ended.clear()
                began = asyncio.get_running_loop().time()
                self._begin(wanted, first_routed(found), interface)
                await wanted.ended.wait()
                if asyncio.get_running_loop().time() - began >= SETTLED_S:
                    wanted.backoff.reset()
            except DialError as error:
                wanted.failure = str(error)
            delay_s = wanted.backoff.next_delay_s()
            wanted.retry_at = asyncio.get_running_loop().time() + delay_s
            fields = {"address": wanted.address, "reason": wanted.failure, "retry_s": round(delay_s, 3)}
            self.host.notice("connection_failed", link=self.name, **fields)
            await asyncio.sleep(delay_s)

    def _begin(self, wanted: _Wanted, sockaddr: SocketAddress, interface: str) -> None:
        asked = parse_address(wanted.address, PORT)
        name = asked.host if asked.is_name else None
        numeric = Address(str(sockaddr[0]), int(sockaddr[1]))
        talk = wanted.talk = self.endpoint.talk_with(
            numeric, interface=interface, keep=True, name=name, expected=wanted.peer
        )
        path = talk.owner
        if talk.is_over:
            self._ended(talk, talk.machine.failure)
        elif talk.machine.state is State.SECURING:
            return  # DtlsDone brings the path up
        elif path is None:
            self._path(talk, wanted.peer, outbound=True)
        else:  # it has spoken to us before
            path.expected = wanted.peer
            path.outbound = True
            self._tell_path(talk, path)

    def disconnect(self, address: str | None, path: int | None, reason: str) -> None:
        """Keep no conversation with the address; end the path."""
        wanted = self._wanted.pop(address, None) if address is not None else None
        talks = [self._paths.get(path) if path is not None else None]
        if wanted is not None:
            assert wanted.task is not None
            wanted.task.cancel()
            talks.append(wanted.talk)
        for talk in talks:
            if talk is not None:
                self.endpoint.forget(talk, reason)

    def offer(self, path: int, units: Sequence[Unit]) -> None:
        """Send the units in order."""
        talk = self._paths.get(path)
        if talk is None or talk.is_over:
            lose(self.host, path, units)
            return
        talk.owner.units.extend(units)
        self._feed(talk)

    def _feed(self, talk: Talk) -> None:
        """As much goes to the conversation as it can soon send."""
        path: _Path = talk.owner
        given: list[tuple[int, bytes]] = []
        room = AHEAD_OCTETS - talk.machine.outbox.queued_octets
        while path.units and room > 0:
            unit = path.units.popleft()
            data = self._read(talk, path, unit)
            if data is None:
                continue
            path.unsent[unit.seq] = unit
            given.append((unit.seq, data))
            room -= len(data)
        if given:
            self.endpoint.send(talk, given)

    def _read(self, talk: Talk, path: _Path, unit: Unit) -> bytes | None:
        """The encoded bundle; None: it cannot be sent, and the host was told."""
        try:
            data = unit.head + read_range(unit.payload, 0, unit.payload.length) + unit.tail
        except StorageError as error:
            release(unit)
            self.host.notice("transfer_failed", link=self.name, path=path.number, reason=str(error))
            self.host.lost(path.number, [unit.seq])
            return None
        if data and len(data) <= self._mru_octets(talk):
            return data
        release(unit)
        self.host.refused(path.number, unit.seq, RefuseReason.NOT_ACCEPTABLE)
        return None

    def cancel(self, path: int, seq: int) -> None:
        """Do not send it, if it has not begun."""
        talk = self._paths.get(path)
        if talk is None:
            return
        units: deque[Unit] = talk.owner.units
        for unit in units:
            if unit.seq == seq:
                units.remove(unit)
                release(unit)
                self.host.lost(path, [seq])
                return
        if seq in talk.owner.unsent and talk.machine.outbox.cancel(seq):
            self.failed(talk, [seq], "cancelled")

    def acknowledge(self, path: int, transfers: Sequence[int]) -> None:
        """These are stored: there is room for more. The sender hears nothing of it."""
        unanswered = self._unanswered
        for transfer in transfers:
            self._unanswered_octets -= unanswered.pop((path, transfer), 0)
        if self._endpoint is not None and not self._is_full():
            self._endpoint.resume()

    def refuse(self, path: int, transfer: int, reason: RefuseReason) -> None:  # noqa: ARG002
        """This one is not kept; the sender does not hear of it."""
        self.acknowledge(path, [transfer])

    def _is_full(self) -> bool:
        limits = self._config.limits
        return len(self._unanswered) >= limits.max_unanswered or self._unanswered_octets >= limits.max_unanswered_octets

    def describe(self) -> dict[str, Any]:
        """Snapshot for people."""
        endpoint = self._endpoint
        return {
            "kind": SPEC.scheme,
            "listening": [] if endpoint is None else endpoint.listening,
            **describe_tls(self._config.tls.effective_mode),
            "sessions": [
                {"path": number, "outbound": talk.owner.outbound, **describe_talk(talk)}
                for number, talk in self._paths.items()
            ],
            "dialling": [each.describe() for each in self._wanted.values()],
            **({} if endpoint is None else endpoint.describe()),
        }

    # ---- calls of the endpoint ---------------------------------------------------------------------------------------

    def received(self, talk: Talk, bundles: list[bytes]) -> None:
        """Bundles came: with the first ones a stranger becomes a path."""
        path = talk.owner or self._path(talk, None, outbound=False)
        first = path.arrived + 1
        path.arrived += len(bundles)
        for transfer, data in enumerate(bundles, first):
            self._unanswered[path.number, transfer] = len(data)
            self._unanswered_octets += len(data)
        if self._is_full():
            self.endpoint.pause()
        self.host.received(path.number, [Arrival(transfer, data) for transfer, data in enumerate(bundles, first)])

    def sent(self, talk: Talk, tokens: list[int]) -> None:
        """All that UDPCL can say of a bundle: it went."""
        path: _Path = talk.owner
        for token in tokens:
            release(path.unsent.pop(token))
        self.host.acked(path.number, tokens)
        self._feed(talk)
        self._all_sent.set()

    def failed(self, talk: Talk, tokens: list[int], reason: str) -> None:
        """They did not go."""
        path: _Path = talk.owner
        for token in tokens:
            release(path.unsent.pop(token))
        self.host.notice("transfer_failed", link=self.name, path=path.number, reason=reason)
        self.host.lost(path.number, tokens)
        self._all_sent.set()

    def happened(self, talk: Talk, event: Event) -> None:
        """What a conversation learned."""
        if isinstance(event, PeerNamed | SpokeVersion2 | PathMtuFound | PathMtuShrank):
            if talk.owner is not None:
                self._tell_path(talk, talk.owner)
            elif isinstance(event, PeerNamed):
                self._path(talk, None, outbound=False)
        if isinstance(event, DtlsDone | DtlsUnanswered):
            self._begun(talk)
        elif isinstance(event, DtlsFailed):
            self._refused(talk, event.text)
        elif isinstance(event, PathMtuFound):
            fields = {"datagram_octets": event.datagram_octets, "is_confirmed": event.is_confirmed}
            self.host.notice("path_mtu_found", link=self.name, address=talk.address, **fields)
        elif isinstance(event, PathMtuShrank):
            fields = {"datagram_octets": event.datagram_octets}
            self.host.notice("path_mtu_shrank", link=self.name, address=talk.address, **fields)
        elif isinstance(event, PeerSilent) and talk.owner is not None and not talk.machine.is_kept:
            self.endpoint.forget(talk, "the peer stopped saying that it listens")

    def forgotten(self, talk: Talk, reason: str) -> None:
        """A conversation is over."""
        self._ended(talk, reason)
        path: _Path | None = talk.owner
        if path is None:
            return
        del self._paths[path.number]
        units, path.units = path.units, deque()
        lose(self.host, path.number, units)
        self.host.path_down(path.number, reason)
        self.acknowledge(path.number, [number for at, number in self._unanswered if at == path.number])

    def _ended(self, talk: Talk, reason: str) -> None:
        wanted = self._wanted_as(talk)
        if wanted is not None:
            wanted.talk, wanted.failure = None, reason
            wanted.ended.set()

    def _wanted_as(self, talk: Talk) -> _Wanted | None:
        return next((wanted for wanted in self._wanted.values() if wanted.talk is talk), None)

    def notice(self, name: str, **fields: Any) -> None:
        """For people."""
        self.host.notice(name, link=self.name, **fields)

    def _begun(self, talk: Talk) -> None:
        """It is decided whether DTLS is spoken there: a path to who was configured, or to who has proved who it is."""
        wanted = self._wanted_as(talk)
        if wanted is not None:
            wanted.backoff.reset()
        if talk.owner is not None:
            self._tell_path(talk, talk.owner)
        elif wanted is not None or talk.machine.state is State.SECURED:
            self._path(talk, wanted.peer if wanted is not None else None, outbound=wanted is not None)

    def _refused(self, talk: Talk, reason: str) -> None:
        """Told to people, but not for each of a flood; of who was configured, `_keep` tells."""
        if self._wanted_as(talk) is None and self._tell.take(asyncio.get_running_loop().time()):
            self.host.notice("session_failed", link=self.name, address=talk.address, reason=reason, clean=False)

    # ---- paths -------------------------------------------------------------------------------------------------------

    def _path(self, talk: Talk, expected: Eid | None, outbound: bool) -> _Path:
        path = talk.owner = _Path(self.host.new_path(), expected, outbound)
        self._paths[path.number] = talk
        self._tell_path(talk, path)
        return path

    def _tell_path(self, talk: Talk, path: _Path) -> None:
        """The path is up, or what is known of it has changed."""
        info = self._info(talk, path)
        if info != path.told:
            path.told = info
            self.host.path_up(info)

    def _info(self, talk: Talk, path: _Path) -> PathInfo:
        """An address that was configured as somebody's is that peer's; what an address says of itself is a hint (draft:
        it MUST NOT feed routing while it is not authenticated). Inside of DTLS its certificate decides."""
        is_proof_asked = talk.machine.state is State.SECURED and asks_for_proof(self._config.tls)
        proved = talk.identity.proved if talk.identity is not None else None
        return PathInfo(
            path=path.number,
            link=self.name,
            peer=proved or path.expected or talk.machine.node_id,
            address=talk.address,
            authenticated=proved is not None if is_proof_asked else self._is_trusted(path),
            security=security_of(talk),
            mru_octets=self._mru_octets(talk),
            segment_octets=talk.machine.sizing.datagram_octets,
            outbound=path.outbound,
        )

    def _is_trusted(self, path: _Path) -> bool:
        return path.expected is not None or self._config.trust_node_ids

    def _mru_octets(self, talk: Talk) -> int:
        most = talk.machine.bundle_octets_most
        return self._config.bundle_octets if most is None else min(most, self._config.bundle_octets)


def _without_interface(address: Address) -> tuple[Address, str]:
    """The interface behind a percent sign. Of link-local addresses it is a part: they mean nothing without it."""
    host, _, interface = address.host.partition("%")
    is_local = host.lower().startswith(("fe80:", "ff02:"))
    return (address, "") if is_local else (Address(host, address.port), interface)


SPEC = LinkSpec(
    scheme="udpcl",
    summary="bundles over UDP (UDPCL version 2, RFC 7122): sent and forgotten",
    config=UdpclConfig,
    open=UdpclLink,
    acknowledges=False,
)

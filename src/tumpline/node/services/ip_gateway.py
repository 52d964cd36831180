"""IP over bundles: what programs send to networks behind other nodes travels as bundles, also over links that come and go.

Packets are lossy here too: what waits longer than its lifetime is deleted on its way, what the store has no room for is
dropped and counted. A crash between the packet's delivery and its commit delivers it again, as IP may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from ipaddress import ip_network
from typing import Annotated, Any, Final

import msgspec

from tumpline.drivers.ports import tun
from tumpline.drivers.ports._api import PacketPort, port_problems
from tumpline.drivers.ports.tun import TunConfig
from tumpline.errors import MalformedError, NoRoomError, StorageError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu, Delivery
from tumpline.machines.ip_gateway import IpGateway, IpGatewayConfig, IpRoute, Outgoing
from tumpline.machines.packets import PacketBatch
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.wire.eid import Eid

DEMUX: Final = "ip"
IPN_SERVICE: Final = 2041  # of the numbers that nobody else has been given; 41 is IPv6 in IPv4 (RFC 4213)
GATHER_OCTETS_MOST: Final = 90_000  # below what goes to files: packets are small, and gone soon
PAYLOAD_OCTETS_MOST: Final = 1 << 20  # of others' gateways, which may gather more
UNSTORED_OCTETS_MOST: Final = 1 << 20  # given to the store and not there yet; then the port is paused


class RouteConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A network behind a node."""

    to: str
    """Such as "bbbb:2::/64"."""
    node: str
    """Node ID of the node whose gateway has it."""


class GatewayConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Carries IP packets to networks behind other nodes, as bundles."""

    routes: list[RouteConfig]
    """The networks; of several that fit an address the longest prefix counts."""
    lifetime_s: Annotated[float, msgspec.Meta(gt=0, le=86_400 * 366)] = 60.0
    """So long packets may wait for contacts. What programs still wait for is worth carrying, the rest is not."""
    gather_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.005
    """So long packets wait for others to the same node, in one bundle; 0: those that come together go together."""
    gather_octets: Annotated[int, msgspec.Meta(ge=1500, le=GATHER_OCTETS_MOST)] = 64_000
    """And no longer once there are so many."""
    waiting_octets: Annotated[int, msgspec.Meta(ge=1)] = 64 << 20
    """While the node holds more than this (all its bundles), packets are dropped."""
    check_sources: bool = True
    """Take only packets whose source lies behind the node that sent them, by `routes`."""
    tun: TunConfig | None = None
    """The device. Its routes are those of the gateway, besides what is written here."""

    def __post_init__(self) -> None:
        problems = _problems(self.routes)
        if self.tun is not None:
            problems += port_problems(tun.SPEC, self.tun)
        if problems:
            raise ValueError("; ".join(problems))  # msgspec adds where it stands


class IpGatewayService:
    """The service, and the host of its port."""

    name = "ip_gateway"

    def __init__(self, config: GatewayConfig, open_port: Callable[[TunConfig], PacketPort] = tun.SPEC.open) -> None:
        """`open_port` is for programs that embed the node and are the machine behind its port."""
        self._config = config
        routes = tuple(IpRoute(ip_network(each.to), str(Eid.parse(each.node).node)) for each in config.routes)
        self._machine = IpGateway(
            IpGatewayConfig(routes, config.gather_s, config.gather_octets, config.lifetime_s, config.check_sources)
        )
        self._open_port = open_port
        self._port: PacketPort | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unstored_octets = 0
        self._is_up = False

    @property
    def port(self) -> PacketPort:
        """Once it was started."""
        assert self._port is not None
        return self._port

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        self._lifetime_ms = int(self._config.lifetime_s * 1000)
        self._demux = ctx.demux_for(self.name)
        self._port = self._open_port(self._device())
        await self._port.start(self)

    def _device(self) -> TunConfig:
        """One that is handed what is for networks of other nodes."""
        device = self._config.tun or TunConfig()
        if device.fd >= 0:
            return device  # its interface is configured already
        elsewhere = [each.to for each in self._config.routes if not self._ctx.is_local(Eid.parse(each.node))]
        return msgspec.structs.replace(device, routes=[*device.routes, *elsewhere])

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._port is not None:
            await self._port.stop()

    def port_up(self, **facts: Any) -> None:
        """See PortHost."""
        self._is_up = True
        self._ctx.notice("ip_gateway_up", interface=facts)

    def port_down(self, reason: str) -> None:
        """See PortHost."""
        self._is_up = False
        self._ctx.notice("ip_gateway_down", reason=reason)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def from_port(self, batch: PacketBatch) -> None:
        """See PortHost."""
        if self._ctx.held_octets() > self._config.waiting_octets:
            self._machine.counters.dropped += batch.count
            return
        self._machine.from_port(batch, self._ctx.now())
        self._send()

    def _send(self) -> None:
        for outgoing in self._machine.take():
            self._unstored_octets += len(outgoing.payload)
            to = Eid.parse(outgoing.node).with_demux(self._demux)
            adu = Adu(to, Octets(outgoing.payload), self._demux, self._lifetime_ms)
            self._ctx.send(adu).add_done_callback(partial(self._stored, outgoing))
        if self._unstored_octets > UNSTORED_OCTETS_MOST:
            self.port.pause()
        self._arm()

    def _stored(self, outgoing: Outgoing, answer: asyncio.Future[str]) -> None:
        self._unstored_octets -= len(outgoing.payload)
        if self._unstored_octets <= UNSTORED_OCTETS_MOST and self._is_up:
            self.port.resume()
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            return
        self._machine.counters.dropped += outgoing.packets
        if not isinstance(error, NoRoomError):  # of that the node says enough
            self._ctx.notice("ip_gateway_failed", node=outgoing.node, reason=str(error))

    def _arm(self) -> None:
        at = self._machine.next_timeout()
        if self._timer is None and at is not None:
            self._timer = self._ctx.call_later(max(0.0, at - self._ctx.now()), self._time_came)

    def _time_came(self) -> None:
        self._timer = None
        self._machine.handle_timeout(self._ctx.now())
        self._send()

    # ---- in ----------------------------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Into the port, at once."""
        for delivery in deliveries:
            if delivery.payload.length > PAYLOAD_OCTETS_MOST:
                self._machine.counters.malformed += 1
                continue
            batch = self._packets(delivery)
            if batch is not None:
                self.port.write(batch)
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    def _packets(self, delivery: Delivery) -> PacketBatch | None:
        node = str(delivery.source.node)
        try:
            payload = self._ctx.read_payload(delivery.payload, 0, delivery.payload.length)
        except StorageError as error:  # lost, as packets may be
            self._ctx.notice("ip_gateway_failed", node=node, reason=str(error))
            return None
        age_ms = self._ctx.dtn_ms() - delivery.created_ms if delivery.created_ms else 0  # 0: it has no clock
        return self._machine.received(node, payload, age_ms / 1000)

    def describe(self) -> dict[str, Any]:
        return {**asdict(self._machine.counters), "port": self.port.describe()}


def _problems(routes: Iterable[RouteConfig]) -> list[str]:
    """What is wrong with them."""
    problems = []
    for route in routes:
        try:
            ip_network(route.to)
            Eid.parse(route.node)
        except ValueError:
            problems.append(
                f"routes: {route.to!r} is no network; write such as bbbb:2::/64, without bits behind the prefix"
            )
        except MalformedError as error:
            problems.append(f"routes: {error}")
    return problems


SPEC = ServiceSpec(
    name="ip_gateway",
    summary="IP packets to networks behind other nodes, as bundles",
    config=GatewayConfig,
    open=IpGatewayService,
    demux=DEMUX,
    ipn_service=IPN_SERVICE,
)

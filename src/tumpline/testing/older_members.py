"""Older packet agents and their router, as others wrote them: kombu, pika and the standard library's JSON, nothing of ours.

They stand for the real ones in tests that run everywhere; `tests/interop` runs the real one. What they do was seen on a broker:
queues by subscription, named after consumer and routing key; messages confirmed one by one; bodies with sorted keys.

There is no interface behind them. What is sent to a member waits in `received`, and it answers pings to its addresses.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

from tumpline.testing.pings import Address, Echo, decode_echo, encode_echo, reply_to

API_VERSION: Final = "1.2.15"
EXCHANGE: Final = "amq.topic"
WAIT_S: Final = 20.0
_DRAIN_S: Final = 0.1  # how long a thread may not see that it is to end


class Received(NamedTuple):
    """A packet or a frame that came for a member."""

    routing_key: str
    body: dict[str, Any]

    @property
    def packet(self) -> bytes:
        return bytes(self.body["data"])


class Plan(NamedTuple):
    """Who a member is: its name, its place in the usual address plan, which generation it is of, what it has."""

    name: str
    number: int = 1  # bbbb::NUMBER and 10.2.0.NUMBER
    generation: int = 1
    is_serial: bool = False
    ipv6_prefix: str = "bbbb"

    @property
    def addresses(self) -> tuple[Address, ...]:
        if self.is_serial:
            return ()
        six = tuple(IPv6Address(f"{prefix}::{self.number:x}") for prefix in (self.ipv6_prefix, "fe80"))
        return (*six, IPv4Address(f"10.2.0.{self.number}"))

    def subscriptions(self) -> dict[str, str]:
        """Routing keys by the names of the queues that are bound to them."""
        if self.generation == 0:
            consumer = "serial" if self.is_serial else "tun"
            keys = {f"{family}.{consumer}@{self.name}": f"{family}.{consumer}.toAgent.{self.name}" for family in _V0}
            return keys | {f"control.core@{self.name}": "control.session"}
        if self.is_serial:
            keys = _queues(self.name, "serial", f"toAgent.{self.name}.802154.serial.packet.raw")
        else:
            keys = _queues(
                self.name, "tun", f"toAgent.{self.name}.ip.tun.start", f"toAgent.{self.name}.ip.tun.packet.raw"
            )
        return keys | _queues(self.name, "core", "testingtool.component.ready")

    def packet_key(self) -> str:
        """What it publishes its packets under."""
        if self.generation == 0:
            return f"data.{'serial' if self.is_serial else 'tun'}.fromAgent.{self.name}"
        return f"fromAgent.{self.name}.{'802154.serial' if self.is_serial else 'ip.tun'}.packet.raw"

    def started(self) -> tuple[str, dict[str, Any]]:
        """What it says when its interface is open, under which key."""
        kind, about = ("serial.started", _serial(self)) if self.is_serial else ("tun.started", _tun(self))
        if self.generation == 0:
            return f"control.{kind.split('.')[0]}.fromAgent.{self.name}", {"_type": kind, **about}
        family = "802154.serial" if self.is_serial else "ip.tun"
        return f"fromAgent.{self.name}.{family}.started", about

    def ready(self) -> tuple[str, dict[str, Any]]:
        """What it says when it is connected."""
        about = {"component": self.name, "description": "Component READY to start test suite."}
        if self.generation == 0:
            return "control.session", {"_type": "testingtool.component.ready", **about}
        return "testingtool.component.ready", about


_V0: Final = ("control", "data")


def _queues(name: str, consumer: str, *keys: str) -> dict[str, str]:
    return {f"consumer: {name}.{consumer}?rkey={key}": key for key in keys}


def _tun(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "ipv6_prefix": plan.ipv6_prefix,
        "ipv6_host": f"{plan.number:x}",
        "ipv6_no_forwarding": False,
        "ipv4_address": f"10.2.0.{plan.number}",
        "ipv4_host": None,
        "ipv4_network": "10.2.0.0",
        "ipv4_netmask": "255.255.255.0",
        "re_route_packets_if": None,
        "re_route_packets_prefix": None,
        "re_route_packets_host": None,
    }


def _serial(plan: Plan) -> dict[str, Any]:
    return {"name": plan.name, "port": "/dev/ttyUSB0", "boudrate": "460800"}


class OlderMember:
    """One agent: `with OlderMember(url, Plan("agent_1")) as member`. Its calls block: use threads beside an event loop."""

    def __init__(self, url: str, plan: Plan, *, exchange: str = EXCHANGE) -> None:
        kombu: Any = import_module("kombu")  # it has no types
        self.plan = plan
        self.addresses = frozenset(plan.addresses)
        self.received: queue.Queue[Received] = queue.Queue()
        self.echoes: queue.Queue[Echo] = queue.Queue()  # replies to what it asked
        self.heard: queue.Queue[Received] = queue.Queue()  # control messages
        self.undecodable = 0
        # Packets leave by one connection and come by another, as in the real one's two processes.
        options = {"confirm_publish": True}
        self._connections = [kombu.Connection(url, transport_options=options, connect_timeout=10) for _ in range(2)]
        self._exchange = kombu.Exchange(exchange, type="topic", durable=True)
        self._kombu = kombu
        self._publishing = threading.Lock()
        self._producer: Any = None
        self._ends = threading.Event()
        self._is_there = threading.Event()
        self._thread = threading.Thread(target=self._consume, name=f"older {plan.name}", daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> OlderMember:
        self._producer = self._connections[0].Producer()
        self._thread.start()
        if not self._is_there.wait(WAIT_S) or self.failure is not None:
            raise AssertionError(f"{self.plan.name} did not join: {self.failure!r}")
        self.publish(*self.plan.started())
        self.publish(*self.plan.ready())
        return self

    def __exit__(self, *_: object) -> None:
        """Without a word, as they do: the queues go with their consumers."""
        self._ends.set()
        self._thread.join(WAIT_S)
        for connection in self._connections:
            connection.release()
        assert self.failure is None, repr(self.failure)

    # ---- what it says ------------------------------------------------------------------------------------------------

    def publish(self, routing_key: str, body: Mapping[str, Any]) -> None:
        """As they do: persistent, sorted keys, confirmed before the next."""
        if self.plan.generation == 1:
            body = {"_api_version": API_VERSION, **body}
        with self._publishing:
            self._producer.publish(
                json.dumps(body, sort_keys=True),
                exchange=self._exchange,
                routing_key=routing_key,
                content_type="application/json",
                content_encoding="utf-8",
            )

    def send(self, packet: bytes) -> None:
        """A packet out of its interface, or a frame from its probe."""
        name = "serial" if self.plan.is_serial else "tun0"
        body: dict[str, Any] = {"data": list(packet), "interface_name": name, "timestamp": int(time.time())}
        if self.plan.is_serial:
            escaped = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
            body["data_slip"] = [0xC0, *escaped, 0xC0]
        if self.plan.generation == 0:
            body |= {"_type": "packet.sniffed.raw", "timestamp": str(time.time())}
        self.publish(self.plan.packet_key(), body)

    def ping(self, destination: str, sequence: int = 1, payload: bytes = b"tumpline") -> None:
        """Ask; replies come into `echoes`."""
        version = IPv6Address if ":" in destination else IPv4Address
        source = next(each for each in self.plan.addresses if isinstance(each, version))
        self.send(encode_echo(Echo(source, version(destination), False, self.plan.number, sequence, payload)))

    # ---- what it hears -----------------------------------------------------------------------------------------------

    def next_packet(self, timeout_s: float = WAIT_S) -> Received:
        """What came for it, in order. Raises: queue.Empty."""
        return self.received.get(timeout=timeout_s)

    def next_echo(self, timeout_s: float = WAIT_S) -> Echo:
        """A reply to one of its pings. Raises: queue.Empty."""
        return self.echoes.get(timeout=timeout_s)

    def _consume(self) -> None:
        try:
            connection = self._connections[1]
            queues = [
                self._kombu.Queue(name, self._exchange, routing_key=key, durable=False, auto_delete=True)
                for name, key in self.plan.subscriptions().items()
            ]
            no_ack = self.plan.generation == 0
            with connection.Consumer(queues, on_message=self._came, no_ack=no_ack, accept=["json"]):
                self._is_there.set()
                while not self._ends.is_set():
                    try:
                        connection.drain_events(timeout=_DRAIN_S)
                    except TimeoutError:
                        continue
        except BaseException as error:  # told by whoever waits for this thread
            self.failure = error
            self._is_there.set()

    def _came(self, message: Any) -> None:
        if not message.acknowledged:
            message.ack()
        key = message.delivery_info["routing_key"]
        if message.content_type != "application/json":  # they decode nothing else, and then fail
            self.undecodable += 1
            return
        received = Received(key, json.loads(message.body))
        if "packet.raw" in key or key.startswith("data."):
            self._take(received)
            return
        self.heard.put(received)
        if key.endswith(".start") or received.body.get("_type") == "tun.start":
            self.publish(*self.plan.started())

    def _take(self, received: Received) -> None:
        if self.plan.generation == 0 and received.body.get("_type") != "packet.to_inject.raw":
            self.undecodable += 1  # they take no other
            return
        self.received.put(received)
        echo = decode_echo(received.packet)
        if echo is not None and echo.is_reply and echo.destination in self.addresses:
            self.echoes.put(echo)
        answer = reply_to(received.packet, self.addresses)
        if answer is not None:
            self.send(answer)


class OlderRouter:
    """The flooding router with a table made at its start: every node of a link hears everything of the others.

    It leaves its queues in the broker when it ends.
    """

    def __init__(self, url: str, links: Iterable[Iterable[str]], *, exchange: str = EXCHANGE) -> None:
        self._pika: Any = import_module("pika")  # it has no types
        self._url, self._exchange = url, exchange
        self.table = _table(links)
        self.routed = 0
        self.to_drop = 0
        self._is_there = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="older router", daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> OlderRouter:
        self._thread.start()
        if not self._is_there.wait(WAIT_S) or self.failure is not None:
            raise AssertionError(f"the router did not join: {self.failure!r}")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(WAIT_S)
        assert self.failure is None, repr(self.failure)

    def _run(self) -> None:
        try:
            connection = self._pika.BlockingConnection(self._pika.URLParameters(self._url))
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)
            for key in self.table:
                self._serve(channel, f"{key}@packet_router", key, {"x-max-length": 100})
            self._serve(channel, "services_queue@packet_router", "routing.#", None)
            _publish_ready(channel, self._pika, self._exchange)
            self._is_there.set()
            while not self._ends.is_set():
                connection.process_data_events(time_limit=_DRAIN_S)
            connection.close()
        except BaseException as error:  # told by whoever waits for this thread
            self.failure = error
            self._is_there.set()

    def _serve(self, channel: Any, name: str, key: str, arguments: dict[str, Any] | None) -> None:
        channel.queue_declare(name, durable=False, auto_delete=False, arguments=arguments)
        channel.queue_bind(name, self._exchange, key)
        channel.queue_purge(name)
        channel.basic_consume(name, self._came)

    def _came(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        read = json.loads(body)
        if method.routing_key == "routing.lossy.link.start":
            self.to_drop = int(read.get("number_of_packets_to_drop", 1))
        elif self.to_drop:
            self.to_drop -= 1
        else:
            self._route(channel, method.routing_key, read)

    def _route(self, channel: Any, key: str, read: dict[str, Any]) -> None:
        """A new body: time of now, `data_slip` lost."""
        about: dict[str, Any] = (
            {"_type": "packet.to_inject.raw"} if key.startswith("data.") else {"_api_version": API_VERSION}
        )
        about |= {"data": read["data"], "interface_name": read["interface_name"], "timestamp": int(time.time())}
        properties = self._pika.BasicProperties(content_type="application/json")
        for to in self.table[key]:
            channel.basic_publish(self._exchange, to, json.dumps(about, sort_keys=True), properties)
        self.routed += 1


def _table(links: Iterable[Iterable[str]]) -> dict[str, list[str]]:
    """All families, of both generations; a node on two links keeps the routes of the last."""
    table: dict[str, list[str]] = {}
    for link in links:
        nodes = list(dict.fromkeys([*link, "agent_TT"]))
        for source in nodes:
            for family in ("fromAgent.{}.ip.tun.packet.raw", "fromAgent.{}.802154.serial.packet.raw"):
                others = [family.replace("from", "to").format(node) for node in nodes if node != source]
                table[family.format(source)] = others
            for kind in ("tun", "serial"):
                others = [f"data.{kind}.toAgent.{node}" for node in nodes if node != source]
                table[f"data.{kind}.fromAgent.{source}"] = others
    return table


def _publish_ready(channel: Any, pika: Any, exchange: str) -> None:
    body = {"_api_version": API_VERSION, "component": "packetrouting", "description": "READY"}
    properties = pika.BasicProperties(content_type="application/json")
    channel.basic_publish(exchange, "testingtool.component.ready", json.dumps(body, sort_keys=True), properties)

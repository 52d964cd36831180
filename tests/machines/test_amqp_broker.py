"""The broker for newcomers, client by client, in virtual time."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.machines.amqp_broker import Broker, BrokerConfig, Connection
from tumpline.machines.amqp_broker.channel import MESSAGE_OCTETS_MOST
from tumpline.machines.amqp_broker.connection import BACKLOG_OCTETS, HANDSHAKE_S
from tumpline.machines.amqp_broker.topics import Topics
from tumpline.wire.amqp import (
    HEARTBEAT,
    PROTOCOL_HEADER,
    FrameKind,
    Properties,
    decode_method_untrusted,
    encode_content_header,
    encode_frame,
    encode_method,
    split_frames_untrusted,
)
from tumpline.wire.amqp import methods as m

T = TypeVar("T")
LOGIN = m.ConnectionStartOk(response=b"\0guest\0guest")
KEY = "toAgent.a.ip.tun.packet.raw"


class Got(NamedTuple):
    """A delivery, or a message that was got or returned."""

    method: Any
    body: bytes


class Client:
    """Speaks to a broker, and hears what it says as methods and messages."""

    def __init__(self, broker: Broker, *, reads: bool = True) -> None:
        connection = broker.connect(0.0)
        assert connection is not None
        self.broker = broker
        self.connection: Connection = connection
        self.now = 0.0
        self.heard: list[Any] = []
        self.reads = reads
        self._content: list[Any] = []

    def say(self, *methods: m.Method, channel: int = 1) -> None:
        for method in methods:
            self.octets(encode_frame(FrameKind.METHOD, channel, encode_method(method)))

    def octets(self, data: bytes) -> None:
        self.connection.receive(data, self.now)
        self.listen()

    def publish(self, body: bytes, key: str = KEY, exchange: str = "amq.topic", *, mandatory: bool = False) -> None:
        self.say(m.BasicPublish(exchange=exchange, routing_key=key, mandatory=mandatory))
        self.octets(encode_frame(FrameKind.HEADER, 1, encode_content_header(len(body), Properties())))
        for at in range(0, len(body), 100_000):
            self.octets(encode_frame(FrameKind.BODY, 1, body[at : at + 100_000]))

    def listen(self) -> None:
        """Read what there is for any client."""
        while outputs := self.broker.outputs():
            for connection in outputs:
                client = CLIENTS.get(connection)
                if client is not None and client.reads:
                    client.read()

    def read(self) -> None:
        data = b"".join(self.connection.data_to_send())
        self.connection.sent(len(data), self.now)
        if data.startswith(PROTOCOL_HEADER):
            self.heard.append("no AMQP")
            return
        frames, taken = split_frames_untrusted(memoryview(data), 1 << 20)
        assert taken == len(data)
        for frame in frames:
            self._frame(frame.kind, bytes(frame.payload))

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == FrameKind.METHOD:
            method = decode_method_untrusted(payload)
            if isinstance(method, m.BasicDeliver | m.BasicGetOk | m.BasicReturn):
                self._content = [method, -1, b""]
            else:
                self.heard.append(method)
            return
        if kind == FrameKind.HEADER:
            self._content[1] = int.from_bytes(payload[4:12], "big")
        elif kind == FrameKind.BODY:
            self._content[2] += payload
        if self._content and len(self._content[2]) == self._content[1]:
            self.heard.append(Got(self._content[0], self._content[2]))
            self._content = []

    def all_of(self, kind: type[T]) -> list[T]:
        found = [each for each in self.heard if isinstance(each, kind)]
        self.heard = [each for each in self.heard if not isinstance(each, kind)]
        return found

    def the(self, kind: type[T]) -> T:
        (found,) = self.all_of(kind)
        return found

    def bodies(self) -> list[bytes]:
        return [each.body for each in self.all_of(Got)]


CLIENTS: dict[Connection, Client] = {}


@pytest.fixture(autouse=True)
def _clients() -> None:
    CLIENTS.clear()


def broker(**config: Any) -> Broker:
    numbers = count(1)
    return Broker(BrokerConfig(**config), lambda: str(next(numbers)))


def greeted(made: Broker, **options: bool) -> Client:
    client = Client(made, **options)
    CLIENTS[client.connection] = client
    client.octets(PROTOCOL_HEADER)
    return client


def client_of(made: Broker, host: str = "/", *, heartbeat_s: int = 0, **options: bool) -> Client:
    client = greeted(made, **options)
    client.say(LOGIN, m.ConnectionTuneOk(64, 131_072, heartbeat_s), m.ConnectionOpen(host), channel=0)
    client.say(m.ChannelOpen())
    client.heard.clear()
    return client


def bound(client: Client, key: str = KEY, name: str = "q", **declared: Any) -> str:
    client.say(m.QueueDeclare(queue=name, **declared))
    name = client.the(m.QueueDeclareOk).queue
    client.say(m.QueueBind(queue=name, exchange="amq.topic", routing_key=key))
    client.the(m.QueueBindOk)
    return name


def consuming(client: Client, name: str = "q", *, no_ack: bool = True, **options: Any) -> str:
    client.say(m.BasicConsume(queue=name, no_ack=no_ack, **options))
    return client.the(m.BasicConsumeOk).consumer_tag


def is_closed(client: Client) -> bool:
    return client.connection.is_closed


def may_publish(client: Client) -> bool:
    return client.connection.wants_octets


def fault(client: Client) -> int:
    return client.the(m.ChannelClose).reply_code


# ---- connections -----------------------------------------------------------------------------------------------------


def test_a_client_comes_and_goes() -> None:
    made = broker()
    client = greeted(made)
    start = client.the(m.ConnectionStart)
    assert (start.mechanisms, start.server_properties["product"]) == (b"PLAIN", "tumpline")
    client.say(LOGIN, channel=0)
    assert client.the(m.ConnectionTune) == m.ConnectionTune(64, 131_072, 60)
    client.say(m.ConnectionTuneOk(0, 0, 0), m.ConnectionOpen("/session1"), channel=0)
    client.the(m.ConnectionOpenOk)
    client.say(m.ConnectionClose(200, "bye"), channel=0)
    client.the(m.ConnectionCloseOk)
    assert is_closed(client)
    assert made.connections == set()


def test_who_does_not_speak_it_is_told_what_is_spoken() -> None:
    for octets in (b"GET / HTTP/1.1\r\n", b"AMQP\0\1\0\0", b"x"):
        client = Client(broker())
        CLIENTS[client.connection] = client
        client.octets(octets)
        assert client.heard == ["no AMQP"]
        assert is_closed(client)


@pytest.mark.parametrize("response", [b"\0guest\0wrong", b"\0nobody\0guest", b"guest", b"\0guest\0", b"\0\xff\0x"])
def test_a_wrong_password(response: bytes) -> None:
    client = greeted(broker())
    client.say(m.ConnectionStartOk(response=response), channel=0)
    assert client.the(m.ConnectionClose).reply_code == 403
    assert is_closed(client)


def test_what_comes_in_another_order_ends_the_connection() -> None:
    client = greeted(broker())
    client.say(m.ConnectionOpen(), channel=0)
    assert client.the(m.ConnectionClose).reply_code == 503
    client = greeted(broker())
    client.say(m.ChannelOpen())
    assert client.the(m.ConnectionClose).reply_code == 504


def test_who_does_not_finish_in_time_is_let_go() -> None:
    made = broker()
    client = greeted(made)
    assert made.next_timeout() == HANDSHAKE_S
    made.handle_timeout(HANDSHAKE_S)
    assert is_closed(client)


def test_heartbeats_and_silence() -> None:
    made = broker()
    client = client_of(made, heartbeat_s=10)
    assert made.next_timeout() == 5.0
    made.handle_timeout(5.0)
    assert client.connection.data_to_send() == [HEARTBEAT]
    client.now = 15.0
    client.octets(HEARTBEAT)
    made.handle_timeout(20.0)
    assert not is_closed(client)
    made.handle_timeout(35.0)
    assert is_closed(client)
    assert client.connection.why == "missed heartbeats from client"


def test_too_many_connections() -> None:
    made = broker(connections_most=1)
    assert made.connect(0.0) is not None
    assert made.connect(0.0) is None


def test_a_malformed_frame_ends_the_connection_in_order() -> None:
    client = client_of(broker())
    client.octets(HEARTBEAT[:-1] + b"\0")
    assert client.the(m.ConnectionClose).reply_code == 501
    client.say(m.ConnectionCloseOk(), channel=0)
    assert is_closed(client)


def test_a_broker_that_ends_says_so() -> None:
    made = broker()
    client = client_of(made)
    made.shut_down("it is late", 0.0)
    client.listen()
    assert client.the(m.ConnectionClose) == m.ConnectionClose(320, "CONNECTION_FORCED - it is late")


# ---- routing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binding", "key", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "a.b", False),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.*", "a", False),
        ("a.#.*", "a.b", True),
        ("*.*", "", False),
        ("*", "", True),
        ("fromAgent.*.ip.tun.packet.raw", "fromAgent.agent_1.ip.tun.packet.raw", True),
    ],
)
def test_topics(binding: str, key: str, fits: bool) -> None:
    topics = Topics[str]()
    topics.bind(binding, "q")
    assert topics.find(key) == (("q",) if fits else ())
    topics.unbind(binding, "q")
    assert topics.find(key) == ()


WORDS = st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=5)


def fits_plainly(binding: list[str], key: list[str]) -> bool:
    """As the specification has it, word for word."""
    if not binding:
        return not key
    if binding[0] == "#":
        return any(fits_plainly(binding[1:], key[at:]) for at in range(len(key) + 1))
    return bool(key) and binding[0] in ("*", key[0]) and fits_plainly(binding[1:], key[1:])


@given(st.lists(WORDS, max_size=4), st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5))
def test_topics_as_the_specification_has_them(bindings: list[list[str]], key: list[str]) -> None:
    topics = Topics[int]()
    for number, binding in enumerate(bindings):
        topics.bind(".".join(binding), number)
    expected = {number for number, binding in enumerate(bindings) if fits_plainly(".".join(binding).split("."), key)}
    assert set(topics.find(".".join(key))) == expected


def test_every_kind_of_exchange() -> None:
    client = client_of(broker())
    client.say(m.QueueDeclare(queue="q"))
    for exchange, key in (("amq.topic", "t.#"), ("amq.direct", "d"), ("amq.fanout", "")):
        client.say(m.QueueBind(queue="q", exchange=exchange, routing_key=key))
    consuming(client)
    for exchange, key in (
        ("amq.topic", "t.x"),
        ("amq.direct", "d"),
        ("amq.direct", "e"),
        ("amq.fanout", "any"),
        ("", "q"),
    ):
        client.publish(f"{exchange} {key}".encode(), key, exchange)
    assert client.bodies() == [b"amq.topic t.x", b"amq.direct d", b"amq.fanout any", b" q"]


def test_a_message_goes_to_each_queue_once_and_to_its_virtual_host_only() -> None:
    made = broker()
    client, stranger = client_of(made, "/one"), client_of(made, "/two")
    for each in (client, stranger):
        name = bound(each, "a.#")
        each.say(m.QueueBind(queue=name, exchange="amq.topic", routing_key="#.b"))
        consuming(each)
    client.publish(b"x", "a.b")
    assert (client.bodies(), stranger.bodies()) == ([b"x"], [])


def test_what_nobody_takes_comes_back_if_that_was_asked_for() -> None:
    client = client_of(broker())
    client.say(m.ConfirmSelect())
    client.publish(b"lost")
    client.publish(b"back", mandatory=True)
    returned = client.the(Got)
    assert (returned.method.reply_code, returned.body) == (312, b"back")
    assert [ack.delivery_tag for ack in client.all_of(m.BasicAck)] == [1, 2]


# ---- queues and consumers --------------------------------------------------------------------------------------------


def test_messages_wait_in_order_and_large_ones_come_in_parts() -> None:
    made = broker()
    client = client_of(made)
    bound(client)
    large = bytes(range(256)) * 2000
    client.publish(b"first")
    client.publish(large)
    client.publish(b"")
    consuming(client)
    assert client.bodies() == [b"first", large, b""]
    assert made.memory.octets == 0


def test_consumers_take_turns_and_one_active_takes_all() -> None:
    for single, expected in ((False, [3, 3]), (True, [6, 0])):
        made = broker()
        one, two = client_of(made), client_of(made)
        arguments = {"x-single-active-consumer": True} if single else {}
        bound(one, arguments=arguments)
        tag = consuming(one)
        consuming(two)
        for number in range(6):
            one.publish(bytes([number]))
        assert [len(one.bodies()), len(two.bodies())] == expected
        one.say(m.BasicCancel(tag))
        one.publish(b"next")
        assert two.bodies() == [b"next"]


def test_prefetch_and_acknowledgements() -> None:
    made = broker()
    client = client_of(made)
    bound(client)
    client.say(m.BasicQos(prefetch_count=2))
    consuming(client, no_ack=False)
    for number in range(5):
        client.publish(bytes([number]))
    assert client.bodies() == [b"\0", b"\1"]
    client.say(m.BasicAck(1))
    assert client.bodies() == [b"\2"]
    client.say(m.BasicAck(3, True))
    assert client.bodies() == [b"\3", b"\4"]
    client.say(m.BasicAck(0, True))
    assert made.memory.octets == 0
    client.say(m.BasicAck(9))
    assert fault(client) == 406


def test_what_is_not_acknowledged_goes_back_to_where_it_was() -> None:
    made = broker()
    client, other = client_of(made), client_of(made)
    bound(client)
    tag = consuming(client, no_ack=False)
    for number in range(4):
        client.publish(bytes([number]))
    client.say(m.BasicCancel(tag), m.BasicAck(2))
    client.heard.clear()
    client.publish(b"\4")
    client.connection.lost(0.0)
    consuming(other)
    deliveries = other.all_of(Got)
    assert [(each.body, each.method.redelivered) for each in deliveries] == [
        (b"\0", True),
        (b"\2", True),
        (b"\3", True),
        (b"\4", False),
    ]


def test_rejected_messages_are_gone_or_come_again() -> None:
    made = broker()
    client = client_of(made)
    bound(client)
    client.publish(b"x")
    client.say(m.BasicGet(queue="q"))
    client.say(m.BasicNack(client.the(Got).method.delivery_tag, False, True), m.BasicGet(queue="q"))
    got = client.the(Got)
    assert got.method.redelivered
    client.say(m.BasicReject(got.method.delivery_tag, False), m.BasicGet(queue="q", no_ack=True))
    client.the(m.BasicGetEmpty)
    assert made.memory.octets == 0


def test_limits_of_a_queue() -> None:
    client = client_of(broker())
    bound(client, arguments={"x-max-length": 2, "x-message-ttl": 1000, "x-max-length-bytes": 100})
    for number in range(3):
        client.publish(bytes([number]))
    client.publish(bytes(99))
    client.say(m.BasicGet(queue="q", no_ack=True))
    assert client.bodies() == [b"\2"]
    client.now = 1.0
    client.say(m.BasicGet(queue="q", no_ack=True))
    client.the(m.BasicGetEmpty)


def test_queues_that_go_by_themselves() -> None:
    made = broker()
    client, other = client_of(made), client_of(made)
    bound(client, name="exclusive", exclusive=True)
    bound(client, name="auto", auto_delete=True)
    bound(client, name="expires", arguments={"x-expires": 5000})
    tag = consuming(client, "auto")
    other.say(m.QueueDeclare(queue="exclusive", passive=True))
    assert fault(other) == 405
    client.say(m.BasicCancel(tag))
    assert set(made.virtual_host("/").queues) == {"exclusive", "expires"}
    client.connection.lost(1.0)
    assert set(made.virtual_host("/").queues) == {"expires"}
    assert made.next_timeout() == 5.0
    made.handle_timeout(5.0)
    assert made.virtual_host("/").queues == {}


def test_who_consumes_a_queue_hears_that_it_is_gone() -> None:
    made = broker()
    client, other = client_of(made), client_of(made)
    bound(client)
    tag = consuming(client)
    other.say(m.QueueDelete(queue="q"))
    other.the(m.QueueDeleteOk)
    assert client.the(m.BasicCancel).consumer_tag == tag


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (m.QueueDeclare(queue="absent", passive=True), 404),
        (m.QueueDeclare(queue="q", durable=True), 406),
        (m.QueueDeclare(queue="amq.mine"), 403),
        (m.QueueDeclare(queue="r", arguments={"x-max-length": -1}), 406),
        (m.QueueDeclare(queue="r", arguments={"x-dead-letter-exchange": "x"}), 406),
        (m.QueueBind(queue="q", exchange="absent"), 404),
        (m.QueueBind(queue="q", exchange=""), 403),
        (m.ExchangeDeclare(exchange="amq.topic", type="direct"), 406),
        (m.ExchangeDeclare(exchange="amq.x", type="topic"), 403),
        (m.ExchangeDelete(exchange="amq.topic"), 403),
        (m.QueueDelete(queue="q", if_empty=True), 406),
        (m.BasicConsume(queue="absent"), 404),
        (m.BasicAck(7), 406),
    ],
    ids=repr,
)
def test_faults_end_the_channel_only(method: m.Method, code: int) -> None:
    client = client_of(broker())
    bound(client)
    client.publish(b"x")
    client.say(method)
    assert fault(client) == code
    client.say(m.BasicGet(queue="q"))  # RabbitMQ: what comes until close-ok is passed over
    assert client.heard == []
    client.say(m.ChannelCloseOk(), m.ChannelOpen(), m.BasicGet(queue="q", no_ack=True))
    assert client.bodies() == [b"x"]


@pytest.mark.parametrize(
    "method", [m.BasicPublish(immediate=True), m.BasicQos(prefetch_octets=1), m.ConnectionBlocked(), m.BasicGetEmpty()]
)
def test_what_is_not_there(method: m.Method) -> None:
    client = client_of(broker())
    client.say(method)
    assert client.the(m.ConnectionClose).reply_code == 540


def test_a_message_that_is_too_long() -> None:
    client = client_of(broker())
    client.say(m.BasicPublish(exchange="amq.topic"))
    client.octets(encode_frame(FrameKind.HEADER, 1, encode_content_header(MESSAGE_OCTETS_MOST + 1, Properties())))
    assert client.the(m.ConnectionClose).reply_code == 506


# ---- who does not keep up --------------------------------------------------------------------------------------------


def test_what_a_slow_client_does_not_read_waits_in_its_queue() -> None:
    made = broker()
    client, slow = client_of(made), client_of(made)
    bound(client, arguments={"x-max-length": 50})
    consuming(slow)
    slow.reads = False
    body = bytes(1 << 20)
    for _ in range(100):
        client.publish(body)
    written = sum(map(len, slow.connection.data_to_send()))
    assert BACKLOG_OCTETS <= written < BACKLOG_OCTETS + 2 * len(body)
    assert made.memory.octets < 51 * (len(body) + 1000)
    slow.reads = True
    slow.connection.sent(written, 0.0)
    slow.listen()
    assert len(slow.bodies()) == 50


def test_publishers_wait_while_memory_is_full() -> None:
    made = broker(memory_octets=1 << 20)
    client = greeted(made)
    capable = LOGIN._replace(client_properties={"capabilities": {"connection.blocked": True}})
    client.say(capable, m.ConnectionTuneOk(64, 131_072, 0), m.ConnectionOpen(), channel=0)
    client.say(m.ChannelOpen())
    client.heard.clear()
    bound(client)
    assert may_publish(client)
    client.publish(bytes(1 << 20))
    assert client.the(m.ConnectionBlocked).reason == "queues are full"
    assert not may_publish(client)
    reader = client_of(made)
    consuming(reader)
    assert len(reader.bodies()) == 1
    client.listen()
    client.the(m.ConnectionUnblocked)
    assert may_publish(client)


# ---- hostile octets --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([HEARTBEAT, encode_frame(FrameKind.METHOD, 1, b"\0\x3c\0\x28")]))
)
def test_any_octets_end_in_order(pieces: list[bytes]) -> None:
    made = broker()
    client = client_of(made)
    for piece in pieces:
        client.connection.receive(piece, 0.0)
    client.connection.lost(0.0)
    assert made.connections == set()
    assert made.memory.octets == 0

"""The broker for newcomers: any octets from a client that may or may not have logged in, beside one that waits for messages."""

from __future__ import annotations

from itertools import count

from fuzz.harness import Target
from tumpline.machines.amqp_broker import Broker, BrokerConfig, Connection
from tumpline.wire.amqp import (
    PROTOCOL_HEADER,
    FrameKind,
    Properties,
    encode_content_header,
    encode_frame,
    encode_method,
)
from tumpline.wire.amqp import methods as m

_MEMORY_OCTETS = 1 << 20


def _said(*methods: m.Method, channel: int = 1) -> bytes:
    return b"".join(encode_frame(FrameKind.METHOD, channel, encode_method(method)) for method in methods)


_LOGIN = PROTOCOL_HEADER + _said(
    m.ConnectionStartOk(response=b"\0guest\0guest"), m.ConnectionTuneOk(8, 4096, 0), m.ConnectionOpen(), channel=0
)
_OPEN = _LOGIN + _said(m.ChannelOpen())
_MESSAGE = (
    _said(m.BasicPublish(exchange="amq.topic", routing_key="a.b"))
    + encode_frame(FrameKind.HEADER, 1, encode_content_header(4, Properties()))
    + encode_frame(FrameKind.BODY, 1, b"body")
)


def seeds() -> list[bytes]:
    """A login, declarations, messages, acknowledgements: the first octet says whether the client has logged in."""
    queue = _said(m.QueueDeclare(queue="q"), m.QueueBind(queue="q", exchange="amq.topic", routing_key="a.#"))
    consuming = _said(m.BasicQos(0, 2), m.BasicConsume(queue="q", consumer_tag="t"), m.ConfirmSelect())
    ending = _said(m.BasicAck(1), m.BasicNack(0, True, True), m.BasicCancel("t"), m.QueueDelete(queue="q"))
    return [b"n" + _OPEN, b"y" + queue + consuming + _MESSAGE * 3 + ending, b"y" + _MESSAGE + _said(m.ChannelClose())]


def _connected(broker: Broker, octets: bytes) -> Connection:
    connection = broker.connect(0.0)
    assert connection is not None
    connection.receive(octets, 0.0)
    return connection


def run(data: bytes) -> bool:
    """Whatever comes, the other client stays, memory is bounded, and nothing is left of a client that goes."""
    numbers = count()
    broker = Broker(BrokerConfig(memory_octets=_MEMORY_OCTETS), lambda: str(next(numbers)))
    other = _connected(
        broker, _OPEN + _said(m.QueueDeclare(queue="other", exclusive=True), m.BasicConsume(queue="other"))
    )
    stranger = _connected(broker, _OPEN if data[:1] == b"y" else b"")
    middle = len(data) // 2
    for piece in (data[1:middle], data[middle:]):
        stranger.receive(piece, 0.0)
        for connection in broker.outputs():
            connection.sent(sum(map(len, connection.data_to_send())), 0.0)
    was_in_order = not stranger.is_closed
    assert not other.is_closed, "it ended another one's connection"
    assert broker.memory.octets <= _MEMORY_OCTETS + 2 * len(data) + 4096, "unbounded"
    stranger.lost(0.0)
    assert broker.connections == {other}, "it is still there"
    return was_in_order


TARGET = Target("amqp_broker", "what clients of the broker send", seeds, run, peak_base=1 << 20, peak_factor=96)

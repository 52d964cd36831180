"""Our client of AMQP brokers: any octets from a broker, before the login and after it, while messages come."""

from __future__ import annotations

from typing import Any

from fuzz.harness import Target
from tumpline.machines.amqp_client import ClientConfig, ClientConnection, Delivered, Ended, Returned, State
from tumpline.wire.amqp import FrameKind, Properties, encode_content_header, encode_frame, encode_method
from tumpline.wire.amqp import methods as m

_MESSAGE_OCTETS_MOST = 4096


def _said(*methods: m.Method, channel: int = 1) -> bytes:
    return b"".join(encode_frame(FrameKind.METHOD, channel, encode_method(method)) for method in methods)


def _message(method: m.Method, body: bytes, cut: int = 100) -> bytes:
    frames = [encode_frame(FrameKind.BODY, 1, body[at : at + cut]) for at in range(0, len(body), cut)]
    header = encode_frame(FrameKind.HEADER, 1, encode_content_header(len(body), Properties("a/b", headers={"n": 1})))
    return _said(method) + header + b"".join(frames)


_LOGIN = _said(m.ConnectionStart(), m.ConnectionTune(8, 4096, 60), m.ConnectionOpenOk(), channel=0)
_ANSWERS = _said(m.QueueDeclareOk("q", 0, 0), m.ConfirmSelectOk())


def seeds() -> list[bytes]:
    """A login; deliveries, returns and what was asked for. The first octet says whether we have logged in."""
    delivered = m.BasicDeliver("1", 1, False, "amq.topic", "a.b")
    messages = _message(delivered, b"x" * 40) * 2 + _message(delivered, b"y" * 250) + _message(delivered, b"")
    others = _message(m.BasicReturn(312, "NO_ROUTE", "e", "k"), b"z") + _message(
        m.BasicGetOk(2, True, "", "q", 0), b"g"
    )
    endings = _said(m.BasicAck(1, True), m.BasicCancel("1"), m.ChannelClose(404, "NOT_FOUND"))
    end = _said(m.ConnectionBlocked("memory"), m.ConnectionUnblocked(), m.ConnectionClose(320, "bye"), channel=0)
    return [b"n" + _LOGIN, b"y" + messages, b"y" + others + endings, b"y" + messages[:100] + end]


def _client(*, is_open: bool) -> ClientConnection:
    client = ClientConnection(ClientConfig(message_octets_most=_MESSAGE_OCTETS_MOST), 0.0)
    if is_open:
        client.received(memoryview(_LOGIN), 0.0)
        client.open_channel()
        client.received(memoryview(_said(m.ChannelOpenOk())), 0.0)
        for method in (m.QueueDeclare(queue="q"), m.ConfirmSelect(), m.BasicGet(queue="q")):
            client.ask(1, method)
        client.received(memoryview(_ANSWERS), 0.0)
        client.events()
    return client


def _heard(client: ClientConnection, data: bytes, cut: int) -> list[Any]:
    """What it says when it is given these octets in two reads: messages apart, bodies kept."""
    found: list[Any] = []
    rest = b""
    for piece in (data[:cut], data[cut:]):
        rest += piece
        used = client.received(memoryview(rest), 0.0)
        assert 0 <= used <= len(rest), "octets that were not there"
        rest = rest[used:]
        for event in client.events():
            found += _parts(event)
    client.data_to_send(0.0)
    return sorted(found)


def _parts(event: Any) -> list[str]:
    if isinstance(event, Delivered):
        for each in event.deliveries:
            assert len(each.body) <= _MESSAGE_OCTETS_MOST, "a message longer than we take"
        return [repr(each._replace(body=bytes(each.body))) for each in event.deliveries]
    if isinstance(event, Returned):
        return [repr(event.message._replace(body=bytes(event.message.body)))]
    return [repr(event._replace(delivery=None) if hasattr(event, "delivery") else event)]


def run(data: bytes) -> bool:
    """However it is cut, it means the same; it ends in the documented way or not at all."""
    is_open = data[:1] == b"y"
    whole, halves = _client(is_open=is_open), _client(is_open=is_open)
    heard = _heard(whole, data[1:], len(data))
    assert heard == _heard(halves, data[1:], len(data) // 2), "it depends on the reads"
    ended = [each for each in heard if each.startswith(Ended.__name__)]
    assert len(ended) == (whole.state is State.ENDED), "an end that nobody heard of"
    return not any("broke the rules" in each for each in ended)


# One octet of a frame makes a delivery with its properties: some 500 octets.
TARGET = Target("amqp_client", "what brokers send to our client", seeds, run, peak_base=1 << 20, peak_factor=96)

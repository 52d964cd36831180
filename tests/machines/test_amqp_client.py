"""The client of a broker, octet by octet, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import LocalProtocolError
from tumpline.machines.amqp_client import (
    Answered,
    Blocked,
    ChannelEnded,
    ClientConfig,
    ClientConnection,
    Confirmed,
    ConsumerCancelled,
    Delivered,
    Delivery,
    Ended,
    Opened,
    Oversized,
    Returned,
    State,
    Unblocked,
)
from tumpline.machines.amqp_client.connection import CHANNELS_MOST, CLOSE_S, FRAME_OCTETS_MOST, LOGIN_S
from tumpline.machines.amqp_client.outbox import KEPT_WHOLE_OCTETS
from tumpline.wire.amqp import (
    HEARTBEAT,
    PROTOCOL_HEADER,
    FrameKind,
    Properties,
    decode_content_header_untrusted,
    decode_method_untrusted,
    encode_content_header,
    encode_frame,
    encode_method,
    split_frames_untrusted,
)
from tumpline.wire.amqp import methods as m

PROPERTIES = Properties(content_type="application/json", delivery_mode=1)
KEY = "tumpline.packet.b.a"


def said(*methods: m.Method, channel: int = 1) -> bytes:
    """As a broker says it."""
    return b"".join(encode_frame(FrameKind.METHOD, channel, encode_method(method)) for method in methods)


def content(body: bytes, properties: Properties = PROPERTIES, frame_octets: int = FRAME_OCTETS_MOST) -> bytes:
    frames = [encode_frame(FrameKind.HEADER, 1, encode_content_header(len(body), properties))]
    most = frame_octets - 8
    frames += [encode_frame(FrameKind.BODY, 1, body[at : at + most]) for at in range(0, len(body), most)]
    return b"".join(frames)


def delivered(number: int, body: bytes, *, tag: str = "1", frame_octets: int = FRAME_OCTETS_MOST) -> bytes:
    return said(m.BasicDeliver(tag, number, False, "amq.topic", KEY)) + content(body, frame_octets=frame_octets)


class Client:
    """A machine, and what it heard and wrote."""

    def __init__(self, config: ClientConfig | None = None, frame_octets: int = FRAME_OCTETS_MOST) -> None:
        self.machine = ClientConnection(config or ClientConfig(name="test"), 0.0)
        self.events: list[Any] = []
        self.now = 0.0
        self._rest = b""
        assert self.written() == PROTOCOL_HEADER
        self.hear(said(m.ConnectionStart(server_properties={"product": "test"}), channel=0))
        self.hear(said(m.ConnectionTune(2047, frame_octets, 60), channel=0))
        self.login: list[Any] = self.methods()
        self.hear(said(m.ConnectionOpenOk(), channel=0))

    def hear(self, data: bytes) -> list[Any]:
        """Octets come; what they mean, with bodies that stay."""
        data = self._rest + data
        used = self.machine.received(memoryview(data), self.now)
        self._rest = data[used:]
        events = [kept(event) for event in self.machine.events()]
        self.events += events
        return events

    def written(self) -> bytes:
        return b"".join(self.machine.data_to_send(self.now))

    def methods(self) -> list[m.Method]:
        frames, _ = split_frames_untrusted(memoryview(self.written()), 1 << 20)
        return [decode_method_untrusted(bytes(frame.payload)) for frame in frames if frame.kind == FrameKind.METHOD]

    def with_channel(self) -> Client:
        self.machine.open_channel()
        self.hear(said(m.ChannelOpenOk()))
        self.methods()
        self.events.clear()
        return self


def kept(event: Any) -> Any:
    if isinstance(event, Delivered):
        return event._replace(deliveries=[each._replace(body=bytes(each.body)) for each in event.deliveries])
    if isinstance(event, Returned):
        return event._replace(message=event.message._replace(body=bytes(event.message.body)))
    return event


def deliveries(events: list[Any]) -> list[Delivery]:
    return [each for event in events if isinstance(event, Delivered) for each in event.deliveries]


# ---- login and end ---------------------------------------------------------------------------------------------------


def test_login() -> None:
    client = Client(ClientConfig("me", "word", "/v", "name", 7))
    start_ok, tune_ok, open_ = client.login
    assert start_ok.response == b"\0me\0word"
    assert start_ok.client_properties["connection_name"] == "name"
    assert tune_ok == m.ConnectionTuneOk(CHANNELS_MOST, FRAME_OCTETS_MOST, 7)
    assert open_ == m.ConnectionOpen("/v")
    assert client.events == [Opened()]
    assert client.machine.server_properties == {"product": "test"}


def test_a_login_that_takes_too_long() -> None:
    machine = ClientConnection(ClientConfig(), 5.0)
    assert machine.next_timeout() == 5.0 + LOGIN_S
    machine.handle_timeout(5.0 + LOGIN_S)
    assert machine.events() == [Ended(0, "no answer within 10 s", False)]
    assert machine.next_timeout() is None


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (said(m.ConnectionStart(mechanisms=b"EXTERNAL"), channel=0), "offers b'EXTERNAL' to log in, and not PLAIN"),
        (said(m.ConnectionTune(), channel=0), "ConnectionTune where start was to come"),
        (b"AMQP\0\1\0\0", "speaks another version than AMQP 0-9-1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame of"),
        (said(m.ConnectionStart(), m.ConnectionTune(0, 100, 0), channel=0), "wants frames of 100 octets at most"),
        (said(m.ConnectionStart()), "something on channel 1, which is not open"),
        (encode_frame(FrameKind.BODY, 0, b""), "a frame of kind 3 on channel 0"),
    ],
)
def test_what_is_no_broker(octets: bytes, why: str) -> None:
    machine = ClientConnection(ClientConfig(), 0.0)
    assert machine.received(memoryview(octets), 0.0) == len(octets)
    (ended,) = machine.events()
    assert isinstance(ended, Ended)
    assert ended.text.startswith("the broker broke the rules of AMQP: ")
    assert why in ended.text
    assert machine.state is State.ENDED
    assert machine.received(memoryview(octets), 0.0) == len(octets), "what comes after the end is nothing"
    assert machine.events() == []


def test_a_refused_login() -> None:
    machine = ClientConnection(ClientConfig(), 0.0)
    machine.received(memoryview(said(m.ConnectionStart(), m.ConnectionClose(403, "ACCESS_REFUSED"), channel=0)), 0.0)
    assert machine.events() == [Ended(403, "ACCESS_REFUSED", True)]
    assert b"".join(machine.data_to_send(0.0)).endswith(said(m.ConnectionCloseOk(), channel=0))


def test_heartbeats() -> None:
    client = Client(ClientConfig(heartbeat_s=10))
    client.written()
    assert client.machine.next_timeout() == 5.0
    client.now = 5.0
    client.machine.handle_timeout(5.0)
    assert client.written() == HEARTBEAT
    client.hear(HEARTBEAT)
    for now in (10.0, 15.0, 20.0):
        client.machine.handle_timeout(now)
        assert client.machine.state is State.OPEN
    client.machine.handle_timeout(25.0)
    (ended,) = client.machine.events()
    assert ended == Ended(0, "nothing was heard from the broker for 20 s", False)


def test_without_heartbeats_nothing_is_waited_for() -> None:
    assert Client(ClientConfig(heartbeat_s=0)).machine.next_timeout() is None


def test_good_bye() -> None:
    client = Client().with_channel()
    client.machine.close(1.0)
    assert client.methods() == [m.ConnectionClose(200, "bye")]
    assert client.hear(delivered(1, b"said before it heard"))[0].deliveries
    assert client.hear(said(m.ConnectionCloseOk(), channel=0)) == [Ended(0, "closed here", False)]
    client.machine.close(1.0)
    assert client.machine.events() == []


def test_a_broker_that_does_not_say_good_bye() -> None:
    client = Client()
    client.machine.close(1.0)
    assert client.machine.next_timeout() == 1.0 + CLOSE_S
    client.machine.handle_timeout(1.0 + CLOSE_S)
    assert client.machine.events() == [Ended(0, "closed here; the broker did not say good-bye", False)]


def test_blocked() -> None:
    client = Client()
    assert client.hear(said(m.ConnectionBlocked("low on memory"), channel=0)) == [Blocked("low on memory")]
    assert client.hear(said(m.ConnectionUnblocked(), channel=0)) == [Unblocked()]


# ---- receiving -------------------------------------------------------------------------------------------------------


def test_what_one_read_brings_to_a_consumer_is_one_event() -> None:
    client = Client().with_channel()
    data = delivered(1, b"a") + delivered(2, b"b", tag="2") + delivered(3, b"c") + HEARTBEAT + delivered(4, b"")
    events = client.hear(data)
    assert [(event.consumer_tag, [each.body for each in event.deliveries]) for event in events] == [
        ("1", [b"a", b"c", b""]),
        ("2", [b"b"]),
    ]
    first = events[0].deliveries[0]
    assert first == Delivery("1", 1, False, "amq.topic", KEY, PROPERTIES, b"a")
    assert client.hear(delivered(5, b"d"))[0].deliveries[0].delivery_tag == 5


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["1", "22"])), max_size=6),
    st.lists(st.integers(1, 200), max_size=30),
)
def test_however_it_is_cut_it_says_the_same(messages: list[tuple[int, str]], cuts: list[int]) -> None:
    bodies = [bytes([number]) * length for number, (length, _) in enumerate(messages)]
    parts = [
        delivered(n, body, tag=tag, frame_octets=8 + 11)
        for n, (body, (_, tag)) in enumerate(zip(bodies, messages, strict=True))
    ]
    data = b"".join(parts) + said(m.BasicReturn(312, "NO_ROUTE", "x", "k")) + content(b"returned" * 4)
    whole = Client().with_channel().hear(data)
    client = Client().with_channel()
    at, events = 0, []
    for cut in [*cuts, len(data)]:
        events += client.hear(data[at : at + cut])
        at += cut
    assert sorted(deliveries(events), key=lambda each: each.delivery_tag) == sorted(
        deliveries(whole), key=lambda each: each.delivery_tag
    )
    assert [each.body for each in sorted(deliveries(whole), key=lambda each: each.delivery_tag)] == bodies
    assert [event for event in events if isinstance(event, Returned)] == whole[-1:]
    assert client.machine.state is State.OPEN


def test_bodies_are_views_of_what_was_received() -> None:
    client = Client().with_channel()
    data = memoryview(bytearray(delivered(1, b"x" * 60_000)))
    client.machine.received(data, 0.0)
    (event,) = client.machine.events()
    assert isinstance(event, Delivered)
    assert event.deliveries[0].body.obj is data.obj  # type: ignore[union-attr]


@pytest.mark.parametrize("frame_octets", [200, FRAME_OCTETS_MOST])
def test_messages_that_are_too_long_are_passed_over(frame_octets: int) -> None:
    client = Client(ClientConfig(message_octets_most=1000)).with_channel()
    data = delivered(1, b"x" * 1001, frame_octets=frame_octets) + delivered(2, b"y" * 1000, frame_octets=frame_octets)
    passed, fits = client.hear(data)
    assert passed == Oversized(1, "1", 1, KEY, 1001)
    assert [each.body for each in fits.deliveries] == [b"y" * 1000]


def test_a_message_that_was_asked_for_and_is_too_long() -> None:
    client = Client(ClientConfig(message_octets_most=10)).with_channel()
    client.machine.ask(1, m.BasicGet(queue="q"))
    got = m.BasicGetOk(4, False, "", "q", 0)
    assert client.hear(said(got) + content(b"x" * 11)) == [Answered(1, got, None)]


def test_a_great_many_keys_and_properties() -> None:
    client = Client().with_channel()
    for number in range(3000):
        method = m.BasicDeliver("1", number, False, "amq.topic", f"key.{number}")
        properties = Properties(message_id=f"{number}", headers={"n": number})
        (event,) = client.hear(said(method) + content(b"x", properties))
        (delivery,) = event.deliveries
        assert (delivery.routing_key, delivery.properties) == (f"key.{number}", properties)
    assert len(client.machine._receiver._memo._routes) <= 1024
    assert len(client.machine._receiver._memo._properties) <= 1024


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (said(m.BasicDeliver("1")) * 2, "a message begins where another one was to go on"),
        (said(m.BasicDeliver("1"), m.BasicReturn()), "BasicReturn where a message was to go on"),
        (said(m.BasicDeliver("1"), m.QueueBindOk()), "QueueBindOk where a message was to go on"),
        (content(b"x"), "a content header where none was to come"),
        (encode_frame(FrameKind.BODY, 1, b"x"), "a body where none was to come"),
        (said(m.BasicDeliver("1")) + content(b"x")[:-9] + encode_frame(FrameKind.BODY, 1, b"xy"), "a body where none"),
        (
            said(m.BasicDeliver("1"))
            + encode_frame(FrameKind.HEADER, 1, encode_content_header(2, Properties()))
            + encode_frame(FrameKind.BODY, 1, b"x")
            + encode_frame(FrameKind.BODY, 1, b"xy"),
            "a body where none was to come",
        ),
        (said(m.QueueDeclareOk("q", 0, 0)), "QueueDeclareOk on channel 1, where nobody asked for it"),
        (said(m.BasicGetOk()), "BasicGetOk on channel 1, where nobody asked for it"),
        (encode_frame(FrameKind.METHOD, 1, b"\x00\x3c\x00\x3c"), "a delivery that is cut off"),
        (encode_frame(FrameKind.METHOD, 1, b"\x00\x3c\x00\x3c\x09abc"), "octets are to follow"),
        (encode_frame(FrameKind.METHOD, 1, b"\x00\x63\x00\x01"), "no method 99.1 is known"),
        (encode_frame(FrameKind.HEARTBEAT, 1, b""), "a frame of kind 8 on a channel"),
        (delivered(1, b"x")[:-1] + b"\0", "a frame that ends with 0x0"),
        (b"\x01\x00\x01\xff\xff\xff\xff\0", "131064 were agreed"),
        (said(m.ConnectionTune(), channel=0), "ConnectionTune on an open connection"),
        (said(m.ChannelOpenOk(), channel=0), "ChannelOpenOk on an open connection"),
    ],
)
def test_what_breaks_the_rules_ends_the_connection(octets: bytes, why: str) -> None:
    client = Client().with_channel()
    events = client.hear(delivered(7, b"before") + octets)
    assert [each.body for each in deliveries(events)] == [b"before"]
    assert isinstance(events[-1], Ended)
    assert why in events[-1].text


# ---- channels --------------------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_requests() -> None:
    client = Client().with_channel()
    client.machine.ask(1, m.QueueDeclare(queue="q"))
    client.machine.ask(1, m.BasicGet(queue="q"))
    client.machine.ask(1, m.BasicGet(queue="q"))
    events = client.hear(
        said(m.QueueDeclareOk("q", 1, 0), m.BasicGetOk(4, True, "", "q", 0)) + content(b"got") + said(m.BasicGetEmpty())
    )
    declared, got, none = events
    assert declared == Answered(1, m.QueueDeclareOk("q", 1, 0))
    assert bytes(got.delivery.body) == b"got"
    assert (got.delivery.delivery_tag, got.delivery.redelivered) == (4, True)
    assert none == Answered(1, m.BasicGetEmpty())


def test_a_channel_that_the_broker_closes() -> None:
    client = Client().with_channel()
    client.machine.ask(1, m.QueueDeclare(queue="q", passive=True))
    assert client.hear(said(m.ChannelClose(404, "NOT_FOUND", 50, 10))) == [ChannelEnded(1, 404, "NOT_FOUND")]
    assert client.methods()[-1] == m.ChannelCloseOk()
    with pytest.raises(LocalProtocolError, match="channel 1 is not open"):
        client.machine.ask(1, m.QueueDeclare())
    with pytest.raises(LocalProtocolError, match="channel 1 is not open"):
        client.machine.publish(1, "", "q", b"")
    assert client.machine.open_channel() == 2, "numbers are used again as late as can be"


def test_both_close_a_channel() -> None:
    client = Client().with_channel()
    client.machine.ask(1, m.ChannelClose(200, "bye"))
    assert client.hear(said(m.ChannelClose(404, "late"))) == [ChannelEnded(1, 404, "late")]
    assert client.hear(said(m.ChannelCloseOk())) == []
    assert client.machine.state is State.OPEN


def test_more_channels_than_there_may_be() -> None:
    client = Client()
    numbers = [client.machine.open_channel() for _ in range(CHANNELS_MOST)]
    assert sorted(numbers) == list(range(1, CHANNELS_MOST + 1))
    with pytest.raises(LocalProtocolError, match="255 channels are open; close one"):
        client.machine.open_channel()


def test_what_a_broker_says_by_itself() -> None:
    client = Client().with_channel()
    events = client.hear(said(m.BasicCancel("1", True), m.ChannelFlow(False), m.BasicNack(3, True)))
    assert events == [ConsumerCancelled(1, "1"), Confirmed(1, 3, True, False)]
    assert client.methods() == [m.ChannelFlowOk(False)]
    client.hear(said(m.BasicCancel("1", False)))
    assert client.methods() == [m.BasicCancelOk("1")]


# ---- publishing ------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 100, 4087, 4088, 4089, KEPT_WHOLE_OCTETS, 20_000]),
            st.booleans(),
            st.sampled_from([None, PROPERTIES, Properties(headers={"a": 1})]),
            st.sampled_from(["k", KEY]),
        ),
        max_size=6,
    ),
    st.sampled_from([4096, FRAME_OCTETS_MOST]),
)
def test_what_is_written_is_what_was_published(messages: list[Any], frame_octets: int) -> None:
    client = Client(frame_octets=frame_octets).with_channel()
    for number, (length, mandatory, properties, key) in enumerate(messages):
        body = bytes([number]) * length
        pieces = (body[:5], memoryview(body)[5:], bytearray())
        client.machine.publish(1, "amq.topic", key, body, properties, mandatory)
        client.machine.publish(1, "amq.topic", key, memoryview(bytearray(body)), properties, mandatory)
        client.machine.publish(1, "amq.topic", key, pieces, properties, mandatory)
    told = client.machine.octets_to_send
    data = client.written()
    assert abs(told - len(data)) <= 64 * len(messages) * 3  # by and large: it is what back-pressure goes by
    frames, taken = split_frames_untrusted(memoryview(data), frame_octets)
    assert taken == len(data)
    assert messages_of(frames) == [
        (m.BasicPublish(0, "amq.topic", key, mandatory), properties or Properties(), bytes([number]) * length)
        for number, (length, mandatory, properties, key) in enumerate(messages)
        for _ in range(3)
    ]


def messages_of(frames: list[Any]) -> list[tuple[m.Method, Properties, bytes]]:
    found: list[tuple[m.Method, Properties, bytes]] = []
    for frame in frames:
        payload = bytes(frame.payload)
        if frame.kind == FrameKind.METHOD:
            found.append((decode_method_untrusted(payload), Properties(), b""))
        elif frame.kind == FrameKind.HEADER:
            _, properties = decode_content_header_untrusted(payload)
            found[-1] = (found[-1][0], properties, b"")
        else:
            found[-1] = (found[-1][0], found[-1][1], found[-1][2] + payload)
    return found


def test_views_are_copied_when_they_are_published() -> None:
    client = Client().with_channel()
    mine = bytearray(b"a" * 100_000)
    client.machine.publish(1, "", "q", memoryview(mine))
    mine[:] = b"b" * len(mine)
    frames, _ = split_frames_untrusted(memoryview(client.written()), FRAME_OCTETS_MOST)
    assert messages_of(frames)[0][2] == b"a" * 100_000


def test_large_bodies_are_not_copied() -> None:
    client = Client().with_channel()
    body = bytes(60_000)
    client.machine.publish(1, "", "q", body)
    assert any(piece is body for piece in client.machine.data_to_send(0.0))


def test_numbers_of_confirmed_messages() -> None:
    client = Client().with_channel()
    assert client.machine.publish(1, "", "q", b"") == 0
    client.machine.ask(1, m.ConfirmSelect())
    assert [client.machine.publish(1, "", "q", b"") for _ in range(3)] == [1, 2, 3]


def test_what_amqp_cannot_carry() -> None:
    client = Client().with_channel()
    with pytest.raises(ValueError, match="longer than 255 octets"):
        client.machine.publish(1, "", "k" * 256, b"")
    with pytest.raises(ValueError, match="longer than 255 octets"):
        client.machine.ask(1, m.QueueDeclare(queue="q" * 256))
    assert client.written() == b""
    client.machine.ask(1, m.QueueDeclare(queue="q"))
    assert client.hear(said(m.QueueDeclareOk("q", 0, 0))) == [Answered(1, m.QueueDeclareOk("q", 0, 0))]

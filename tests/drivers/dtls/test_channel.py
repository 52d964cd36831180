"""The sessions of one conversation, one after another: restarts, pretenders, both beginning at once."""

from collections.abc import Callable

import pytest

from tumpline.drivers.dtls.channel import PREVIOUS_S, DtlsChannel, Route
from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.listener import Listener
from tumpline.drivers.dtls.session import DtlsSession
from tumpline.wire.dtls import client_hello_random

MakeContexts = Callable[..., DtlsContexts]


class End:
    """One side: its channel, and a listener for the other's ClientHellos."""

    def __init__(self, contexts: DtlsContexts) -> None:
        self.contexts = contexts
        self.listener = Listener(contexts, 1200)
        self.channel: DtlsChannel | None = None
        self.plain: list[bytes] = []

    def begin(self, now: float = 0.0) -> None:
        self.channel = DtlsChannel(DtlsSession.client(self.contexts, b"", 1200, now))

    def take(self, datagram: bytes, now: float) -> list[bytes]:
        random = client_hello_random(datagram)
        if random is None:
            route = Route.SESSION
        else:
            route = Route.LISTENER if self.channel is None else self.channel.route(random)
        if route is Route.SESSION and self.channel is not None:
            self.plain += self.channel.feed(datagram, now)
        return self._hello(datagram, now) if route is Route.LISTENER else []

    def _hello(self, datagram: bytes, now: float) -> list[bytes]:
        answer = self.listener.receive(datagram, b"the other", now)
        if answer.session is not None:
            if self.channel is None:
                self.channel = DtlsChannel(answer.session)
            else:
                self.channel.adopt(answer.session, now)
        return [answer.datagram] if answer.datagram else []

    def out(self) -> list[bytes]:
        return self.channel.out() if self.channel is not None else []


def carry(a: End, b: End, now: float = 0.0) -> None:
    """Until nobody has anything to say."""
    there, back = a.out(), b.out()
    while there or back:
        answers = [answer for datagram in there for answer in b.take(datagram, now)]
        more = [answer for datagram in back for answer in a.take(datagram, now)]
        there, back = a.out() + more, b.out() + answers


def says(speaker: End, listener: End, text: bytes) -> bool:
    assert speaker.channel is not None
    for datagram in speaker.channel.seal([text], 1200):
        listener.take(datagram, 0.0)
    return listener.plain[-1:] == [text]


@pytest.fixture
def ends(contexts: MakeContexts) -> tuple[End, End]:
    a, b = End(contexts("a")), End(contexts("b"))
    a.begin()
    carry(a, b)
    assert says(a, b, b"first")
    assert says(b, a, b"answer")
    return a, b


def _channel(end: End) -> DtlsChannel:
    assert end.channel is not None
    return end.channel


def test_a_peer_that_restarted_is_taken_again(ends: tuple[End, End]) -> None:
    a, b = ends
    again = End(a.contexts)
    again.begin(1.0)
    carry(again, b, 1.0)
    assert _channel(b).renewals == 1
    assert says(b, again, b"to the new one")
    assert says(again, b, b"from the new one")
    assert not _channel(b).failure


def test_the_one_that_was_client_serves_a_peer_that_restarted(ends: tuple[End, End]) -> None:
    a, b = ends
    again = End(b.contexts)
    again.begin(1.0)
    carry(again, a, 1.0)
    assert _channel(a).renewals == 1
    assert says(a, again, b"to the new one")


def test_what_was_sent_before_the_change_still_arrives_for_a_while(ends: tuple[End, End]) -> None:
    a, b = ends
    late = []
    for text in (b"late", b"too late"):
        late += _channel(a).seal([text], 1200)
    again = End(a.contexts)
    again.begin(1.0)
    carry(again, b, 1.0)
    assert _channel(b).feed(late[0], 2.0) == [b"late"]
    assert _channel(b).next_timeout() == 1.0 + PREVIOUS_S
    _channel(b).handle_timeout(1.0 + PREVIOUS_S)
    assert _channel(b).feed(late[1], 20.0) == []
    assert _channel(b).next_timeout() is None


def test_who_only_pretends_ends_nothing(ends: tuple[End, End], contexts: MakeContexts) -> None:
    a, b = ends
    pretender = End(contexts("c", certificate="", key=""))
    pretender.begin(1.0)
    carry(pretender, b, 1.0)
    assert _channel(b).renewals == 0
    assert _channel(b).trouble == "the peer gave no certificate; it needs tls.cert and tls.key"
    assert not _channel(b).failure
    assert says(a, b, b"still there")


def test_a_handshake_that_never_ends_ends_nothing(ends: tuple[End, End]) -> None:
    a, b = ends
    again = End(a.contexts)
    again.begin(1.0)
    for _ in range(2):  # as far as the cookie, then silence
        for answer in [answer for datagram in again.out() for answer in b.take(datagram, 1.0)]:
            again.take(answer, 1.0)
    assert _channel(b).is_securing
    b.out()
    assert says(a, b, b"meanwhile")
    _channel(b).handle_timeout(100.0)
    assert not _channel(b).is_securing
    assert "no answer" in _channel(b).trouble
    assert says(a, b, b"afterwards")


def test_both_begin_at_once(contexts: MakeContexts) -> None:
    for _ in range(8):
        a, b = End(contexts("a")), End(contexts("b"))
        a.begin()
        b.begin()
        carry(a, b)
        assert _channel(a).is_established
        assert _channel(b).is_established
        assert not _channel(a).is_securing
        assert not _channel(b).is_securing
        assert says(a, b, b"from a")
        assert says(b, a, b"from b")


def test_a_client_hello_that_comes_twice(contexts: MakeContexts) -> None:
    a, b = End(contexts("a")), End(contexts("b"))
    a.begin()
    hellos = []
    for _ in range(2):
        for hello in a.out():
            hellos.append(hello)
            for answer in b.take(hello, 0.0):
                a.take(answer, 0.0)
    b.take(hellos[1], 0.0)  # while the handshake goes on
    carry(a, b)
    assert says(a, b, b"through")
    assert b.take(hellos[1], 0.0) == []  # and when it is over
    assert not _channel(b).is_securing
    assert says(b, a, b"back")


def test_an_end_is_told(ends: tuple[End, End]) -> None:
    a, b = ends
    _channel(a).close()
    _channel(a).close()
    for datagram in a.out():
        b.take(datagram, 0.0)
    assert _channel(b).failure == "the peer has closed the association"
    assert _channel(a).failure == "closed by us"
    assert _channel(b).seal([b"nobody hears"], 1200) == []


def test_overhead_and_room(ends: tuple[End, End]) -> None:
    a, b = ends
    for octets in (300, 1200, 9000):
        room = octets - _channel(a).overhead_octets
        (datagram,) = _channel(a).seal([bytes(room)], octets)
        assert len(datagram) == octets
        assert b.take(datagram, 0.0) == []
        assert b.plain[-1] == bytes(room)


def test_many_in_as_few_datagrams_as_the_path_allows(ends: tuple[End, End]) -> None:
    a, b = ends
    sent = [bytes([number]) * 1000 for number in range(20)]
    datagrams = _channel(a).seal(sent, 5000)
    assert [len(datagram) <= 5000 for datagram in datagrams] == [True] * 5
    assert [plain for datagram in datagrams for plain in _channel(b).feed(datagram, 0.0)] == sent


@pytest.mark.parametrize("octets", [16_384, 16_420, 16_421, 16_422, 40_000, 65_507])
def test_probes_longer_than_a_record_fill_one_datagram(ends: tuple[End, End], octets: int) -> None:
    a, b = ends
    probe = b"\xa1\x06" + bytes(octets - 2 - _channel(a).overhead_octets)
    short, long = _channel(a).seal([b"before", probe], 1200)
    assert len(long) == octets
    assert _channel(b).feed(short, 0.0) == [b"before"]
    first, *padding = _channel(b).feed(long, 0.0)
    assert first[:2] == b"\xa1\x06"
    assert not any(b"".join(padding))


def test_a_peer_may_be_refused_after_the_handshake(contexts: MakeContexts) -> None:
    client = DtlsChannel(DtlsSession.client(contexts("a"), b"", 1200, 0.0), lambda _: "wrong person")
    b = End(contexts("b"))
    for _ in range(6):
        for datagram in client.out():
            for answer in b.take(datagram, 0.0):
                client.feed(answer, 0.0)
        for datagram in b.out():
            client.feed(datagram, 0.0)
    assert client.failure == "wrong person"
    assert _channel(b).failure == "the peer has closed the association"

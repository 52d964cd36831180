"""Sessions between memory buffers: handshake, records and datagrams, ends."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tumpline.drivers.dtls.context import COOKIE_S, DtlsContexts
from tumpline.drivers.dtls.session import HANDSHAKE_S, DtlsSession, State
from tumpline.drivers.x509 import peer_certificate
from tumpline.testing.dtls import CLIENT_ADDRESS, DtlsPair, established
from tumpline.wire.dtls import PLAINTEXT_OCTETS_MOST, split_records

MakeContexts = Callable[..., DtlsContexts]


def test_both_ends_learn_who_the_other_is(contexts: MakeContexts) -> None:
    client, server = established(contexts("a"), contexts("b"))
    certificates = [session.peer_certificate() for session in (client, server)]
    assert [peer_certificate(der).node_ids for der in certificates if der] == [("dtn://b/",), ("dtn://a/",)]
    assert client.version == server.version == "DTLSv1.2"
    assert "GCM" in client.cipher
    assert client.next_timeout() is None
    assert server.next_timeout() is None


@pytest.mark.parametrize("octets", [256, 600, 1200, 9000, 65_507])
def test_no_datagram_is_longer_than_allowed(contexts: MakeContexts, octets: int) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"), octets)
    seen: list[int] = []

    def note(datagrams: list[bytes]) -> list[bytes]:
        seen.extend(map(len, datagrams))
        return datagrams

    while pair.carry(impair=note):
        pass
    assert pair.client.is_established, pair.client.failure
    for size in (1, pair.client.plaintext_octets // 3, pair.client.plaintext_octets, 1):
        pair.client.write(bytes(size))
    pair.carry(impair=note)
    assert max(seen) <= octets


def test_records_share_datagrams_and_keep_their_order(contexts: MakeContexts) -> None:
    client, server = established(contexts("a"), contexts("b"))
    sent = [bytes([index]) * (index * 7 + 1) for index in range(40)]
    for plaintext in sent:
        client.write(plaintext)
    datagrams = client.datagrams()
    assert len(datagrams) < len(sent) // 4
    assert [plaintext for datagram in datagrams for plaintext in server.feed(datagram, 0.0)] == sent
    assert client.datagrams() == []


def test_the_room_for_plaintext_follows_the_path(contexts: MakeContexts) -> None:
    client, server = established(contexts("a"), contexts("b"), 600)
    assert client.plaintext_octets == 563
    for octets, room in ((9000, 8963), (65_507, PLAINTEXT_OCTETS_MOST), (400, 363)):
        client.set_mtu(octets)
        assert client.plaintext_octets == room
        client.write(bytes(room))
        (datagram,) = client.datagrams()
        assert len(datagram) <= octets
        assert server.feed(datagram, 0.0) == [bytes(room)]
        with pytest.raises(AssertionError, match="in one record"):
            client.write(bytes(room + 1))


def test_four_records_of_the_longest_kind_fit_a_long_datagram(contexts: MakeContexts) -> None:
    client, server = established(contexts("a"), contexts("b"))
    client.set_mtu(65_507)
    for _ in range(3):
        client.write(bytes(PLAINTEXT_OCTETS_MOST))
    client.write(bytes(16_000))
    (datagram,) = client.datagrams()
    assert [len(plaintext) for plaintext in server.feed(datagram, 0.0)] == [PLAINTEXT_OCTETS_MOST] * 3 + [16_000]


def test_what_comes_twice_or_altered_is_passed_over(contexts: MakeContexts) -> None:
    client, server = established(contexts("a"), contexts("b"))
    client.write(b"once")
    (datagram,) = client.datagrams()
    for at in range(len(datagram)):
        altered = datagram[:at] + bytes([datagram[at] ^ 0x40]) + datagram[at + 1 :]
        assert server.feed(altered, 0.0) == []
        assert server.is_established
    assert server.feed(datagram, 0.0) == [b"once"]
    assert server.feed(datagram, 0.0) == []


def test_data_that_overtakes_the_end_of_the_handshake(contexts: MakeContexts) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"))
    pair.carry()
    pair.carry()
    assert pair.server is not None
    for datagram in pair.client.datagrams():
        pair.server.feed(datagram, 0.0)
    assert pair.server.is_established
    pair.server.write(b"early")
    *flight, data = [record for datagram in pair.server.datagrams() for record in split_records(datagram)]
    plaintexts = [plaintext for record in (data, *flight) for plaintext in pair.client.feed(record, 0.0)]
    assert plaintexts == [b"early"]


def test_each_may_end_it(contexts: MakeContexts) -> None:
    for end in (0, 1):
        sessions = established(contexts("a"), contexts("b"))
        closing, other = sessions[end], sessions[1 - end]
        closing.close()
        for datagram in closing.datagrams():
            assert other.feed(datagram, 0.0) == []
        assert (closing.state, closing.clean, closing.failure) == (State.CLOSED, True, "closed by us")
        assert (other.state, other.clean) == (State.CLOSED, True)
        assert other.failure == "the peer has closed the association"
        assert other.feed(b"\x17\xfe\xfd", 0.0) == []
        other.close()
        assert other.datagrams() == []


def test_nobody_answers(contexts: MakeContexts) -> None:
    client = DtlsSession.client(contexts("a"), b"", 1200, 5.0)
    first = client.next_timeout()
    assert first is not None
    assert 5.5 < first <= 6.0
    client.handle_timeout(5.1)
    assert client.next_timeout() == first
    client.handle_timeout(5.0 + HANDSHAKE_S)
    assert client.state is State.CLOSED
    assert client.failure == "no answer to the DTLS handshake within 20 s"
    assert client.next_timeout() is None


# ---- garbage ---------------------------------------------------------------------------------------------------------


def _garbage(chance: Random, real: list[bytes]) -> bytes:
    """Octets that look like records more or less."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 200))
    if kind == 1:
        data = chance.randbytes(chance.randrange(60))
        head = bytes([chance.randrange(20, 27)]) + b"\xfe\xfd" + chance.randrange(3).to_bytes(2) + chance.randbytes(6)
        return head + len(data).to_bytes(2) + data
    altered = bytearray(chance.choice(real))
    for _ in range(chance.randrange(1, 4)):
        altered[chance.randrange(len(altered))] = chance.randrange(256)
    return bytes(altered) if kind == 2 else bytes(altered[: chance.randrange(1, len(altered))])


@pytest.mark.parametrize("seed", range(8))
def test_garbage_ends_no_established_session(contexts: MakeContexts, seed: int) -> None:
    chance = Random(seed)
    pair = DtlsPair(contexts("a"), contexts("b"))
    real: list[bytes] = []

    def keep(datagrams: list[bytes]) -> list[bytes]:
        real.extend(datagrams)
        return datagrams

    while pair.carry(impair=keep):
        pass
    assert pair.server is not None
    for number in range(300):
        for session, other in ((pair.client, pair.server), (pair.server, pair.client)):
            session.write(number.to_bytes(2))
            (genuine,) = session.datagrams()
            real.append(genuine)
            for _ in range(3):
                assert other.feed(_garbage(chance, real[:-1]), 0.0) == []
            assert other.feed(genuine, 0.0) == [number.to_bytes(2)], other.failure


@pytest.mark.parametrize("seed", range(30))
def test_garbage_in_a_handshake_ends_at_most_that(contexts: MakeContexts, seed: int) -> None:
    chance = Random(seed)
    pair = DtlsPair(contexts("a"), contexts("b"))
    real = [b"\x16\xfe\xfd" + bytes(30)]
    for _ in range(6):
        for datagram in pair.client.datagrams():
            real.append(datagram)
            pair.to_server(_garbage(chance, real), 0.0)
            for answer in pair.to_server(datagram, 0.0):
                pair.client.feed(answer, 0.0)
        for datagram in pair.server.datagrams() if pair.server is not None else ():
            real.append(datagram)
            pair.client.feed(_garbage(chance, real), 0.0)
            pair.client.feed(datagram, 0.0)
    for session in filter(None, (pair.client, pair.server)):
        assert (session.state is State.CLOSED) == bool(session.failure)


# ---- strangers -------------------------------------------------------------------------------------------------------


def test_strangers_get_a_short_answer_and_are_forgotten(contexts: MakeContexts) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"))
    (hello,) = pair.client.datagrams()
    answers = {pair.listener.receive(hello, b"192.0.2.%d" % host, 0.0).datagram for host in range(100)}
    assert {len(answer) for answer in answers} == {44}
    assert len(answers) == 100, "every address has a cookie of its own"
    assert len(hello) > 44


def test_a_cookie_is_good_for_one_address(contexts: MakeContexts) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"))
    pair.carry()
    (second,) = pair.client.datagrams()
    elsewhere = pair.listener.receive(second, b"192.0.2.99:4556", 0.0)
    assert elsewhere.session is None
    assert len(elsewhere.datagram) == 44
    assert pair.listener.receive(second, CLIENT_ADDRESS, 0.0).session is not None


def test_a_cookie_is_good_for_a_while(contexts: MakeContexts) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"))
    pair.carry(30.0)
    (second,) = pair.client.datagrams()
    assert pair.listener.receive(second, CLIENT_ADDRESS, 30.0 + 2 * COOKIE_S).session is None
    assert pair.listener.receive(second, CLIENT_ADDRESS, 30.0 + COOKIE_S).session is not None


def test_many_clients_at_one_listener(contexts: MakeContexts) -> None:
    server = contexts("b")
    listener = DtlsPair(contexts("a"), server).listener
    clients = [DtlsSession.client(contexts("a"), b"", 1200, 0.0) for _ in range(5)]
    servers: dict[int, DtlsSession] = {}
    for _ in range(4):  # all of them step by step, so that their handshakes mingle
        for index, client in enumerate(clients):
            address = b"192.0.2.%d" % index
            for datagram in client.datagrams():
                if index in servers:
                    servers[index].feed(datagram, 0.0)
                    continue
                answer = listener.receive(datagram, address, 0.0)
                if answer.session is not None:
                    servers[index] = answer.session
                client.feed(answer.datagram, 0.0)
            for datagram in servers[index].datagrams() if index in servers else ():
                client.feed(datagram, 0.0)
    assert all(session.is_established for session in (*clients, *servers.values()))
    for index, client in enumerate(clients):
        client.write(b"from %d" % index)
        (datagram,) = client.datagrams()
        assert servers[index].feed(datagram, 0.0) == [b"from %d" % index]
        assert servers[(index + 1) % 5].feed(datagram, 0.0) == []


def test_a_listener_survives_whatever_comes(contexts: MakeContexts) -> None:
    chance = Random(1)
    pair = DtlsPair(contexts("a"), contexts("b"))
    (hello,) = pair.client.datagrams()
    for _ in range(500):
        answer = pair.listener.receive(_garbage(chance, [hello]), b"192.0.2.66", 0.0)
        assert answer.session is None
        assert len(answer.datagram) in (0, 44)
    for datagram in pair.to_server(hello, 0.0):
        pair.client.feed(datagram, 0.0)
    pair.handshake()
    assert pair.client.is_established


# ---- secrets for Wireshark -------------------------------------------------------------------------------------------


def test_secrets_go_where_they_are_wanted(
    contexts: MakeContexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured, common = tmp_path / "a.keys", tmp_path / "common.keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(common))
    established(contexts("a", key_log=str(configured)), contexts("b"))
    for path in (configured, common):
        label, random, secret = path.read_text().split()
        assert (label, len(random), len(secret)) == ("CLIENT_RANDOM", 64, 96)
        assert path.stat().st_mode & 0o077 == 0
    assert configured.read_text() == common.read_text()


def test_a_key_log_that_cannot_be_written_stops_nothing(contexts: MakeContexts, tmp_path: Path) -> None:
    established(contexts("a", key_log=str(tmp_path / "missing" / "keys")), contexts("b"))


def test_ciphers_are_those_configured(contexts: MakeContexts) -> None:
    client, _ = established(contexts("a", ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"), contexts("b"))
    assert client.cipher == "ECDHE-ECDSA-CHACHA20-POLY1305"
    pair = DtlsPair(contexts("a", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"), contexts("b", ciphers="CHACHA20"))
    pair.handshake()
    assert "no common cipher" in pair.client.failure


def test_datagrams_of_a_handshake_are_as_few_as_can_be(contexts: MakeContexts) -> None:
    pair = DtlsPair(contexts("a"), contexts("b"), 9000)
    flights: list[int] = []

    def count(datagrams: list[bytes]) -> list[bytes]:
        flights.append(len(datagrams))
        return datagrams

    while pair.carry(impair=count):
        pass
    assert max(flights) == 1
    assert all(a or b for a, b in pairwise(flights[:-1]))

"""UDPCL links that speak DTLS: the suite of all links, identities, refusals, restarts, who does without."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tumpline.drivers.dtls.channel import DtlsChannel
from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.session import DtlsSession
from tumpline.drivers.links._tls_config import TlsConfig, tls_files
from tumpline.drivers.links.udpcl import SPEC, UdpclLink
from tumpline.errors import TumplineError
from tumpline.machines.udpcl.events import PathMtuFound
from tumpline.testing.certificates import Authority
from tumpline.testing.conformance.links import (
    NODE_A,
    NODE_B,
    Check,
    Pair,
    checks_of,
    paths_name_the_peer,
    peer_that_comes_back_goes_on,
    run,
)
from tumpline.testing.recording import RecordingHost
from tumpline.wire.eid import Eid

ANY: dict[str, Any] = {"listen": "127.0.0.1:0"}
PAIRS: list[Pair] = []
# Of datagrams alone: they prove nobody, and nobody notices that a peer was away.
PLAIN = (paths_name_the_peer, peer_that_comes_back_goes_on)
CHECKS = [check for check in checks_of(SPEC) if check not in PLAIN]


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    """Whatever a test opened is closed, also when it fails."""
    yield
    while PAIRS:
        await PAIRS.pop().stop()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(ca: Authority, name: str, *node_ids: str, **more: Any) -> dict[str, Any]:
    """DTLS settings with a certificate that names these nodes; by default the one called so."""
    return {"tls": {**ca.issue(name, node_ids or [f"dtn://{name}/"]), **more}}


def pair_of(config_a: dict[str, Any], config_b: dict[str, Any]) -> Pair:
    pair = Pair(SPEC, config_a, {**ANY, **config_b})
    PAIRS.append(pair)
    return pair


async def begun(config_a: dict[str, Any], config_b: dict[str, Any], peer: Eid | None = NODE_B) -> Pair:
    """Both run, and a speaks to b."""
    pair = pair_of(config_a, config_b)
    await pair.start_b()
    await pair.link_a.start(pair.a)
    pair.a.acknowledge = pair.link_a.acknowledge
    pair.link_a.connect(pair.address, peer)
    return pair


async def seen(condition: Callable[[], bool]) -> None:
    """For what no host is told."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def told(host: RecordingHost, text: str) -> None:
    """People are told this."""
    await host.until(lambda: text in host.notice_text(), f"a notice with {text!r}")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms_with_dtls(ca: Authority, check: Check) -> None:
    await run(check, SPEC, tls(ca, "a"), tls(ca, "b"))


# ---- who is who ------------------------------------------------------------------------------------------------------


async def test_both_are_proved(ca: Authority) -> None:
    pair = await begun(tls(ca, "a"), tls(ca, "b"))
    await pair.meet()
    at_a, at_b = pair.a.up[pair.path_a], pair.b.up[pair.path_b]
    assert (at_a.peer, at_a.authenticated, at_a.security) == (NODE_B, True, "DTLSv1.2")
    assert (at_b.peer, at_b.authenticated, at_b.security) == (NODE_A, True, "DTLSv1.2")
    described = pair.link_b.describe()
    assert described["tls"] == "required"
    assert "DTLS 1.3: " in described["dtls"]
    assert described["sessions"][0]["security"] == "DTLSv1.2"


async def test_of_several_names_each_says_its_own(ca: Authority) -> None:
    pair = await begun(tls(ca, "a", "dtn://a/", "ipn:1.0"), tls(ca, "b", "dtn://b/", "ipn:2.0"), peer=None)
    for host, peer in ((pair.a, NODE_B), (pair.b, NODE_A)):
        await host.until(lambda: any(info.authenticated for info in host.up.values()), "a proof")  # noqa: B023
        assert host.up[host.live[-1]].peer == peer


async def test_nobody_is_believed_beyond_its_certificate(ca: Authority) -> None:
    config = tls(ca, "b", "dtn://mallory/", "dtn://eve/")  # but it calls itself dtn://b/
    pair = await begun(tls(ca, "a"), config, peer=None)
    await told(pair.a, "the certificate names dtn://mallory/, dtn://eve/, not dtn://b/")


async def test_somebody_else_than_expected(ca: Authority) -> None:
    pair = await begun(tls(ca, "a"), tls(ca, "mallory"))
    await told(pair.a, "the certificate names dtn://mallory/, not dtn://b/")
    assert not pair.a.live


@pytest.mark.parametrize(
    ("fault", "a_says", "b_says"),
    [
        ("other CA", "does not know the CA of our certificate", "comes from a CA that is not in our tls.ca"),
        ("expired", "our certificate has expired; `tumpline cert renew", "the peer's certificate has expired"),
        ("nameless", "the peer has closed the association", "the certificate has no node ID"),
    ],
)
async def test_refusals_are_told_on_both_sides(
    ca: Authority, tmp_path: Path, fault: str, a_says: str, b_says: str
) -> None:
    if fault == "other CA":
        files = Authority(tmp_path, "other").issue("a", ["dtn://a/"]) | {"ca": ca.file}
    elif fault == "expired":
        files = ca.issue("a", ["dtn://a/"], valid=-timedelta(days=1))
    else:
        files = ca.issue("a")
    pair = await begun({"tls": files}, tls(ca, "b"))
    await told(pair.b, b_says)
    await told(pair.a, a_says)
    assert not pair.b.live


async def test_files_that_cannot_be_used_stop_the_start(ca: Authority) -> None:
    config = tls(ca, "b")
    config["tls"]["ca"] = "/nowhere/ca.pem"
    pair = pair_of({}, config)
    with pytest.raises(TumplineError, match=r"cannot read /nowhere/ca\.pem"):
        await pair.start_b()


def test_configuration_says_what_is_missing() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"tls\.key: missing"):
        msgspec.convert({"tls": {"mode": "optional", "cert": "a.pem"}}, SPEC.config)


# ---- sizes -----------------------------------------------------------------------------------------------------------


async def test_what_the_interface_does_not_take_is_sealed_again_in_shorter_datagrams(ca: Authority) -> None:
    """The loopback interface takes 65,488 octets behind IPv6 and UDP."""
    at_once = {"datagram_octets": 65_507, "rate": "1 Gbit/s", "discover_path_mtu": False}
    pair = await begun({**tls(ca, "a"), **at_once}, {**tls(ca, "b"), "listen": "[::1]:0"})
    await pair.meet()
    sent = [os.urandom(65_500 + number) for number in range(4)] + [os.urandom(100)]
    pair.offer(*map(pair.unit, sent))
    await pair.b.until(lambda: len(pair.b.arrivals) == len(sent), "all arrivals")
    assert sorted(pair.b.data) == sorted(sent)
    assert isinstance(pair.link_a, UdpclLink)
    (talk,) = pair.link_a.endpoint.talks.values()
    assert talk.machine.sizing.path_octets < 65_488


async def test_the_path_mtu_is_found_through_dtls(ca: Authority) -> None:
    """Loopback takes the longest datagrams; those of probes hold several records."""
    pair = await begun(tls(ca, "a"), tls(ca, "b"))
    await pair.meet()
    await told(pair.a, "path_mtu_found")
    ((_, found),) = [notice for notice in pair.a.notices if notice[0] == "path_mtu_found"]
    assert found["is_confirmed"]
    assert found["datagram_octets"] > 65_000
    assert isinstance(pair.link_a, UdpclLink)
    (talk,) = pair.link_a.endpoint.talks.values()
    sizing = talk.machine.sizing
    assert sizing.path_octets == found["datagram_octets"]
    assert 4 * (sizing.datagram_octets + sizing.overhead_octets) <= sizing.path_octets
    sent = [os.urandom(60_000) for _ in range(20)]
    pair.offer(*(pair.unit(data) for data in sent))
    await pair.b.until(lambda: len(pair.b.arrivals) == len(sent), "all arrivals")
    assert sorted(pair.b.data) == sorted(sent)


# ---- who does without ------------------------------------------------------------------------------------------------


async def test_plain_text_is_refused_where_dtls_is_required(ca: Authority) -> None:
    pair = await begun({}, tls(ca, "b"))
    await pair.a.until(lambda: bool(pair.a.live), "a path at a")
    pair.offer(pair.unit(b"plainly"))
    await pair.a.until(lambda: not pair.a.waiting, "its end")
    assert isinstance(pair.link_b, UdpclLink)
    talks = pair.link_b.endpoint.talks
    await seen(lambda: any(talk.machine.counts.plain_refused for talk in talks.values()))
    assert not pair.b.arrivals
    assert not pair.b.live


async def test_optional_dtls_is_spoken_by_both(ca: Authority) -> None:
    pair = await begun(tls(ca, "a", mode="optional"), tls(ca, "b", mode="optional"))
    await pair.meet()
    assert pair.a.up[pair.path_a].security == "DTLSv1.2"
    await pair.a.until(lambda: pair.a.up[pair.path_a].authenticated, "a proof")


async def test_optional_dtls_gives_up_where_nobody_speaks_it(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tumpline.drivers.links._udpcl_security.UNANSWERED_S", 0.0)
    pair = await begun(tls(ca, "a", mode="optional"), {})
    await pair.a.until(lambda: bool(pair.a.live), "a path at a")
    assert pair.a.up[pair.path_a].security == "none"
    pair.offer(pair.unit(b"plainly"))
    await pair.b.until(lambda: pair.b.data == [b"plainly"], "its arrival")


# ---- strangers and restarts ------------------------------------------------------------------------------------------


async def test_a_client_hello_alone_begins_a_handshake_and_costs_nothing(ca: Authority) -> None:

    pair = pair_of({}, tls(ca, "b"))
    await pair.start_b()
    contexts = DtlsContexts(tls_files(msgspec.convert(tls(ca, "a")["tls"], TlsConfig)))
    host, _, port = pair.address.rpartition(":")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, int(port)))
        client = DtlsSession.client(contexts, b"", 1200, loop.time())
        (hello,) = client.datagrams()
        for _ in range(3):
            sock.send(hello)
            async with asyncio.timeout(10):
                answer = await loop.sock_recv(sock, 65_536)
            assert len(answer) == 44 < len(hello)
            assert isinstance(pair.link_b, UdpclLink)
            assert not pair.link_b.endpoint.talks, "nothing is kept before the cookie comes back"
        client.feed(answer, loop.time())
        async with asyncio.timeout(10):
            while not client.is_established:
                for datagram in client.datagrams():
                    sock.send(datagram)
                client.feed(await loop.sock_recv(sock, 65_536), loop.time())
        await pair.b.until(lambda: bool(pair.b.live), "a path at b")
        assert pair.b.up[pair.path_b].peer == NODE_A


async def test_no_address_takes_all_handshakes(ca: Authority) -> None:
    pair = pair_of({}, tls(ca, "b") | {"limits": {"max_handshakes": 8}})
    await pair.start_b()
    assert isinstance(pair.link_b, UdpclLink)
    contexts = DtlsContexts(tls_files(msgspec.convert(tls(ca, "a")["tls"], TlsConfig)))
    host, _, port = pair.address.rpartition(":")
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        for _ in range(4):  # as far as the cookie that comes back, and no further
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setblocking(False)
            sock.connect((host, int(port)))
            client = DtlsSession.client(contexts, b"", 1200, loop.time())
            async with asyncio.timeout(10):
                sock.send(client.datagrams()[0])
                client.feed(await loop.sock_recv(sock, 65_536), loop.time())
                sock.send(client.datagrams()[0])
                if len(pair.link_b.endpoint.talks) < 2:
                    await loop.sock_recv(sock, 65_536)
        await seen(lambda: len(pair.link_b.endpoint.talks) == 2)  # type: ignore[attr-defined]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(pair.link_b.endpoint.talks) == 2, "a quarter of 8"


async def test_a_peer_that_was_killed_comes_back(ca: Authority) -> None:
    """It says no goodbye, and comes from the same port; what went before is forgotten, the path stays."""
    config_a = tls(ca, "a") | {"listen": "127.0.0.1:0"}
    pair = await begun(config_a, tls(ca, "b"))
    await pair.meet()
    pair.offer(pair.unit(b"before"))
    await pair.b.until(lambda: pair.b.data == [b"before"], "its arrival")
    assert isinstance(pair.link_a, UdpclLink)
    (listening,) = pair.link_a.endpoint.listening
    for talk in list(pair.link_a.endpoint.talks.values()):
        talk.channel = None  # killed: nothing is said
    await pair.link_a.stop(graceful=False)
    again = pair.open("a", NODE_A, tls(ca, "a") | {"listen": listening})
    host, pair.a, pair.link_a = pair.a, RecordingHost(), again
    assert len(host.down) == 1
    await again.start(pair.a)
    pair.a.acknowledge = again.acknowledge
    again.connect(pair.address, NODE_B)
    await pair.a.until(lambda: bool(pair.a.live), "a path at the new a")
    pair.offer(pair.unit(b"after"))
    await pair.b.until(lambda: pair.b.data == [b"before", b"after"], "its arrival")
    assert not pair.b.down
    assert len(pair.b.up) == 1


async def test_a_peer_that_said_goodbye_is_greeted_again(ca: Authority) -> None:
    pair = await begun(tls(ca, "a"), tls(ca, "b"))
    await pair.meet()
    (first,) = pair.a.live
    await pair.link_b.stop(graceful=False)
    await pair.a.until(lambda: first in pair.a.down, "the end of the path")
    assert pair.a.down[first] == "the peer has closed the association"
    await pair.restart_b()
    await pair.a.until(lambda: bool(pair.a.live), "another path")
    pair.offer(pair.unit(b"again"))
    await pair.b.until(lambda: pair.b.data == [b"again"], "its arrival")


async def test_a_listener_that_was_killed_is_found_again(ca: Authority) -> None:
    """It remembers nothing and begins nothing; that it confirms nothing any more is what we see of it."""
    pair = await begun(tls(ca, "a"), tls(ca, "b"))
    await pair.meet()
    await told(pair.a, "path_mtu_found")
    assert isinstance(pair.link_a, UdpclLink)
    assert isinstance(pair.link_b, UdpclLink)
    for talk in pair.link_b.endpoint.talks.values():
        talk.channel = None  # killed: nothing is said
    await pair.link_b.stop(graceful=False)
    await pair.restart_b()
    (talk,) = pair.link_a.endpoint.talks.values()
    talk.machine.events.append(PathMtuFound(1200, is_confirmed=False))
    pair.link_a.endpoint.touch(talk)
    await pair.b.until(lambda: bool(pair.b.live), "a path at the new b")
    await seen(lambda: talk.renewals == 1)
    pair.offer(pair.unit(b"again"))
    await pair.b.until(lambda: pair.b.data == [b"again"], "its arrival")
    assert not pair.a.down


async def test_who_pretends_to_be_the_peer_ends_nothing(ca: Authority, tmp_path: Path) -> None:
    """Its handshake comes from the very address and port of the peer, and is refused."""
    pair = await begun(tls(ca, "a"), tls(ca, "b"))
    await pair.meet()
    assert isinstance(pair.link_a, UdpclLink)
    (talk,) = pair.link_a.endpoint.talks.values()
    stranger = Authority(tmp_path, "other").issue("a", ["dtn://a/"]) | {"ca": ca.file}
    contexts, now = DtlsContexts(tls_files(msgspec.convert(stranger, TlsConfig))), asyncio.get_running_loop().time()
    real, talk.channel = talk.channel, DtlsChannel(DtlsSession.client(contexts, b"", 1200, now))
    talk.socket.send(talk.channel.out(), talk.remote, 0, talk.local)
    await told(pair.b, "comes from a CA that is not in our tls.ca")
    assert real is not None
    talk.socket.send(real.seal([b"\x9fstill there"], 1200), talk.remote, 0, talk.local)
    await pair.b.until(lambda: pair.b.data == [b"\x9fstill there"], "its arrival")
    assert not pair.b.down

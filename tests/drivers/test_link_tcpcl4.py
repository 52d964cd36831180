"""The TCPCLv4 link: TLS and identities, hostile peers, reconnecting, and what people are told."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from tumpline.drivers.links.tcpcl4 import SPEC, Tcpcl4Link
from tumpline.errors import TumplineError
from tumpline.machines.effects import RefuseReason
from tumpline.testing.certificates import BUNDLE_SECURITY, Authority
from tumpline.testing.conformance.links import NODE_A, Check, Pair, checks_of, run
from tumpline.testing.recording import MemoryFile, RecordingHost
from tumpline.wire import tcpcl4 as wire
from tumpline.wire.eid import Eid

T = TypeVar("T")
ANY: dict[str, Any] = {"listen": "127.0.0.1:0"}
CONTACT = b"dtn!\x04\x00"


STRANGERS: list["Stranger"] = []
PAIRS: list[Pair] = []


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    """Whatever a test opened is closed, also when it fails."""
    yield
    while STRANGERS:
        STRANGERS.pop().sock.close()
    while PAIRS:
        await PAIRS.pop().stop()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def pair_of(config_a: dict[str, Any], config_b: dict[str, Any]) -> Pair:
    """Two links, not started; b listens on any port."""
    pair = Pair(SPEC, config_a, {**ANY, **config_b})
    PAIRS.append(pair)
    return pair


def good(ca: Authority, name: str, **more: Any) -> dict[str, Any]:
    """TLS settings of node a or b with a certificate that names it."""
    return {"tls": {**ca.issue(name, node_ids=[f"dtn://{name}/"]), **more}}


async def failing(config_a: dict[str, Any], config_b: dict[str, Any], peer: Eid | None = None) -> Pair:
    """Links whose session cannot be established; a tries again and again."""
    pair = pair_of({"retry_s_first": 0.01, **config_a}, config_b)
    await pair.start_b()
    await pair.link_a.start(pair.a)
    pair.link_a.connect(pair.address, peer)
    return pair


async def told(host: RecordingHost, text: str) -> None:
    """People are told this."""
    await host.until(lambda: text in host.notice_text(), f"a notice with {text!r}")


# ---- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", checks_of(SPEC), ids=lambda check: check.__name__)
async def test_conforms_with_tls(ca: Authority, check: Check) -> None:
    await run(check, SPEC, good(ca, "a"), good(ca, "b"))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_security_and_identity_are_reported(ca: Authority, version: str) -> None:
    pair = pair_of(good(ca, "a"), good(ca, "b", min_version=version))
    if version == "1.2":  # a peer that knows nothing newer
        assert isinstance(pair.link_a, Tcpcl4Link)
        assert pair.link_a.contexts is not None
        pair.link_a.contexts.context(False).maximum_version = ssl.TLSVersion.TLSv1_2
    await pair.start()
    for host in (pair.a, pair.b):
        info = host.up[host.live[0]]
        assert (info.security, info.authenticated) == (f"TLSv{version}", True)


@pytest.mark.parametrize(
    ("flaw", "at_a", "at_b"),
    [
        ("expired", "certificate has expired", "our certificate has expired"),
        ("unknown CA", "from a CA that is not in our tls.ca", "does not know the CA"),
        ("wrong purpose", "extended key usage lacks", "not made for TLS"),
    ],
)
async def test_a_bad_certificate_is_explained_on_both_sides(ca: Authority, flaw: str, at_a: str, at_b: str) -> None:
    tls_b = {
        "expired": lambda: ca.issue("b", ["dtn://b/"], valid=-timedelta(days=1)),
        "unknown CA": lambda: {**Authority(Path(ca.file).parent, "other").issue("b", ["dtn://b/"]), "ca": ca.file},
        "wrong purpose": lambda: ca.issue("b", ["dtn://b/"], purposes=[BUNDLE_SECURITY]),
    }[flaw]()
    pair = await failing(good(ca, "a"), {"tls": tls_b})
    await told(pair.a, at_a)
    await told(pair.b, at_b)
    assert not pair.a.up
    assert not pair.b.up


async def test_a_client_with_an_expired_certificate_learns_why(ca: Authority) -> None:
    """With TLS 1.3 the client's handshake is done before the server looks at its certificate."""
    tls_a = ca.issue("a", ["dtn://a/"], valid=-timedelta(days=1))
    pair = await failing({"tls": tls_a}, good(ca, "b"))
    await told(pair.a, "our certificate has expired")
    await told(pair.b, "the peer's certificate has expired")
    assert not pair.a.up


async def test_a_certificate_for_another_node(ca: Authority) -> None:
    tls_b = ca.issue("b", ["dtn://mallory/"])
    pair = await failing(good(ca, "a"), {"tls": tls_b})
    await told(pair.a, "dtn://mallory/")
    assert "dtn://b/" in pair.a.notice_text()
    assert not pair.a.up


async def test_tls_required_and_not_offered(ca: Authority) -> None:
    pair = await failing(good(ca, "a"), {})
    await told(pair.a, "TLS is required here and the peer does not offer it")
    assert not pair.a.up
    assert not pair.b.up


async def test_optional_tls_without_tls_proves_nothing(ca: Authority) -> None:
    pair = pair_of(good(ca, "a", mode="optional"), {})
    await pair.start()
    assert not pair.a.up[pair.path_a].authenticated  # a asked for proof
    assert pair.b.up[pair.path_b].authenticated  # b did not


async def test_host_authentication_by_address(ca: Authority) -> None:
    tls = {name: ca.issue(name, [f"dtn://{name}/"], ips=["127.0.0.1"]) for name in "ab"}
    config = {name: {"tls": {**tls[name], "authenticate": "host"}} for name in "ab"}
    pair = pair_of(config["a"], config["b"])
    await pair.start()
    assert pair.a.up[pair.path_a].authenticated


async def test_a_replaced_certificate_is_used_by_the_next_session(ca: Authority) -> None:
    config_b = {"tls": ca.issue("b", ["dtn://b/"], valid=-timedelta(days=1))}
    pair = await failing(good(ca, "a"), config_b)
    await told(pair.a, "certificate has expired")
    ca.issue("b", ["dtn://b/"])
    await pair.meet()


async def test_secrets_are_logged_only_when_asked(ca: Authority, tmp_path: Path, monkeypatch: Any) -> None:
    key_log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(key_log))
    pair = pair_of(good(ca, "a"), good(ca, "b"))
    await pair.start()
    assert "CLIENT_TRAFFIC_SECRET_0" in key_log.read_text()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cert": "/nowhere.pem"}, "cannot read /nowhere.pem"),
        ({"key": "other.key"}, "does not belong to the certificate"),
        ({"ca": "empty.pem"}, "holds no PEM certificate"),
        ({"cert": "empty.pem"}, "no usable PEM file"),
    ],
)
async def test_unusable_files_are_named_at_start(
    ca: Authority, tmp_path: Path, change: dict[str, str], text: str
) -> None:
    (tmp_path / "empty.pem").write_text("")
    ca.issue("other")
    tls = ca.issue("b", ["dtn://b/"])
    tls |= {key: str(tmp_path / value) for key, value in change.items()}
    pair = pair_of({}, {"tls": tls})
    with pytest.raises(TumplineError, match=text):
        await pair.link_b.start(pair.b)


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"tls": {"mode": "required"}}, "tls.cert: missing"),
        ({"tls": {"cert": "c", "key": "k"}}, "tls.ca: missing"),
        ({"retry_s_first": 60}, "longer than retry_s_max"),
        ({"keepalive_s": 70_000}, "keepalive_s"),
        ({"lisen": "x"}, "lisen"),
    ],
)
def test_configuration_mistakes(config: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        msgspec.convert(config, SPEC.config)


# ---- whom we reach ---------------------------------------------------------------------------------------------------


async def test_another_node_than_expected(ca: Authority) -> None:
    pair = await failing({}, {}, peer=Eid.parse("dtn://carol/"))
    await told(pair.a, "dtn://carol/")
    assert "dtn://b/" in pair.a.notice_text()
    assert not pair.a.up
    await pair.a.until(lambda: len(pair.a.notices) > 4, "further attempts")


async def test_nobody_answers_then_somebody_does() -> None:
    pair = pair_of({"retry_s_first": 0.01, "retry_s_max": 0.05}, {})
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    await pair.link_a.start(pair.a)
    pair.link_a.connect(address)
    await told(pair.a, "connection refused")
    assert pair.link_a.describe()["dialling"][0]["failures"] >= 1
    pair.address = address
    await pair.restart_b()
    await pair.meet()


async def test_two_sessions_at_once_are_two_paths() -> None:
    pair = pair_of({}, {})
    await pair.start()
    host, other = RecordingHost(), pair.open("c", NODE_A, {"connect": pair.address})
    await other.start(host)
    await host.until(lambda: len(host.live) == 1)
    await pair.b.until(lambda: len(pair.b.live) == 2)
    assert [pair.b.up[path].peer for path in pair.b.live] == [NODE_A, NODE_A]
    await other.stop()
    await pair.b.until(lambda: len(pair.b.live) == 1)


async def test_a_unit_above_the_peers_mru_is_refused_here() -> None:
    pair = pair_of({}, {"transfer_mru": 1000})
    await pair.start()
    assert pair.a.up[pair.path_a].mru_octets == 1000
    large, small = pair.offer(pair.unit(bytes(1001)), pair.unit(bytes(1000)))
    await pair.all_ended()
    assert (pair.a.ended[large], pair.a.ended[small]) == (RefuseReason.NOT_ACCEPTABLE.value, "acked")


async def test_an_idle_session_ends_at_the_passive_side() -> None:
    pair = pair_of({}, {"idle_s": 0.05})
    await pair.start()
    await pair.b.until(lambda: bool(pair.b.down))
    assert "idle" in next(iter(pair.b.down.values()))


# ---- hostile peers ---------------------------------------------------------------------------------------------------


class Stranger:
    """A peer that says what a test wants; blocking calls, made outside of the loop's thread."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=20)
        STRANGERS.append(self)

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hear(self, octets: int) -> bytes:
        """So many octets, or fewer at the end."""
        data = b""
        while len(data) < octets:
            part = self.sock.recv(octets - len(data))
            if not part:
                break
            data += part
        return data

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def alone(**config: Any) -> Pair:
    """b listens; nobody dials it but strangers."""
    pair = pair_of({}, config)
    await pair.start_b()
    return pair


async def apart(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def init(node_id: str = "dtn://stranger/") -> bytes:
    return wire.encode_init(wire.SessionInit(0, 1 << 20, 1 << 30, node_id.encode(), b""))


async def established(pair: Pair) -> Stranger:
    stranger = await apart(lambda: Stranger(pair.address))
    before = len(pair.b.live)
    await apart(lambda: stranger.say(CONTACT + init()))
    await pair.b.until(lambda: len(pair.b.live) > before)
    return stranger


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b"d", b"dtn?\x04\x00"])
async def test_other_protocols_are_closed(greeting: bytes) -> None:
    pair = await alone()
    stranger = await apart(lambda: Stranger(pair.address))

    def greet() -> bytes:
        try:
            stranger.say(greeting)
            stranger.sock.shutdown(socket.SHUT_WR)
            return stranger.hear(1)
        except OSError:  # it was closed with octets unread: a reset
            return b""

    assert await apart(greet) == b""
    if len(greeting) >= 4:
        await told(pair.b, "it does not speak TCPCL")


async def test_another_version_is_answered() -> None:
    """RFC 9174 §4.3: our contact header, then SESS_TERM with "Version mismatch"."""
    pair = await alone()
    stranger = await apart(lambda: Stranger(pair.address))
    await apart(lambda: stranger.say(b"dtn!\x03\x00"))
    assert await apart(lambda: stranger.hear(9)) == CONTACT + b"\x05\x00\x02"
    assert await apart(lambda: stranger.hear(1)) == b""


async def test_reset_amid_a_transfer_aborts_the_sink() -> None:
    pair = await alone()
    stranger = await established(pair)
    head = wire.encode_segment_head(wire.SegmentHead(2, 0, wire.encode_transfer_length(900_000), 500_000))
    await apart(lambda: stranger.say(head + bytes(300_000)))
    await pair.b.until(lambda: bool(pair.b.sinks))
    await apart(stranger.reset)
    await pair.b.until(lambda: not pair.b.live)
    assert [sink.aborted for sink in pair.b.sinks] == [True]
    assert not pair.b.arrivals


async def test_reset_amid_our_transfer_loses_it_once() -> None:
    pair = await alone()
    stranger = await established(pair)
    file = MemoryFile(bytes(8_000_000))
    unit = pair.file_unit(file, 8_000_000)
    path = pair.path_b
    pair.b.expect(path, [unit.seq])
    pair.link_b.offer(path, [unit])
    await apart(lambda: stranger.hear(100_000))
    await apart(stranger.reset)
    await pair.b.until(lambda: not pair.b.live)
    assert pair.b.ended == {unit.seq: "lost"}
    file.release()
    assert file.readers == 0


async def test_a_handshake_that_stalls_is_given_up() -> None:
    pair = await alone(limits={"handshake_s": 0.05})
    stranger = await apart(lambda: Stranger(pair.address))
    await apart(lambda: stranger.say(CONTACT))
    assert (await apart(lambda: stranger.hear(100)))[:6] == CONTACT
    await told(pair.b, "session_failed")


async def test_a_tls_handshake_that_stalls_is_given_up(ca: Authority) -> None:
    pair = await alone(**good(ca, "b"), limits={"handshake_s": 0.05})
    stranger = await apart(lambda: Stranger(pair.address))
    await apart(lambda: stranger.say(b"dtn!\x04\x01" + b"\x16\x03\x01"))
    assert await apart(lambda: stranger.hear(100)) == b"dtn!\x04\x01"
    await told(pair.b, "TLS handshake did not end")


async def test_connections_one_after_the_other_are_paced() -> None:
    pair = await alone(limits={"max_per_ip_burst": 2, "max_per_ip_per_s": 0.001})
    for _ in range(2):
        stranger = await established(pair)
        stranger.reset()
        await pair.b.until(lambda: not pair.b.live)
    third = await apart(lambda: Stranger(pair.address))
    await apart(lambda: third.say(CONTACT))
    try:
        assert await apart(lambda: third.hear(6)) == b""
    except ConnectionResetError:
        pass
    await told(pair.b, "max_per_ip_per_s (0.001) is passed")


async def test_a_flood_of_keepalives_ends_its_session_only() -> None:
    pair = await alone(limits={"max_idle_messages_per_s": 1.0})
    hostile, honest = await established(pair), await established(pair)
    await apart(lambda: hostile.say(b"\x04" * 10_000))
    await told(pair.b, "floods the session")
    assert len(pair.b.live) == 1
    honest.reset()


async def test_sessions_are_bounded() -> None:
    pair = await alone(limits={"max_sessions": 3, "max_per_ip": 2})
    first, second = await established(pair), await established(pair)
    third = await apart(lambda: Stranger(pair.address))
    await apart(lambda: third.say(CONTACT))
    try:
        assert await apart(lambda: third.hear(6)) == b""
    except ConnectionResetError:
        pass
    await told(pair.b, "max_per_ip (2) is reached")
    for stranger in (first, second):
        stranger.reset()
    await pair.b.until(lambda: not pair.b.live)
    fourth = await established(pair)  # there is room again
    fourth.reset()


async def test_a_flood_of_silent_connections_keeps_nobody_out() -> None:
    """5,000 connections that say nothing: few are kept, and a peer that speaks gets its session."""
    pair = await alone()
    before = len(os.listdir("/proc/self/fd"))

    def flood() -> None:
        host, _, port = pair.address.rpartition(":")
        for _ in range(5_000):
            with socket.create_connection((host, int(port)), timeout=20) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    await apart(flood)
    await apart(lambda: [Stranger(pair.address) for _ in range(300)])
    stranger = await established(pair)
    assert len(os.listdir("/proc/self/fd")) < before + 300 + 200
    stranger.reset()


async def test_octets_one_at_a_time() -> None:
    pair = await alone()
    stranger = await apart(lambda: Stranger(pair.address))
    stranger.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = wire.SEGMENT_WHOLE.pack(1, 3, 7, 0, 5) + b"hello"

    def trickle() -> None:
        for octet in CONTACT + init() + message:
            stranger.say(bytes([octet]))

    await apart(trickle)
    await pair.b.until(lambda: bool(pair.b.arrivals))
    assert pair.b.data == [b"hello"]
    stranger.reset()


async def test_a_peer_that_never_reads_does_not_block_others() -> None:
    """Our writes to it wait; another session goes on, and a hard stop ends both."""
    pair = await alone()
    await established(pair)
    path = pair.path_b
    units = [pair.unit(bytes(90_000)) for _ in range(200)]
    pair.b.expect(path, [unit.seq for unit in units])
    pair.link_b.offer(path, units)
    other = await established(pair)
    await apart(lambda: other.say(wire.SEGMENT_WHOLE.pack(1, 3, 0, 0, 2) + b"hi"))
    await pair.b.until(lambda: pair.b.data == [b"hi"])
    await pair.link_b.stop(graceful=False)
    assert set(pair.b.ended.values()) == {"lost"}
    assert len(pair.b.ended) == 200


async def test_a_graceful_stop_does_not_wait_for_ever() -> None:
    """A peer that never acknowledges: after the time the session is cut, and people are told."""
    pair = await alone()
    await established(pair)
    unit = pair.unit(b"never acknowledged")
    path = pair.path_b
    pair.b.expect(path, [unit.seq])
    pair.link_b.offer(path, [unit])
    await pair.link_b.stop(graceful=True, timeout_s=0.05)
    assert pair.b.ended == {unit.seq: "lost"}
    await told(pair.b, "sessions_cut")


async def test_a_bundle_longer_than_announced_is_refused() -> None:
    """The sink is given back and the session goes on."""
    pair = await alone()
    stranger = await established(pair)
    first = wire.encode_segment_head(wire.SegmentHead(2, 0, wire.encode_transfer_length(200_000), 150_000))
    last = wire.encode_segment_head(wire.SegmentHead(1, 0, b"", 60_000))
    small = wire.SEGMENT_WHOLE.pack(1, 3, 1, 0, 2) + b"ok"
    await apart(lambda: stranger.say(first + bytes(150_000) + last + bytes(60_000) + small))
    await pair.b.until(lambda: pair.b.data == [b"ok"])
    assert [sink.aborted for sink in pair.b.sinks] == [True]


async def test_a_snapshot_for_people() -> None:
    pair = pair_of({}, {})
    await pair.start()
    at_a, at_b = pair.link_a.describe(), pair.link_b.describe()
    assert at_b["listening"] == [pair.address]
    assert (at_a["sessions"][0]["peer"], at_a["sessions"][0]["state"]) == ("dtn://b/", "established")
    assert at_a["dialling"][0]["connected"]
    assert at_b["handshakes"] == 0


async def test_a_payload_that_is_gone_ends_one_session_and_is_not_tried_again() -> None:
    """The peer was promised these octets: the session ends, and people are told why. What waited is lost with it, to be
    sent again; the unit itself is given up, or it would end every session to come."""
    pair = pair_of({"retry_s_first": 0.01}, {})
    await pair.start()
    file = MemoryFile(bytes(400_000))
    os.ftruncate(file.fd, 1000)
    seq, behind = pair.offer(pair.file_unit(file, 400_000), pair.unit(b"behind it"))
    await pair.all_ended()
    assert pair.a.ended == {seq: RefuseReason.NOT_ACCEPTABLE.value, behind: "lost"}
    await told(pair.a, "ended before the length it was stored with")
    await pair.b.until(lambda: bool(pair.b.down))
    assert all(sink.aborted for sink in pair.b.sinks)
    await pair.meet()
    assert file.readers == 1
    file.release()

"""Defects of the older TCPCL agent that a peer or a caller could run into, tried on ours with peers made by hand."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.dial import Address, DialError, parse_address
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config, TlsConfig
from tumpline.drivers.spool import open_to_send
from tumpline.node.cla.events import ConnectionClosed, ReceiveFinished, SendFinished, SendStarted
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.testing.certificates import Authority
from tumpline.testing.cla import CONTACT, HANG_S, PEER_INIT, HandPeer, Recorded, settle
from tumpline.wire import tcpcl4 as wire

ANYWHERE = "127.0.0.1:0"
WATCHED_S = 0.4  # of the clock, in which an agent that has nothing to do must do nothing
BUSY_MOST = 0.2  # of that time: the older agent took 0.56 and more; a test process has some work of its own
AGENTS: list[Recorded] = []


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    yield
    while AGENTS:
        await settle(AGENTS.pop())


async def started(tmp_path: Path, **link: Any) -> Recorded:
    recorded = Recorded(TcpclAgentSettings(spool_directory=tmp_path, link=Tcpcl4Config(**link)))
    AGENTS.append(recorded)
    await recorded.agent.start()
    return recorded


def dialled(server: Recorded) -> socket.socket:
    """A connection with it, of somebody who may say anything."""
    return socket.create_connection(("127.0.0.1", parse_address(server.agent.listening[0], 0).port))


async def receive(sock: socket.socket, octets: int) -> bytes:
    """So many octets of what the agent says, fewer if it closes the connection."""
    sock.setblocking(False)
    loop, data = asyncio.get_running_loop(), b""
    # A connection that is closed with octets unread is reset.
    async with asyncio.timeout(HANG_S):
        with suppress(ConnectionResetError):
            while len(data) < octets and (more := await loop.sock_recv(sock, octets - len(data))):
                data += more
    return data


async def busy_part() -> float:
    """How much of some time this process worked, with nothing to do."""
    begin = time.process_time()
    await asyncio.sleep(WATCHED_S)  # no event ends this: it is time itself that is looked at
    return (time.process_time() - begin) / WATCHED_S


def big_file(tmp_path: Path) -> str:
    """More than the kernel holds between two sockets."""
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    return str(path)


async def test_a_full_socket_buffer_is_waited_for(tmp_path: Path) -> None:
    """1: EAGAIN ended the session, and the agent was busy for ever after."""
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).session()
    contact.outgoing.send_file(open_to_send(big_file(tmp_path)))
    await client.until(SendStarted)
    assert await busy_part() < BUSY_MOST
    assert contact.is_open
    head = await receive(sock, 33 + 22)  # our SESS_INIT comes first
    assert len(head) == 55
    sock.close()
    assert (await client.until(SendFinished)).result == "unacknowledged"
    assert await busy_part() < BUSY_MOST


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n", b"dtn!\x03\x00"], ids=["magic", "version 3"])
async def test_a_strange_greeting_leaves_no_connection(tmp_path: Path, greeting: bytes) -> None:
    """2: the socket was never closed."""
    server = await started(tmp_path, listen=ANYWHERE)
    with dialled(server) as sock:
        sock.sendall(greeting)
        sock.setblocking(False)
        await receive(sock, 1 << 16)  # until the agent closes it
    if greeting.startswith(b"dtn!"):  # then it was a connection
        await server.until(ConnectionClosed)
    assert server.agent.connections == []


async def test_a_message_of_unknown_type_is_rejected(tmp_path: Path) -> None:
    """3: it stalled the session without a word."""
    client = await started(tmp_path)
    _, sock = await HandPeer(client).session()
    sock.send(b"\x77")
    said = await receive(sock, 1 << 16)
    assert said.endswith(wire.encode_rejection(wire.Rejection(wire.RejectionCode.TYPE_UNKNOWN, 0x77)))
    sock.close()
    await client.until(ConnectionClosed)


async def test_a_segment_above_our_mru_ends_the_session(tmp_path: Path) -> None:
    """5: 2^40 octets were announced, and whatever came of them was kept in memory."""
    server = await started(tmp_path, listen=ANYWHERE)
    with dialled(server) as sock:
        sock.sendall(CONTACT + PEER_INIT + wire.encode_segment_head(wire.SegmentHead(3, 1, b"", 1 << 40)))
        said = await receive(sock, 1 << 16)
        assert wire.encode_termination(wire.Termination(0, wire.TerminationCode.RESOURCE_EXHAUSTION)) in said
    await server.until(ConnectionClosed)
    assert server.of(ReceiveFinished) == []


async def test_a_refusal_ends_its_transfer_only(tmp_path: Path) -> None:
    """6: receiving XFER_REFUSE broke the agent's loop; 7: an empty bundle blocked the queue behind it."""
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).session()
    for data in (b"unwanted", b"", b"last"):
        contact.outgoing.send_data(data)
    await receive(sock, 10)
    sock.send(wire.encode_refusal(wire.Refusal(wire.RefusalCode.NOT_ACCEPTABLE, 1)))
    sock.send(b"".join(wire.encode_ack(wire.Acknowledgment(3, number, octets)) for number, octets in ((2, 0), (3, 4))))
    await client.until(SendFinished, 3)
    assert [(event.transfer, event.result) for event in client.of(SendFinished)] == [
        ("1", "not acceptable"),
        ("2", "success"),
        ("3", "success"),
    ]
    sock.close()


async def test_a_stalled_handshake_keeps_nobody_waiting(tmp_path: Path) -> None:
    """8: the handshake blocked the whole agent, as did a dialling that nobody answers."""
    server = await started(tmp_path, listen=ANYWHERE, tls=with_tls(tmp_path), dial_s=0.3)
    with dialled(server) as stalling, dialled(server) as lively, unanswered() as where:
        stalling.sendall(b"dtn!\x04\x01")  # and then no ClientHello
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(nobody_answers(server, where))
            lively.sendall(CONTACT + PEER_INIT + wire.encode_segment_head(wire.SegmentHead(3, 1, b"", 2)) + b"ok")
            assert (await server.until(ReceiveFinished)).result == "success"
            assert not dialling.done()


async def nobody_answers(server: Recorded, where: Address) -> None:
    with pytest.raises(DialError, match=r"no answer within 0\.3 s"):
        await server.agent.connect(where)


class unanswered:
    """An address whose listener takes no more connections, so that the kernel answers none."""

    def __enter__(self) -> Address:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = self._server.getsockname()[1]
        self._filling = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            self._filling.append(sock)
        return Address("127.0.0.1", port)

    def __exit__(self, *_: object) -> None:
        for sock in (self._server, *self._filling):
            sock.close()


def with_tls(tmp_path: Path) -> TlsConfig:
    """Whoever comes may speak TLS."""
    files = Authority(tmp_path).issue("server", node_ids=["dtn://server/"])
    return TlsConfig(mode="optional", authenticate="none", cert=files["cert"], key=files["key"])


async def test_a_record_of_16_kib_needs_nothing_behind_it(tmp_path: Path) -> None:
    """9: what a read left of a TLS record waited for the next packet."""
    server = await started(tmp_path, listen=ANYWHERE, tls=with_tls(tmp_path))
    segment = wire.encode_segment_head(wire.SegmentHead(3, 1, b"", 16_000)) + bytes(16_000)

    def speak() -> bytes:
        with dialled(server) as sock:
            sock.settimeout(HANG_S)
            sock.sendall(b"dtn!\x04\x01")
            sock.recv(6)
            with context().wrap_socket(sock) as secure:
                secure.sendall(PEER_INIT)
                secure.recv(1000)
                secure.sendall(segment)  # one record
                return secure.recv(18)

    ack = await asyncio.to_thread(speak)
    assert ack == wire.encode_ack(wire.Acknowledgment(3, 1, 16_000))


async def test_tls_needs_nothing_that_newer_pythons_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """11: from Python 3.12 on there is no ssl.match_hostname, and no TLS session of the older agent."""
    monkeypatch.delattr(ssl, "match_hostname", raising=False)
    monkeypatch.delattr(ssl, "wrap_socket", raising=False)
    ca = Authority(tmp_path)
    server = await started(tmp_path, listen=ANYWHERE, tls=mutual(ca, "server"))
    client = await started(tmp_path, tls=mutual(ca, "client"))
    where = parse_address(f"localhost:{parse_address(server.agent.listening[0], 0).port}", 0)
    contact = await client.agent.connect(where)
    await client.established()
    assert contact.is_secure
    parameters = client.agent.parameters(contact)
    assert parameters is not None
    assert parameters.authn_dnsid == "localhost"


def mutual(ca: Authority, name: str) -> TlsConfig:
    """Only with certificates, which must name the host."""
    files = ca.issue(name, hosts=["localhost"], ips=["127.0.0.1"])
    return TlsConfig(mode="required", authenticate="host", ca=files["ca"], cert=files["cert"], key=files["key"])


def context() -> ssl.SSLContext:
    """Of a client that trusts anybody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


async def test_waiting_for_a_session_costs_nothing(tmp_path: Path) -> None:
    """10: a bundle that was queued before the session made the agent spin."""
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).connection()
    contact.outgoing.send_data(b"early")
    assert await busy_part() < BUSY_MOST
    sock.send(CONTACT + PEER_INIT)
    await client.until(SendStarted)
    sock.close()


async def test_a_segment_costs_what_its_octets_cost(tmp_path: Path) -> None:
    """5 again: time grew with the square of a segment's length."""
    server = await started(tmp_path, listen=ANYWHERE, segment_mru=64 << 20)
    took = []
    for number, octets in enumerate((4 << 20, 32 << 20), 1):
        begin = time.process_time()
        await asyncio.to_thread(send_one, server, octets)
        await server.until(ReceiveFinished, number)
        took.append(time.process_time() - begin)
    assert took[1] < 16 * took[0] + 0.5  # eight times the octets; the square would be 64 times as much


def send_one(server: Recorded, octets: int) -> None:
    with dialled(server) as sock:
        sock.settimeout(HANG_S)
        sock.sendall(CONTACT + PEER_INIT + wire.encode_segment_head(wire.SegmentHead(3, 1, b"", octets)))
        sock.sendall(os.urandom(octets))
        while sock.recv(1 << 16)[-18:-16] != b"\x02\x03":  # XFER_ACK of the whole
            pass

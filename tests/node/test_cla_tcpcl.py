"""The TCPCL agent without a bus: verbs and events, on loopback, against itself and against peers made by hand."""

import asyncio
import hashlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from tumpline.drivers.dial import Address, DialError, parse_address
from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config, TlsConfig
from tumpline.drivers.spool import OpenFile, open_to_send
from tumpline.errors import TumplineError
from tumpline.machines.contract import FileRange
from tumpline.node.cla.contact import Contact
from tumpline.node.cla.events import (
    ConnectionClosed,
    ConnectionOpened,
    ContactRemoved,
    ReceiveFinished,
    ReceiveProgressed,
    ReceiveStarted,
    SendFinished,
    SendProgressed,
    SendStarted,
    SessionStateChanged,
)
from tumpline.node.cla.holdings import HELD_OCTETS, QueueFullError, UnknownTransferError
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.testing.certificates import Authority
from tumpline.testing.cla import HANG_S, HandPeer, Recorded, settle
from tumpline.wire import tcpcl4 as wire

ANYWHERE = Address("127.0.0.1", 0)
LISTENING = Tcpcl4Config(listen=str(ANYWHERE))


AGENTS: list[Recorded] = []


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    yield
    while AGENTS:
        await settle(AGENTS.pop())


async def started(tmp_path: Path, **settings: Any) -> Recorded:
    recorded = Recorded(TcpclAgentSettings(**{"spool_directory": tmp_path, **settings}))
    AGENTS.append(recorded)
    await recorded.agent.start()
    return recorded


async def pair(
    tmp_path: Path, active: dict[str, Any] | None = None, passive: dict[str, Any] | None = None
) -> tuple[Recorded, Recorded, Contact, Contact]:
    """Two agents with a session: the active one, the passive one, and their contacts."""
    server = await started(tmp_path, **{"node_id": "dtn://server/", "link": LISTENING, **(passive or {})})
    client = await started(tmp_path, node_id="dtn://client/", **(active or {}))
    contact = await client.agent.connect(parse_address(server.agent.listening[0], 4556))
    return client, server, await client.established() or contact, await server.established()


def secure(files: dict[str, str], **more: Any) -> Tcpcl4Config:
    tls = TlsConfig(ca=files["ca"], cert=files["cert"], key=files["key"], **more)
    return Tcpcl4Config(listen=str(ANYWHERE), tls=tls)


def certified(ca: Authority, name: str) -> Tcpcl4Config:
    return secure(ca.issue(name, node_ids=[f"dtn://{name}/"], ips=["127.0.0.1"]))


# ---- sessions --------------------------------------------------------------------------------------------------------


async def test_states_and_parameters_of_a_session(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    states = [event.state for event in client.of(SessionStateChanged)]
    assert states == ["contact-negotiating", "session-negotiating", "established"]
    assert client.events[0] == ConnectionOpened(0)
    parameters = client.agent.parameters(contact)
    assert parameters is not None
    assert (parameters.peer_nodeid, parameters.peer_ipaddrid, parameters.peer_dnsid) == (
        "dtn://server/",
        "127.0.0.1",
        None,
    )
    assert parameters[3:6] == (None, None, None)
    assert (parameters.keepalive, parameters.peer_segment_mru) == (60, 16 << 20)
    assert not contact.is_secure
    assert contact.is_idle
    assert server.agent.parameters(peer) is not None


async def test_a_session_with_tls_says_what_was_proved(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    client, _, contact, peer = await pair(
        tmp_path, {"link": certified(ca, "client")}, {"link": certified(ca, "server")}
    )
    assert contact.is_secure
    parameters = client.agent.parameters(contact)
    assert parameters is not None
    assert parameters[3:6] == ("dtn://server/", None, "127.0.0.1")
    number = contact.outgoing.send_data(b"hello")
    assert (await client.until(SendFinished)).result == "success"
    assert await peer.incoming.pop_data(number) == b"hello"


async def test_a_certificate_of_another_address_is_told_as_a_mismatch(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    elsewhere = secure(ca.issue("server", node_ids=["dtn://server/"], ips=["192.0.2.1"]))
    client, _, contact, _ = await pair(tmp_path, {"link": certified(ca, "client")}, {"link": elsewhere})
    parameters = client.agent.parameters(contact)
    assert parameters is not None
    assert parameters[3:6] == ("dtn://server/", None, False)


async def test_a_certificate_that_nobody_verified_proves_nothing(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    lax = secure({**other.issue("client", node_ids=["dtn://client/"]), "ca": ""}, authenticate="none")
    issued = ca.issue("server", node_ids=["dtn://server/"], ips=["127.0.0.1"])
    lax_too = secure({**issued, "ca": ""}, authenticate="none")
    client, server, contact, peer = await pair(tmp_path, {"link": lax}, {"link": lax_too})
    for agent, end in ((client.agent, contact), (server.agent, peer)):
        parameters = agent.parameters(end)
        assert parameters is not None
        assert (end.is_secure, parameters[3:6]) == (True, (None, None, None))


async def test_connect_says_why_it_cannot(tmp_path: Path) -> None:
    client = await started(tmp_path)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(DialError, match="connection refused"):
            await client.agent.connect(Address("127.0.0.1", bound.getsockname()[1]))
    assert client.agent.connections == []


async def test_listen_stop_gives_the_port_back_at_once(tmp_path: Path) -> None:
    """No SO_REUSEADDR in the older one: a port with connections in TIME_WAIT could not be bound again."""
    client, server, contact, _ = await pair(tmp_path)
    where = parse_address(server.agent.listening[0], 4556)
    server.agent.listen_stop(where)
    with pytest.raises(TumplineError, match="does not listen on"):
        server.agent.listen_stop(where)
    client.agent.terminate(contact, 0)
    await server.until(ConnectionClosed)
    server.agent.listen(where)
    await client.agent.connect(where)
    assert len(client.of(ConnectionOpened)) == 2


async def test_a_configured_peer_is_dialled_until_it_is_there_and_again_when_it_is_lost(tmp_path: Path) -> None:
    server = await started(tmp_path, link=LISTENING)
    where = parse_address(server.agent.listening[0], 4556)
    server.agent.listen_stop(where)
    client = await started(tmp_path, link=Tcpcl4Config(connect=str(where), retry_s_first=0.01, retry_s_max=0.05))
    server.agent.listen(where)
    contact = await server.established()
    contact.connection.abort()  # not in order
    again = await server.until(SessionStateChanged, 2, lambda event: event.state == "established")
    assert again.contact == 1
    server.agent.terminate(server.agent.contacts[1], 0)  # in order: it is not wanted any more
    await client.until(ConnectionClosed, 2)
    assert client.agent._link.describe()["dialling"] == []


async def test_nothing_is_sent_again_by_itself(tmp_path: Path) -> None:
    """There, what was queued was sent anew over each session to come."""
    server = await started(tmp_path, link=LISTENING)
    client = await started(tmp_path, link=Tcpcl4Config(connect=server.agent.listening[0], retry_s_first=0.01))
    source = tmp_path / "file"
    source.write_bytes(bytes(50_000_000))
    (await client.established()).outgoing.send_file(open_to_send(str(source)))
    await server.until(ReceiveStarted)
    server.agent.contacts[0].connection.abort()
    assert (await client.until(SendFinished)).result == "unacknowledged"
    await client.until(SessionStateChanged, 2, lambda event: event.state == "established")
    assert client.agent.contacts[1].outgoing.send_data(b"next") == "1"
    await client.until(SendFinished, 2)
    await server.until(ReceiveFinished, 2)
    assert [(event.contact, event.octets) for event in server.of(ReceiveStarted)] == [(0, 50_000_000), (1, 4)]


# ---- sending ---------------------------------------------------------------------------------------------------------


async def test_transfers_are_numbered_from_one_and_told_in_order(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    assert [contact.outgoing.send_data(b"a"), contact.outgoing.send_data(b"bc"), contact.outgoing.send_data(b"")] == [
        "1",
        "2",
        "3",
    ]
    assert (contact.outgoing.queue, contact.is_idle) == (["1", "2", "3"], False)
    await client.until(SendFinished, 3)
    told = [event for event in client.events if isinstance(event, SendStarted | SendFinished)]
    assert {event for event in told if event.transfer == "1"} == {
        SendStarted(0, "1", 1),
        SendFinished(0, "1", 1, "success"),
    }
    for number in "123":
        kinds = [type(event) for event in told if event.transfer == number]
        assert kinds == [SendStarted, SendFinished]
    assert peer.incoming.queue == ["1", "2", "3"]
    assert [await peer.incoming.pop_data(number) for number in "123"] == [b"a", b"bc", b""]
    assert [event.octets for event in server.of(ReceiveStarted)] == [1, 2, 0]
    assert contact.is_idle
    with pytest.raises(UnknownTransferError, match="'1'"):
        await peer.incoming.pop_data("1")


async def test_what_is_queued_before_the_session_is_sent_once_it_is_there(tmp_path: Path) -> None:
    """Defect 10: it made the older one spin."""
    server = await started(tmp_path, link=LISTENING)
    client = await started(tmp_path)
    contact = await client.agent.connect(parse_address(server.agent.listening[0], 4556))
    assert contact.outgoing.send_data(b"early") == "1"
    assert client.of(SendStarted) == []
    assert (await client.until(SendFinished)).result == "success"


async def test_a_file_is_streamed_and_named_without_a_copy(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    source, target = tmp_path / "source", tmp_path / "target"
    data = os.urandom(5_000_000)
    source.write_bytes(data)
    number = contact.outgoing.send_file(open_to_send(str(source)))
    assert (await client.until(SendFinished)) == SendFinished(0, number, len(data), "success")
    assert client.of(SendProgressed)
    assert server.of(ReceiveStarted) == [ReceiveStarted(0, number, len(data))]
    assert server.of(ReceiveProgressed)
    held = peer.incoming._received[number]
    assert isinstance(held, FileRange)
    inode = os.fstat(cast(OpenFile, held.handle).fd).st_ino
    await server.agent.pop_file(peer, number, str(target))
    assert target.stat().st_ino == inode
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~server.agent.umask
    assert target.stat().st_nlink == 1
    assert peer.incoming.queue == []


async def test_a_taken_file_never_covers_another(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    there, link, elsewhere = tmp_path / "there", tmp_path / "link", tmp_path / "elsewhere"
    there.write_bytes(b"mine")
    link.symlink_to(elsewhere)
    big = os.urandom(200_000)
    contact.outgoing.send_data(b"small")
    contact.outgoing.send_data(big)
    await client.until(SendFinished, 2)
    for number in ("1", "2"):
        for path in (there, link):
            with pytest.raises(FileExistsError):
                await server.agent.pop_file(peer, number, str(path))
    assert there.read_bytes() == b"mine"
    assert not elsewhere.exists()
    assert peer.incoming.queue == ["1", "2"]  # still to be taken
    await server.agent.pop_file(peer, "1", str(tmp_path / "one"))
    assert await peer.incoming.pop_data("2") == big
    assert (tmp_path / "one").read_bytes() == b"small"


async def test_a_bundle_is_taken_as_a_descriptor_that_only_reads(tmp_path: Path) -> None:
    client, _, contact, peer = await pair(tmp_path)
    data = [b"small", os.urandom(300_000)]
    for octets in data:
        contact.outgoing.send_data(octets)
    await client.until(SendFinished, 2)
    for number, octets in zip(("1", "2"), data, strict=True):
        with open(peer.incoming.pop_fd(number), "rb") as file:
            assert file.read() == octets
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(file.fileno(), b"x")


async def test_only_regular_files_are_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TumplineError, match="no regular file"):
        open_to_send(str(tmp_path / "fifo"))
    with pytest.raises(FileNotFoundError):
        open_to_send(str(tmp_path / "missing"))


async def test_what_waits_to_be_sent_is_bounded(tmp_path: Path) -> None:
    client, _, contact, _ = await pair(tmp_path, {"memory_octets_most": 1000})
    contact.outgoing.send_data(bytes(1000))
    with pytest.raises(QueueFullError, match="1000 octets wait"):
        contact.outgoing.send_data(b"x")
    await client.until(SendFinished)
    contact.outgoing.send_data(b"x")
    await client.until(SendFinished, 2)


@pytest.mark.parametrize("target_s", [0.0, 0.001, 5.0])
async def test_segments_follow_the_settings(tmp_path: Path, target_s: float) -> None:
    """Also [S]: with the size controlled, several transfers at once ended the older agent in KeyError."""
    link = Tcpcl4Config(segment_first_octets=20_000, segment_ack_s=target_s)
    client, _, contact, peer = await pair(tmp_path, {"link": link})
    data = [os.urandom(300_000) for _ in range(5)]
    numbers = [contact.outgoing.send_data(octets) for octets in data]
    await client.until(SendFinished, 5)
    assert {event.result for event in client.of(SendFinished)} == {"success"}
    for number, octets in zip(numbers, data, strict=True):
        assert await peer.incoming.pop_data(number) == octets
    size = contact.connection.session._outbound.sizer.octets
    assert size >= 16_384 if target_s else size == 20_000
    assert target_s != 5.0 or size > 20_000


# ---- refusing --------------------------------------------------------------------------------------------------------


async def test_a_full_spool_refuses(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(
        tmp_path, passive={"spool_octets_most": 300_000, "memory_octets_most": 1000 + HELD_OCTETS}
    )
    results: list[str] = []
    for octets in (200_000, 200_000, 1000, 1000, 400_000):
        contact.outgoing.send_data(bytes(octets))
        results.append((await client.until(SendFinished, len(results) + 1)).result)
    assert results == ["success", "no resources", "success", "no resources", "not acceptable"]
    await peer.incoming.pop_data("1")
    await peer.incoming.pop_data("3")
    contact.outgoing.send_data(bytes(200_000))
    contact.outgoing.send_data(bytes(1000))
    await client.until(SendFinished, 7)
    assert [event.result for event in client.of(SendFinished)[5:]] == ["success", "success"]
    assert len(server.of(ReceiveStarted)) == len(server.of(ReceiveFinished)) == 4


@pytest.mark.parametrize("octets", [100, 300_000])
async def test_what_nobody_answers_for_is_not_taken_where_that_is_wanted(tmp_path: Path, octets: int) -> None:
    client, server, contact, peer = await pair(tmp_path, passive={"hold_received": True})
    contact.outgoing.send_data(bytes(octets))
    assert (await client.until(SendFinished)).result == "no resources"
    server.agent.hold(True)
    contact.outgoing.send_data(bytes(octets))
    number = (await server.until(ReceiveFinished, fits=lambda event: event.result == "success")).transfer
    server.agent.hold(False)  # who would have answered is gone before it has taken anything: it waits for the next one
    assert peer.incoming.queue == [number]
    server.agent.hold(True)
    assert await peer.incoming.pop_data(number) == bytes(octets)
    assert len(client.of(SendFinished)) == 1
    server.agent.accept(peer, number)
    assert (await client.until(SendFinished, 2)).result == "success"


async def test_files_that_wait_leave_descriptors_for_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tumpline.drivers.spool.resource.getrlimit", lambda _: (4, 4))
    client, _, contact, peer = await pair(tmp_path)
    for _ in range(3):
        contact.outgoing.send_data(bytes(200_000))
    await client.until(SendFinished, 3)
    assert [event.result for event in client.of(SendFinished)] == ["success", "success", "no resources"]
    await peer.incoming.pop_data("1")
    contact.outgoing.send_data(bytes(200_000))
    assert (await client.until(SendFinished, 4)).result == "success"


async def test_a_transfer_that_the_peer_never_takes_is_not_sent(tmp_path: Path) -> None:
    client, _, contact, _ = await pair(
        tmp_path, passive={"link": Tcpcl4Config(listen=str(ANYWHERE), transfer_mru=1000)}
    )
    contact.outgoing.send_data(bytes(1001))
    assert (await client.until(SendFinished)).result == "not acceptable"


# ---- ending ----------------------------------------------------------------------------------------------------------


async def test_a_session_that_dies_leaves_its_transfers_unacknowledged(tmp_path: Path) -> None:
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).session()
    source = tmp_path / "file"
    source.write_bytes(bytes(50_000_000))  # more than the kernel holds
    contact.outgoing.send_data(b"gone")
    contact.outgoing.send_file(open_to_send(str(source)))
    contact.outgoing.send_data(b"behind")
    await client.until(SendStarted, 2)
    sock.close()
    await client.until(ConnectionClosed)
    assert [event.result for event in client.of(SendFinished)] == ["unacknowledged"] * 3
    assert client.agent.connections == []
    await client.until(ContactRemoved)
    with pytest.raises(KeyError):
        client.agent.contacts[0]


async def test_a_termination_tells_what_never_began_from_what_did(tmp_path: Path) -> None:
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).session()
    source = tmp_path / "file"
    source.write_bytes(bytes(50_000_000))
    contact.outgoing.send_file(open_to_send(str(source)))
    contact.outgoing.send_data(b"behind")
    await client.until(SendStarted)
    client.agent.terminate(contact, 0)
    assert contact.outgoing.send_data(b"late") == "3"
    assert (await client.until(SendFinished, 2)).result == "session terminating"
    assert contact.state == "ending"
    sock.close()
    await client.until(ConnectionClosed)
    results = {event.transfer: event.result for event in client.of(SendFinished)}
    assert results == {"1": "unacknowledged", "2": "session terminating", "3": "session terminating"}


async def test_what_was_received_can_be_taken_after_the_connection(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    contact.outgoing.send_data(b"kept")
    await client.until(SendFinished)
    client.agent.close_contact(contact)
    await server.until(ConnectionClosed)
    assert server.agent.connections == []
    assert server.of(ContactRemoved) == []
    assert await peer.incoming.pop_data("1") == b"kept"
    assert server.of(ContactRemoved) == [ContactRemoved(0)]


async def test_a_bundle_that_could_not_be_taken_outlives_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def full_disk(*_: Any) -> None:
        begun.set()
        await over.wait()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tumpline.node.cla.received.write_file", full_disk)
    client, server, contact, peer = await pair(tmp_path)
    contact.outgoing.send_data(b"kept")
    await client.until(SendFinished)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(taken(server, peer))
        await begun.wait()
        assert peer.incoming.queue == []
        client.agent.close_contact(contact)
        await server.until(ConnectionClosed)
        over.set()
    assert isinstance(taking.result(), OSError)
    assert await server.agent.contacts[0].incoming.pop_data("1") == b"kept"
    assert server.of(ContactRemoved) == [ContactRemoved(0)]


async def taken(server: Recorded, peer: Contact) -> OSError | None:
    """Why a bundle could not be written."""
    try:
        await server.agent.pop_file(peer, "1", "anywhere")
    except OSError as error:
        return error
    return None


async def test_closed_connections_that_nobody_empties_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tumpline.node.cla.tcpcl.CLOSED_MOST", 1)
    client, server, contact, peer = await pair(tmp_path)
    contact.outgoing.send_data(b"first")
    await client.until(SendFinished)
    client.agent.close_contact(contact)
    await server.until(ConnectionClosed)
    again = await client.agent.connect(parse_address(server.agent.listening[0], 4556))
    for number, data in enumerate((b"small", bytes(200_000)), 2):
        again.outgoing.send_data(data)
        assert (await client.until(SendFinished, number)).result == "no resources"
    assert await peer.incoming.pop_data("1") == b"first"
    again.outgoing.send_data(b"third")
    assert (await client.until(SendFinished, 4)).result == "success"


async def test_a_transfer_cut_in_the_middle_is_told_and_gives_its_room_back(tmp_path: Path) -> None:
    server = await started(tmp_path, link=LISTENING)
    port = parse_address(server.agent.listening[0], 4556).port
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"dtn!\x04\x00" + wire.encode_init(wire.SessionInit(0, 1 << 20, 1 << 40, b"dtn://hand/")))
        head = wire.SegmentHead(2, 7, wire.encode_transfer_length(1_000_000), 500_000)
        sock.sendall(wire.encode_segment_head(head) + bytes(300_000))
        assert await server.until(ReceiveStarted) == ReceiveStarted(0, "7", 1_000_000)
        assert server.agent.holdings.spool.room.octets == 1_000_000
    finished = await server.until(ReceiveFinished)
    assert (finished.transfer, finished.result) == ("7", "unacknowledged")
    assert server.agent.holdings.spool.room.octets == 0


async def test_a_transfer_that_is_longer_than_announced_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    server = await started(tmp_path, link=LISTENING)
    port = parse_address(server.agent.listening[0], 4556).port
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"dtn!\x04\x00" + wire.encode_init(wire.SessionInit(0, 1 << 20, 1 << 40, b"dtn://hand/")))
        head = wire.SegmentHead(2, 7, wire.encode_transfer_length(200_000), 150_000)
        sock.sendall(wire.encode_segment_head(head) + bytes(150_000))
        sock.sendall(wire.encode_segment_head(wire.SegmentHead(1, 7, b"", 150_000)) + bytes(150_000))
        assert (await server.until(ReceiveFinished)).result == "not acceptable"
        sock.sendall(wire.encode_segment_head(wire.SegmentHead(3, 8, b"", 2)) + b"ok")
        assert (await server.until(ReceiveFinished, 2)).result == "success"
    assert server.agent.contacts[0].incoming.queue == ["8"]


async def test_a_length_that_nobody_announced_is_unknown(tmp_path: Path) -> None:
    server = await started(tmp_path, link=LISTENING)
    port = parse_address(server.agent.listening[0], 4556).port
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"dtn!\x04\x00" + wire.encode_init(wire.SessionInit(0, 1 << 20, 1 << 40, b"dtn://hand/")))
        sock.sendall(wire.encode_segment_head(wire.SegmentHead(2, 7, b"", 300_000)) + bytes(300_000))
        sock.sendall(wire.encode_segment_head(wire.SegmentHead(1, 7, b"", 200_000)) + bytes(200_000))
        assert await server.until(ReceiveStarted) == ReceiveStarted(0, "7", None)
        assert await server.until(ReceiveFinished) == ReceiveFinished(0, "7", 500_000, "success")
    contact = server.agent.contacts[0]
    assert await contact.incoming.pop_data("7") == bytes(500_000)


async def test_shutdown_waits_for_transfers_and_stop_does_not(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    source = tmp_path / "file"
    source.write_bytes(bytes(30_000_000))
    contact.outgoing.send_file(open_to_send(str(source)))
    await client.until(SendStarted)
    assert client.agent.shutdown() is False
    assert client.agent.shutdown() is False  # as often as one likes
    with pytest.raises(TumplineError, match="shuts down"):
        await client.agent.connect(ANYWHERE)
    async with asyncio.timeout(HANG_S):
        await client.agent.ended()
    assert client.of(SendFinished)[0].result == "success"
    assert await peer.incoming.pop_data("1") == bytes(30_000_000)
    assert server.agent.shutdown() is True
    assert server.agent.listening == []


async def test_stop_ends_at_once(tmp_path: Path) -> None:
    client = await started(tmp_path)
    contact, sock = await HandPeer(client).session()
    contact.outgoing.send_data(b"never acknowledged")
    await client.until(SendStarted)
    client.agent.stop()
    async with asyncio.timeout(HANG_S):
        await client.agent.ended()
    await client.agent.close()
    assert [event.result for event in client.of(SendFinished)] == ["unacknowledged"]
    sock.close()


async def test_the_last_connection_ends_an_agent_that_is_told_so(tmp_path: Path) -> None:
    client, server, contact, _ = await pair(tmp_path, {"stop_on_close": True}, {"stop_on_close": True})
    client.agent.terminate(contact, 0)
    async with asyncio.timeout(HANG_S):
        await client.agent.ended()
        await server.agent.ended()


async def test_an_agent_that_shuts_down_waits_a_moment_for_who_takes_what_came(tmp_path: Path) -> None:
    client, server, contact, peer = await pair(tmp_path)
    contact.outgoing.send_data(b"wanted")
    await client.until(SendFinished)
    assert server.agent.shutdown() is False
    await server.until(ConnectionClosed)
    assert server.agent.shutdown() is False
    assert await peer.incoming.pop_data("1") == b"wanted"
    assert server.agent.shutdown() is True


async def test_nobody_who_takes_what_came_keeps_an_agent_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tumpline.node.cla.tcpcl.LAST_TAKES_S", 0.01)
    client, server, contact, _ = await pair(tmp_path)
    contact.outgoing.send_data(b"unwanted")
    await client.until(SendFinished)
    server.agent.shutdown()
    async with asyncio.timeout(HANG_S):
        await server.agent.ended()


async def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    client, _, contact, _ = await pair(tmp_path, passive={"spool_directory": spool})
    contact.outgoing.send_data(bytes(500_000))
    await client.until(SendFinished)
    assert list(spool.iterdir()) == []  # even now: the file has no name


async def test_a_file_system_without_nameless_files_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.open

    def no_tmpfile(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return plain(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", no_tmpfile)
    client, server, contact, peer = await pair(tmp_path)
    data = os.urandom(500_000)
    contact.outgoing.send_data(data)
    await client.until(SendFinished)
    await server.agent.pop_file(peer, "1", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == data


async def test_a_spool_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(TumplineError, match="cannot write in"):
        Recorded(TcpclAgentSettings(spool_directory=tmp_path / "missing"))

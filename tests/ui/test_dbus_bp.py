"""A node on a bus, as scripts of the older demo agent see it: two agents, a real dbus-daemon or an embedded bus, dbus-send."""

import asyncio
import json
import os
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tumpline.bench.framework.agents import AgentProcess, Agents
from tumpline.bench.framework.chain import address_of
from tumpline.drivers.dbus import BusConnection, BusError, Variant
from tumpline.errors import TumplineError
from tumpline.node.client import connect
from tumpline.node.runtime import dtn_now_ms
from tumpline.testing.lone_node import bundle
from tumpline.ui.dbus.app import DATA, DATA_PATH
from tumpline.ui.dbus.bp import ADMIN, ADMIN_PATH, AGENT, AGENT_PATH, PING
from tumpline.ui.dbus.steering import NODE
from tumpline.wire.acme import SHA_256, AcmeRecord, Digest, digest_of, token_from_text
from tumpline.wire.admin import UnknownRecord, encode_admin
from tumpline.wire.bundle7 import BundleFlags
from tumpline.wire.dbus import MatchRule

HANG_S = 30.0
SERVER, CLIENT = "org.ietf.dtn.node.server", "org.ietf.dtn.node.client"
ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE = "dDtaviYTPUWFS3NK37YWfQ", "tPUZNY4ONIk6LxErRFEjVw", "p3yRYFU4KxwQaHQjJ2RdiQ"
THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
OTHER = "AAAAAAAAAAAAAAAAAAAAAA"

CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
reports = true
[store]
kind = "memory"
[[links]]
kind = "tcpcl4"
{link}
[services.echo]
[services.acme]
interval_s = 1.5
challenges_burst = 100
[bus]
kind = "{kind}"
service = "org.ietf.dtn.node.{name}"
"""


class Pair(NamedTuple):
    """Two neighbours, and the bus that both are on."""

    server: AgentProcess
    client: AgentProcess
    bus: str


@pytest.fixture(scope="module")
def session_bus() -> Iterator[str]:
    """A bus of its own, as long as the command runs under dbus-run-session."""
    command = ["dbus-run-session", "--", "sh", "-c", "echo $DBUS_SESSION_BUS_ADDRESS; read nothing"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", HANG_S)


@pytest.fixture(scope="module", params=["dbus-daemon", "embedded"])
def pair(request: pytest.FixtureRequest, session_bus: str) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as name, Agents(Path(name)) as agents:
        address = f"unix:path={name}/bus" if request.param == "embedded" else session_bus
        kind = address.replace("unix:", "embedded:") if request.param == "embedded" else address
        server = agents.start("server", CONFIG.format(name="server", link='listen = "127.0.0.1:0"', kind=kind))
        link = f'connect = ["{address_of(server)}"]'
        client = agents.start("client", CONFIG.format(name="client", link=link, kind=kind))
        yield Pair(server, client, address)


def dbus_send(bus: str, to: str, path: str, member: str, *arguments: str) -> str:
    """What plain dbus-send prints. Raises: CalledProcessError."""
    command = ["dbus-send", f"--bus={bus}", "--print-reply=literal", f"--dest={to}", path, member, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=HANG_S)
    return done.stdout.strip()


async def send(pair: Pair, to: str, path: str, member: str, *arguments: str) -> str:
    return await asyncio.to_thread(dbus_send, pair.bus, to, path, member, *arguments)


def strings(*values: str) -> list[str]:
    return [f"string:{value}" for value in values]


@pytest.fixture
async def bus(pair: Pair) -> AsyncIterator[BusConnection]:
    connection = await BusConnection.open(pair.bus)
    yield connection
    await connection.close()


class Heard:
    """Signals of one kind, as they come."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    async def next(self) -> tuple[Any, ...]:
        async with asyncio.timeout(HANG_S):
            return await self.queue.get()


async def hear(bus: BusConnection, sender: str, interface: str, member: str) -> Heard:
    heard = Heard()
    rule = MatchRule(sender=sender, interface=interface, member=member)
    await bus.subscribe(rule, lambda _message, values: heard.queue.put_nowait(values))
    return heard


# ---- what is there ---------------------------------------------------------------------------------------------------

# Interface, member: (arguments in, out), or the signature of a signal. As the older agent has them.
OLDER: dict[str, dict[str, tuple[str, str] | str]] = {
    AGENT: {"shutdown": ("", "b"), "stop": ("", ""), "cl_attach": ("ss", ""), "ping": ("si", "")},
    ADMIN: {
        "start_expect_acme_request": ("sss", ""),
        "stop_expect_acme_request": ("s", ""),
        "send_acme_request": ("sssss", ""),
        "got_acme_response": "ssb",
    },
}


def members(xml: str) -> dict[str, dict[str, tuple[str, str] | str]]:
    found: dict[str, dict[str, tuple[str, str] | str]] = {}
    for interface in ET.fromstring(xml).findall("interface"):
        table = found[interface.attrib["name"]] = {}
        for method in interface.findall("method"):
            arguments = [(each.attrib["direction"], each.attrib["type"]) for each in method.findall("arg")]
            ways = ("".join(kind for way, kind in arguments if way == wanted) for wanted in ("in", "out"))
            table.setdefault(method.attrib["name"], tuple(ways))  # type: ignore[arg-type]
        for signal in interface.findall("signal"):
            table[signal.attrib["name"]] = "".join(each.attrib["type"] for each in signal.findall("arg"))
    return found


@pytest.mark.parametrize(("path", "interface"), [(AGENT_PATH, AGENT), (ADMIN_PATH, ADMIN)])
async def test_names_and_signatures_are_the_older_agent_s(pair: Pair, path: str, interface: str) -> None:
    xml = await send(pair, SERVER, path, "org.freedesktop.DBus.Introspectable.Introspect")
    assert members(xml)[interface] == OLDER[interface]


async def test_the_objects_are_found_from_the_root(pair: Pair) -> None:
    """As d-feet and `busctl tree` look for them."""
    for path, child in (("/", "org"), ("/org/ietf/dtn/bp", "Agent"), ("/org/ietf/dtn/bp/app", "admin")):
        xml = await send(pair, SERVER, path, "org.freedesktop.DBus.Introspectable.Introspect")
        assert child in [node.attrib["name"] for node in ET.fromstring(xml).findall("node")]


# ---- validation of node IDs ------------------------------------------------------------------------------------------


async def challenge(pair: Pair, *arguments: str) -> None:
    await send(pair, SERVER, ADMIN_PATH, f"{ADMIN}.send_acme_request", *strings(*arguments))


@pytest.fixture
async def response(pair: Pair, bus: BusConnection) -> AsyncIterator[Heard]:
    """What got_acme_response tells; afterwards nothing is expected any more."""
    yield await hear(bus, SERVER, ADMIN, "got_acme_response")
    for who in (ID_CHAL, OTHER, "dtn://server/"):
        await bus.call(CLIENT, ADMIN_PATH, ADMIN, "stop_expect_acme_request", "s", who)


async def expect(pair: Pair, *arguments: str) -> None:
    await send(pair, CLIENT, ADMIN_PATH, f"{ADMIN}.start_expect_acme_request", *strings(*arguments))


async def test_the_whole_exchange_ends_in_got_acme_response_true(pair: Pair, response: Heard) -> None:
    """The older agent raised TypeError here, and its signal never came."""
    await expect(pair, ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    await challenge(pair, "dtn://client/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    assert await response.next() == ("dtn://client/", ID_CHAL, True)


@pytest.mark.parametrize(
    "expected",
    [(ID_CHAL, TOKEN_CHAL, OTHER * 2), (ID_CHAL, OTHER, THUMBPRINT), (OTHER, TOKEN_CHAL, THUMBPRINT)],
    ids=["another account's key", "another token", "an id-chal that is not expected"],
)
async def test_what_is_wrong_ends_in_false(pair: Pair, response: Heard, expected: tuple[str, str, str]) -> None:
    await expect(pair, *expected)
    await challenge(pair, "dtn://client/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    assert await response.next() == ("dtn://client/", ID_CHAL, False)


async def test_what_is_expected_no_more_ends_in_false(pair: Pair, response: Heard) -> None:
    await expect(pair, ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    await send(pair, CLIENT, ADMIN_PATH, f"{ADMIN}.stop_expect_acme_request", *strings(ID_CHAL))
    await challenge(pair, "dtn://client/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    assert await response.next() == ("dtn://client/", ID_CHAL, False)


RIGHT = AcmeRecord(
    token_from_text(ID_CHAL, ""),
    token_from_text(TOKEN_BUNDLE, ""),
    Digest(SHA_256, digest_of(f"{TOKEN_BUNDLE}{TOKEN_CHAL}.{THUMBPRINT}", SHA_256)),
)


@pytest.mark.parametrize(
    ("source", "record", "valid"),
    [
        ("dtn://client/", RIGHT, True),
        ("dtn://other/", RIGHT, False),
        ("dtn://client/", RIGHT._replace(token_bundle=b"x" * 16), False),
    ],
    ids=["the right one", "from another node", "with an altered token"],
)
async def test_responses_that_somebody_else_sends(
    pair: Pair, response: Heard, source: str, record: AcmeRecord, valid: bool
) -> None:
    """The client says nothing; a bundle is put into the server as if a neighbour had sent it."""
    await challenge(pair, "dtn://client/", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    payload = encode_admin(UnknownRecord(255, record.encode_content()))
    forged = bundle(source, "dtn://server/", payload, flags=BundleFlags.ADMIN, created_ms=dtn_now_ms())
    async with connect(pair.server.socket, timeout_s=HANG_S) as client:
        assert await client.upload("/v1/bundles/import", forged)
    assert await response.next() == ("dtn://client/", ID_CHAL, valid)


async def test_the_forms_of_2021(pair: Pair, response: Heard) -> None:
    """A node ID instead of an id-chal, which nobody has told."""
    await expect(pair, "dtn://server/", TOKEN_CHAL, THUMBPRINT)
    await challenge(pair, "dtn://client/", TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    node, id_chal, valid = await response.next()
    assert (node, valid) == ("dtn://client/", True)
    assert len(token_from_text(id_chal, "id_chal")) == 16
    await send(pair, CLIENT, ADMIN_PATH, f"{ADMIN}.stop_expect_acme_request", *strings("dtn://server/"))
    await challenge(pair, "dtn://client/", TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
    assert (await response.next())[2] is False


async def test_a_verdict_that_a_command_asked_for_is_told_too(pair: Pair, response: Heard) -> None:
    await expect(pair, ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    asked = {"node": "dtn://client/", "id_chal": ID_CHAL, "token_chal": TOKEN_CHAL, "thumbprint": THUMBPRINT}
    async with connect(pair.server.socket, timeout_s=HANG_S) as client:
        *_, last = [event async for event in client.stream("/v1/acme/challenge", asked)]
    assert (last["valid"], last["signed"]) == (True, False)
    assert await response.next() == ("dtn://client/", ID_CHAL, True)


@pytest.mark.parametrize(
    ("member", "arguments", "error"),
    [
        ("send_acme_request", ("client", ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT), "no endpoint ID"),
        ("send_acme_request", ("dtn://client/", ID_CHAL, "x", TOKEN_BUNDLE, THUMBPRINT), "token_chal: write base64url"),
        ("start_expect_acme_request", (ID_CHAL, TOKEN_CHAL, "=="), "thumbprint: write base64url"),
        ("start_expect_acme_request", (ID_CHAL, TOKEN_CHAL), "org.freedesktop.DBus.Error.InvalidArgs"),
        ("no_such_method", (), "org.freedesktop.DBus.Error.UnknownMethod"),
    ],
)
async def test_mistakes_are_named_errors_with_a_sentence(
    pair: Pair, member: str, arguments: tuple[str, ...], error: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        await send(pair, SERVER, ADMIN_PATH, f"{ADMIN}.{member}", *strings(*arguments))
    assert error in failed.value.stderr


# ---- the agent -------------------------------------------------------------------------------------------------------


async def test_ping_has_the_length_it_is_told_and_a_result(pair: Pair, bus: BusConnection) -> None:
    """The older agent's own command passed no length at all, and nobody heard what became of a ping."""
    finished = await hear(bus, SERVER, PING, "finished")
    reported = await hear(bus, SERVER, PING, "reported")
    await send(pair, SERVER, AGENT_PATH, f"{AGENT}.ping", "string:dtn://client/echo", "int32:70000")
    number, eid, arrived, after_ms, why = await finished.next()
    assert (eid, arrived, why) == ("dtn://client/echo", True, "")
    assert after_ms > 0
    assert (await reported.next())[:3] == (number, "dtn://client/echo", "dtn://client/")


async def test_a_ping_has_just_so_many_octets(pair: Pair, inbox: Heard, bus: BusConnection) -> None:
    await send(pair, SERVER, AGENT_PATH, f"{AGENT}.ping", "string:dtn://client/inbox", "int32:1234")
    _, number, _, octets = await inbox.next()
    assert octets == 1234
    assert len(await pop(bus, number)) == 1234


async def test_a_ping_that_nobody_answers_says_so(pair: Pair, bus: BusConnection) -> None:
    finished = await hear(bus, SERVER, PING, "finished")
    (number,) = await bus.call(SERVER, AGENT_PATH, PING, "start", "sid", "dtn://nowhere/echo", 0, 0.05)
    assert await finished.next() == (number, "dtn://nowhere/echo", False, 0.0, "nobody said in time that it arrived")
    for eid, octets in (("dtn:none", 1), ("dtn://client/echo", -1)):
        with pytest.raises(BusError, match=r"null endpoint|write 0 to"):
            await bus.call(SERVER, AGENT_PATH, AGENT, "ping", "si", eid, octets)


async def test_only_layers_that_are_known_are_attached(pair: Pair) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        await send(pair, SERVER, AGENT_PATH, f"{AGENT}.cl_attach", *strings("btpu", "org.ietf.dtn.node.btpu"))
    assert "cltype 'btpu' is not attached here: write tcpcl or udpcl" in failed.value.stderr


async def test_routes_peers_and_counters(pair: Pair, bus: BusConnection) -> None:
    async def ask(member: str, signature: str = "", *arguments: Any) -> Any:
        return await bus.call(SERVER, AGENT_PATH, NODE, member, signature, *arguments)

    await ask("add_route", "ssi", "dtn://far/**", "dtn://client/", 5)
    assert await ask("get_routes") == ([("dtn://far/**", "dtn://client/", 5, "")],)
    assert await ask("remove_route", "ss", "dtn://far/**", "dtn://client/") == (True,)
    assert await ask("remove_route", "ss", "dtn://far/**", "dtn://client/") == (False,)
    assert await ask("get_routes") == ([],)
    ((peer,),) = await ask("get_peers")
    assert (peer[0], peer[1], peer[3]) == ("dtn://client/", "tcpcl4", "up")
    (counters,) = await ask("get_counters")
    assert counters["bundles_originated"] >= 1
    (status,) = await ask("get_status")
    assert json.loads(status)["node_id"] == "dtn://server/"
    with pytest.raises(BusError, match="nonsense"):
        await ask("add_route", "ssi", "nonsense", "dtn://client/", 5)


# ---- application data ------------------------------------------------------------------------------------------------


@pytest.fixture
async def inbox(bus: BusConnection) -> AsyncIterator[Heard]:
    """An endpoint of the client, and what it is told of."""
    heard = await hear(bus, CLIENT, DATA, "adu_received")
    assert await bus.call(CLIENT, DATA_PATH, DATA, "register", "s", "inbox") == ("dtn://client/inbox",)
    yield heard
    await bus.call(CLIENT, DATA_PATH, DATA, "unregister", "s", "inbox")


async def pop(bus: BusConnection, number: str) -> bytes:
    (data,) = await bus.call(CLIENT, DATA_PATH, DATA, "recv_pop_data", "s", number)
    assert isinstance(data, bytes)
    return data


async def test_data_goes_from_bus_to_bus(bus: BusConnection, inbox: Heard) -> None:
    options = {"source": Variant("s", "me"), "lifetime_s": Variant("d", 60.0)}
    (bundle_id,) = await bus.call(
        SERVER, DATA_PATH, DATA, "send_data", "saya{sv}", "dtn://client/inbox", b"\0\xffhello", options
    )
    assert bundle_id.startswith("dtn://server/me")
    endpoint, number, source, octets = await inbox.next()
    assert (endpoint, source, octets) == ("dtn://client/inbox", "dtn://server/me", 7)
    assert await bus.call(CLIENT, DATA_PATH, DATA, "recv_get_queue") == ([number],)
    assert await pop(bus, number) == b"\0\xffhello"
    assert await bus.call(CLIENT, DATA_PATH, DATA, "recv_get_queue") == ([],)
    with pytest.raises(BusError, match=f"no ADU '{number}' waits here"):
        await pop(bus, number)


async def test_data_that_is_kept_in_a_file_meanwhile(bus: BusConnection, inbox: Heard) -> None:
    data = os.urandom(300_000)
    await bus.call(SERVER, DATA_PATH, DATA, "send_data", "say", "dtn://client/inbox", data)
    _, number, _, octets = await inbox.next()
    assert octets == len(data)
    assert await pop(bus, number) == data


async def test_what_is_not_popped_waits_for_the_next_registration(bus: BusConnection, inbox: Heard) -> None:
    await bus.call(SERVER, DATA_PATH, DATA, "send_data", "say", "dtn://client/inbox", b"later")
    _, number, *_ = await inbox.next()
    await bus.call(CLIENT, DATA_PATH, DATA, "unregister", "s", "inbox")
    with pytest.raises(BusError, match="'inbox' is not registered here"):
        await bus.call(CLIENT, DATA_PATH, DATA, "unregister", "s", "inbox")
    await bus.call(CLIENT, DATA_PATH, DATA, "register", "s", "inbox")
    assert (await inbox.next())[1] == number
    assert await pop(bus, number) == b"later"


async def test_what_became_of_a_bundle_is_told(bus: BusConnection, inbox: Heard) -> None:
    reported = await hear(bus, SERVER, NODE, "status_reported")
    options = {"reports": Variant("b", True)}
    await bus.call(SERVER, DATA_PATH, DATA, "send_data", "saya{sv}", "dtn://client/inbox", b"x", options)
    await pop(bus, (await inbox.next())[1])
    told = [await reported.next() for _ in range(3)]
    assert {(reporter, *did) for reporter, _, _, _, did, _ in told} == {
        ("dtn://server/", "forwarded"),
        ("dtn://client/", "received"),
        ("dtn://client/", "delivered"),
    }
    assert {source for _, source, *_ in told} == {"dtn://server/"}


async def test_files_by_path_as_scripts_do_it(pair: Pair, bus: BusConnection, inbox: Heard, tmp_path: Path) -> None:
    sent, came = tmp_path / "sent", tmp_path / "came"
    sent.write_bytes(bytes(range(256)) * 1000)
    to = ("dtn://client/inbox", str(sent))
    await send(pair, SERVER, DATA_PATH, f"{DATA}.send_file", *strings(*to))
    _, number, _, octets = await inbox.next()
    assert octets == 256_000
    await send(pair, CLIENT, DATA_PATH, f"{DATA}.recv_pop_file", *strings(number, str(came)))
    assert came.read_bytes() == sent.read_bytes()
    assert sorted(tmp_path.iterdir()) == [came, sent], "nothing else is left there"
    assert await bus.call(CLIENT, DATA_PATH, DATA, "recv_get_queue") == ([],)


async def test_a_file_that_is_there_is_not_touched(bus: BusConnection, inbox: Heard, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    await bus.call(SERVER, DATA_PATH, DATA, "send_data", "say", "dtn://client/inbox", b"theirs")
    _, number, *_ = await inbox.next()
    with pytest.raises(BusError, match="could not be written, and stays: File exists"):
        await bus.call(CLIENT, DATA_PATH, DATA, "recv_pop_file", "ss", number, str(mine))
    assert mine.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [mine]
    assert await pop(bus, number) == b"theirs"


async def test_large_data_crosses_as_open_files(bus: BusConnection, inbox: Heard, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 17
    with (tmp_path / "large").open("w+b") as file:
        file.write(data)
        file.flush()
        call = ("send_fd", "sh", "dtn://client/inbox", 0)
        await bus.call(SERVER, DATA_PATH, DATA, *call, fds=[file.fileno()])
    _, number, _, octets = await inbox.next()
    assert octets == len(data)
    with pytest.raises(BusError, match=rf"ADU {number} has {len(data)} octets: take it by recv_pop_fd"):
        await pop(bus, number)
    with (tmp_path / "came").open("w+b") as file:
        await bus.call(CLIENT, DATA_PATH, DATA, "recv_pop_fd", "sh", number, 0, fds=[file.fileno()])
    assert (tmp_path / "came").read_bytes() == data


@pytest.mark.parametrize(
    ("member", "signature", "arguments", "why"),
    [
        ("send_data", "say", ("nobody", b""), "no endpoint ID"),
        ("send_data", "say", ("dtn:none", b""), "nothing can be sent to the null endpoint"),
        ("send_data", "saya{sv}", ("dtn://x/y", b"", {"sorce": Variant("s", "")}), "sorce is no option; did you mean 'source'"),
        ("send_data", "saya{sv}", ("dtn://x/y", b"", {"lifetime_s": Variant("s", "")}), "and must be float"),
        ("send_data", "saya{sv}", ("dtn://x/y", b"", {"lifetime_s": Variant("d", 0.0)}), "more than 0 and at most"),
        ("send_file", "ss", ("dtn://x/y", "/nowhere/file"), "/nowhere/file: No such file"),
        ("send_file", "ss", ("dtn://x/y", "/"), "/ is no regular file"),
        ("send_fd", "sh", ("dtn://x/y", 0), "is no regular file"),
        ("recv_pop_data", "s", ("-1",), "no ADU '-1' waits here"),
        ("register", "s", ("",), "a demux has 1 to 255 characters"),
        ("register", "s", ("echo",), "echo"),
    ],
)  # fmt: skip
async def test_mistakes_with_data(bus: BusConnection, member: str, signature: str, arguments: Any, why: str) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BusError, match=why):
            await bus.call(SERVER, DATA_PATH, DATA, member, signature, *arguments, fds=[reader] * ("h" in signature))
    finally:
        os.close(reader)
        os.close(writer)


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["shutdown", "stop"])
async def test_the_end_leaves_nothing_behind(session_bus: str, tmp_path: Path, member: str) -> None:
    with Agents(tmp_path) as agents:
        agent = agents.start("gone", CONFIG.format(name="gone", link='listen = "127.0.0.1:0"', kind=session_bus))
        bus = await BusConnection.open(session_bus)
        answer = await bus.call("org.ietf.dtn.node.gone", AGENT_PATH, AGENT, member)
        assert answer == ((True,) if member == "shutdown" else ())
        assert await asyncio.to_thread(agent.wait_ended) == 0
        with pytest.raises(BusError, match="gone"):
            await bus.uid_of("org.ietf.dtn.node.gone")
        await bus.close()
        assert not agent.socket.exists()


@pytest.mark.parametrize(("member", "answer"), [("shutdown", "true"), ("stop", "")])
def test_the_host_of_a_bus_answers_before_it_ends(member: str, answer: str) -> None:
    with tempfile.TemporaryDirectory() as name, Agents(Path(name)) as agents:
        kind = f"embedded:path={name}/bus"
        agent = agents.start("gone", CONFIG.format(name="gone", link='listen = "127.0.0.1:0"', kind=kind))
        told = dbus_send(f"unix:path={name}/bus", "org.ietf.dtn.node.gone", AGENT_PATH, f"{AGENT}.{member}")
        assert told.removeprefix("boolean ") == answer
        assert agent.wait_ended() == 0
        assert not (Path(name) / "bus").exists()


def test_who_cannot_have_its_name_does_not_start(session_bus: str, tmp_path: Path) -> None:
    with Agents(tmp_path) as agents:
        facts = {"name": "twice", "link": 'listen = "127.0.0.1:0"'}
        agents.start("first", CONFIG.format(kind=session_bus, **facts))
        with pytest.raises(
            TumplineError, match=r"the name org.ietf.dtn.node.twice is taken on this bus by :1\.\d+, process"
        ):
            agents.start("second", CONFIG.format(kind=session_bus, **facts))
        with pytest.raises(TumplineError, match=r"no bus can be reached: unix:path=/nowhere: no such file"):
            agents.start("third", CONFIG.format(kind="unix:path=/nowhere", **facts))

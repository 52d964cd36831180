"""What every message bus must hold, as clients see it: the same answers, the same names of errors, the same signals.

    for kind in KINDS: for check in CHECKS: await run(check, kind, directory)

One of the kinds is the reference implementation: what is written here is what dbus-daemon does.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tumpline.drivers.dbus import BusConnection, BusError, EmbeddedBus, Interface, MatchRule, Message, Method, Variant
from tumpline.testing.buses import dbus_daemon
from tumpline.testing.memory_bus import MemoryBus
from tumpline.wire.dbus import Flags, Kind

BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
NAME, PATH, IFACE = "org.example.Name", "/org/example", "org.example.Iface"
ERROR = "org.freedesktop.DBus.Error"
HANG_S = 20.0
MIB = 1 << 20
ALLOW_REPLACEMENT, REPLACE_EXISTING, DO_NOT_QUEUE = 1, 2, 4
PRIMARY_OWNER, IN_QUEUE, EXISTS, ALREADY_OWNER = 1, 2, 3, 4
RELEASED, NON_EXISTENT, NOT_OWNER = 1, 2, 3

Open = Callable[[], Awaitable[BusConnection]]


class Ground:
    """A bus that a check has for itself, and the clients that it opens there."""

    def __init__(self, opener: Open) -> None:
        self._opener = opener
        self._clients: list[BusConnection] = []

    async def client(self) -> BusConnection:
        """One more."""
        client = await self._opener()
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


Check = Callable[[Ground], Awaitable[None]]


class Ear:
    """What a client hears, in order."""

    def __init__(self, client: BusConnection) -> None:
        self._client = client
        self._heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self._mark = 0

    @classmethod
    async def of(cls, client: BusConnection, *rules: MatchRule) -> Ear:
        """Of what these rules ask for; of a signal that several ask for, once for each."""
        ear = cls(client)
        for rule in rules:
            await client.subscribe(rule, ear._hear)
        await ear.so_far()  # what came before does not count
        return ear

    def _hear(self, message: Message, values: tuple[Any, ...]) -> None:
        self._heard.put_nowait((message.member, *values))

    async def so_far(self) -> list[tuple[Any, ...]]:
        """All that came until now: a bus keeps what it sends to one client in order."""
        await ask(self._client, "GetId")
        found = []
        while not self._heard.empty():
            found.append(self._heard.get_nowait())
        return found

    async def next(self) -> tuple[Any, ...]:
        """What comes next."""
        return await self._heard.get()


async def ask(client: BusConnection, member: str, signature: str = "", *arguments: Any) -> Any:
    """A method of the bus: its one value, None for none."""
    values = await client.call(BUS, BUS_PATH, BUS, member, signature, *arguments)
    return values[0] if values else None


async def error_of(call: Awaitable[Any]) -> str:
    """The name of the error that a call is answered by; it has a sentence."""
    answer: Any = (await asyncio.gather(call, return_exceptions=True))[0]
    assert isinstance(answer, BusError), f"answered by {answer!r} instead of an error"
    assert answer.text
    return answer.name


async def check_hello(ground: Ground) -> None:
    """Everybody has a name of their own, once."""
    a, b = await ground.client(), await ground.client()
    assert re.fullmatch(r":\d+\.\d+", a.unique_name)
    assert a.unique_name != b.unique_name
    assert await error_of(ask(a, "Hello")) == f"{ERROR}.Failed"
    assert await ask(a, "GetNameOwner", "s", b.unique_name) == b.unique_name
    assert await ask(a, "GetNameOwner", "s", BUS) == BUS


async def check_queue(ground: Ground) -> None:
    """Who asks later waits, in order, and gets the name when it is free."""
    a, b, c = [await ground.client() for _ in range(3)]
    heard = await Ear.of(c, MatchRule(sender=BUS))
    assert await ask(a, "RequestName", "su", NAME, 0) == PRIMARY_OWNER
    assert await ask(a, "RequestName", "su", NAME, DO_NOT_QUEUE) == ALREADY_OWNER
    assert await ask(b, "RequestName", "su", NAME, 0) == IN_QUEUE
    assert await ask(b, "RequestName", "su", NAME, REPLACE_EXISTING) == IN_QUEUE
    assert await ask(c, "RequestName", "su", NAME, DO_NOT_QUEUE) == EXISTS
    assert await ask(c, "RequestName", "su", NAME, 0) == IN_QUEUE
    owners = [each.unique_name for each in (a, b, c)]
    assert await ask(a, "ListQueuedOwners", "s", NAME) == owners
    assert await ask(a, "ReleaseName", "s", NAME) == RELEASED
    assert await ask(a, "ReleaseName", "s", NAME) == NOT_OWNER
    assert await ask(b, "RequestName", "su", NAME, 0) == ALREADY_OWNER
    await b.close()
    assert await heard.next() == ("NameOwnerChanged", NAME, "", owners[0])
    assert await heard.next() == ("NameOwnerChanged", NAME, owners[0], owners[1])
    assert await heard.next() == ("NameOwnerChanged", NAME, owners[1], owners[2])
    assert await heard.next() == ("NameAcquired", NAME)
    assert await heard.next() == ("NameOwnerChanged", owners[1], owners[1], "")
    assert await ask(a, "ListQueuedOwners", "s", NAME) == [owners[2]]


async def check_replacing(ground: Ground) -> None:
    """An owner that allows it is replaced by one that wants it; it waits at the head, or leaves."""
    a, b, c = [await ground.client() for _ in range(3)]
    heard = [await Ear.of(each, MatchRule(sender=BUS)) for each in (a, b)]
    assert await ask(a, "RequestName", "su", NAME, ALLOW_REPLACEMENT) == PRIMARY_OWNER
    assert await ask(c, "RequestName", "su", NAME, 0) == IN_QUEUE
    assert await ask(b, "RequestName", "su", NAME, REPLACE_EXISTING | ALLOW_REPLACEMENT | DO_NOT_QUEUE) == PRIMARY_OWNER
    names = a.unique_name, b.unique_name, c.unique_name
    assert await ask(a, "ListQueuedOwners", "s", NAME) == [names[1], names[0], names[2]]
    assert await ask(a, "RequestName", "su", NAME, REPLACE_EXISTING) == PRIMARY_OWNER
    assert await ask(a, "ListQueuedOwners", "s", NAME) == [names[0], names[2]]
    assert await ask(c, "RequestName", "su", NAME, DO_NOT_QUEUE) == EXISTS
    assert await ask(a, "ListQueuedOwners", "s", NAME) == [names[0]]
    there, back = ("NameOwnerChanged", NAME, *names[:2]), ("NameOwnerChanged", NAME, names[1], names[0])
    first = ("NameOwnerChanged", NAME, "", names[0])
    got, lost = ("NameAcquired", NAME), ("NameLost", NAME)
    assert await heard[0].so_far() == [first, got, lost, there, back, got]
    assert await heard[1].so_far() == [first, there, got, lost, back]


async def check_names_that_are_none(ground: Ground) -> None:
    """Not every text is a name one may have."""
    a = await ground.client()
    for name in ("", "plain", "1.2", "org.exa mple.X", "a" * 300 + ".b", a.unique_name, BUS):
        assert await error_of(ask(a, "RequestName", "su", name, 0)) == f"{ERROR}.InvalidArgs", name
        assert await error_of(ask(a, "ReleaseName", "s", name)) == f"{ERROR}.InvalidArgs", name
    assert await ask(a, "ReleaseName", "s", NAME) == NON_EXISTENT


async def check_who_is_there(ground: Ground) -> None:
    """Lists and questions about names."""
    a, b = await ground.client(), await ground.client()
    await a.request_name(NAME)
    assert {BUS, a.unique_name, b.unique_name, NAME} == set(await ask(b, "ListNames"))
    assert BUS in await ask(b, "ListActivatableNames")
    for name, owned in ((BUS, True), (NAME, True), (a.unique_name, True), ("org.example.No", False), (":9.9", False)):
        assert await ask(b, "NameHasOwner", "s", name) is owned
    assert await ask(b, "GetNameOwner", "s", NAME) == a.unique_name
    assert await ask(b, "ListQueuedOwners", "s", BUS) == [BUS]
    assert await ask(b, "ListQueuedOwners", "s", b.unique_name) == [b.unique_name]
    for member in ("GetNameOwner", "ListQueuedOwners", "GetConnectionUnixUser", "GetConnectionUnixProcessID"):
        assert await error_of(ask(b, member, "s", "org.example.No")) == f"{ERROR}.NameHasNoOwner", member
    assert await error_of(ask(b, "GetConnectionCredentials", "s", ":9.9")) == f"{ERROR}.NameHasNoOwner"
    assert re.fullmatch("[0-9a-f]{32}", await ask(b, "GetId"))


async def check_credentials(ground: Ground) -> None:
    """Who is behind a name."""
    a = await ground.client()
    await a.request_name(NAME)
    for name in (NAME, a.unique_name):
        assert await ask(a, "GetConnectionUnixUser", "s", name) == os.getuid()
        assert await ask(a, "GetConnectionUnixProcessID", "s", name) == os.getpid()
        found = await ask(a, "GetConnectionCredentials", "s", name)
        assert found["UnixUserID"] == Variant("u", os.getuid())
        assert found["ProcessID"] == Variant("u", os.getpid())
    assert await ask(a, "GetConnectionUnixUser", "s", BUS) == os.getuid()
    unknown = error_of(ask(a, "GetConnectionSELinuxSecurityContext", "s", NAME))
    assert await unknown == f"{ERROR}.SELinuxSecurityContextUnknown"
    assert await error_of(ask(a, "GetAdtAuditSessionData", "s", NAME)) == f"{ERROR}.AdtAuditDataUnknown"


async def check_methods_that_are_none(ground: Ground) -> None:
    """What the bus does not know, and wrong arguments."""
    a = await ground.client()
    assert await error_of(ask(a, "Nonsense")) == f"{ERROR}.UnknownMethod"
    assert await error_of(a.call(BUS, BUS_PATH, "org.example.No", "GetId")) == f"{ERROR}.UnknownInterface"
    assert await error_of(ask(a, "RequestName", "s", NAME)) == f"{ERROR}.InvalidArgs"
    assert await error_of(ask(a, "GetId", "s", "x")) == f"{ERROR}.InvalidArgs"
    assert await a.call(BUS, BUS_PATH, "", "GetId") == (await ask(a, "GetId"),)


async def check_services_are_not_started(ground: Ground) -> None:
    """Nothing is started by name, and who is there needs none."""
    a = await ground.client()
    assert await error_of(ask(a, "StartServiceByName", "su", "org.example.No", 0)) == f"{ERROR}.ServiceUnknown"
    assert await error_of(a.call("org.example.No", PATH, IFACE, "Do")) == f"{ERROR}.ServiceUnknown"
    assert await error_of(a.call(":9.9", PATH, IFACE, "Do")) == f"{ERROR}.ServiceUnknown"
    call = Message(Kind.CALL, 0, PATH, IFACE, "Do", destination="org.example.No", flags=Flags.NO_AUTO_START)
    assert await error_of(a.call_message(call)) in (f"{ERROR}.NameHasNoOwner", f"{ERROR}.ServiceUnknown")


async def check_what_every_object_has(ground: Ground) -> None:
    """Introspectable, Properties and Peer of the bus itself."""
    a = await ground.client()
    standard = "org.freedesktop.DBus"
    (text,) = await a.call(BUS, BUS_PATH, f"{standard}.Introspectable", "Introspect")
    assert '<method name="RequestName">' in text
    assert '<signal name="NameOwnerChanged">' in text
    (found,) = await a.call(BUS, BUS_PATH, f"{standard}.Properties", "GetAll", "s", BUS)
    assert {"Features", "Interfaces"} <= set(found)
    (value,) = await a.call(BUS, BUS_PATH, f"{standard}.Properties", "Get", "ss", BUS, "Features")
    assert value.signature == "as"
    unknown = error_of(a.call(BUS, BUS_PATH, f"{standard}.Properties", "Get", "ss", BUS, "No"))
    assert await unknown == f"{ERROR}.UnknownProperty"
    fixed = a.call(BUS, BUS_PATH, f"{standard}.Properties", "Set", "ssv", BUS, "Features", Variant("as", []))
    assert await error_of(fixed) == f"{ERROR}.PropertyReadOnly"
    assert await a.call(BUS, BUS_PATH, f"{standard}.Peer", "Ping") == ()


async def check_rules(ground: Ground) -> None:
    """Rules are checked, counted, and removed one by one."""
    a, b = await ground.client(), await ground.client()
    heard = await Ear.of(a)
    for rule in ("nonsense", "type='no'", "arg64='x'", "path='relative'", "type='signal',type='signal'"):
        assert await error_of(ask(a, "AddMatch", "s", rule)) == f"{ERROR}.MatchRuleInvalid", rule
    assert await error_of(ask(a, "RemoveMatch", "s", "type='signal'")) == f"{ERROR}.MatchRuleNotFound"
    handler = Ear(a)
    await a.subscribe(MatchRule(member="Said"), handler._hear)
    for member, count in (("AddMatch", 1), ("RemoveMatch", 1), ("RemoveMatch", 0)):
        await ask(a, member, "s", "member='Said'")
        b.send_message(Message(Kind.SIGNAL, 0, PATH, IFACE, "Said"))
        await ask(b, "GetId")
        assert await handler.so_far() == [("Said",)] * count, "once, however many rules ask for it"
    assert await heard.so_far() == []


async def check_who_hears_what(ground: Ground) -> None:
    """Each key of a rule, for and against."""
    a, b = await ground.client(), await ground.client()
    await b.request_name(NAME)
    said = Message(Kind.SIGNAL, 0, "/org/example/sub", IFACE, "Said")
    bodies = (("s", "org.example.sub"), ("ss", "x", "/a/b/"), ("o", "/a/b"))
    messages = [said.with_body(*body) for body in bodies]
    for rule, wanted in _RULES:
        ear = Ear(a)
        subscription = await a.subscribe(
            rule._replace(sender=b.unique_name if rule.sender == ":" else rule.sender), ear._hear
        )
        for message in messages:
            b.send_message(message)
        await ask(b, "GetId")
        assert [values[1] for values in await ear.so_far()] == [bodies[at][1] for at in wanted], rule
        subscription.cancel()


_RULES = (
    (MatchRule(), (0, 1, 2)),
    (MatchRule(Kind.SIGNAL), (0, 1, 2)),
    (MatchRule(Kind.CALL), ()),
    (MatchRule(sender=NAME), (0, 1, 2)),
    (MatchRule(sender=":"), (0, 1, 2)),
    (MatchRule(sender="org.example.Other"), ()),
    (MatchRule(interface=IFACE, member="Said", path="/org/example/sub"), (0, 1, 2)),
    (MatchRule(member="Other"), ()),
    (MatchRule(path="/org/example"), ()),
    (MatchRule(path_namespace="/org/example"), (0, 1, 2)),
    (MatchRule(path_namespace="/org/exam"), ()),
    (MatchRule(arguments=((0, "", "x"),)), (1,)),
    (MatchRule(arguments=((0, "", "x"), (1, "", "/a/b/"))), (1,)),
    (MatchRule(arguments=((0, "namespace", "org.example"),)), (0,)),
    (MatchRule(arguments=((0, "path", "/a/"),)), (2,)),
    (MatchRule(arguments=((1, "path", "/a/b/c"),)), (1,)),
    (MatchRule(arguments=((5, "", "x"),)), ()),
)


async def check_a_signal_to_one(ground: Ground) -> None:
    """It comes without a rule, and to nobody else."""
    a, b, c = [await ground.client() for _ in range(3)]
    heard = [await Ear.of(each, MatchRule(member="Other")) for each in (a, c)]
    everything = await Ear.of(c, MatchRule(Kind.SIGNAL, interface=IFACE))
    got: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    await a.subscribe(
        MatchRule(member="Said", destination=a.unique_name), lambda message, _values: got.set_result(message)
    )
    forged = Message(Kind.SIGNAL, 0, PATH, IFACE, "Said", destination=a.unique_name, sender=c.unique_name)
    b.send_message(forged.with_body("s", "x"))
    message = await got
    assert message.sender == b.unique_name, "a sender says who it is, the bus knows"
    assert message.body_values() == ("x",)
    assert await everything.so_far() == await heard[0].so_far() == await heard[1].so_far() == []


async def check_calls(ground: Ground) -> None:
    """Calls and answers, values and errors, in order, in either byte order."""
    a, b = await ground.client(), await ground.client()
    seen: list[int] = []

    def do(call: Any, number: int) -> int:
        seen.append(number)
        assert call.sender == a.unique_name
        if number == 13:
            raise BusError("org.example.Error.Thirteen", "unlucky")
        return number + 1

    b.export(PATH, Interface(IFACE, {"Do": Method(do, "i", "i")}))
    await b.request_name(NAME)
    calls = [a.call(NAME if number % 2 else b.unique_name, PATH, IFACE, "Do", "i", number) for number in range(50)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert seen == list(range(50))
    assert isinstance(answers[13], BusError)
    assert answers[13].name == "org.example.Error.Thirteen"
    assert [each for each in answers if isinstance(each, tuple)] == [
        (number + 1,) for number in range(50) if number != 13
    ]
    big = Message(Kind.CALL, 0, PATH, IFACE, "Do", destination=NAME, big_endian=True).with_body("i", 99)
    assert (await a.call_message(big)).values == (100,)


async def check_calls_without_answer(ground: Ground) -> None:
    """Who does not want an answer gets none, no error either."""
    a, b = await ground.client(), await ground.client()
    called: asyncio.Queue[None] = asyncio.Queue()
    b.export(PATH, Interface(IFACE, {"Do": Method(lambda _call: called.put_nowait(None))}))
    call = Message(Kind.CALL, 0, PATH, IFACE, "Do", destination=b.unique_name, flags=Flags.NO_REPLY_EXPECTED)
    a.send_message(call)
    await called.get()
    a.send_message(call._replace(destination="org.example.No"))
    assert await error_of(a.call_message(call._replace(member="No"), timeout_s=0.05)) == f"{ERROR}.NoReply"


async def check_one_who_leaves(ground: Ground) -> None:
    """Who waits for an answer of somebody who leaves is told at once; names and rules are gone."""
    a, b = await ground.client(), await ground.client()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    called = asyncio.Event()

    def do(_call: Any) -> Awaitable[None]:
        called.set()
        return never

    b.export(PATH, Interface(IFACE, {"Do": Method(do)}))
    await b.request_name(NAME)
    heard = await Ear.of(a, MatchRule(sender=BUS, member="NameOwnerChanged"))
    waiting = asyncio.gather(a.call(NAME, PATH, IFACE, "Do"), return_exceptions=True)
    await called.wait()
    await b.close()
    (error,) = await waiting
    assert isinstance(error, BusError)
    assert error.name == f"{ERROR}.NoReply"
    name = b.unique_name
    assert [await heard.next() for _ in range(2)] == [
        ("NameOwnerChanged", NAME, name, ""),
        ("NameOwnerChanged", name, name, ""),
    ]
    assert await ask(a, "NameHasOwner", "s", NAME) is False


async def check_answers_that_nobody_asked_for(ground: Ground) -> None:
    """They do not reach anybody."""
    a, b = await ground.client(), await ground.client()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    b.export(PATH, Interface(IFACE, {"Do": Method(lambda _call: never)}))
    c = await ground.client()
    called = a.call(b.unique_name, PATH, IFACE, "Do", timeout_s=0.2)
    waiting = asyncio.gather(called, return_exceptions=True)
    for serial in range(1, 20):
        answer = Message(Kind.RETURN, 0, reply_serial=serial, destination=a.unique_name)
        c.send_message(answer.with_body("s", "forged"))
    (error,) = await waiting
    assert isinstance(error, BusError)
    assert error.name == f"{ERROR}.NoReply"


async def check_long_messages(ground: Ground) -> None:
    """16 MiB there and back, others meanwhile."""
    a, b = await ground.client(), await ground.client()
    b.export(PATH, Interface(IFACE, {"Same": Method(lambda _call, data: data, "ay", "ay")}))
    data = os.urandom(16 * MIB)
    long, short = await asyncio.gather(a.call(b.unique_name, PATH, IFACE, "Same", "ay", data), ask(b, "GetId"))
    assert long == (data,)
    assert len(short) == 32


async def check_descriptors(ground: Ground) -> None:
    """They come with their message, and nothing keeps them open."""
    a, b = await ground.client(), await ground.client()

    def write(call: Any, first: int, second: int) -> None:
        os.write(call.fds[second], b"second")
        os.write(call.fds[first], b"first")

    b.export(PATH, Interface(IFACE, {"Write": Method(write, "hh")}))
    pipes = [os.pipe() for _ in range(2)]
    ends = [write for _, write in pipes]
    await a.call(b.unique_name, PATH, IFACE, "Write", "hh", 0, 1, fds=ends)
    for end in ends:
        os.close(end)
    for (read, _), wanted in zip(pipes, (b"first", b"second"), strict=True):
        with os.fdopen(read, "rb") as file:
            assert await asyncio.to_thread(file.read) == wanted


CHECKS: list[Check] = [found for name, found in globals().items() if name.startswith("check_")]


@asynccontextmanager
async def _daemon(directory: Path) -> AsyncIterator[Open]:
    with dbus_daemon(directory) as address:
        yield lambda: BusConnection.open(address)


@asynccontextmanager
async def _embedded(directory: Path) -> AsyncIterator[Open]:
    bus = EmbeddedBus.start(f"unix:path={directory}/bus")
    try:
        yield lambda: BusConnection.open(bus.address)
    finally:
        bus.close()


@asynccontextmanager
async def _memory(_directory: Path) -> AsyncIterator[Open]:
    yield MemoryBus().open


KINDS = {"memory": _memory, "embedded": _embedded, "dbus-daemon": _daemon}


async def run(check: Check, kind: str, directory: Path) -> None:
    """Put one kind of bus through one check."""
    async with KINDS[kind](directory) as opener, asyncio.timeout(HANG_S):
        ground = Ground(opener)
        try:
            await check(ground)
        finally:
            await ground.close()

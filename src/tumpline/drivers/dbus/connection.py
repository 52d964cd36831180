"""A connection to a bus: calls, signals, names, and objects exported on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self, cast

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.dbus.descriptors import Descriptor, duplicates
from tumpline.drivers.dbus.dial import dial
from tumpline.drivers.dbus.dispatch import Dispatcher
from tumpline.drivers.dbus.errors import BusError, BusUnavailableError, ErrorName
from tumpline.drivers.dbus.interface import Interface
from tumpline.drivers.dbus.objects import Objects
from tumpline.drivers.dbus.sockets import BusSocket
from tumpline.drivers.dbus.subscriptions import Handler, Subscription, Subscriptions
from tumpline.errors import LocalProtocolError, MalformedError
from tumpline.machines.contract import Handle
from tumpline.machines.dbus import (
    Answered,
    CallReceived,
    ClientConfig,
    ClientConnection,
    Ended,
    Event,
    Joined,
    SignalReceived,
    Unanswered,
)
from tumpline.machines.dbus.connection import BUS_NAME, BUS_PATH, State
from tumpline.machines.dbus.stream import release
from tumpline.wire.dbus import Flags, Kind, MatchRule, Message

__all__ = ["Answer", "BusConnection", "Subscription"]

DRAIN_S: Final = 1.0  # at the end, for answers that are still to be written
CALL_S: Final = 25.0  # what the reference implementation waits for an answer
JOIN_S: Final = 5.0
BUSY_OCTETS: Final = 32 * 1024 * 1024  # waiting to be written: calls wait until it is less, signals do not
UIDS_KEPT: Final = 1024  # of callers; a bus never gives a unique name twice
DO_NOT_QUEUE: Final = 4  # D-Bus specification, RequestName
_PRIMARY_OWNER, _ALREADY_OWNER = 1, 4


class Transport(Protocol):
    """What carries octets to a bus and back."""

    def flush(self) -> None:
        """Write what the machine's outbox has."""

    def close(self) -> None:
        """Nothing more is read or written."""


# Made from three calls: `received(data, descriptors)`, `broken(reason)`, and `writable()` when more can be written.
Connect = Callable[
    [Callable[[memoryview, list[Descriptor]], None], Callable[[str], None], Callable[[], None]], Transport
]


class Answer(NamedTuple):
    """The values of an answer; a value of type `h` is an index into `fds`, which whoever called must close."""

    values: tuple[Any, ...]
    fds: tuple[int, ...]


class BusConnection:
    """One client on a bus, from `open` to its end, of which `closed` tells."""

    def __init__(self, machine: ClientConnection) -> None:
        """For `open` and `join`."""
        self.unique_name = ""
        self._loop = asyncio.get_running_loop()
        self._machine = machine
        self._transport: Transport | None = None
        self._objects = Objects()
        self._subscriptions = Subscriptions(self._call_bus, self._post_bus)
        self._dispatcher = Dispatcher(self._objects, self._post, self.uid_of)
        self._waiting: dict[int, asyncio.Future[Answered]] = {}
        self._joined: asyncio.Future[str] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._written = asyncio.Event()
        self._alarm = Alarm(self._timed_out)
        self._turn_due = False
        self._uids: dict[str, int] = {}

    # ---- beginning and end -------------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, address: str, *, timeout_s: float = JOIN_S) -> Self:
        """Join a bus: `session`, `system`, or any address of a UNIX socket. Raises: BusUnavailableError."""
        sock, way = await dial(address, timeout_s)
        machine = ClientConnection(ClientConfig(os.getuid(), timeout_s), asyncio.get_running_loop().time())
        connection = await cls.join(machine, lambda *calls: BusSocket(sock, machine, *calls))
        if way.keys.get("guid", machine.guid) != machine.guid:
            await connection.close()
            raise BusUnavailableError(f"the bus at {address} is not the one that its address names (guid)")
        return connection

    @classmethod
    async def join(cls, machine: ClientConnection, connect: Connect) -> Self:
        """The same over any transport. Raises: BusUnavailableError."""
        connection = cls(machine)
        connection._transport = connect(connection._received, connection._broken, connection._turn)
        connection._turn()
        try:
            connection.unique_name = await connection._joined
        except BaseException:
            await connection.close()
            raise
        return connection

    async def closed(self) -> str:
        """Wait for the end of the connection; says why it came."""
        return await asyncio.shield(self._ended)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._machine.state is State.OPEN

    async def close(self) -> None:
        """Leave the bus: what was sent is still written as far as the bus takes it, methods that run are cancelled."""
        try:
            await self._dispatcher.stop()
            self._turn()
            await self._wait_for_room(0, DRAIN_S)
        finally:  # also when whoever waits for this is cancelled: the socket is given back
            self._machine.end("closed here")
            self._turn()

    async def _wait_for_room(self, octets_most: int, timeout_s: float | None = None) -> None:
        """Wait until no more than so many octets are queued, or the time is over."""
        if self._machine.outbox.octets <= octets_most:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while self._machine.outbox.octets > octets_most:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            pass  # whoever does not read by then misses the rest

    # ---- calling -----------------------------------------------------------------------------------------------------

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *arguments: Any,
        timeout_s: float = CALL_S,
        fds: Sequence[int] = (),
    ) -> tuple[Any, ...]:
        """Call a method; the values of its answer. `fds` are passed as copies, arguments of type `h` are indices.

        Raises: BusError, MalformedError: the arguments do not fit the signature."""
        await self._wait_for_room(BUSY_OCTETS)  # before the octets are made: many who wait hold none
        message = Message(Kind.CALL, 0, path, interface, member, destination=destination)
        answer = await self.call_message(message.with_body(signature, *arguments), timeout_s=timeout_s, fds=fds)
        for fd in answer.fds:
            os.close(fd)
        return answer.values

    async def call_message(self, message: Message, *, timeout_s: float = CALL_S, fds: Sequence[int] = ()) -> Answer:
        """The same with a message that was made already, and with the descriptors of the answer."""
        await self._wait_for_room(BUSY_OCTETS)
        passed = duplicates(fds)
        try:
            serial = self._machine.call(message, passed, timeout_s, self._loop.time())
        except LocalProtocolError as error:
            raise self._not_sent(error) from None
        finally:
            release(passed)
        future: asyncio.Future[Answered] = self._loop.create_future()
        self._waiting[serial] = future
        asked = f"{message.destination} did not answer {message.interface}.{message.member}"
        del message  # its body may be long, and is of no use while its answer is awaited
        self._turn()
        try:
            answered = await future
        except TimeoutError:
            raise BusError(ErrorName.NO_REPLY, f"{asked} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                release(future.result().fds)  # it came in the very turn in which nobody wants it any more
            raise
        finally:
            self._machine.forget(serial)
            self._waiting.pop(serial, None)
        return _answer_of(answered)

    def send_message(self, message: Message) -> None:
        """Send what nobody answers; when the connection is over, it goes nowhere. Raises: MalformedError."""
        self._post(message, ())

    def _not_sent(self, error: LocalProtocolError) -> BusError:
        if self._ended.done():
            return BusError(ErrorName.DISCONNECTED, f"not connected to the bus: {self._ended.result()}")
        return BusError(ErrorName.LIMITS_EXCEEDED, str(error))

    async def _call_bus(self, member: str, signature: str, *arguments: Any) -> tuple[Any, ...]:
        return await self.call(BUS_NAME, BUS_PATH, BUS_NAME, member, signature, *arguments)

    def _post_bus(self, member: str, signature: str, argument: Any) -> None:
        flags = Flags.NO_REPLY_EXPECTED
        message = Message(Kind.CALL, 0, BUS_PATH, BUS_NAME, member, destination=BUS_NAME, flags=flags)
        self._post(message.with_body(signature, argument), ())

    async def uid_of(self, unique_name: str) -> int:
        """The user of a connection, as the bus says. Raises: BusError."""
        if unique_name not in self._uids:
            (uid,) = await self._call_bus("GetConnectionUnixUser", "s", unique_name)
            while len(self._uids) >= UIDS_KEPT:
                del self._uids[next(iter(self._uids))]
            self._uids[unique_name] = uid
        return self._uids[unique_name]

    # ---- names -------------------------------------------------------------------------------------------------------

    async def request_name(self, name: str) -> None:
        """Own a name, now or not at all. Raises: BusError, which says who has it."""
        (result,) = await self._call_bus("RequestName", "su", name, DO_NOT_QUEUE)
        if result not in (_PRIMARY_OWNER, _ALREADY_OWNER):
            raise BusError(ErrorName.NAME_TAKEN, f"the name {name} is taken on this bus{await self._who_has(name)}")

    async def _who_has(self, name: str) -> str:
        try:
            (owner,) = await self._call_bus("GetNameOwner", "s", name)
            (pid,) = await self._call_bus("GetConnectionUnixProcessID", "s", owner)
        except BusError:
            return ""  # it has just left
        return f" by {owner}, process {pid}; stop that, or take another name"

    async def release_name(self, name: str) -> None:
        """Give a name up; one that is not ours is no error. Raises: BusError."""
        await self._call_bus("ReleaseName", "s", name)

    # ---- exporting ---------------------------------------------------------------------------------------------------

    def export(self, path: str, *interfaces: Interface) -> None:
        """Put an object there, or further interfaces on it; Introspectable, Peer and Properties come by themselves."""
        self._objects.export(path, *interfaces)

    def unexport(self, path: str) -> None:
        """Take the object away. Idempotent."""
        self._objects.unexport(path)

    def emit(self, path: str, interface: str, member: str, *arguments: Any, destination: str = "") -> None:
        """Send a signal, to all who want it or to one; its signature is the exported interface's.

        When the connection is over it goes nowhere, as signals do without a listener.
        Raises: LocalProtocolError: there is no such signal; MalformedError: the arguments do not fit."""
        signature = self._objects.signature_of(path, interface, member)
        message = Message(Kind.SIGNAL, 0, path, interface, member, destination=destination)
        self._post(message.with_body(signature, *arguments), ())

    async def subscribe(self, rule: MatchRule, handler: Handler) -> Subscription:
        """Have `handler(message, values)` called for each message that the rule describes. Raises: BusError."""
        return await self._subscriptions.add(rule, handler)

    # ---- the loop of the machine -------------------------------------------------------------------------------------

    def _post(self, message: Message, fds: Sequence[Descriptor]) -> None:
        if self.is_open:
            self._machine.post(message, fds)
            self._soon()

    def _soon(self) -> None:
        """What is queued in one turn of the loop is written together."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _received(self, data: memoryview, fds: list[Descriptor]) -> None:
        self._machine.receive(data, fds)
        self._turn()

    def _broken(self, text: str) -> None:
        self._machine.end(text)
        self._turn()

    def _turn(self) -> None:
        """Take what has happened, write what is to be written."""
        self._turn_due = False
        while events := self._machine.events():
            for event in events:
                self._handle(event)
        if self._transport is not None:
            self._transport.flush()
        self._written.set()
        if not self._ended.done():
            self._alarm.set(self._machine.next_timeout())

    def _handle(self, event: Event) -> None:
        if isinstance(event, CallReceived):
            self._dispatcher.run(event.message, _descriptors(event.fds))
        elif isinstance(event, SignalReceived):
            release(event.fds)
            self._subscriptions.deliver(event.message)
        elif isinstance(event, Answered):
            self._answered(event)
        elif isinstance(event, Unanswered):
            _fail(self._waiting.get(event.serial), TimeoutError())
        elif isinstance(event, Joined):
            self._joined.set_result(event.unique_name)
        else:
            self._over(event)

    def _answered(self, event: Answered) -> None:
        future = self._waiting.get(event.serial)
        if future is not None and not future.done():
            future.set_result(event)
        else:
            release(event.fds)

    def _over(self, event: Ended) -> None:
        self._alarm.cancel()
        if self._transport is not None:
            self._transport.close()
        self._ended.set_result(event.text)
        for future in self._waiting.values():
            _fail(future, BusError(ErrorName.DISCONNECTED, f"the connection to the bus has ended: {event.text}"))
        _fail(self._joined, BusUnavailableError(f"the bus does not let us in: {event.text}"))

    def _timed_out(self) -> None:
        self._machine.handle_timeout(self._loop.time())
        self._turn()


def _fail(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)


def _descriptors(fds: tuple[Handle, ...]) -> list[Descriptor]:
    return cast("list[Descriptor]", list(fds))  # the machine gives back what it was given


def _answer_of(answered: Answered) -> Answer:
    """Values, or the error that was sent. Raises: BusError."""
    message, fds = answered.message, _descriptors(answered.fds)
    try:
        values = message.body_values()
        if message.kind == Kind.ERROR:
            text = values[0] if message.signature.startswith("s") else ""
            raise BusError(message.error_name, text)
    except MalformedError as error:
        release(fds)
        raise BusError(ErrorName.INCONSISTENT_MESSAGE, f"the answer cannot be read: {error}") from None
    except BusError:
        release(fds)
        raise
    return Answer(values, tuple(each.take() for each in fds))

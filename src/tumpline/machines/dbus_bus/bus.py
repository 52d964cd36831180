"""A message bus (D-Bus specification, "Message Bus Specification"): who is there, and what goes to whom.

The driver's loop, after anything happened: `take_written()` says whose outbox is to be flushed, `take_over()` whose
connection is to be closed after that; one timer is armed for `next_timeout()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tumpline.errors import MalformedError, RemoteProtocolError
from tumpline.machines.contract import Handle
from tumpline.machines.dbus.connection import BUS_NAME, BUS_PATH, no_reply_expected
from tumpline.machines.dbus.stream import Received, release
from tumpline.machines.dbus_bus.client import Client
from tumpline.machines.dbus_bus.config import BusConfig, Credentials
from tumpline.machines.dbus_bus.methods import BusMethods, CallRefusedError, not_provided
from tumpline.machines.dbus_bus.names import NameRegistry, OwnerChanged
from tumpline.wire.dbus import ErrorName, Flags, Kind, Message, check_values_untrusted, encode_head, parse_signature
from tumpline.wire.dbus.match import ARGUMENTS_MOST, Arguments

COUNTED_OCTETS: Final = 1 << 20  # a client for which less is held does not cause all to be counted


class Over(NamedTuple):
    """A client was let go, or left."""

    client: int
    reason: str


class Bus:
    """One bus. Clients are numbers, never given twice."""

    def __init__(self, config: BusConfig) -> None:
        self.config = config
        self.names = NameRegistry()
        self._clients: dict[int, Client] = {}
        self._by_unique: dict[str, Client] = {}
        self._joining: dict[int, Client] = {}  # oldest first
        self._methods = BusMethods(self)
        self._accepted = 0
        self._greeted = 0
        self._written: dict[int, None] = {}
        self._leaving: list[tuple[Client, str]] = []
        self._over: list[Over] = []

    # ---- facts -------------------------------------------------------------------------------------------------------

    def accept(self, credentials: Credentials, now: float) -> Client | None:
        """Somebody connected. None: there is no room, close the connection."""
        if len(self._joining) >= self.config.joining_most:
            oldest = next(iter(self._joining.values()))
            self._let_go(oldest, "others want to join, and it has not said Hello yet")
            self._settle()
        if len(self._clients) >= self.config.clients_most:
            return None
        self._accepted += 1
        client = Client(self._accepted, credentials, self.config, now)
        self._clients[client.number] = self._joining[client.number] = client
        return client

    def receive(self, number: int, data: memoryview, fds: Sequence[Handle] = ()) -> None:
        """A client's octets came, and descriptors with them (ours from now on)."""
        client = self._clients.get(number)
        if client is None:
            release(fds)
            return
        try:
            if client.auth.is_done:
                self._messages(client, client.stream.receive(data, fds))
            else:
                self._authenticate(client, data, fds)
            if self._holds_too_much(client):
                self._let_go(client, "the bus holds too much for its clients to take a message that is this long")
        except (MalformedError, RemoteProtocolError) as error:
            self._let_go(client, f"it broke the rules of D-Bus: {error}")
        self._settle()

    def lost(self, number: int, reason: str) -> None:
        """A client's connection is over."""
        client = self._clients.get(number)
        if client is not None:
            self._let_go(client, reason)
            self._settle()

    def next_timeout(self) -> float | None:
        """When the first of those who have not said Hello must have done so."""
        return next(iter(self._joining.values())).join_by if self._joining else None

    def handle_timeout(self, now: float) -> None:
        """Let go of those who take too long to join."""
        for client in list(self._joining.values()):
            if client.join_by > now:
                break
            self._let_go(client, f"it has not said Hello within {self.config.joining_s:g} s")
        self._settle()

    # ---- what is to be done ------------------------------------------------------------------------------------------

    def take_written(self) -> list[int]:
        """Clients for whom something was queued."""
        written, self._written = self._written, {}
        return list(written)

    def take_over(self) -> list[Over]:
        """Clients that are no more."""
        over, self._over = self._over, []
        return over

    # ---- for the methods of the bus ----------------------------------------------------------------------------------

    def client_of(self, name: str) -> Client | None:
        """The owner of a unique or well-known name."""
        if name.startswith(":"):
            return self._by_unique.get(name)
        owner = self.names.owner(name)
        return None if owner is None else self._clients.get(owner)

    def unique_names(self) -> list[str]:
        """All clients that were greeted."""
        return list(self._by_unique)

    def name_of(self, client: int) -> str:
        """The unique name of a client."""
        return self._clients[client].unique_name

    def greet(self, client: Client) -> str:
        """Give a unique name."""
        self._greeted += 1
        client.unique_name = f":1.{self._greeted - 1}"
        self._by_unique[client.unique_name] = client
        client.stream.octets_most = self.config.message_octets_most
        del self._joining[client.number]
        return client.unique_name

    def announce(self, changed: OwnerChanged | None) -> None:
        """Tell about the owner of a name: the old one, everybody who asked, the new one."""
        if changed is None:
            return
        old = self._clients.get(changed.old) if changed.old is not None else None
        new = self._clients.get(changed.new) if changed.new is not None else None
        if old is not None and not old.is_over:
            self._tell(old, "NameLost", "s", changed.name)
        self._tell_all(changed.name, old, new)
        if new is not None:
            self._tell(new, "NameAcquired", "s", changed.name)

    # ---- messages of clients -----------------------------------------------------------------------------------------

    def _authenticate(self, client: Client, data: memoryview, fds: Sequence[Handle]) -> None:
        rest = b""
        try:
            answer = client.auth.receive(data)
            rest = client.auth.lines.rest() if client.auth.is_done else b""
        finally:
            if not rest:
                release(fds)  # only messages may have some
        if answer:
            client.outbox.put_pieces(answer)
            self._written[client.number] = None
        if rest:
            self._messages(client, client.stream.receive(memoryview(rest), fds))

    def _messages(self, client: Client, found: list[Received]) -> None:
        try:
            for received in found:
                if client.is_over:
                    break
                self._message(client, *received)
        finally:
            for received in found:
                release(received.fds)

    def _message(self, client: Client, message: Message, fds: tuple[Handle, ...]) -> None:
        if not client.unique_name and not _is_hello(message):
            self._let_go(client, "it sent something before it had said Hello")
            return
        # What is passed on is valid: a broken body would cost its receiver the connection.
        values = check_values_untrusted(message.body, message.signature, big_endian=message.big_endian)
        message = message._replace(sender=client.unique_name)
        try:
            if message.kind == Kind.CALL:
                self._call(client, message, fds)
            elif message.kind == Kind.SIGNAL:
                self._signal(client, message, values, fds)
            elif message.kind in (Kind.RETURN, Kind.ERROR):
                self._answer(client, message, fds)
        except CallRefusedError as error:
            if message.kind == Kind.CALL:
                self._refuse(client, message, error.name, str(error))

    def _call(self, client: Client, message: Message, fds: tuple[Handle, ...]) -> None:
        if message.destination == BUS_NAME:
            self._answer_own(client, message)
            return
        target = self.client_of(message.destination)
        if target is None:
            raise self._nobody(message)
        if not no_reply_expected(message):
            self._check_replies(client, message)
        if fds and not target.auth.passes_fds:
            raise CallRefusedError(ErrorName.NOT_SUPPORTED, f"{message.destination} takes no descriptors")
        if not self._put(target, message, fds):
            text = f"{message.destination} reads too slowly: {target.outbox.octets} octets wait for it"
            raise CallRefusedError(ErrorName.LIMITS_EXCEEDED, text)
        if not no_reply_expected(message):
            client.awaits[message.serial] = target.number
            target.owes.add((client.number, message.serial))

    def _nobody(self, message: Message) -> CallRefusedError:
        if not message.destination:
            return CallRefusedError(ErrorName.UNKNOWN_METHOD, "a call on a bus needs a destination")
        if message.flags & Flags.NO_AUTO_START:
            return CallRefusedError(
                ErrorName.NAME_HAS_NO_OWNER, f"nobody on this bus has the name {message.destination}"
            )
        return not_provided(message.destination)

    def _check_replies(self, client: Client, message: Message) -> None:
        if len(client.awaits) >= self.config.replies_most:
            text = f"{len(client.awaits)} calls of yours wait for their answers already"
            raise CallRefusedError(ErrorName.LIMITS_EXCEEDED, text)
        if message.serial in client.awaits:
            text = f"a call of yours with the serial {message.serial} waits for its answer still"
            raise CallRefusedError(ErrorName.ACCESS_DENIED, text)

    def _answer_own(self, client: Client, message: Message) -> None:
        try:
            signature, values = self._methods.answer(client, message)
        except CallRefusedError as error:
            self._refuse(client, message, error.name, str(error))
            if not client.unique_name:
                self._let_go(client, f"it was not let in: {error}")
            return
        self._reply(client, message, Message(Kind.RETURN, 0).with_body(signature, *values))
        if message.member == "Hello":
            self._tell_all(client.unique_name, None, client)
            self._tell(client, "NameAcquired", "s", client.unique_name)

    def _answer(self, client: Client, message: Message, fds: tuple[Handle, ...]) -> None:
        """Answers go only where one is awaited: nobody is made to believe what was not asked."""
        caller = self.client_of(message.destination)
        if caller is None or caller.awaits.get(message.reply_serial) != client.number:
            return
        del caller.awaits[message.reply_serial]
        client.owes.discard((caller.number, message.reply_serial))
        if fds and not caller.auth.passes_fds:
            text = f"{client.unique_name} answers with descriptors, which you did not agree to take"
            error = Message(Kind.ERROR, 0, error_name=ErrorName.NOT_SUPPORTED.value, reply_serial=message.reply_serial)
            self._own(caller, error.with_body("s", text))
        elif not self._put(caller, message, fds):
            self._too_slow(caller)

    def _signal(self, client: Client, message: Message, values: tuple[Any, ...], fds: tuple[Handle, ...]) -> None:
        target = self.client_of(message.destination) if message.destination else None
        if message.destination:
            wanted = [target] if target is not None else []
        else:
            names = (client.unique_name, *self.names.owned_by(client.number))
            arguments = _arguments(message.signature, values)
            wanted = [each for each in self._by_unique.values() if each.wants(message, arguments, names)]
        for each in wanted:
            if fds and not each.auth.passes_fds:
                continue
            if not self._put(each, message, fds):
                self._too_slow(each)

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _put(self, target: Client, message: Message, fds: tuple[Handle, ...] = ()) -> bool:
        """Queue a message. False: there is no room."""
        if target.is_over:
            return True  # it gets nothing any more, and is not blamed for that
        if self._holds_too_much(target):
            return False
        if target.outbox.fds and target.outbox.fds + len(fds) > self.config.outgoing_fds_most:
            return False
        if not target.outbox.put_pieces(encode_head(message), message.body, fds):
            return False
        self._written[target.number] = None
        return True

    def _holds_too_much(self, client: Client) -> bool:
        """Whether all that is held passes its bound, and this one has a share in that."""
        if client.octets <= COUNTED_OCTETS:
            return False
        return sum(each.octets for each in self._clients.values()) > self.config.held_octets_most

    def _own(self, target: Client, message: Message) -> None:
        """A message of the bus itself."""
        message = message._replace(serial=target.next_serial(), sender=BUS_NAME, destination=target.unique_name)
        if not self._put(target, message):
            self._too_slow(target)

    def _reply(self, client: Client, call: Message, answer: Message) -> None:
        if not no_reply_expected(call):
            self._own(client, answer._replace(reply_serial=call.serial))

    def _refuse(self, client: Client, call: Message, name: ErrorName, text: str) -> None:
        self._reply(client, call, Message(Kind.ERROR, 0, error_name=name.value).with_body("s", text))

    def _tell(self, client: Client, member: str, signature: str, *values: Any) -> None:
        self._own(client, Message(Kind.SIGNAL, 0, BUS_PATH, BUS_NAME, member).with_body(signature, *values))

    def _tell_all(self, name: str, old: Client | None, new: Client | None) -> None:
        names = tuple(each.unique_name if each is not None else "" for each in (old, new))
        message = Message(Kind.SIGNAL, 0, BUS_PATH, BUS_NAME, "NameOwnerChanged").with_body("sss", name, *names)
        arguments = _arguments("sss", (name, *names))
        for client in list(self._by_unique.values()):
            if client.wants(message, arguments, (BUS_NAME,)) and not client.is_over:
                put = message._replace(serial=client.next_serial(), sender=BUS_NAME)
                if not self._put(client, put):
                    self._too_slow(client)

    # ---- leaving -----------------------------------------------------------------------------------------------------

    def _too_slow(self, client: Client) -> None:
        self._let_go(client, f"it reads too slowly: {client.outbox.octets} octets wait for it")

    def _let_go(self, client: Client, reason: str) -> None:
        if not client.is_over:
            client.is_over = True
            self._leaving.append((client, reason))

    def _settle(self) -> None:
        """Tell of those who left. That may be too much for others, who leave then."""
        while self._leaving:
            client, reason = self._leaving.pop(0)
            client.stream.discard()
            self._joining.pop(client.number, None)
            for changed in self.names.release_all(client.number):
                self.announce(changed)
            self._settle_answers(client)
            del self._clients[client.number]
            if self._by_unique.pop(client.unique_name, None) is not None:
                self._tell_all(client.unique_name, client, None)
            self._over.append(Over(client.number, reason))

    def _settle_answers(self, client: Client) -> None:
        for serial, other in client.awaits.items():
            self._clients[other].owes.discard((client.number, serial))
        for other, serial in client.owes:
            caller = self._clients[other]
            caller.awaits.pop(serial, None)
            text = "the one who was to answer has left the bus"
            error = Message(Kind.ERROR, 0, error_name=ErrorName.NO_REPLY.value, reply_serial=serial).with_body(
                "s", text
            )
            self._own(caller, error)


def _is_hello(message: Message) -> bool:
    return message.kind == Kind.CALL and message.destination == BUS_NAME and message.member == "Hello"


def _arguments(signature: str, values: tuple[Any, ...]) -> Arguments:
    """What match rules look at; of arrays of octets only the length is known, at which none looks."""
    codes = [kind.code for kind in parse_signature(signature)[:ARGUMENTS_MOST]]
    return tuple(zip(codes, values, strict=False))

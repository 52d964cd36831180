"""A client's connection to a bus: authentication, Hello, serials, and calls that wait for their answers.

The driver's loop, after anything happened: take `events()`, write what `outbox.front()` shows, re-arm one timer for
`next_timeout()`. Whoever takes an event releases the descriptors in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from tumpline.errors import LocalProtocolError, MalformedError, RemoteProtocolError
from tumpline.machines.contract import Handle
from tumpline.machines.dbus.auth import ClientAuth
from tumpline.machines.dbus.stream import MessageStream, Outbox, Received, release
from tumpline.wire.dbus import MESSAGE_OCTETS_MOST, Flags, Kind, Message, is_unique_name

BUS_NAME: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"
SERIALS: Final = 1 << 32  # D-Bus specification, Message Format: a UINT32, and not 0


class ClientConfig(NamedTuple):
    """What one connection may cost."""

    uid: int  # as whom the kernel shows us to the bus
    join_s: float = 5.0  # from the first octet to the answer of Hello
    message_octets_most: int = MESSAGE_OCTETS_MOST
    outgoing_octets_most: int = MESSAGE_OCTETS_MOST  # waiting to be written; a bus that reads no more is given up
    pending_most: int = 16_384  # calls that wait for their answers


class Joined(NamedTuple):
    """The bus has taken us."""

    unique_name: str


class CallReceived(NamedTuple):
    """Somebody called a method of ours."""

    message: Message
    fds: tuple[Handle, ...]


class SignalReceived(NamedTuple):
    """A signal that some match rule of ours wanted, or that was sent to us alone."""

    message: Message
    fds: tuple[Handle, ...]


class Answered(NamedTuple):
    """A call of ours was answered, by values or by an error."""

    serial: int
    message: Message
    fds: tuple[Handle, ...]


class Unanswered(NamedTuple):
    """The deadline of a call has passed."""

    serial: int


class Ended(NamedTuple):
    """The connection is over, once; no call that waits will be answered."""

    text: str


Event = Joined | CallReceived | SignalReceived | Answered | Unanswered | Ended


class _Pending(NamedTuple):
    """A call that waits."""

    deadline: float
    destination: str

    def may_be_answered_by(self, sender: str) -> bool:
        """Some buses pass on answers of anybody: where we know who was asked, only that one counts, and the bus."""
        is_known = self.destination == BUS_NAME or is_unique_name(self.destination)
        return not is_known or sender in (self.destination, BUS_NAME)


class State(Enum):
    """Of a connection, in this order."""

    AUTHENTICATING = "authenticating"
    GREETING = "waiting for the answer of Hello"
    OPEN = "open"
    ENDED = "ended"


class ClientConnection:
    """One connection, from its first octet; never reused."""

    def __init__(self, config: ClientConfig, now: float) -> None:
        self.state = State.AUTHENTICATING
        self.outbox = Outbox(config.outgoing_octets_most)
        self._config = config
        self._auth = ClientAuth(config.uid)
        self._stream = MessageStream(config.message_octets_most)
        self._events: list[Event] = []
        self._serial = 0
        self._hello = 0
        self._join_by = now + config.join_s
        self._pending: dict[int, _Pending] = {}  # by serial
        self._deadlines: list[tuple[float, int]] = []  # a heap; answered calls stay in it for a while
        self.outbox.put_pieces(self._auth.begin())

    @property
    def guid(self) -> str:
        """The identity that the bus told, once it has."""
        return self._auth.guid

    @property
    def missing(self) -> int:
        """Octets that are still to come of a message under way: how much is worth reading at once."""
        return self._stream.missing

    # ---- facts -------------------------------------------------------------------------------------------------------

    def receive(self, data: memoryview, fds: Sequence[Handle] = ()) -> None:
        """Octets came, and descriptors with them (ours from now on)."""
        try:
            if self.state is State.ENDED:
                release(fds)
            elif self.state is State.AUTHENTICATING:
                release(fds)  # before the messages nobody sends any
                self._authenticate(data)
            else:
                self._messages(self._stream.receive(data, fds))
        except (MalformedError, RemoteProtocolError) as error:
            self.end(f"the bus broke the rules of D-Bus: {error}")

    def end(self, text: str) -> None:
        """The connection broke, or is given up. Idempotent; the first reason counts."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self.outbox.clear()
        self._stream.discard()
        self._pending.clear()
        self._deadlines.clear()
        self._events.append(Ended(text))

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        found, self._events = self._events, []
        return found

    # ---- verbs -------------------------------------------------------------------------------------------------------

    def call(self, message: Message, fds: Sequence[Handle], timeout_s: float, now: float) -> int:
        """Send a call; its serial. Ends in one of Answered, Unanswered, Ended.

        Raises: LocalProtocolError (not open; too many calls wait), MalformedError (it breaks a rule of D-Bus)."""
        if len(self._pending) >= self._config.pending_most:
            raise LocalProtocolError(f"{len(self._pending)} calls wait for their answers already; wait for some")
        serial = self.post(message, fds)
        if self.state is State.OPEN:
            self._pending[serial] = _Pending(now + timeout_s, message.destination)
            heappush(self._deadlines, (now + timeout_s, serial))
            self._tidy()
        return serial

    def post(self, message: Message, fds: Sequence[Handle] = ()) -> int:
        """Send what nobody answers: a signal, an answer; its serial. When the bus reads too slowly, Ended follows.

        Raises: LocalProtocolError (not open), MalformedError (it breaks a rule of D-Bus)."""
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"nothing can be sent on a D-Bus connection that is {self.state.value}")
        if fds and not self._auth.passes_fds:
            raise LocalProtocolError("this bus passes no descriptors; send the octets instead")
        serial = self._next_serial()
        if not self.outbox.put_message(message._replace(serial=serial), fds):
            self.end(f"the bus does not read: {self.outbox.octets} octets wait to be sent")
        return serial

    def forget(self, serial: int) -> None:
        """Nobody waits for this answer any more."""
        self._pending.pop(serial, None)

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """The next deadline: of joining, then of the calls."""
        if self.state in (State.AUTHENTICATING, State.GREETING):
            return self._join_by
        while self._deadlines and self._deadlines[0][1] not in self._pending:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def handle_timeout(self, now: float) -> None:
        """Let go of the calls whose time is over."""
        if self.state in (State.AUTHENTICATING, State.GREETING) and now >= self._join_by:
            self.end(f"the bus did not let us in within {self._config.join_s:g} s (it was {self.state.value})")
        while self._deadlines and self._deadlines[0][0] <= now:
            _, serial = heappop(self._deadlines)
            if self._pending.pop(serial, None) is not None:
                self._events.append(Unanswered(serial))

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _authenticate(self, data: memoryview) -> None:
        answer = self._auth.receive(data)
        if answer:
            self.outbox.put_pieces(answer)
        if self._auth.is_done:
            self.state = State.GREETING
            self._hello = self._next_serial()
            hello = Message(Kind.CALL, self._hello, BUS_PATH, BUS_NAME, "Hello", destination=BUS_NAME)
            self.outbox.put_message(hello)
            self._messages(self._stream.receive(memoryview(self._auth.lines.rest()), ()))

    def _messages(self, found: list[Received]) -> None:
        found.reverse()
        try:
            while found:
                self._message(*found.pop())
        finally:
            release([fd for received in found for fd in received.fds])

    def _message(self, message: Message, fds: tuple[Handle, ...]) -> None:
        if message.kind in (Kind.RETURN, Kind.ERROR):
            self._answer(message, fds)
        elif self.state is State.OPEN and message.kind == Kind.CALL:
            self._events.append(CallReceived(message, fds))
        elif self.state is State.OPEN and message.kind == Kind.SIGNAL:
            self._events.append(SignalReceived(message, fds))
        else:
            release(fds)  # Message Format: unknown types are ignored; and nobody knows us before Hello is answered

    def _answer(self, message: Message, fds: tuple[Handle, ...]) -> None:
        serial = message.reply_serial
        pending = self._pending.get(serial)
        if self.state is State.OPEN and pending is not None and pending.may_be_answered_by(message.sender):
            del self._pending[serial]
            self._events.append(Answered(serial, message, fds))
            return
        release(fds)  # an answer that comes too late, or was never asked for
        if self.state is State.GREETING and serial == self._hello:
            self._join(message)

    def _join(self, message: Message) -> None:
        values = message.body_values()
        if message.kind == Kind.ERROR:
            self.end(f"{message.error_name}: {', '.join(map(str, values))}")
        elif message.signature != "s" or not is_unique_name(values[0]):
            raise RemoteProtocolError(f"Hello is answered by {values!r}")
        else:
            self.state = State.OPEN
            self._events.append(Joined(values[0]))

    def _next_serial(self) -> int:
        while True:
            self._serial = (self._serial + 1) % SERIALS
            if self._serial and self._serial not in self._pending:
                return self._serial

    def _tidy(self) -> None:
        """Deadlines of answered calls are dropped before they are many: amortised, a constant for each call."""
        if len(self._deadlines) > 2 * len(self._pending) + 1024:
            self._deadlines = [(pending.deadline, serial) for serial, pending in self._pending.items()]
            heapify(self._deadlines)


def no_reply_expected(message: Message) -> bool:
    """Whether the caller will not read an answer."""
    return bool(message.flags & Flags.NO_REPLY_EXPECTED)

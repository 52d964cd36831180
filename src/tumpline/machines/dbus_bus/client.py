"""One client of a bus: its authentication, its stream, what it has and what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tumpline.machines.dbus.auth import ServerAuth
from tumpline.machines.dbus.stream import MessageStream, Outbox
from tumpline.machines.dbus_bus.config import GREETING_OCTETS_MOST, BusConfig, Credentials
from tumpline.wire.dbus import MatchRule, Message
from tumpline.wire.dbus.match import Arguments

SERIALS = 1 << 32


class Client:
    """From the first octet to the last; the bus decides, this remembers."""

    def __init__(self, number: int, credentials: Credentials, config: BusConfig, now: float) -> None:
        self.number = number
        self.credentials = credentials
        self.unique_name = ""  # until Hello
        self.auth = ServerAuth(config.guid, credentials.uid)
        self.stream = MessageStream(GREETING_OCTETS_MOST)
        self.outbox = Outbox(config.outgoing_octets_most)
        self.join_by = now + config.joining_s
        self.is_over = False
        self.rules: Counter[MatchRule] = Counter()
        self.awaits: dict[int, int] = {}  # serial of a call: the client that is to answer
        self.owes: set[tuple[int, int]] = set()  # client that called, serial of its call
        self._serial = 0

    @property
    def octets(self) -> int:
        """What is held for it, and of it."""
        return self.outbox.octets + self.stream.octets

    @property
    def missing(self) -> int:
        """Octets that are still to come of a message under way: how much is worth reading at once."""
        return self.stream.missing

    def next_serial(self) -> int:
        """For a message of the bus itself."""
        self._serial = self._serial % (SERIALS - 1) + 1
        return self._serial

    def wants(self, message: Message, arguments: Arguments, sender_names: Iterable[str]) -> bool:
        """Whether one of its rules asks for a signal that is sent to everybody."""
        names = tuple(sender_names)
        return any(rule.matches(message, arguments, names) for rule in self.rules)

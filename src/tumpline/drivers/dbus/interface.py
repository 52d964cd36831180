"""What can be exported: interfaces with methods and signals, and the call that a method is handed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from tumpline.drivers.dbus.descriptors import Descriptor, duplicates
from tumpline.wire.dbus import Message


class Method(NamedTuple):
    """A method: `run(call, *arguments)` gives a value (or a tuple of several, or None), or an awaitable of these."""

    run: Callable[..., Any]
    takes: str = ""  # signature of the arguments
    gives: str = ""  # signature of the answer
    names: tuple[str, ...] = ()  # of the arguments, then of the answer's values: for introspection


Methods = Mapping[str, Method | tuple[Method, ...]]  # several of one name are told apart by what they take


class Interface(NamedTuple):
    """Methods and signals under one name."""

    name: str
    methods: Methods
    signals: Mapping[str, str] = {}  # member: signature


class Call:
    """One call of a method of ours. Descriptors that are not taken are closed when the method has ended."""

    __slots__ = ("_answer_fds", "_received", "_uid_of", "fds", "message")

    def __init__(self, message: Message, fds: list[Descriptor], uid_of: Callable[[str], Awaitable[int]]) -> None:
        self.message = message
        self.fds = [each.fd for each in fds]  # to be looked at; `take_fd` to keep one
        self._received: list[Descriptor | None] = list(fds)
        self._answer_fds: list[Descriptor] = []
        self._uid_of = uid_of

    @property
    def sender(self) -> str:
        """The unique name of the caller."""
        return self.message.sender

    @property
    def path(self) -> str:
        """The object that is called."""
        return self.message.path

    async def uid(self) -> int:
        """The user who calls, as the bus says. Raises: BusError."""
        return await self._uid_of(self.sender)

    def take_fd(self, index: int) -> int:
        """The descriptor that an argument of type `h` means; the caller of this closes it. Raises: LookupError."""
        taken = self._received[index] if index >= 0 else None
        if taken is None:
            raise LookupError(f"there is no descriptor {index}, or it was taken already")
        self._received[index] = None
        return taken.take()

    def give_fd(self, fd: int) -> int:
        """Pass a copy of this descriptor with the answer: the value of type `h` that means it. Raises: OSError."""
        self._answer_fds += duplicates([fd])
        return len(self._answer_fds) - 1

    @property
    def answer_fds(self) -> list[Descriptor]:
        """What `give_fd` was given; closed by `end`."""
        return self._answer_fds

    def end(self) -> None:
        """The method has ended and its answer is queued: close what nobody took."""
        for each in (*self._received, *self._answer_fds):
            if each is not None:
                each.release()
        self._received, self._answer_fds = [], []

"""Calls of others: the method found, run, and answered."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from tumpline.drivers.dbus.descriptors import Descriptor
from tumpline.drivers.dbus.errors import BusError, ErrorName, as_bus_error
from tumpline.drivers.dbus.interface import Call, Method
from tumpline.drivers.dbus.objects import Objects
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import MalformedError, TumplineError
from tumpline.machines.dbus.connection import no_reply_expected
from tumpline.wire.dbus import Kind, Message, parse_signature

# Calls at once, and the octets of their arguments: callers must not make us keep ever more.
RUNNING_MOST: Final = 1024
RUNNING_OCTETS_MOST: Final = 256 * 1024 * 1024

log = logging.getLogger(__name__)
Send = Callable[[Message, Sequence[Descriptor]], None]


class Dispatcher:
    """Runs methods: plain ones at once, awaited ones in tasks of the connection."""

    def __init__(self, objects: Objects, send: Send, uid_of: Callable[[str], Awaitable[int]]) -> None:
        self._objects = objects
        self._send = send
        self._uid_of = uid_of
        self._tasks = TaskOwner(_defect)
        self._running = 0
        self._octets = 0

    def run(self, message: Message, fds: list[Descriptor]) -> None:
        """Answer a call, now or later."""
        call = Call(message, fds, self._uid_of)
        try:
            method = self._objects.find(message)
            if self._running >= RUNNING_MOST or self._octets > RUNNING_OCTETS_MOST:
                raise BusError(ErrorName.LIMITS_EXCEEDED, f"{self._running} calls are being answered; try again later")
            value = method.run(call, *_arguments(message))
        except Exception as error:
            self._fail(call, error)
            return
        if inspect.isawaitable(value):
            self._running += 1
            self._octets += len(message.body)
            self._tasks.start(self._wait(call, method, value), f"dbus {message.interface}.{message.member}")
        else:
            self._succeed(call, method, value)

    async def stop(self) -> None:
        """Let go of what still runs."""
        await self._tasks.stop()

    async def _wait(self, call: Call, method: Method, value: Awaitable[Any]) -> None:
        try:
            result = await value
        except Exception as error:
            self._fail(call, error)
        except BaseException:
            call.end()
            raise
        else:
            self._succeed(call, method, result)
        finally:
            self._running -= 1
            self._octets -= len(call.message.body)

    def _succeed(self, call: Call, method: Method, value: Any) -> None:
        try:
            answer = _answer(call, Kind.RETURN).with_body(method.gives, *_values(method, value))
        except Exception as error:  # a defect: the method gave what its signature does not say
            self._fail(call, ValueError(f"the answer is not what was announced: {error}"))
            return
        self._end(call, answer)

    def _fail(self, call: Call, error: Exception) -> None:
        known = _known(call, error)
        # A sentence never has a NUL, which no text of D-Bus may have.
        text = known.text.replace("\0", "")
        self._end(call, _answer(call, Kind.ERROR)._replace(error_name=known.name).with_body("s", text))

    def _end(self, call: Call, answer: Message) -> None:
        if not no_reply_expected(call.message):
            self._send(answer, call.answer_fds)
        call.end()


def _arguments(message: Message) -> tuple[Any, ...]:
    try:
        return message.body_values()
    except MalformedError as error:
        raise BusError(ErrorName.INVALID_ARGS, str(error)) from None


def _values(method: Method, value: Any) -> tuple[Any, ...]:
    """The values of an answer: none, one, or a tuple of several."""
    count = len(parse_signature(method.gives))
    if count == 1:
        return (value,)
    return tuple(value) if count else ()


def _answer(call: Call, kind: Kind) -> Message:
    return Message(kind, 0, reply_serial=call.message.serial, destination=call.sender)


def _known(call: Call, error: Exception) -> BusError:
    """The error that a caller is told. One that nobody foresaw is a defect of ours: the log has its trace."""
    if isinstance(error, TumplineError):
        return as_bus_error(error)
    log.error("%s.%s failed", call.message.interface, call.message.member, exc_info=error)
    return BusError(ErrorName.FAILED, f"{type(error).__name__}: {error}")


def _defect(name: str, error: BaseException) -> None:
    log.error("%s ended by an error that nobody foresaw", name, exc_info=error)

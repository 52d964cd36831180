"""Application data on a bus, for which the older demo agent has no words: an interface of our own.

Endpoints that were registered stay so until they are given back or the
agent ends, whoever registered them: scripts come and go with each call. ADUs stay stored until they are popped.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tumpline.drivers.dbus import BusError, Call, ErrorName, Interface, Method
from tumpline.errors import ConfigError
from tumpline.machines.contract import FILE_PAYLOAD_OCTETS, Octets, Payload
from tumpline.machines.effects import Adu, Delivery
from tumpline.node.control.api import Agent
from tumpline.node.control.service import service
from tumpline.node.registry import did_you_mean
from tumpline.node.services._patience import send
from tumpline.node.services.endpoints import Endpoints, Registration
from tumpline.ui.dbus.bp import Emit
from tumpline.ui.dbus.named_files import open_file, require_own_user, take_file
from tumpline.wire.bundle7 import BundleFlags
from tumpline.wire.dbus import Variant
from tumpline.wire.eid import Eid

DATA_PATH: Final = "/org/ietf/dtn/bp/app/data"
DATA: Final = "org.tumpline.bp.Data"

Options = Mapping[str, Variant]  # source (demux), lifetime_s, report_to, reports: all of them may be left out
_OPTIONS: Final[dict[str, type]] = {"source": str, "lifetime_s": float, "report_to": str, "reports": bool}

MESSAGE_OCTETS: Final = (
    16 << 20
)  # larger ADUs cross as files: a message is held whole, and a bus ends those who send more
PIECE_OCTETS: Final = 1 << 20
MAX_LIFETIME_S: Final = 100 * 366 * 86_400.0
WAIT_S: Final = 20.0  # for room in a store at its quota; callers wait 25 s by default


class _Mailbox:
    """The receiver of one endpoint: its ADUs wait to be popped."""

    def __init__(self, arrived: Callable[[Sequence[Delivery]], None]) -> None:
        self.deliver = arrived

    def confirmed(self, seqs: Sequence[int]) -> None:
        """Nobody waits for that."""

    def unconfirmed(self, seqs: Sequence[int]) -> None:
        """The node goes on trying; should it end before, the ADUs come again."""


class DataObject:
    """Sends and receives application data. `files`: whose calls may name files."""

    def __init__(self, agent: Agent, emit: Emit, files: str) -> None:
        self._agent = agent
        self._emit = emit
        self._files = files
        self._open: dict[str, Registration] = {}  # by demux
        self._writing: dict[int, asyncio.Future[None]] = {}  # ADUs that threads write, by number

    def interfaces(self) -> tuple[Interface, ...]:
        methods: dict[str, Method | tuple[Method, ...]] = {
            "send_data": (
                Method(self.send_data, takes="say", gives="s", names=("to", "data", "bundle")),
                Method(self.send_data, takes="saya{sv}", gives="s", names=("to", "data", "options", "bundle")),
            ),
            "send_file": (
                Method(self.send_file, takes="ss", gives="s", names=("to", "path", "bundle")),
                Method(self.send_file, takes="ssa{sv}", gives="s", names=("to", "path", "options", "bundle")),
            ),
            "send_fd": (
                Method(self.send_fd, takes="sh", gives="s", names=("to", "file", "bundle")),
                Method(self.send_fd, takes="sha{sv}", gives="s", names=("to", "file", "options", "bundle")),
            ),
            "register": Method(self.register, takes="s", gives="s", names=("demux", "endpoint")),
            "unregister": Method(self.unregister, takes="s", names=("demux",)),
            "recv_get_queue": Method(self.queue, gives="as", names=("ids",)),
            "recv_pop_data": Method(self.pop_data, takes="s", gives="ay", names=("id", "data")),
            "recv_pop_file": Method(self.pop_file, takes="ss", names=("id", "path")),
            "recv_pop_fd": Method(self.pop_fd, takes="sh", names=("id", "file")),
        }
        return (Interface(DATA, methods, {"adu_received": "ssst"}),)

    async def close(self) -> None:
        """Nobody asks any more: what was not popped waits for the next one."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)
        for registration in self._open.values():
            registration.close()

    # ---- out ----------------------------------------------------------------------------------------------------------

    async def send_data(self, _call: Call, to: str, data: bytes, options: Options | None = None) -> str:
        """The identity of the bundle, once it is stored."""
        adu = adu_of(to, options)
        return await self._send(adu._replace(payload=self._payload(data)))

    async def send_file(self, call: Call, to: str, path: str, options: Options | None = None) -> str:
        """The same for a file, which the agent opens."""
        await require_own_user(call, "send_fd", self._files)
        return await self._send_open(adu_of(to, options), open_file(path))

    async def send_fd(self, call: Call, to: str, index: int, options: Options | None = None) -> str:
        """The same for an open file, from its beginning."""
        return await self._send_open(adu_of(to, options), take_file(call, index))

    async def _send_open(self, adu: Adu, file: int) -> str:
        try:
            payload = await self._copied(file)
        finally:
            os.close(file)
        return await self._send(adu._replace(payload=payload))

    async def _send(self, adu: Adu) -> str:
        return await send(self._agent, adu, WAIT_S, lambda _: None)

    def _payload(self, data: bytes) -> Payload:
        if len(data) < FILE_PAYLOAD_OCTETS:
            return Octets(data)
        writer = self._agent.writer()
        try:
            writer.write(data)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    async def _copied(self, file: int) -> Payload:
        data = await asyncio.to_thread(os.pread, file, PIECE_OCTETS, 0)
        if len(data) < FILE_PAYLOAD_OCTETS:
            return Octets(data)
        writer = self._agent.writer()
        offset = 0
        try:
            while data:
                writer.write(data)
                offset += len(data)
                data = await asyncio.to_thread(os.pread, file, PIECE_OCTETS, offset)
            return writer.finish()
        except BaseException:
            writer.abort()
            raise

    # ---- in -----------------------------------------------------------------------------------------------------------

    def register(self, _call: Call, demux: str) -> str:
        """Take ADUs for this endpoint from now on; adu_received tells of each. Its EID; once more changes nothing."""
        registration = self._open.get(demux)
        if registration is None:
            box = _Mailbox(self._arrived)
            registration = self._open[demux] = service(self._agent, "endpoints", Endpoints).open(demux, box)
        return registration.eid

    def unregister(self, _call: Call, demux: str) -> None:
        """Take no more. What was not popped stays stored, and waits for the next one."""
        registration = self._open.get(demux)
        if registration is None:
            raise BusError(ErrorName.INVALID_ARGS, f"the endpoint {demux!r} is not registered here")
        if self._writing.keys() & registration.out.keys():
            raise BusError(ErrorName.FAILED, f"an ADU of {demux!r} is being popped: try again when it is")
        del self._open[demux]
        registration.close()

    def _arrived(self, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            told = str(each.destination), str(each.seq), str(each.source), each.payload.length
            self._emit(DATA_PATH, DATA, "adu_received", *told)

    def queue(self, _call: Call) -> list[str]:
        """Numbers of the ADUs that wait, the oldest first for each endpoint."""
        return [
            str(seq) for registration in self._open.values() for seq in registration.out if seq not in self._writing
        ]

    def pop_data(self, _call: Call, number: str) -> bytes:
        """The payload; the node forgets it."""
        registration, delivery = self._waiting(number)
        if delivery.payload.length > MESSAGE_OCTETS:
            raise BusError(
                ErrorName.FAILED,
                f"ADU {number} has {delivery.payload.length} octets: take it by recv_pop_fd or recv_pop_file",
            )
        data = registration.read(delivery)
        registration.done([delivery.seq])
        return data

    async def pop_file(self, call: Call, number: str, path: str) -> None:
        """The payload as a new file, which is there when it is whole; the node forgets it."""
        await require_own_user(call, "recv_pop_fd", self._files)
        await self._pop(*self._waiting(number), partial(self._write_new, path))

    async def pop_fd(self, call: Call, number: str, index: int) -> None:
        """The payload written into an open file, from its beginning; the node forgets it."""
        waiting = self._waiting(number)
        await self._pop(*waiting, partial(self._write_open, take_file(call, index)))

    async def _pop(self, registration: Registration, delivery: Delivery, write: Callable[[Payload], None]) -> None:
        """Once begun it goes to its end, whether or not the caller is still there: a thread cannot be stopped."""
        writing = asyncio.get_running_loop().run_in_executor(None, write, delivery.payload)
        self._writing[delivery.seq] = writing
        writing.add_done_callback(partial(self._written, registration, delivery.seq))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            raise BusError(
                ErrorName.FAILED, f"ADU {delivery.seq} could not be written, and stays: {error.strerror}"
            ) from error

    def _written(self, registration: Registration, seq: int, writing: asyncio.Future[None]) -> None:
        del self._writing[seq]
        if writing.exception() is None:
            registration.done([seq])

    def _waiting(self, number: str) -> tuple[Registration, Delivery]:
        seq = int(number) if number.isdecimal() and number.isascii() else -1
        for registration in self._open.values():
            if seq in registration.out and seq not in self._writing:
                return registration, registration.out[seq]
        raise BusError(ErrorName.INVALID_ARGS, f"no ADU {number!r} waits here: recv_get_queue lists those that do")

    def _write(self, file: int, payload: Payload) -> None:
        """In a thread."""
        for offset in range(0, payload.length, PIECE_OCTETS):
            rest = memoryview(self._agent.read_payload(payload, offset, PIECE_OCTETS))
            while rest:
                count = os.pwrite(file, rest, offset)
                offset, rest = offset + count, rest[count:]

    def _write_open(self, file: int, payload: Payload) -> None:
        """In a thread, which closes the file."""
        try:
            self._write(file, payload)
        finally:
            os.close(file)

    def _write_new(self, path: str, payload: Payload) -> None:
        """In a thread. A file of that name that is there already is not touched."""
        target = Path(path)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.") as part:
            self._write(part.fileno(), payload)
            os.link(part.name, target)


def adu_of(to: str, options: Options | None) -> Adu:
    """An ADU without payload, as the options have it. Raises: MalformedError, ConfigError, BusError."""
    given = {name: variant.value for name, variant in (options or {}).items()}
    if unknown := given.keys() - _OPTIONS.keys():
        raise ConfigError(f"{min(unknown)} is no option; {did_you_mean(min(unknown), _OPTIONS)}")
    for name, value in given.items():
        if not isinstance(value, _OPTIONS[name]) or isinstance(value, bool) != (_OPTIONS[name] is bool):
            raise ConfigError(f"option {name}: this is {value!r}, and must be {_OPTIONS[name].__name__}")
    lifetime_s = given.get("lifetime_s", 86_400.0)
    if not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise ConfigError(f"option lifetime_s: write seconds, more than 0 and at most {MAX_LIFETIME_S:.0f}")
    return Adu(
        Eid.parse(to),
        Octets(b""),
        source_demux=given.get("source", ""),
        lifetime_ms=round(lifetime_s * 1000),
        report_to=Eid.parse(given["report_to"]) if "report_to" in given else None,
        report_flags=BundleFlags.REPORTS if given.get("reports") else 0,
    )

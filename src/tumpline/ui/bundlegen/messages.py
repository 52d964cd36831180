"""`tcpcl-messagegen`: random valid TCPCLv4 messages both ways over loopback, for dissectors to look at.

They make no session: a segment need not belong to a transfer, nor an acknowledgement to a segment. What each end reads must
be what the other one wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from tumpline.errors import MalformedError, TumplineError
from tumpline.ui.bundlegen.arguments import DEFAULT_PORT, LEVELS, count_from, port_from
from tumpline.ui.bundlegen.links import HOST
from tumpline.wire.generate_tcpcl4 import Message, decode_message_untrusted, draw_message
from tumpline.wire.tcpcl4 import CONTACT_OCTETS, VERSION, ContactHeader, encode_contact

_READ_OCTETS: Final = 1 << 16
_HANG_S: Final = 20.0
_CONTACT: Final = encode_contact(ContactHeader(VERSION, 0))


class DifferentError(TumplineError):
    """A message was read otherwise than it was written."""


def tcpcl() -> NoReturn:
    """The script `tcpcl-messagegen`."""
    sys.exit(main(None))


def main(argv: Sequence[str] | None) -> int:
    """One run; `argv` None is the process's. Returns: its exit code."""
    given = _parser().parse_args(argv)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    failures: list[str] = []
    try:
        asyncio.run(_exchange(given.gencount, seed, given.port))
    except* (TumplineError, OSError) as group:
        failures += _sentences(group)
    if failures:
        print(f"tcpcl-messagegen: {failures[0]}; seed {seed}", file=sys.stderr)
        return 1
    print(f"{given.gencount} messages each way, all read as they were written; seed {seed}", flush=True)
    return 0


def _sentences(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [line for each in error.exceptions for line in _sentences(each)]
    return [str(error) or type(error).__name__]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcpcl-messagegen", description="Random valid TCPCLv4 messages over loopback."
    )
    parser.add_argument("gencount", nargs="?", type=count_from, default=100, help="how many each way (default 100)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="the same one gives the same messages (default: by chance)"
    )
    parser.add_argument("--port", type=port_from, default=DEFAULT_PORT, metavar="N", help="0: any (default 4556)")
    parser.add_argument("--log-level", type=str.lower, choices=LEVELS, default="warning", help="nothing is logged")
    return parser


async def _exchange(count: int, seed: int, port: int) -> None:
    """Raises: DifferentError, MalformedError, OSError (also when it takes too long); in a group."""
    forth, back = (_drawn(count, seed + end) for end in range(2))
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), HOST, port)
    async with server, asyncio.timeout(_HANG_S), asyncio.TaskGroup() as tasks:
        active = await asyncio.open_connection(*server.sockets[0].getsockname())
        passive = await accepted.get()
        tasks.create_task(_speak(*active, forth, back), name="active end")
        tasks.create_task(_speak(*passive, back, forth), name="passive end")


def _drawn(count: int, seed: int) -> list[Message]:
    chance = random.Random(seed)
    return [draw_message(chance) for _ in range(count)]


async def _speak(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ours: list[Message], theirs: list[Message]
) -> None:
    """Write ours, read theirs."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write(writer, ours), name="writing")
            tasks.create_task(_read(reader, theirs), name="reading")
    finally:
        writer.close()
        await writer.wait_closed()


async def _write(writer: asyncio.StreamWriter, messages: list[Message]) -> None:
    writer.write(_CONTACT)
    for message in messages:
        writer.write(message.encode())
        await writer.drain()
    writer.write_eof()


async def _read(reader: asyncio.StreamReader, expected: list[Message]) -> None:
    """Raises: DifferentError, MalformedError."""
    await reader.readexactly(CONTACT_OCTETS)
    rest = b""
    for number, message in enumerate(expected):
        while (found := decode_message_untrusted(memoryview(rest))) is None:
            more = await reader.read(_READ_OCTETS)
            if not more:
                raise MalformedError(f"the octets end in message {number}")
            rest += more
        if found[0] != message:
            raise DifferentError(f"message {number} came as {found[0]}, it was {message}")
        rest = rest[found[1] :]

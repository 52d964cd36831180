"""Links between network interfaces that misbehave as told: `python -m tumpline.drivers.impair`, one process for many.

Each joins two interfaces; what comes in at one goes out at the other, through a `machines.impairment` for each direction.
Standard input takes lines of JSON, each is answered by one on standard output:

- `[{"a": "eth1", "b": "eth2", "ab": {"delay": "20 ms"}, "ba": {"loss": 0.01}}, ...]`: join these (ab: from a to b).
- `{"a": "eth1", "b": "eth2", "ab": {...}}`: from now on this; a direction that is not named stays as it is.
- `{"statistics": true}`: the counters of all links.

The answer is `{"links": N}`, `{"statistics": [...]}`, or `{"error": "..."}`, after which all is as it was. The process ends
when standard input is closed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from tumpline.drivers.offloads import turn_off_offloads
from tumpline.drivers.packet_port import PacketPort
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.impairment import Chance, ImpairedLink, Impairment
from tumpline.machines.impairment_text import parse_impairment

# A line of a thousand links; whoever sends more without a line's end sends no JSON.
LINE_OCTETS_MOST: Final = 1 << 20
# A link delays packets of others: it comes before them where that is allowed.
NICENESS: Final = -10


class LinkSpec(msgspec.Struct, forbid_unknown_fields=True):
    """A link as it is written; the impairments are read by `parse_impairment`."""

    a: str
    b: str
    ab: dict[str, Any] | None = None
    ba: dict[str, Any] | None = None


class Direction(NamedTuple):
    """Frames that come in at `source` go out at `target`."""

    source: PacketPort
    target: PacketPort
    link: ImpairedLink


class Links:
    """All links of the process, and the loop that carries their frames."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._directions: dict[tuple[str, str], Direction] = {}  # by the names of source and target
        self._by_fd: dict[int, Direction] = {}
        self._epoll = select.epoll()

    def __len__(self) -> int:
        return len(self._directions) // 2

    # ---- links ------------------------------------------------------------------------------------------------------

    def join(self, specs: list[LinkSpec]) -> None:
        """All of them, or none. Raises: ConfigError."""
        impairments = [(_impairment(spec, "ab"), _impairment(spec, "ba")) for spec in specs]
        ports: dict[str, PacketPort] = {}
        try:
            for spec in specs:
                for ifname in (spec.a, spec.b):
                    ports[ifname] = self._open(ifname, ports)
        except TumplineError:
            for port in ports.values():
                port.close()
            raise
        for spec, (ab, ba) in zip(specs, impairments, strict=True):
            self._add(ports[spec.a], ports[spec.b], ab)
            self._add(ports[spec.b], ports[spec.a], ba)

    def _open(self, ifname: str, others: dict[str, PacketPort]) -> PacketPort:
        if ifname in others or any(ifname in names for names in self._directions):
            raise ConfigError(f"interface {ifname} belongs to two links; give each its own")
        try:
            turn_off_offloads(ifname)
            return PacketPort(ifname)
        except OSError as error:
            why = f"interface {ifname} cannot be joined: {error.strerror}"
            raise ConfigError(f"{why}; name one of this network namespace, as root in it") from None

    def _add(self, source: PacketPort, target: PacketPort, impairment: Impairment) -> None:
        direction = Direction(source, target, ImpairedLink(impairment, self._chance))
        self._directions[source.ifname, target.ifname] = self._by_fd[source.fileno()] = direction
        self._epoll.register(source.fileno(), select.EPOLLIN)

    def change(self, spec: LinkSpec, now: float) -> None:
        """Other impairments for a link that there is. Raises: ConfigError."""
        if (spec.a, spec.b) not in self._directions:
            raise ConfigError(f"no link joins {spec.a} and {spec.b}; join them first, in a list")
        ab, ba = _impairment(spec, "ab"), _impairment(spec, "ba")
        if spec.ab is not None:
            self._directions[spec.a, spec.b].link.change(ab, now)
        if spec.ba is not None:
            self._directions[spec.b, spec.a].link.change(ba, now)

    def statistics(self) -> list[dict[str, Any]]:
        """The counters of each direction, and those of the port where it begins."""
        return [
            {
                "from": source,
                "to": target,
                **asdict(direction.link.counts),
                "held": direction.link.held,
                "port": asdict(direction.source.look()),
            }
            for (source, target), direction in self._directions.items()
        ]

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def run(self, commands: int) -> None:
        """Carry frames, and do what the lines from this file descriptor say, until its end. Raises: ConfigError."""
        try:
            self._epoll.register(commands, select.EPOLLIN)
        except PermissionError:
            raise ConfigError("standard input takes commands line by line: give it a pipe") from None
        lines = _Lines(commands)
        while True:
            # epoll's own time-out counts milliseconds, that of select microseconds.
            select.select([self._epoll], [], [], self._wait_s())
            for fd, events in self._epoll.poll(0):
                if fd == commands:
                    if not self._obey(lines):
                        return
                else:
                    self._receive(self._by_fd[fd], events)
            self._send(time.monotonic())

    def _wait_s(self) -> float | None:
        deadlines = [at for d in self._directions.values() if (at := d.link.next_timeout()) is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _receive(self, direction: Direction, events: int) -> None:
        if events & select.EPOLLERR:
            direction.source.clear_error()
        for at, frames in direction.source.receive(time.monotonic()):
            direction.link.receive(frames, at)

    def _send(self, now: float) -> None:
        for direction in self._directions.values():
            at = direction.link.next_timeout()
            if at is not None and at <= now:
                direction.target.send(direction.link.due(now))

    def _obey(self, lines: _Lines) -> bool:
        """Do what has been written; False at its end."""
        for line in lines.read():
            answer = msgspec.json.encode(self._answer(line))
            sys.stdout.buffer.write(answer + b"\n")
            sys.stdout.buffer.flush()
        return not lines.is_over

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            said = msgspec.json.decode(line)
            if said == {"statistics": True}:
                return {"statistics": self.statistics()}
            if isinstance(said, list):
                self.join(msgspec.convert(said, list[LinkSpec]))
            else:
                self.change(msgspec.convert(said, LinkSpec), time.monotonic())
        except (msgspec.MsgspecError, UnicodeDecodeError, TumplineError) as error:
            return {"error": str(error).replace("\n", "; ")}
        return {"links": len(self)}

    def close(self) -> None:
        """Give back all ports; what was under way is gone."""
        for direction in self._directions.values():
            direction.source.close()
        self._epoll.close()


class _Lines:
    """What comes over a file descriptor, line by line."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self.is_over = False

    def read(self) -> list[bytes]:
        octets = os.read(self._fd, 1 << 16)
        self.is_over = not octets
        *lines, rest = (self._rest + octets).split(b"\n")
        self._rest = rest[:LINE_OCTETS_MOST]  # the rest of what is too long is nothing that could be understood
        return [line for line in lines if line.strip()]


def _impairment(spec: LinkSpec, direction: str) -> Impairment:
    try:
        return parse_impairment(getattr(spec, direction) or {})
    except ConfigError as error:
        where = f"{spec.a} {'to' if direction == 'ab' else 'from'} {spec.b}"
        raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from None


def _be_prompt() -> None:
    """Wake at the microsecond, not within the 50 µs that Linux allows itself, and never stop to look for garbage."""
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    gc.disable()  # the loop makes no cycles


def main() -> None:
    """Until standard input ends. A network does not end because somebody pressed Ctrl-C in it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_prompt()
    links = Links(Random().random)
    try:
        links.run(sys.stdin.fileno())
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Nobody reads the answers any more: whoever started us is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        links.close()


if __name__ == "__main__":
    main()

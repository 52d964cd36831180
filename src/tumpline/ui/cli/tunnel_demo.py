"""`tumpline tunnel demo`: a broker, a router, two agents in two networks that do not see each other, and what crosses."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from tumpline.errors import NoAnswerError, TumplineError
from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.lab.processes import end_inside, only_child
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output, duration, table
from tumpline.ui.cli.tunnel_status import status_lines

HUB: Final = "10.99.0.1"
URL: Final = f"amqp://demo:demo@{HUB}/"
SITES: Final = {"alice": "bbbb::1", "bob": "bbbb::2"}
PINGS: Final = 10
GREETING: Final = "hello from bob"
TUN: Final = "/dev/net/tun"
CAPTURE: Final = "tunnel-demo.pcapng"
_TUMPLINE: Final = (sys.executable, "-m", "tumpline")
_COAP: Final = (sys.executable, "-m", "tumpline.ui.cli._coap")
_STEP_S: Final = 30.0  # far more than any step takes; a demo that hangs must end
# Each site reaches the hub and nobody else: bridges would let them see each other.
_LAB: Final = {
    "nets": {"left": {"subnet4": "10.99.0.0/30"}, "right": {"subnet4": "10.99.0.4/30"}},
    "nodes": {"hub": {"nets": ["left", "right"]}, "alice": {"nets": ["left"]}, "bob": {"nets": ["right"]}},
}


class Step(NamedTuple):
    """A line of the table."""

    step: str
    seen: str
    seconds: float


class Demo:
    """The run and what was seen in it."""

    def __init__(self, output: Output, lab: Lab, directory: Path) -> None:
        self._output = output
        self._lab = lab
        self._directory = directory
        self._programs: list[_Program] = []
        self._begin = time.monotonic()
        self.steps: list[Step] = []

    def run(self) -> None:
        """All steps. Raises: TumplineError when something is not as it should be."""
        self._step("three networks", "alice and bob reach the hub, and nobody else")
        self._apart()
        users = self._directory / "users"
        users.write_text("demo:demo\n")
        self._start("hub", "broker", "--listen", ":5672", "--users", str(users))
        self._step("a broker on the hub", "tumpline broker: the embedded one, no RabbitMQ")
        self._start("hub", "router", "--url", URL, "--name", "hub")
        self._step("a packet router beside it", "tumpline router")
        for site, address in SITES.items():
            self._join(site, address)
        self._ping()
        self._coap()
        self._show()

    def end(self) -> None:
        """Programs leave in order, so that what they wrote is whole."""
        for program in reversed(self._programs):
            program.end()

    def _step(self, step: str, seen: str) -> None:
        now = time.monotonic()
        self.steps.append(Step(step, seen, round(now - self._begin, 3)))
        self._begin = now
        self._output.note(f"{step}: {seen}")

    # ---- what is started --------------------------------------------------------------------------------------------

    def _apart(self) -> None:
        """Without the overlay, the sites do not reach each other."""
        there = self._lab.addresses("bob")[0]
        if self._lab.exec("alice", ["ping", "-c", "1", "-W", "1", there]).returncode == 0:
            raise TumplineError(f"alice reaches {there} without the overlay: that shows nothing")

    def _start(self, node: str, *command: str) -> dict[str, Any]:
        """A command of ours that says when it is ready; what it says then."""
        log = self._directory / f"{node}-{command[0]}.log"
        program = _Program(self._lab, node, [*command, "--json"], log)
        self._programs.append(program)
        return program.await_ready()

    def _join(self, site: str, address: str) -> None:
        hub = self._lab.addresses("hub", "left" if site == "alice" else "right")[0]
        options = ["--url", URL.replace(HUB, hub), "--name", site, "--address", f"{address}/64"]
        options += ["--dump", str(self._directory / CAPTURE)] if site == "alice" else []
        ready = self._start(site, "tunnel", "connect", *options)
        port = ready["ports"][0]["name"]
        self._step(f"{site} joins", f"tumpline tunnel connect --name {site} --address {address}/64: interface {port}")

    # ---- what crosses -----------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        command = ["ping", "-c", str(PINGS), "-i", "0.2", "-W", "2", SITES["bob"]]
        found = self._lab.exec("alice", command, timeout=_STEP_S).stdout
        times = [float(word.removeprefix("time=")) for word in found.split() if word.startswith("time=")]
        if len(times) < PINGS - 1:  # the first may be asked before the two know each other
            raise TumplineError(f"{len(times)} of {PINGS} pings were answered:\n{found}")
        median = duration(statistics.median(times) / 1000)
        self._step(f"ping {SITES['bob']} at alice", f"{len(times)} of {PINGS} answered, median {median}")

    def _coap(self) -> None:
        """A constrained server at bob's, and who asks it at alice's."""
        server = self._lab.start("bob", [*_COAP, "serve", SITES["bob"], GREETING], stdout=subprocess.PIPE)
        try:
            if not _Lines(server.stdout).next():
                raise NoAnswerError("the CoAP server did not start")
            asked = self._lab.exec("alice", [*_COAP, "get", SITES["bob"], "greeting"])
        finally:
            end_inside(server)
        if asked.stdout.strip() != GREETING:
            raise TumplineError(f"CoAP brought {asked.stdout!r}: {asked.stderr.strip()}")
        self._step(f"GET coap://[{SITES['bob']}]/greeting at alice", f"2.05 Content: {GREETING!r}")

    def _show(self) -> None:
        """What alice's agent knows."""
        shown = self._lab.exec("alice", [*_TUMPLINE, "tunnel", "status", "--name", "alice", "--json"])
        for line in status_lines(json.loads(shown.stdout)["agents"], self._output):
            self._output.note(f"    {line}")


class _Program:
    """A command of ours in a node."""

    def __init__(self, lab: Lab, node: str, command: Sequence[str], log: Path) -> None:
        self._what = f"tumpline {command[0]}"
        self._log = log
        with log.open("w") as errors:
            self._process = lab.start(node, [*_TUMPLINE, *command], stdout=subprocess.PIPE, stderr=errors)

    def await_ready(self) -> dict[str, Any]:
        """Its `ready` event. Raises: TumplineError with what it said."""
        lines, deadline, last = _Lines(self._process.stdout), time.monotonic() + _STEP_S, "nothing"
        while time.monotonic() < deadline and (line := lines.next()):
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == "ready":
                return event
            last = line
        raise TumplineError(f"{self._what} did not start; it said: {self._log.read_text().strip() or last}")

    def end(self) -> None:
        """As Ctrl-C would. To the program itself: nsenter, which waits for it, passes no signals on."""
        inside = only_child(self._process.pid)
        if self._process.poll() is None:
            os.kill(inside or self._process.pid, signal.SIGINT)
        self._process.communicate(timeout=_STEP_S)


class _Lines:
    """Of a program's output, as they come. (A file's buffer would hide lines from whoever waits for the descriptor.)"""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._rest = b""

    def next(self) -> str:
        """ "" at the end, or when none comes in time."""
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._stream], [], [], _STEP_S)
            octets = os.read(self._stream.fileno(), 1 << 16) if ready else b""
            if not octets:
                return ""
            self._rest += octets
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def demo(*, capture: Path = Path(CAPTURE), common: Common = DEFAULT) -> int:
    """Run the demonstration: no Docker, no RabbitMQ, no root; everything but the capture is removed afterwards.

    Parameters
    ----------
    capture
        Where to leave what crossed, for Wireshark.
    """
    output = Output(common)
    if not os.access(TUN, os.R_OK | os.W_OK):
        raise TumplineError(f"{TUN} is not open to you: as root, chmod 666 {TUN} (as udev has it), or run this as root")
    lab = Lab.of(json.dumps(_LAB), name=unique("tunnel-demo"))
    with tempfile.TemporaryDirectory(prefix="tumpline-tunnel-demo-") as name, lab:
        run = Demo(output, lab, Path(name))
        try:
            run.run()
        finally:
            run.end()
        shutil.copyfile(Path(name) / CAPTURE, capture)
    rows = [(step.step, step.seen, duration(step.seconds)) for step in run.steps]
    lines = [*table(("STEP", "SEEN", "TIME"), rows), f"what crossed: wireshark {capture}"]
    output.result({"ok": True, "capture": str(capture), "steps": [step._asdict() for step in run.steps]}, lines)
    return 0

"""Two nodes, "a" and "b", in namespaces of their own, joined by nothing but the process that impairs links."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tumpline.lab.holder import Holder, environment
from tumpline.lab.processes import only_child

HANG_S = 60.0
ADDRESSES = {"a": "10.9.0.1", "b": "10.9.0.2"}
PACKAGES = {"ping": "iputils-ping", "iperf3": "iperf3", "ethtool": "ethtool"}


class Pinged(NamedTuple):
    """What ping said; times in seconds."""

    sent: int
    received: int
    least_s: float
    mean_s: float


class Pair:
    """A context manager. `ab` is done to frames from a to b, in the words of `parse_impairment`."""

    def __init__(self, directory: Path, ab: Mapping[str, Any], ba: Mapping[str, Any], *, mtu: int = 1500) -> None:
        self._directory = directory
        self._spec = {"a": "pa", "b": "pb", "ab": ab, "ba": ba}
        self._mtu = mtu
        self.holder: Holder
        self.process: subprocess.Popen[str]
        self.complaint = ""  # what the process had said on standard error when it ended
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            self.holder = Holder.start(self._directory)
            ends.callback(self.holder.stop)
            for name in ADDRESSES:
                self._add(name)
            self.process = ends.enter_context(self._start())
            ends.callback(self._close_pipes)
            joined = self.tell([self._spec])
            assert joined == {"links": 1}, joined
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def _add(self, name: str) -> None:
        hosts = self._directory / f"hosts-{name}"
        hosts.touch()
        self.holder.add_node(name, hosts, hosts, forward=False)
        pid, mtu = self.holder.nodes[name], self._mtu
        link = f"link add p{name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pid}\nlink set p{name} up\n"
        self.holder.run(None, ["ip", "-batch", "-"], link)
        self.holder.run(name, [sys.executable, "-m", "tumpline.drivers.offloads", "eth0"])
        inside = f"address add {ADDRESSES[name]}/24 dev eth0\nlink set eth0 up\n"
        self.holder.run(name, ["ip", "-batch", "-"], inside)

    def _start(self) -> subprocess.Popen[str]:
        command = self.holder.command(None, [sys.executable, "-m", "tumpline.drivers.impair"])
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="surrogateescape", env=environment()
        )

    def _close_pipes(self) -> None:
        """Its input ends, and so does it."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        self.complaint = self.process.stderr.read()

    # ---- the process that impairs -----------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the process itself, not of the one that waits for it outside."""
        return only_child(self.process.pid)

    def say(self, line: str) -> dict[str, Any]:
        """One line to it, and its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def tell(self, what: object) -> dict[str, Any]:
        """As JSON."""
        return self.say(json.dumps(what))

    def change(self, **directions: Mapping[str, Any]) -> None:
        """From now on other impairments: `ab`, `ba` or both."""
        answer = self.tell({"a": "pa", "b": "pb"} | directions)
        assert answer == {"links": 1}, answer

    def counts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """From a to b, and back."""
        ab, ba = self.tell({"statistics": True})["statistics"]
        return ab, ba

    # ---- what runs in the nodes -------------------------------------------------------------------------------------

    def run(self, node: str, argv: Sequence[str]) -> str:
        """To the end; what it printed. A failure is an AssertionError that tells what it said."""
        done = subprocess.run(
            self._command(node, argv),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def ping(self, count: int, interval_s: float = 0.05, size: int = 56) -> Pinged:
        """From a to b. An echo more goes before, which finds the neighbour's address."""
        target = ADDRESSES["b"]
        self._await_answer(target)
        command = ["ping", "-q", "-c", str(count), "-i", str(interval_s), "-s", str(size), "-W", "5", target]
        # Exit code 1: some did not come back, which may be as it should.
        text = self.run("a", ["sh", "-c", '"$@" || [ $? = 1 ]', "sh", *command])
        sent, received = map(int, _found(r"(\d+) packets transmitted, (\d+) received", text))
        least, mean = _found(r"= ([\d.]+)/([\d.]+)/", text) if received else ("inf", "inf")
        return Pinged(sent, received, float(least) / 1000, float(mean) / 1000)

    def _await_answer(self, target: str) -> None:
        self.run("a", ["ping", "-q", "-c", "1", "-w", "30", target])

    def iperf(self, *options: str) -> dict[str, Any]:
        """From a to b; the `end` of its report."""
        server = subprocess.Popen(
            self._command("b", ["iperf3", "-s", "-1", "--forceflush"]),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "listening" in line:
                    break
            report = json.loads(self.run("a", ["iperf3", "-c", ADDRESSES["b"], "-J", *options]))
            server.communicate()
        finally:
            server.kill()  # after a failure it would wait for a client
            server.wait()
        end: dict[str, Any] = report["end"]
        return end

    def _command(self, node: str, argv: Sequence[str]) -> list[str]:
        program = argv[0]
        if program in PACKAGES and shutil.which(program, path=environment()["PATH"]) is None:
            raise AssertionError(f"{program} is not installed: apt-get install {PACKAGES[program]}")
        return self.holder.command(node, argv)


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    assert match is not None, text
    return match.groups()

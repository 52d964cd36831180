"""Frames of a net as pcapng: dumpcap or tcpdump in the switch, where the net's bridge is."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from tumpline.errors import TumplineError
from tumpline.lab.agent_config import KEY_LOG
from tumpline.lab.holder import environment
from tumpline.lab.links import bridge_of
from tumpline.lab.processes import end_inside
from tumpline.node.config.model import DEFAULT_PORT
from tumpline.node.registry import did_you_mean

if TYPE_CHECKING:
    from tumpline.lab.api import Lab

_POLL_S = 0.2
_TSHARK_S = 60.0


def capture_command(lab: Lab, net: str, duration_s: float | None = None) -> list[str]:
    """What to run in the switch: it writes to standard output until it is interrupted. Raises: TumplineError."""
    if net not in lab.file.nets:
        raise TumplineError(f"there is no net {net!r}; {did_you_mean(net, lab.file.nets)}")
    path = environment()["PATH"]
    if shutil.which("dumpcap", path=path) is not None:
        until = [] if duration_s is None else ["-a", f"duration:{duration_s:g}"]
        return ["dumpcap", "-q", "-i", bridge_of(net), *until, "-w", "-"]
    if shutil.which("tcpdump", path=path) is not None:
        until = [] if duration_s is None else ["timeout", "-s", "INT", f"{duration_s:g}"]
        # Packet by packet, and without changing to a user that this namespace may not know.
        return [*until, "tcpdump", "-U", "-Z", "root", "-i", bridge_of(net), "-w", "-"]
    raise TumplineError("a capture needs dumpcap or tcpdump; install: apt-get install wireshark-common")


class Found(NamedTuple):
    """What tshark decoded."""

    bundles: int
    malformed: int


class Recording:
    """Frames of a net while the block lasts, in a file of the laboratory. Raises: TumplineError: it cannot begin."""

    def __init__(self, lab: Lab, net: str) -> None:
        self._lab = lab
        self.path = lab.directory / "captures" / f"{net}-{secrets.token_hex(4)}.pcapng"
        self._command = capture_command(lab, net)

    def __enter__(self) -> Self:
        with self.path.open("wb") as target:
            self._process = self._lab.start(None, self._command, stdout=target, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        # Both programs say so once the kernel has begun to hand over frames.
        said = []
        for line in self._process.stderr:
            said.append(line)
            if line.startswith(("File:", "tcpdump: listening")):
                return self
        self._end()
        raise TumplineError(f"nothing can be captured: {' '.join(''.join(said).split())}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        end_inside(self._process)

    def await_bundles(self, count: int, wait_s: float, display_filter: str = "") -> Found:
        """Decode what has come until so many bundles are in it: the kernel hands frames over in blocks, late."""
        end = time.monotonic() + wait_s
        while True:
            found = self._decode(display_filter)
            if found.bundles >= count or time.monotonic() > end:
                return found
            time.sleep(_POLL_S)

    def _decode(self, display_filter: str) -> Found:
        shown = f"bpv7 and ({display_filter})" if display_filter else "bpv7"
        bundles = [each for line in self._fields(shown, "bpv7.primary.dst_uri") for each in line.split("|") if each]
        return Found(len(bundles), len(self._fields("_ws.malformed", "frame.number")))

    def _fields(self, display_filter: str, field: str) -> list[str]:
        command = ["tshark", "-n", "-r", str(self.path), "-d", f"tcp.port=={DEFAULT_PORT},tcpcl"]
        key_log = self._lab.directory / "keys" / KEY_LOG
        if key_log.exists():
            command += ["-o", f"tls.keylog_file:{key_log}"]
        command += ["-Y", display_filter, "-T", "fields", "-e", field, "-E", "aggregator=|", "-E", "occurrence=a"]
        try:
            # A file that is being written ends in the middle of a frame: tshark says so (exit code 2), after all before it.
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TSHARK_S, check=False)
        except FileNotFoundError as error:
            raise TumplineError("tshark is missing; install: apt-get install tshark") from error
        return [line for line in done.stdout.splitlines() if line]

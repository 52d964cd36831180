"""udpcl: the highest paced rate at which nothing is lost, from one UDPCL endpoint to another over loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, throughput
from tumpline.bench.framework.certificates import Certificates
from tumpline.errors import TumplineError

SMALL, LARGE = 100, 60_000  # octets of a payload
SOURCE, SINK = "ground", "rover"
FIRST_PER_S = {SMALL: 40_000.0, LARGE: 3_000.0}
QUICK_S = 0.8
SETTLE_S = 0.1  # for what is still on its way
KEEPS_PACE = 0.95  # of the rate asked for; a source that falls behind has found its own limit
CONFIRM_TRIES = 2
STEP_UP, STEP_DOWN = 1.5, 0.9
_HALVINGS = 3  # of what lies between a rate that was good and one that was not
_OURS, _PLAIN = "tumpline.bench.framework.udpcl_ends", "tumpline.bench.limits.udp"


class Trial(NamedTuple):
    """Some seconds at one rate."""

    asked_per_s: float
    per_s: float
    lost: int
    facts: dict[str, int]  # buffers and the like, as told by the ends

    @property
    def is_good(self) -> bool:
        """Nothing was lost."""
        return self.lost == 0

    @property
    def is_spent(self) -> bool:
        """The source could not send faster."""
        return self.per_s < KEEPS_PACE * self.asked_per_s


class Trials(Protocol):
    """What can be tried at a rate."""

    def trial(self, per_s: float, seconds: float) -> Trial: ...


class Ends:
    """A source and a sink that run."""

    def __init__(self, source: subprocess.Popen[str], sink: subprocess.Popen[str]) -> None:
        self._source, self._sink = source, sink

    def trial(self, per_s: float, seconds: float) -> Trial:
        """Send at this rate for so long, and see what came."""
        count = max(1, int(per_s * seconds))
        sent = _ask(self._source, {"count": count, "per_s": per_s})
        time.sleep(SETTLE_S)
        came = _ask(self._sink, {})
        if came["damaged"]:
            raise TumplineError(f"{came['damaged']} bundles came altered")
        facts = {
            key: value for key, value in (sent | came).items() if key in ("receive_buffer", "send_buffer", "datagram")
        }
        return Trial(per_s, count / sent["seconds"], count - came["distinct"], facts)


def search(ends: Trials, first_per_s: float, seconds: float) -> Trial:
    """The best trial without loss over `seconds`: candidates are found by shorter ones."""
    short_s = seconds / 5
    good, bad = first_per_s / 8, 0.0
    rate = first_per_s
    while not bad:
        trial = ends.trial(rate, short_s)
        if trial.is_good and not trial.is_spent:
            good, rate = rate, rate * STEP_UP
        elif trial.is_good:
            good, bad = trial.per_s, rate
        else:
            bad = rate
    for _ in range(_HALVINGS):
        rate = (good * bad) ** 0.5
        trial = ends.trial(rate, short_s)
        good, bad = (rate, bad) if trial.is_good and not trial.is_spent else (good, rate)
    return _confirm(ends, good, seconds)


def _confirm(ends: Trials, rate: float, seconds: float) -> Trial:
    """Over the whole time, slower and slower until nothing is lost; twice each, for the machine has other work too."""
    while True:
        for _ in range(CONFIRM_TRIES):
            trial = ends.trial(rate, seconds)
            if trial.is_good:
                return trial
        rate *= STEP_DOWN


def run(effort: Effort) -> Mapping[str, Figure]:
    """The figures of this bench."""
    seconds = QUICK_S if effort.quick else 10.0
    gbit = LARGE * 8 / 1e9
    with TemporaryDirectory(prefix="tumpline-bench-") as name:
        certificates = Certificates.make(Path(name), (SOURCE, SINK))
        plain = {octets: _best(_PLAIN, octets, seconds) for octets in (LARGE, SMALL)}
        large = _best(_OURS, LARGE, seconds)
        small = _best(_OURS, SMALL, seconds)
        secured = _best(_OURS, LARGE, seconds, certificates)
    return {
        "udpcl_60kB_gbit_s": _figure(large, plain[LARGE], gbit, "Gbit/s"),
        "udpcl_100B_per_s": _figure(small, plain[SMALL], 1.0, "bundles/s"),
        "dtls_60kB_gbit_s": _figure(secured, plain[LARGE], gbit, "Gbit/s", "without DTLS; "),
    }


def _best(module: str, octets: int, seconds: float, certificates: Certificates | None = None) -> Trial:
    with running(module, octets, certificates) as ends:
        return search(ends, FIRST_PER_S[octets], seconds)


def _figure(ours: Trial, plain: Trial, scale: float, unit: str, but: str = "") -> Figure:
    told = ", ".join(f"{name} {value}" for name, value in ours.facts.items())
    limit_is = f"{but}one bundle a datagram, blocking sockets, a busy clock; octets on our side: {told}"
    return throughput(ours.per_s * scale, unit, plain.per_s * scale, limit_is)


@contextmanager
def running(module: str, octets: int, certificates: Certificates | None = None) -> Iterator[Ends]:
    """Both ends as processes, for as long as the block lasts; with DTLS, if there are certificates."""
    with ExitStack() as stack:
        sink = _start(stack, module, "sink", {"octets": octets, **_identity(SINK, certificates)})
        address = _answer(sink)
        source = _start(
            stack, module, "source", {"octets": octets, "address": address, **_identity(SOURCE, certificates)}
        )
        yield Ends(source, sink)


def _identity(name: str, certificates: Certificates | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if certificates is not None:
        cert, key = certificates.issued[name]
        config["tls"] = {"ca": str(certificates.authority), "cert": str(cert), "key": str(key)}
    return {"config": config, "node_id": f"dtn://{name}/"}


def _start(stack: ExitStack, module: str, role: str, task: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, role, json.dumps(task)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _ask(process: subprocess.Popen[str], task: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = _answer(process)
    return answer


def _answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise TumplineError(f"an end of the conversation failed (exit code {process.wait(5)})")
    return json.loads(line)


SPEC = BenchSpec(
    "udpcl",
    "two UDPCL endpoints: the highest paced rate without loss",
    ("udpcl_60kB_gbit_s", "udpcl_100B_per_s", "dtls_60kB_gbit_s"),
    run,
)

"""What goes through a tunnel from site a to site b, and how much of it comes: iperf3 and ping."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tumpline.bench.framework.tunnel_net import TunnelNet
from tumpline.errors import NoAnswerError, TumplineError
from tumpline.lab.holder import environment

LOST_MOST: Final = 0.01  # of the datagrams: no tunnel promises each
UP_S: Final = 60.0
STEP_UP, STEP_DOWN = 1.25, 0.7
TRIES: Final = 2  # at a rate: the machine has other work too
_HANG_S: Final = 60.0
_WARM_S: Final = 1


class Sent(NamedTuple):
    """Some seconds at one rate."""

    offered_per_s: float
    came_per_s: float
    lost: float  # share

    @property
    def is_good(self) -> bool:
        """Nearly everything came."""
        return self.lost <= LOST_MOST


class Load:
    """Between two sites of a net."""

    def __init__(self, net: TunnelNet) -> None:
        self._net = net

    def await_up(self, address: str, why: Callable[[], str]) -> None:
        """Until site b answers. Raises: NoAnswerError with what `why` says."""
        end = time.monotonic() + UP_S
        while self._run("ping", "-c", "1", "-W", "1", address).returncode:
            if time.monotonic() > end:
                raise NoAnswerError(f"{address} does not answer within {UP_S:.0f} s: {why()}")

    def tcp_gbit_s(self, address: str, seconds: float) -> float:
        """What one stream carries, once it has found its pace."""
        end = self._iperf(address, "-t", f"{max(1, round(seconds))}", "-O", f"{_WARM_S}")
        return float(end["sum_received"]["bits_per_second"]) / 1e9

    def datagrams(self, address: str, octets: int, per_s: float, seconds: float) -> Sent:
        """UDP with a payload of so many octets."""
        options = ["-u", "-l", f"{octets}", "-b", f"{round(per_s * octets * 8)}", "-t", f"{max(1, round(seconds))}"]
        total = self._iperf(address, *options)["sum"]
        came = total["packets"] - total["lost_packets"]
        return Sent(
            total["packets"] / total["seconds"], came / total["seconds"], total["lost_packets"] / total["packets"]
        )

    def ping_median_ms(self, address: str, count: int) -> float:
        """Of so many, one after the other."""
        text = self._run("ping", "-c", f"{count}", "-i", "0.005", address).stdout
        times = [float(found) for found in re.findall(r"time=([\d.]+)", text)]
        if len(times) < count * (1 - LOST_MOST):
            raise TumplineError(f"{len(times)} of {count} pings to {address} were answered")
        return statistics.median(times)

    def _iperf(self, address: str, *options: str) -> dict[str, Any]:
        server = subprocess.Popen(
            self._net.holder.command("b", ["iperf3", "-s", "-1", "--forceflush"]),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            assert server.stdout is not None
            next(line for line in server.stdout if "listening" in line)
            done = self._run("iperf3", "-c", address, "-J", *options)
            server.communicate(timeout=_HANG_S)
        finally:
            server.kill()
            server.communicate()
        report: dict[str, Any] = json.loads(done.stdout)
        if "error" in report:
            raise TumplineError(f"iperf3 to {address}: {report['error']}")
        end: dict[str, Any] = report["end"]
        return end

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = self._net.holder.command("a", argv)
        return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=_HANG_S, check=False)


def best_rate(trial: Callable[[float], Sent], first_per_s: float, steps_up: int = 1000) -> float:
    """What comes at the highest rate at which nearly everything does; no more than so many steps above the first."""
    rate, best = first_per_s, 0.0
    highest = first_per_s * STEP_UP ** (steps_up + 0.5)
    while True:
        sent = _tried(trial, rate)
        if sent.is_good and sent.came_per_s > best and rate * STEP_UP > highest:
            return sent.came_per_s
        if sent.is_good and sent.came_per_s > best:
            best, rate = sent.came_per_s, rate * STEP_UP
        elif best:
            return best
        else:
            rate *= STEP_DOWN


def _tried(trial: Callable[[float], Sent], rate: float) -> Sent:
    for _ in range(TRIES):
        sent = trial(rate)
        if sent.is_good:
            break
    return sent

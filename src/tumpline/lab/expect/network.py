"""Expectations of the network below the bundles: reachability, names, round trips, throughput, NATs."""

from __future__ import annotations

import json
import re
import statistics
import sys
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from tumpline.errors import TumplineError
from tumpline.lab.expect._api import Expectation, Measured, Node, Scene, Wait, kind
from tumpline.lab.processes import end_inside

_PING_TIME = re.compile(r"time=([0-9.]+) ms")
_ANSWER_S = 2  # a laboratory's delays stay far below, unless its file says otherwise
_EXEC_S = 30.0  # what a program needs beyond the time it was given

Version = Literal[4, 6]


class _Reachability(Expectation, frozen=True):
    from_: Node = field(name="from")
    to: str
    """A node, or an address."""
    versions: list[Version] = []
    """4 and 6 of IP; default: those that the target has addresses of."""
    within_s: Wait = field(name="within", default=float(_ANSWER_S))
    count: Annotated[int, Meta(ge=1, le=100)] = 2

    @property
    def what(self) -> str:
        return f"{self.kind}: {self.from_} -> {self.to}"

    def _answers(self, scene: Scene) -> dict[int, int]:
        """Echo replies by IP version."""
        return {version: len(_ping(scene, self, version)) for version in self._versions(scene)}

    def _versions(self, scene: Scene) -> list[int]:
        if self.versions:
            return [int(version) for version in self.versions]
        lab = scene.lab
        addresses = lab.addresses(self.to) if self.to in lab.file.nodes else [self.to]
        return sorted({ip_address(address).version for address in addresses})


def _ping(scene: Scene, asked: _Reachability, version: int) -> list[float]:
    """Round trips in milliseconds."""
    how = ["-n", f"-{version}", "-c", str(asked.count), "-i", "0.2", "-W", f"{asked.within_s:g}"]
    most_s = asked.within_s + 0.2 * asked.count + _EXEC_S
    done = scene.lab.exec(asked.from_, ["ping", *how, asked.to], timeout=most_s)
    if done.returncode == 127:
        raise TumplineError("ping is missing; install: apt-get install iputils-ping")
    return [float(text) for text in _PING_TIME.findall(done.stdout)]


def _told(answers: dict[int, int], count: int) -> str:
    return ", ".join(f"IPv{version} {came} of {count}" for version, came in answers.items()) or "no address"


@kind
class Reach(_Reachability, frozen=True):
    """IP packets get there and back."""

    kind: ClassVar[str] = "reach"

    @property
    def expected(self) -> str:
        return "an answer"

    def measure(self, scene: Scene) -> Measured:
        answers = self._answers(scene)
        return Measured(_told(answers, self.count), bool(answers) and all(answers.values()))


@kind
class Unreachable(_Reachability, frozen=True):
    """IP packets do not get there, or nothing comes back."""

    kind: ClassVar[str] = "unreachable"

    @property
    def expected(self) -> str:
        return "no answer"

    def measure(self, scene: Scene) -> Measured:
        answers = self._answers(scene)
        return Measured(_told(answers, self.count), not any(answers.values()))


@kind
class Rtt(_Reachability, frozen=True, kw_only=True):
    """Round trips of IP packets are as long as they should be."""

    kind: ClassVar[str] = "rtt"

    between_ms: list[float]
    """Between which the median lies."""
    count: Annotated[int, Meta(ge=1, le=1000)] = 10

    @property
    def expected(self) -> str:
        return f"median {self.between_ms[0]:g} to {self.between_ms[1]:g} ms"

    def measure(self, scene: Scene) -> Measured:
        found = [ms for version in self._versions(scene) for ms in _ping(scene, self, version)]
        if not found:
            return Measured("no answer", False)
        median = statistics.median(found)
        return Measured(f"median {median:.1f} ms of {len(found)}", self.between_ms[0] <= median <= self.between_ms[1])

    def __post_init__(self) -> None:
        if len(self.between_ms) != 2 or self.between_ms[0] > self.between_ms[1]:
            raise ValueError("between_ms: these are no two bounds; write for example [40, 44]")


@kind
class Throughput(Expectation, frozen=True):
    """A TCP connection carries as much as it should (iperf3)."""

    kind: ClassVar[str] = "throughput"

    from_: Node = field(name="from")
    to: Node
    rate_bps: Wait = field(name="rate")
    """"10 Mbit/s"."""
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """Share of the rate by which it may differ."""
    duration_s: Annotated[float, Meta(ge=1, le=60)] = field(name="duration", default=3.0)

    @property
    def what(self) -> str:
        return f"throughput {self.from_} -> {self.to}"

    @property
    def expected(self) -> str:
        return f"{self.rate_bps / 1e6:g} Mbit/s, {self.tolerance:.0%} more or less"

    def measure(self, scene: Scene) -> Measured:
        server = scene.lab.start(self.to, ["iperf3", "--server", "--one-off", "--forceflush"], stdout=-1, stderr=-2)
        try:
            assert server.stdout is not None
            if not any("listening" in line for line in server.stdout):
                raise TumplineError("iperf3 does not start; install: apt-get install iperf3")
            measured_bps = self._client(scene)
        finally:
            end_inside(server)
        share = measured_bps / self.rate_bps
        return Measured(f"{measured_bps / 1e6:.4g} Mbit/s", abs(share - 1) <= self.tolerance)

    def _client(self, scene: Scene) -> float:
        argv = ["iperf3", "--client", self.to, "--json", "--time", f"{self.duration_s:g}", "--omit", "1"]
        done = scene.lab.exec(self.from_, argv, timeout=self.duration_s + _EXEC_S)
        told: dict[str, Any] = json.loads(done.stdout or "{}")
        if "sum_received" not in told.get("end", {}):
            raise TumplineError(f"iperf3 measured nothing: {told.get('error') or done.stderr.strip()}")
        return float(told["end"]["sum_received"]["bits_per_second"])


@kind
class Names(Expectation, frozen=True):
    """A name means the addresses of its node."""

    kind: ClassVar[str] = "names"

    from_: Node = field(name="from")
    to: Node

    @property
    def what(self) -> str:
        return f"name {self.to} in {self.from_}"

    @property
    def expected(self) -> str:
        return "its addresses, also with a dot at the end"

    def measure(self, scene: Scene) -> Measured:
        plain, dotted = (_resolved(scene, self.from_, name) for name in (self.to, f"{self.to}."))
        known = {ip_address(address) for address in scene.lab.addresses(self.to)}
        ok = bool(plain) and plain == dotted and plain <= known
        return Measured(" ".join(map(str, sorted(plain, key=lambda each: (each.version, each)))) or "unknown", ok)


def _resolved(scene: Scene, node: str, name: str) -> set[Any]:
    done = scene.lab.exec(node, ["getent", "ahosts", name])
    return {ip_address(line.split()[0]) for line in done.stdout.splitlines() if line}


@kind
class Nat(Expectation, frozen=True):
    """What the NATs on the way to a STUN server do (RFC 4787); what is not named may be anything."""

    kind: ClassVar[str] = "nat"
    side_by_side: ClassVar[bool] = True  # each waits for answers that are dropped

    from_: Node = field(name="from")
    server: Node
    """Where a STUN server with two addresses runs (RFC 5780), such as coturn."""
    mapping: Literal["endpoint-independent", "address-dependent", "address-and-port-dependent", ""] = ""
    filtering: Literal["endpoint-independent", "address-dependent", "address-and-port-dependent", ""] = ""
    ports: Literal["preserved", "sequential", "random", ""] = ""
    hairpin: bool | None = None
    blocked: bool = False
    """No UDP gets through at all."""

    @property
    def what(self) -> str:
        return f"NAT of {self.from_}"

    @property
    def expected(self) -> str:
        return _nat_words(self._wanted)

    @property
    def _wanted(self) -> dict[str, Any]:
        if self.blocked:
            return {"blocked": True}
        keys = ("mapping", "filtering", "ports", "hairpin")
        return {key: value for key in keys if (value := getattr(self, key)) not in ("", None)}

    def measure(self, scene: Scene) -> Measured:
        argv = [sys.executable, "-m", "tumpline.drivers.nat_behavior", self.server]
        done = scene.lab.exec(self.from_, argv)
        if done.returncode:
            raise TumplineError(done.stderr.strip())
        found: dict[str, Any] = json.loads(done.stdout)
        same = all(found[key] == value for key, value in self._wanted.items())
        return Measured(_nat_words(found), same and found["blocked"] == self.blocked)


def _nat_words(found: dict[str, Any]) -> str:
    if found.get("blocked"):
        return "UDP blocked"
    words = [f"{key} {found[key]}" for key in ("mapping", "filtering", "ports") if found.get(key)]
    hairpin = found.get("hairpin")
    return ", ".join(words + ([] if hairpin is None else [f"hairpin {'yes' if hairpin else 'no'}"]))

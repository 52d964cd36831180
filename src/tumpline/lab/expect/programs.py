"""Expectations of programs in nodes, and of what tshark sees on a net."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Annotated, ClassVar

from msgspec import Meta, field

from tumpline.lab.capture import Recording
from tumpline.lab.expect._api import AgentNode, Expectation, Measured, Net, Node, Scene, Wait, kind, seconds

_SHOWN_CHARACTERS = 60


@kind
class Run(Expectation, frozen=True):
    """A program in a node says what it should and ends as it should."""

    kind: ClassVar[str] = "run"

    node: Node
    argv: list[str]
    exit_code: int = 0
    output: str = ""
    """A regular expression that what it prints must have a match for."""
    within_s: Wait = field(name="within", default=30.0)

    @property
    def what(self) -> str:
        return f"run in {self.node}: {shlex.join(self.argv)}"

    @property
    def expected(self) -> str:
        return f"exit code {self.exit_code}" + (f", /{self.output}/" if self.output else "")

    def measure(self, scene: Scene) -> Measured:
        try:
            done = scene.lab.exec(self.node, self.argv, timeout=self.within_s)
        except subprocess.TimeoutExpired:
            return Measured(f"still runs after {seconds(self.within_s)}", False)
        printed = done.stdout + done.stderr
        match = re.search(self.output, printed)
        shown = match[0] if match is not None and self.output else " ".join(printed.split())[-_SHOWN_CHARACTERS:]
        return Measured(
            f"exit code {done.returncode}{f', {shown}' if shown else ''}",
            done.returncode == self.exit_code and match is not None,
        )

    def __post_init__(self) -> None:
        if not self.argv:
            raise ValueError("argv: there is nothing to run; write for example [ping, -c, '1', rover]")
        try:
            re.compile(self.output)
        except re.error as error:
            raise ValueError(f"output: {error}; write a regular expression") from error


@kind
class Capture(Expectation, frozen=True):
    """tshark sees the bundles of a transfer on a net, and nothing malformed."""

    kind: ClassVar[str] = "capture"

    net: Net
    from_: AgentNode = field(name="from")
    to: AgentNode
    count: Annotated[int, Meta(ge=1, le=10_000)] = 3
    """ADUs that are sent while it records."""
    filter: str = ""
    """A display filter of tshark that the packets must match too, such as "tls"."""
    within_s: Wait = field(name="within", default=20.0)

    @property
    def what(self) -> str:
        return f"tshark on br-{self.net}, {self.from_} -> {self.to}"

    @property
    def expected(self) -> str:
        return f"at least {self.count} bundles" + (f" in {self.filter}" if self.filter else "")

    def measure(self, scene: Scene) -> Measured:
        with Recording(scene.lab, self.net) as recording:
            # What a session carries can be read only by whoever saw its beginning, keys or not.
            scene.lab.kill_agent(self.from_)
            scene.lab.start_agent(self.from_)
            scene.transfer(self.from_, self.to, self.count, 100, self.within_s)
            found = recording.await_bundles(self.count, self.within_s, self.filter)
        text = f"{found.bundles} bundles" + (f", {found.malformed} malformed packets" if found.malformed else "")
        return Measured(text, found.bundles >= self.count and not found.malformed)

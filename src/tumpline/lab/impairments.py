"""The process of a laboratory that impairs frames between ports and nets, and how it is told to change while it runs."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumpline.errors import NoAnswerError, TumplineError
from tumpline.lab.addresses import Port
from tumpline.lab.holder import Holder
from tumpline.lab.links import Impaired

_ANSWER_S = 10.0
# It reads what is written into a pipe with a name, which it holds open itself: whoever writes may come and go.
_RUN = 'exec "$1" -m tumpline.drivers.impair 2> "$3" <> "$2/commands" > "$2/answers"'


class Impairments:
    """The impaired ports of a laboratory, each by its node and net."""

    def __init__(self, directory: Path, ports: Mapping[tuple[str, str], tuple[str, str]]) -> None:
        self._directory = directory / "impair"
        self._ports = dict(ports)  # (node, net) -> interfaces in the switch: towards the node, towards the net

    def start(self, holder: Holder, impaired: Sequence[Impaired], log: Path) -> None:
        """Join the ports with their nets. Raises: TumplineError."""
        self._directory.mkdir()
        os.mkfifo(self._directory / "commands", 0o600)
        os.mkfifo(self._directory / "answers", 0o600)
        holder.start_lasting(None, ["sh", "-c", f"{_RUN} &", "sh", sys.executable, str(self._directory), str(log)])
        links = [{"a": each.node_side, "b": each.net_side, "ab": each.outgoing, "ba": {}} for each in impaired]
        self._ask(links)

    def change(self, node: str, net: str, impair: Mapping[str, Any]) -> None:
        """From now on this befalls what the node sends to the net. Raises: TumplineError."""
        if (node, net) not in self._ports:
            raise TumplineError(
                f"{node} on {net} is not impaired: nothing stands between; write `impair: {{}}` there, or for the net"
            )
        near, far = self._ports[node, net]
        self._ask({"a": near, "b": far, "ab": dict(impair)})

    def statistics(self) -> list[dict[str, Any]]:
        """Counters of every direction. Raises: TumplineError."""
        answer = self._ask({"statistics": True})
        statistics: list[dict[str, Any]] = answer["statistics"]
        return statistics

    def _ask(self, question: Any) -> dict[str, Any]:
        # Both ends of each pipe, so that neither opening nor reading waits for the process for ever.
        answers = os.open(self._directory / "answers", os.O_RDWR | os.O_NONBLOCK)
        commands = os.open(self._directory / "commands", os.O_RDWR)
        try:
            os.write(commands, json.dumps(question).encode() + b"\n")
            answer: dict[str, Any] = json.loads(_line(answers))
        finally:
            os.close(commands)
            os.close(answers)
        if "error" in answer:
            raise TumplineError(f"impairment: {answer['error']}")
        return answer


def make_packets_real(holder: Holder, ports: Sequence[Port]) -> None:
    """On nets where something befalls frames nodes must send them as a wire has them: one packet each, with its checksum.
    Raises: TumplineError."""
    interfaces = [f"{holder.nodes[port.node]}/{port.net}" for port in ports]
    holder.run(None, [sys.executable, "-m", "tumpline.drivers.offloads", *interfaces])


def _line(fd: int) -> bytes:
    """One line out of a pipe. Raises: NoAnswerError."""
    text = b""
    with select.epoll() as poll:
        poll.register(fd, select.EPOLLIN)
        while not text.endswith(b"\n"):
            if not poll.poll(_ANSWER_S):
                raise NoAnswerError(
                    "the process that impairs frames does not answer; see impair.log among the laboratory's logs"
                )
            text += os.read(fd, 1 << 16)
    return text

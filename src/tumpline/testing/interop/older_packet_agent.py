"""The older packet agent itself, from its wheel, in a site of a laboratory."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from tumpline.testing.interop.install import OLDER_PACKET_AGENT_PEER, install
from tumpline.testing.sites import SiteAgent, Sites

_RUN: Final = Path(__file__).with_name("older_packet_agent_run.py")


class OlderPacketAgent:
    """Three processes, of which none ends the others."""

    def __init__(self, sites: Sites, site: str, name: str, directory: Path, *options: str) -> None:
        python = install(OLDER_PACKET_AGENT_PEER) / "python"
        command = [str(python), str(_RUN), "connect", "--url", sites.url(), "--name", name, *options]
        self._agent = SiteAgent(sites.lab, site, command, directory / f"{name}.log")

    def said(self) -> str:
        """All output until now; it is much."""
        return self._agent.said()

    def end(self) -> None:
        """As by power cut: signals leave some of them behind."""
        for pid in _descendants(self._agent.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._agent.process.wait()

    def __enter__(self) -> OlderPacketAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _descendants(pid: int) -> list[int]:
    """Itself last."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [each for child in children for each in _descendants(int(child))] + [pid]
    return []

"""Processes that outlive the command that started them: found again by pid and start time, ended by nobody else's pid."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tumpline.errors import TumplineError

END_S = 10.0


def start_time(pid: int) -> int | None:
    """When the process with this pid began (clock ticks since boot), None if there is none: pids come again, this pair
    does not (proc(5), /proc/pid/stat field 22)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def only_child(pid: int) -> int:
    """The pid of its one child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def start_lasting(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> tuple[int, str, str]:
    """Start what outlives this process. Its pid, the first line that it printed ("": it ended), and then its complaint."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=directory,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        line = process.stdout.readline().strip()
        complaint = "" if line else " ".join(process.stderr.read().split())
    if not line:
        process.wait()
    else:
        process.returncode = 0  # nobody waits for it here: `reap` does when the laboratory goes down
    return process.pid, line, complaint


def reap(pids: Sequence[int]) -> None:
    """Take back those of our children that have ended or are ending."""
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # another command started it


def await_end(descriptor: int) -> None:
    """Until the process behind a pidfd has ended. Raises: TumplineError."""
    with select.epoll() as poll:
        poll.register(descriptor, select.EPOLLIN)
        if not poll.poll(END_S):
            raise TumplineError(f"the laboratory did not end within {END_S:.0f} s; see the system's log")

"""Processes that outlive the command that started them: found again by pid and start time, ended by nobody else's pid."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

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
    """The pid of its one child, 0 if it has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(children[0]) if children else 0


def kill(pid: int, started: int) -> None:
    """End this very process and wait until it has ended. Idempotent. Raises: TumplineError."""
    if start_time(pid) != started:
        return
    descriptor = os.pidfd_open(pid)
    try:
        if start_time(pid) == started:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            await_end(descriptor)
    finally:
        os.close(descriptor)


def start_lasting(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, stdin: int = subprocess.DEVNULL
) -> tuple[int, str, str]:
    """Start what outlives this process. Its pid, the first line that it printed ("": it ended), and then its complaint."""
    process = spawn(command, environment, directory, subprocess.PIPE, stdin)
    assert process.stderr is not None
    with process.stderr:
        line = first_line(process)
        complaint = "" if line else " ".join(process.stderr.read().split())
    return process.pid, line, complaint


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    stderr: int | IO[str],
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start what may outlive this process; `first_line` tells when it is ready."""
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
        cwd=directory,
        start_new_session=True,
    )


def first_line(process: subprocess.Popen[str], timeout_s: float | None = None) -> str:
    """The first line that it prints; "": it ended, or said nothing in time. Nobody waits for the process hereafter:
    `reap` does when the laboratory goes down."""
    assert process.stdout is not None
    with process.stdout:
        ready, _, _ = select.select([process.stdout], [], [], timeout_s)
        line = process.stdout.readline().strip() if ready else ""
    if not line and ready:
        process.wait()
    else:
        process.returncode = 0
    return line


def reap(pids: Sequence[int]) -> None:
    """Take back those of our children that have ended or are ending."""
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # another command started it


def end_inside(process: subprocess.Popen[str]) -> None:
    """End the program that `nsenter` waits for, and with it nsenter: killed itself, it would leave the program alone."""
    pid = only_child(process.pid)
    if pid and process.poll() is None:
        kill(pid, start_time(pid) or 0)
    process.communicate()


def await_end(descriptor: int) -> None:
    """Until the process behind a pidfd has ended. Raises: TumplineError."""
    with select.epoll() as poll:
        poll.register(descriptor, select.EPOLLIN)
        if not poll.poll(END_S):
            raise TumplineError(f"the laboratory did not end within {END_S:.0f} s; see the system's log")

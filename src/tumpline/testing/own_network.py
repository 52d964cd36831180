"""Network namespaces for one test: what it makes there meets nobody, and is gone with it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tumpline.drivers.offloads import CLONE_NEWNET
from tumpline.lab.holder import environment


@contextmanager
def own_network() -> Iterator[OwnNetwork]:
    """The calling thread, and what it starts, is in an empty network with lo up until the block ends. Needs root."""
    before = _this_network()
    try:
        network = OwnNetwork()
        try:
            _enter(network.fd)
            yield network
        finally:
            _enter(before)
            network.close()
    finally:
        os.close(before)


class OwnNetwork:
    """An empty network with lo up, until it is closed and nothing in it is open any more. Needs root."""

    def __init__(self) -> None:
        assert os.geteuid() == 0, "only root makes a network namespace without a user namespace: run this as root"
        before = _this_network()
        try:
            _checked(_libc.unshare(CLONE_NEWNET))
            self.fd = _this_network()
            ip("link", "set", "lo", "up")
        finally:
            _enter(before)
            os.close(before)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in it until the block ends. What it opens there stays there."""
        before = _this_network()
        try:
            _enter(self.fd)
            yield
        finally:
            _enter(before)
            os.close(before)

    def close(self) -> None:
        os.close(self.fd)


def ip(*arguments: str) -> str:
    """What `ip` prints. A failure is an AssertionError that tells what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


_libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare came with Python 3.12


def _this_network() -> int:
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(fd: int) -> None:
    _checked(_libc.setns(fd, CLONE_NEWNET))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

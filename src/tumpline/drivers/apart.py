"""A command that sees a TUN device and nothing else of this machine's networks: `python -m tumpline.drivers.apart`.

A process goes into a network namespace of its own (and into a user namespace, where it has no other right to that), makes the
device there, hands it over to whoever started it, and becomes the command when that one says so. So an ordinary user's command
is in the overlay, while the agent that carries its packets stays in the machine's network.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from tumpline.drivers.offloads import CLONE_NEWNET
from tumpline.drivers.ports._interface import Configured
from tumpline.drivers.ports._netlink import Netlink
from tumpline.drivers.ports._tun_config import TunConfig, wanted
from tumpline.drivers.ports._tun_linux import make_device
from tumpline.errors import TumplineError

CLONE_NEWUSER: Final = 0x10000000
PR_SET_PDEATHSIG: Final = 1
END_S: Final = 5.0  # from SIGTERM to SIGKILL
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # exit codes, as shells have them
_ANSWER_OCTETS: Final = 64 << 10
_GO: Final = b"go"
# Within its network the command may do as it likes: answer pings by itself, listen on any port.
_KEYS: Final = {"ipv4/ping_group_range": "{gid} {gid}", "ipv4/ip_unprivileged_port_start": "0"}


class CommandApart:
    """`prepare`, `go`, `wait`; `end` in any case."""

    def __init__(self, process: asyncio.subprocess.Process, talk: socket.socket, fd: int, name: str) -> None:
        self._process = process
        self._talk = talk
        self.fd = fd  # of the device; whoever takes it closes it
        self.name = name

    @classmethod
    async def prepare(cls, config: TunConfig, command: Sequence[str]) -> CommandApart:
        """Make namespace and device; the command does not run yet. Raises: TumplineError with the remedy."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            told = msgspec.json.encode(config).decode()
            program = [sys.executable, "-P", "-m", "tumpline.drivers.apart", str(theirs.fileno()), told, *command]
            process = await asyncio.create_subprocess_exec(*program, pass_fds=(theirs.fileno(),))
        octets, fds, _, _ = await asyncio.to_thread(socket.recv_fds, ours, _ANSWER_OCTETS, 1)
        answer = json.loads(octets) if octets else {"error": "the command's process ended before it had a network"}
        if "error" in answer:
            ours.close()
            await process.wait()
            raise TumplineError(answer["error"])
        return cls(process, ours, fds[0], answer["name"])

    def go(self) -> None:
        """Now it is the command."""
        self._talk.send(_GO)
        self._talk.close()

    async def wait(self) -> int:
        """Its exit code, as shells count: 128 and the signal's number."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def end(self) -> None:
        """Ask it to end, and see to it. Idempotent."""
        self._talk.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), END_S)


# ---- in the process that becomes the command -------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> NoReturn:
    """The descriptor to talk by, a TunConfig as JSON, the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    talk, (told, *command) = socket.socket(fileno=int(arguments[0])), arguments[1:]
    try:
        fd, name = _network_apart(msgspec.json.decode(told, type=TunConfig))
    except (TumplineError, OSError) as error:
        talk.send(json.dumps({"error": str(error)}).encode())
        sys.exit(1)
    socket.send_fds(talk, [json.dumps({"name": name}).encode()], [fd])
    parent = os.getppid()
    if talk.recv(len(_GO)) != _GO:
        sys.exit(1)
    _end_with(parent)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"tumpline: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def _network_apart(config: TunConfig) -> tuple[int, str]:
    """An open device in a network of its own. Raises: TumplineError, OSError."""
    _leave()
    with Netlink() as netlink:
        netlink.set_up(socket.if_nametoindex("lo"))
    for key, value in _KEYS.items():
        with contextlib.suppress(OSError):  # a container may keep them from being written
            Path("/proc/sys/net", key).write_text(value.format(gid=os.getegid()))
    device = make_device(config.name)
    Configured(device.name, device.is_ours).apply(wanted(config))
    return device.fd, device.name


def _leave() -> None:
    """Into a network namespace; as the same user, in a user namespace too if need be. Raises: TumplineError."""
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare came with Python 3.12
    if libc.unshare(CLONE_NEWNET) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise TumplineError(
            f"no network namespace for the command: {os.strerror(ctypes.get_errno())}; be root, or let root allow user "
            "namespaces (sysctl -w kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    Path("/proc/self/setgroups").write_text("deny")  # user_namespaces(7): before an ordinary user may map a group
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _end_with(parent: int) -> None:
    """Nobody carries packets for a command whose agent has gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The processes that hold a laboratory's namespaces. Whatever happens, their end is the end of everything in it.

The *switch* is process 1 of a pid namespace, in its own network and mount namespace; when it ends, the kernel ends every
process in there, and with the last of them links, addresses and packet filters are gone: there is nothing to clean up,
not even after everybody else was killed. Each node is a process of its own below it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tumpline.errors import NotReachableError, TumplineError
from tumpline.lab.processes import kill, only_child, reap, start_lasting, start_time

TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "nft": "nftables", "mount": "mount"}
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"
_WAIT_S = 10.0

# What the switch does before it sleeps: a /run of its own (so that nothing in it meets sockets of this machine's), but for
# the laboratory's directory; and no packet filter on bridged frames.
_SWITCH = """
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock "$1"
mount --bind . "$1"
ip link set lo up
for key in net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables; do
  file=/proc/sys/$(echo $key | tr . /); [ ! -w $file ] || echo 0 > $file
done
echo ready
if [ "$2" = lasting ]; then exec sleep infinity; else exec cat > /dev/null; fi
"""
# And each node before it sleeps: names of its own, and a place for a system bus of its own.
_NODE = """
hostname {name}
mount --bind {hosts} /etc/hosts
mount --bind {resolv} /etc/resolv.conf
mkdir -p /run/dbus
mount -t tmpfs -o mode=755 tmpfs /run/dbus
ip link set lo up
set_key() {{ [ ! -w /proc/sys/net/$1 ] || echo $2 > /proc/sys/net/$1; }}
set_key ipv6/conf/default/accept_dad 0
set_key ipv6/conf/all/accept_dad 0
set_key ipv6/conf/default/accept_ra 0
set_key ipv4/ip_forward {forward}
set_key ipv6/conf/all/forwarding {forward}
set_key ipv4/ping_group_range "0 0"
set_key ipv4/ip_unprivileged_port_start 0
echo $$
exec sleep infinity
"""


def environment() -> dict[str, str]:
    """Ours, with the directories of system tools; without options of whoever called us."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("TUMPLINE_") and key != "NOTIFY_SOCKET"
    }
    return kept | {"PATH": f"{kept.get('PATH', '')}:{_SBIN}"}


def check_tools(tools: Mapping[str, str] = TOOLS) -> None:
    """Programs with their packages. Raises: TumplineError with the command that installs what is missing."""
    missing = {package for tool, package in tools.items() if shutil.which(tool, path=environment()["PATH"]) is None}
    if missing:
        raise TumplineError(
            f"a laboratory needs {', '.join(sorted(missing))}; install: apt-get install {' '.join(sorted(missing))}"
        )


class Holder:
    """The switch of a laboratory that is up."""

    def __init__(self, pid: int, started: int, nodes: Mapping[str, int]) -> None:
        self.pid = pid
        self.started = started  # with the pid, names one process for ever (proc(5), stat: starttime)
        self.nodes = dict(nodes)  # name -> pid inside
        self._ours: list[int] = []  # processes of this command that wait for those inside
        self._life = -1  # of one that does not last: a pipe that process 1 reads to its end

    @classmethod
    def start(cls, directory: Path, lasting: bool = True) -> Holder:
        """`directory` stays visible in it. One that is not `lasting` ends with this process, however that ends.

        Raises: TumplineError: this machine lets nobody make namespaces, or not us."""
        check_tools()
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *user, "--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child"]
        how = "lasting" if lasting else "with us"
        command += ["--mount-proc", "sh", "-ec", _SWITCH, "sh", str(directory), how]
        read_end, write_end = os.pipe()
        try:
            outer, line, complaint = start_lasting(command, environment(), directory, read_end)
        finally:
            os.close(read_end)
        if not line:
            os.close(write_end)
            raise TumplineError(
                f"no namespaces for a laboratory: {complaint or 'no reason was given'}; be root, or allow user "
                "namespaces (sysctl -w kernel.unprivileged_userns_clone=1)"
            )
        pid = only_child(outer)
        holder = cls(pid, start_time(pid) or 0, {})
        holder._ours.append(outer)
        if lasting:
            os.close(write_end)
        else:
            holder._life = write_end
        return holder

    @property
    def alive(self) -> bool:
        """Whether it is still this process that has the pid."""
        return start_time(self.pid) == self.started

    def add_node(self, name: str, hosts: Path, resolv: Path, forward: bool) -> None:
        """Start the process that holds a node. Raises: TumplineError."""
        script = _NODE.format(
            name=name, hosts=shlex.quote(str(hosts)), resolv=shlex.quote(str(resolv)), forward=int(forward)
        )
        command = [*self._enter(), "unshare", "--net", "--mount", "--uts", "sh", "-ec", script]
        outer, pid, complaint = start_lasting(command, environment(), hosts.parent)
        if not pid:
            raise TumplineError(f"node {name} could not be made: {complaint}")
        self._ours.append(outer)
        self.nodes[name] = int(pid)

    def command(self, node: str | None, argv: Sequence[str], directory: str | None = None) -> list[str]:
        """The command line that runs `argv` in a node (None: in the switch). Raises: TumplineError: no such node."""
        if not self.alive:
            raise NotReachableError("the laboratory is not up; start it with `tumpline lab up FILE`")
        if node is None:
            return [*self._enter(), *argv]
        if node not in self.nodes:
            raise TumplineError(f"there is no node {node!r}; there are {', '.join(self.nodes)}")
        inside = ["nsenter", "--target", str(self.nodes[node]), "--net", "--mount", "--uts"]
        where = [f"--wd={directory}"] if directory else []
        return [*self._enter(), *inside, *where, "--", *argv]

    def adopt(self, pid: int) -> None:
        """Take back this child of ours when the laboratory has ended: it waits for a process inside."""
        self._ours.append(pid)

    def run(self, node: str | None, argv: Sequence[str], stdin: str = "", timeout_s: float | None = _WAIT_S) -> str:
        """Run to the end; what it printed. Raises: TumplineError with what it said."""
        done = subprocess.run(
            self.command(node, argv),
            input=stdin,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise TumplineError(
                f"{shlex.join(argv)} failed in {node or 'the switch'} (exit code {done.returncode}): {said}"
            )
        return done.stdout

    def start_lasting(self, node: str | None, argv: Sequence[str]) -> None:
        """Run what leaves a process behind that is to last as long as the laboratory. Raises: TumplineError."""
        done = subprocess.run(
            self.command(node, argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what lasts would hold a pipe open
            env=environment(),
            check=False,
        )
        if done.returncode:
            raise TumplineError(f"{shlex.join(argv)} did not start in {node or 'the switch'}")

    def stop(self) -> None:
        """End everything, and wait until it has ended. Idempotent."""
        kill(self.pid, self.started)
        reap(self._ours)
        self._ours.clear()
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    def _enter(self) -> list[str]:
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pid), *user, "--net", "--mount", "--ipc", "--uts", "--pid", "--"]

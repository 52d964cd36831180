"""A laboratory with hosts behind NATs of every kind, and coturn as a STUN server with two addresses outside of them all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from tumpline.drivers.nat_behavior import STUN_PORT
from tumpline.lab.api import Lab, unique
from tumpline.lab.holder import check_tools
from tumpline.lab.nat import NatKind, NatSpec
from tumpline.lab.routers import nat_spec

# Beyond those that the nodes of the net are given.
SERVER4, OTHER4 = "11.22.33.200", "11.22.33.201"
SERVER6, OTHER6 = "fd00:9::200", "fd00:9::201"
AT_ONCE = 8  # more would only wait for the processor, and what waits too long looks filtered
READY_S = 20.0
# Program -> Debian package; tests/debian-packages.txt has them too.
TOOLS = {"turnserver": "coturn", "stun": "stun-client", "upnpc": "miniupnpc", "natpmpc": "natpmpc"}


class Router(NamedTuple):
    """NAME is a router on the net `outside`; `in-NAME`, its host, is the only one of `net-NAME`."""

    name: str
    kind: NatKind
    hairpin: bool = False
    outside: str = "wan"

    @property
    def net(self) -> str:
        """The net behind it."""
        return f"n-{self.name}"

    @property
    def host(self) -> str:
        """The host behind it."""
        return f"in-{self.name}"


class NatWorld:
    """All of it. `measure` and `stun` run in the background, a few at a time."""

    def __init__(self, lab: Lab, routers: list[Router]) -> None:
        self.lab = lab
        self.routers = {router.name: router for router in routers}
        self.processes: list[subprocess.Popen[str]] = []  # that end with the laboratory
        self._pool = ThreadPoolExecutor(AT_ONCE, "node")

    def serve(self) -> None:
        """Start coturn, and wait until it listens."""
        routes = "".join(
            f"ip -6 route add {net.subnet6} via {self.lab.addresses(router.name, 'wan')[1]};"
            for router in self.routers.values()
            if router.outside == "wan" and (net := self.lab.file.nets[router.net])
        )
        second = f"ip address add {OTHER4}/24 dev wan; ip address add {OTHER6}/64 dev wan nodad;"
        shell(self.lab, "server", second + routes)
        listen = [part for address in (SERVER4, OTHER4, SERVER6, OTHER6) for part in ("-L", address)]
        command = ["turnserver", "-n", "--stun-only", *listen, "-p", str(STUN_PORT)]
        command += ["--pidfile=/run/turn.pid", "--log-file=/dev/null"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(self.lab.start("server", command, **quiet))
        await_udp(self.lab, "server", STUN_PORT, 4)

    def spec(self, name: str) -> NatSpec:
        """Of a router."""
        return nat_spec(self.lab.file.nodes[name], self.lab.ports, name)

    def measure(self, node: str, server: str = SERVER4) -> Future[dict[str, Any]]:
        """What `python -m tumpline.drivers.nat_behavior` prints in a node."""
        return self._pool.submit(self._measure, node, server)

    def stun(self, node: str) -> Future[str]:
        """What Debian's `stun` says (RFC 3489)."""
        return self._pool.submit(lambda: self.lab.exec(node, ["stun", SERVER4]).stdout)

    def _measure(self, node: str, server: str) -> dict[str, Any]:
        done = self.lab.exec(node, [sys.executable, "-m", "tumpline.drivers.nat_behavior", server])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        """Wait for what still runs; the laboratory is down."""
        self._pool.shutdown(cancel_futures=True)
        for process in self.processes:
            process.wait()


def topology(routers: list[Router], more: dict[str, Any]) -> str:
    """YAML (JSON is): a server, the routers with their hosts, and further nodes."""
    nets: dict[str, Any] = {"wan": {"subnet4": "11.22.33.0/24", "subnet6": "fd00:9::/64"}}
    nodes: dict[str, Any] = {"server": {"nets": {"wan": {"address4": SERVER4, "address6": SERVER6}}}}
    for number, router in enumerate(routers):
        nets[router.net] = {"subnet4": f"10.9.{number}.0/24", "subnet6": f"fd00:{number + 10}::/64"}
        nat = {"kind": router.kind.value, "outside": router.outside, "hairpin": router.hairpin}
        nodes[router.name] = {"nets": [router.net, router.outside], "nat": nat}
        nodes[router.host] = {"nets": [router.net], "gateway": router.name}
    return json.dumps({"nets": nets, "nodes": nodes | more})


@contextmanager
def nat_world(routers: list[Router], more: dict[str, Any] | None = None) -> Iterator[NatWorld]:
    """Up, with coturn running. Raises: TumplineError: what is to be installed."""
    check_tools(TOOLS)
    world = NatWorld(Lab.of(topology(routers, more or {}), name=unique("nat")), routers)
    try:
        with world.lab:
            world.serve()
            yield world
    finally:
        world.close()


def await_udp(lab: Lab, node: str, port: int, sockets: int = 1) -> None:
    """Until so many sockets of a node are bound to a UDP port."""
    deadline = time.monotonic() + READY_S
    while shell(lab, node, "cat /proc/net/udp /proc/net/udp6").count(f":{port:04X} 0") < sockets:
        assert time.monotonic() < deadline, f"nobody listens on UDP port {port} of {node}"


def shell(lab: Lab, node: str, script: str) -> str:
    """Run a line of shell in a node."""
    return lab.holder.run(node, ["sh", "-ec", script])


# Run in nodes. Datagrams say who they are from; every wait is bounded.
_SEND = """
import socket, sys
port, host, to = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", port)); s.sendto(b"hello", (host, to))
"""
_RECEIVE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2]))); s.settimeout(20)
print("ready", flush=True)
print("%s:%d" % s.recvfrom(100)[1])
"""


def send(lab: Lab, node: str, port: int, host: str, to: int) -> None:
    """One datagram from a port of a node."""
    lab.holder.run(node, [sys.executable, "-ISc", _SEND, str(port), host, str(to)])


@contextmanager
def receiving(lab: Lab, node: str, port: int, host: str = "0.0.0.0") -> Iterator[list[str]]:
    """Within, a port of a node is bound; at the end the list holds where its first datagram came from."""
    argv = [sys.executable, "-ISc", _RECEIVE, host, str(port)]
    heard: list[str] = []
    with lab.start(node, argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield heard
        heard.append(process.stdout.readline().strip())

"""Two real agents, plain and over TLS: tshark decodes as many bundles as were sent, and finds nothing to say."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tumpline.bench.framework.agents import Agents, clean_environment
from tumpline.node.client import connect_sync
from tumpline.testing.tshark import Capture, Found, find

BUNDLES = 20
HANG_S = 30.0
TLS = """
[links.tls]
mode = "required"
ca = "{certs}/ca.pem"
cert = "{certs}/{name}.pem"
key = "{certs}/{name}.key"
key_log = "{log}"
"""
CONFIG = """
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "memory"
[[links]]
kind = "tcpcl4"
segment_mru = 4000
{where}
{tls}
[services.sink]
[services.source]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def exchange(directory: Path, *, tls: bool) -> tuple[Capture, Path]:
    """Bundles of several sizes from one agent to another, captured; and the key log."""
    port, log = free_port(), directory / "keys.log"
    certs = directory / "certs"
    if tls:
        command = [sys.executable, "-m", "tumpline", "cert", "quick", "west", "east", "--directory", str(certs)]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment(directory))

    def config(name: str, where: str) -> str:
        line = TLS.format(certs=certs, name=name, log=log) if tls else ""
        return CONFIG.format(name=name, where=where, tls=line)

    with Capture(directory / "agents.pcapng", port) as capture, Agents(directory) as agents:
        agents.start("east", config("east", f'listen = "127.0.0.1:{port}"'))
        west = agents.start("west", config("west", f'connect = ["127.0.0.1:{port}"]'))
        with connect_sync(west.socket) as agent:
            for size in (100, 5000):
                # A few at a time: of many bundles in one packet, tshark's second pass shows the last only.
                for _ in range(BUNDLES // 2):
                    list(agent.stream("/v1/source", {"to": "dtn://east/sink", "count": 1, "size": size}))
        with connect_sync(agents.running["east"].socket) as agent:
            wait_until(lambda: agent.get("/v1/sink")["bundles"] == BUNDLES)
    return capture, log


def wait_until(is_so: Callable[[], bool]) -> None:
    """Ask again and again; a hang ends the test."""
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def altered(path: Path, target: Path) -> Path:
    """The same capture with one octet of a payload changed."""
    data = bytearray(path.read_bytes())
    where = data.rindex(b"//east/sink") + 40
    data[where] ^= 0x01
    target.write_bytes(data)
    return target


def is_complete(found: Found) -> bool:
    return found.bundles == BUNDLES and not found.complaints


def test_plain(tmp_path: Path) -> None:
    capture, _ = exchange(tmp_path, tls=False)
    found = capture.find()
    assert is_complete(found), found
    assert not is_complete(find(altered(capture.path, tmp_path / "altered.pcapng"), capture.port))


def test_tls_with_the_key_log(tmp_path: Path) -> None:
    capture, log = exchange(tmp_path, tls=True)
    found = capture.find(log)
    assert is_complete(found), found
    assert capture.find(None).bundles == 0, "without the key log there must be nothing to read"
    lines = log.read_text().splitlines()
    log.write_text("\n".join(_flip(line) for line in lines))
    assert not is_complete(capture.find(log)), "with one altered digit in each key nothing can be decoded"


def _flip(line: str) -> str:
    return line[:-1] + ("0" if line[-1] != "0" else "1")

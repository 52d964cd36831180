"""Two nodes from the older agent's YAML, up as they are: real processes, a bundle there and back."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.testing.interop.process import free_port

NODE = """\
tcpcl:
  node_id: dtn://{name}/
  tls_enable: False
  keepalive_time: 30
  init_listen: {{address: 127.0.0.1, port: {port}}}
bp:
  log_level: info
  node_id: dtn://{name}/
  rx_route_table:
    - {{eid_pattern: 'dtn://{name}/.*', action: deliver}}
    - {{eid_pattern: '.*', action: forward}}
  tx_route_table:
    - {{eid_pattern: 'dtn://{other}/.*', next_nodeid: 'dtn://{other}/', cl_type: tcpcl, address: 127.0.0.1, port: {to}}}
"""


def _tumpline(*arguments: str, code: int = 0) -> str:
    argv = [sys.executable, "-m", "tumpline", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def nodes(own_directories: Path, tmp_path: Path) -> Iterator[Path]:
    ports = free_port(), free_port()
    for name, other, port, to in (("server", "client", *ports), ("client", "server", *reversed(ports))):
        (tmp_path / f"{name}.yaml").write_text(NODE.format(name=name, other=other, port=port, to=to))
    yield tmp_path
    for socket in (own_directories / "XDG_RUNTIME_DIR" / "tumpline").glob("*.sock"):
        _tumpline("down", "--node", socket.stem)


def test_a_ping_between_two_files_of_the_older_agent(nodes: Path) -> None:
    for name in ("server", "client"):
        told = _tumpline("up", "--config", str(nodes / f"{name}.yaml"), "--detach")
        assert "tcpcl.init_listen: this must be a list" in told  # remarked, and taken
        assert f"dtn://{name}/ is up" in told
    assert "1 received" in _tumpline("ping", "dtn://client/", "--node", "server", "--count", "1", "--timeout", "20s")
    assert "re:dtn://client/.*" in _tumpline("routes", "ls", "--node", "server")


def test_changes_are_not_written_into_yaml(nodes: Path) -> None:
    _tumpline("up", "--config", str(nodes / "server.yaml"), "--detach")
    before = (nodes / "server.yaml").read_text()
    told = _tumpline("routes", "add", "dtn://far/**", "dtn://client/", "--node", "server", "--save", code=2)
    assert "configuration file of ours (TOML)" in told
    assert (nodes / "server.yaml").read_text() == before

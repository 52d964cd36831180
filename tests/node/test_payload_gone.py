"""A payload file that is gone from the disk costs its bundle, not the link: what waits behind it comes through."""

import time
from collections.abc import Callable
from pathlib import Path

from tumpline.bench.framework.agents import Agents
from tumpline.bench.framework.chain import address_of
from tumpline.node.client import connect_sync

HANG_S = 30.0
CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"
[store]
kind = "sqlite"
[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
[services.sink]
"""
ROUTE = """
[[routes]]
to = "dtn://rover/**"
via = "dtn://rover/"
"""


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def test_what_waits_behind_a_lost_payload_comes_through(tmp_path: Path) -> None:
    with Agents(tmp_path) as agents:
        ground = agents.start("ground", CONFIG.format(name="ground") + ROUTE)
        rover = agents.start("rover", CONFIG.format(name="rover"))
        with connect_sync(ground.socket) as at_ground, connect_sync(rover.socket) as at_rover:
            for number in range(3):
                at_ground.send_adu("dtn://rover/sink", b"%d" % number * 150_000)
            files = sorted((ground.directory / "state" / "store" / "payloads").iterdir())
            assert len(files) == 3
            files[0].unlink()
            at_ground.post("/v1/links", {"kind": "tcpcl4", "connect": address_of(rover)})
            wait_until(lambda: at_rover.get("/v1/sink")["bundles"] == 2)
            wait_until(lambda: at_ground.get("/v1/status")["store"]["bundles"] == 0)
        assert f"payload file {files[0]} is gone" in ground.log_path.read_text()

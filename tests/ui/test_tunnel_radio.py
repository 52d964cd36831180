"""`tumpline tunnel connect --serial` as its user has it: two processes, two probes, one session."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tumpline.errors import ConfigError
from tumpline.node.overlay.settings import Wish, settings_of
from tumpline.testing.lowpan import data_frame
from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.radio import Air, Mote, Probe, ProbeKind
from tumpline.testing.radio_agents import radio_agent
from tumpline.ui.cli.common import DEFAULT
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.tunnel_status import status_lines

NEAR, FAR = bytes.fromhex("00124b0000000001"), bytes.fromhex("00124b0000000002")
HANG_S = 30.0


class Agent:
    """A process, and what it tells."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    async def until(self, event: str, **fields: Any) -> None:
        """It tells this."""
        assert self.process.stdout is not None
        async with asyncio.timeout(HANG_S):
            while True:
                line = await self.process.stdout.readline()
                assert line, f"it ended before {event}: {self.told}"
                self.told.append(json.loads(line))
                if {"event": event, **fields}.items() <= self.told[-1].items():
                    return


@asynccontextmanager
async def connected(name: str, device: Path, *options: str, **environment: str) -> AsyncIterator[Agent]:
    """Ended by Ctrl-C, which has to be its end."""
    older = {"FINTEROP_CONNECTOR_SERIAL_PORT": str(device), "FINTEROP_CONNECTOR_BAUDRATE": "460800"}
    command = [sys.executable, "-m", "tumpline", "tunnel", "connect", "--name", name, "--serial", "--json", *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=os.environ | older | environment
    )
    try:
        yield Agent(process)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), HANG_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_two_probes_of_two_processes(rabbitmq: Vhost, tmp_path: Path) -> None:
    here, there = Air(), Air()
    near, far = Probe(here, tmp_path / "ttyNEAR"), Probe(there, tmp_path / "ttyFAR")
    client = Mote(here, NEAR)
    Mote(there, FAR, {"hello": b"over the hills"})
    capture, environment = tmp_path / "near.pcapng", {"AMQP_URL": rabbitmq.uri, "XDG_RUNTIME_DIR": str(tmp_path)}
    async with (
        connected("near", near.path, "--dump", str(capture), **environment) as one,
        connected("far", far.path, **environment) as other,
    ):
        await other.until("ready")
        await one.until("member_joined", name="far")
        async with asyncio.timeout(HANG_S):
            assert (await client.get(FAR, "hello")).payload == b"over the hills"
        near.unplug()
        await one.until("port_down")
        near.plug()
        await one.until("port_up")
        async with asyncio.timeout(HANG_S):
            assert (await client.get(FAR, "hello")).payload == b"over the hills"
    near.unplug()
    far.unplug()
    assert rabbitmq.queues() == set()
    assert capture.stat().st_size > 500


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"serial": True}, "--serial: where is the probe? write --serial-port /dev/ttyUSB0"),
        ({"channel": 11}, "--channel is for a radio probe: add --serial"),
        ({"passive": True}, "--passive is for a radio probe: add --serial"),
        ({"serial": True, "serial_port": "/dev/x", "pan_id": "house"}, "--pan-id house: write it in hexadecimal"),
        ({"serial": True, "serial_port": "/dev/x", "pan_id": "10000"}, "--pan-id 10000: write it in hexadecimal"),
        ({"serial": True, "serial_port": "/dev/x", "channel": 27}, "--channel: expected `int` <= 26"),
        ({"dump": Path("x"), "dump_size": "10 kB"}, "--dump-size, --dump-files: write at least 1 MiB and 1"),
        ({"dump": Path("x"), "dump_size": "much"}, "'much' is no size"),
    ],
)
def test_what_is_wrong_is_said(wishes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(Wish(name="agent_1", url="amqp://localhost/", **wishes))
    assert sentence in str(caught.value)


def test_a_probe_named_by_the_environment_is_not_in_the_way() -> None:
    wish = Wish(name="agent_1", url="amqp://localhost/", serial_port="/dev/ttyUSB0", baudrate=460800)
    assert settings_of(wish).port.scheme == "tun"


async def test_status_says_what_is_wrong_with_a_probe(rabbitmq: Vhost, tmp_path: Path) -> None:
    async with radio_agent(rabbitmq.uri, "near", tmp_path / "ttyNEAR", ProbeKind(has_fcs=True)) as near:
        for number in range(5):
            near.probe.hear(data_frame(number, FAR, NEAR, b"hello"))
        await near.until(lambda: near.port["packets_out"] == 5)
        lines = status_lines([near.agent.snapshot()], Output(DEFAULT))
    assert any(line.endswith("write --trailer fcs") for line in lines), lines

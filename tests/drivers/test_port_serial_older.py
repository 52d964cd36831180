"""What an older agent did with a probe's line, and what is not done here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.ports.serial import SerialConfig, SerialPort
from tumpline.machines.packets import PacketKind, batch_of
from tumpline.testing.lowpan import data_frame
from tumpline.testing.radio import Air, Probe
from tumpline.testing.recording_port import RecordingPortHost

HERE, THERE = bytes(7) + b"\x01", bytes(7) + b"\x02"
TURNS = 2000


async def test_a_silent_line_costs_nothing_and_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, it was asked for octets without a pause, and opened anew for each frame (which toggles its modem lines)."""
    calls = dict.fromkeys(("open", "read"), 0)

    def counted(name: str) -> Any:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **options)

        return call

    probe = Probe(Air(), tmp_path / "ttyRADIO")
    port = SerialPort(SerialConfig(device=str(probe.path)))
    await port.start(RecordingPortHost())
    try:
        for name in calls:
            monkeypatch.setattr(os, name, counted(name))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert calls == {"open": 0, "read": 0}
        for number in range(10):
            port.write(batch_of(PacketKind.FRAME, [data_frame(number, HERE, THERE, b"payload")]))
        async with asyncio.timeout(20):
            while len(probe.sent) < 10:
                await asyncio.sleep(0.002)
        assert calls["open"] == 0
    finally:
        monkeypatch.undo()
        await port.stop()
        probe.unplug()

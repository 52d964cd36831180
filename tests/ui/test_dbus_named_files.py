"""Whose calls may name files."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from tumpline.drivers.dbus import BusError, Call
from tumpline.ui.dbus import named_files


class Caller:
    def __init__(self, uid: int) -> None:
        self._uid = uid

    async def uid(self) -> int:
        return self._uid


def call_of(uid: int) -> Call:
    return cast("Call", Caller(uid))


@pytest.mark.parametrize(
    ("caller", "policy", "agent", "allowed"),
    [
        (1000, "own", 1000, True),
        (0, "own", 1000, True),
        (1001, "own", 1000, False),
        (1001, "own", 0, False),
        (1001, "any", 1000, True),
    ],
)
async def test_only_the_agent_s_user_and_root(
    monkeypatch: pytest.MonkeyPatch, caller: int, policy: str, agent: int, allowed: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: agent)
    if allowed:
        await named_files.require_own_user(call_of(caller), "send_fd", policy)
        return
    with pytest.raises(
        BusError, match=rf"user {caller} may not name files that user {agent} opens: .* use send_fd"
    ) as refused:
        await named_files.require_own_user(call_of(caller), "send_fd", policy)
    assert refused.value.name == "org.freedesktop.DBus.Error.AccessDenied"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("x")
    opened = named_files.open_file(str(file))
    assert os.read(opened, 2) == b"x"
    os.close(opened)
    before: list[Any] = os.listdir("/proc/self/fd")
    for path, why in (
        (pipe, "is no regular file"),
        (tmp_path, "is no regular file"),
        (tmp_path / "no", "No such file"),
    ):
        with pytest.raises(BusError, match=why):
            named_files.open_file(str(path))
    with pytest.raises(BusError, match="null"):
        named_files.open_file("a\0b")
    assert os.listdir("/proc/self/fd") == before, "nothing stays open"

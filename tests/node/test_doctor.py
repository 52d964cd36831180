"""What doctor says about this machine, and about machines that lack something."""

import socket
import ssl
import sys
from pathlib import Path

import pytest

from tumpline.node import doctor


def test_everything_is_looked_at_and_what_is_missing_has_a_fix() -> None:
    checks = doctor.examine()
    assert {"Python", "TLS 1.3", "libraries", "DTLS", "TUN device", "user namespaces", "tshark"} <= {
        check.name for check in checks
    }
    for check in checks:
        assert bool(check.fix) != check.ok, check
        assert check.seen, check
        assert check.needed != bool(check.what_for), check


def test_this_python_can_run_an_agent() -> None:
    needed = [check for look in (doctor.check_python, doctor.check_libraries) for check in look()]
    assert all(check.ok for check in needed), needed


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    python, tls, _ = doctor.check_python()
    assert (python.ok, tls.ok) == (False, False)
    assert not doctor.is_ready([python])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("msgspec", "no-such-library-of-anybody"))
    (check,) = doctor.check_libraries()
    assert not check.ok
    assert check.seen == "missing: no-such-library-of-anybody"
    assert check.fix.endswith("-m pip install no-such-library-of-anybody")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        port = holder.getsockname()[1]
        tcp = next(iter(doctor.check_port(port)))
    assert not tcp.ok
    assert "in use" in tcp.seen
    assert str(port) in tcp.fix


def test_a_tun_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "TUN_DEVICE", tmp_path / "tun")
    (check,) = doctor.check_tun()
    assert (check.ok, check.fix) == (False, "sudo modprobe tun")


def test_a_command_that_fails_or_is_not_there() -> None:
    assert doctor._runs("true")
    assert not doctor._runs("false")
    assert not doctor._runs("no-such-command-of-anybody")


def test_room_for_bundles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "FREE_OCTETS", 1 << 62)
    room, state, _ = doctor.check_state_dir(tmp_path / "not" / "there")
    assert not room.ok
    assert state.ok


def test_the_file_system_of_proc() -> None:
    assert doctor.filesystem(Path("/proc/self")) == "proc"

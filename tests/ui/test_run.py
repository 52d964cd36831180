"""`tumpline run -- COMMAND`, over a real broker, as an ordinary user has it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tumpline.lab.holder import environment
from tumpline.testing.nobody import as_nobody, directory_of_nobody
from tumpline.testing.rabbitmq import Vhost

# Where the device is open to users, as udev has it.
USERS = """
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && umount -l /mnt
exec "$@"
"""
HANG_S = 60.0


@pytest.fixture
def runtime() -> Iterator[Path]:
    with directory_of_nobody() as directory:
        yield directory


@contextmanager
def run(
    uri: str, runtime: Path, name: str, *command: str, options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    argv = as_nobody([sys.executable, "-m", "tumpline", "run", "--name", name, *options, "--", *command])
    env = environment() | {"AMQP_URL": uri, "XDG_RUNTIME_DIR": str(runtime), "HOME": str(runtime)}
    whole: Sequence[str] = ["unshare", "--mount", "sh", "-c", USERS, "sh", *argv]
    pipe = subprocess.PIPE
    with subprocess.Popen(whole, env=env, stdout=pipe, stderr=pipe, stdin=pipe, text=True, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_commands_reach_each_other_and_nothing_else(rabbitmq: Vhost, runtime: Path) -> None:
    with run(rabbitmq.uri, runtime, "agent_1", "cat") as waiting:
        assert waiting.stderr is not None
        assert "agent_1 is in the session" in waiting.stderr.readline()
        script = "ping -q -c 3 -i 0.2 -w 20 10.2.0.1 && ping -q -c 1 -w 5 bbbb::1 && ip -o link && exit 9"
        with run(rabbitmq.uri, runtime, "agent_2", "sh", "-c", script) as pinging:
            out, said = pinging.communicate(timeout=HANG_S)
        assert pinging.returncode == 9, said
        assert "3 received" in out
        assert [line.split()[1] for line in out.splitlines() if ": <" in line] == ["lo:", "tumpline0:"]
        echoed, _ = waiting.communicate("end of input ends it\n", timeout=HANG_S)
        assert (waiting.returncode, echoed) == (0, "end of input ends it\n")
    deadline = time.monotonic() + HANG_S
    while rabbitmq.queues() and time.monotonic() < deadline:
        pass
    assert rabbitmq.queues() == set()


def test_sigterm_ends_both_and_ctrl_c_is_the_commands(rabbitmq: Vhost, runtime: Path) -> None:
    script = "trap 'echo interrupted' INT; trap 'echo terminated; exit 3' TERM; echo begun; while :; do sleep 0.1; done"
    with run(rabbitmq.uri, runtime, "agent_1", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "terminated\n"
        assert process.wait(HANG_S) == 3


def test_what_cannot_be(rabbitmq: Vhost, runtime: Path) -> None:
    with run(rabbitmq.uri, runtime, "agent.1", "true") as process:
        _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 2
    assert "--name agent.1" in said
    with run("amqp://127.0.0.1:1/", runtime, "agent_1", "true", options=["--device", "tap0"]) as process:
        _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 2
    assert "leave out --device" in said

"""What an operator does wrong, or the machine does to them: one clear line with the remedy, the right exit code, and
nothing lost. Real processes, as people start them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tumpline.bench.framework.agents import PROGRAM, AgentProcess, Agents, clean_environment
from tumpline.node import ca
from tumpline.node.client import connect, connect_sync

HANG_S = 40.0
POLL_S = 0.02
BASE = """
[node]
id = "dtn://{name}/"
state_dir = "state"
retry_s_min = 0.05
retry_s_max = 0.5
[[links]]
kind = "tcpcl4"
retry_s_first = 0.05
retry_s_max = 0.2
{link}
[services.sink]
[services.source]
[services.echo]
[services.files]
directory = "inbox"
{more}
"""
ROUTE = '[[routes]]\nto = "dtn://{0}/**"\nvia = "dtn://{0}/"\n'


class Said(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


def tumpline(directory: Path, *arguments: str | Path, prefix: list[str] | None = None) -> Said:
    """Run one command; an agent that does not end by itself is a failure of the test."""
    command = [*(prefix or []), sys.executable, "-m", "tumpline", *map(str, arguments)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=HANG_S, env=clean_environment(directory), check=False
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + HANG_S
    while not is_so():
        assert time.monotonic() < end, f"it never came to that: {what}"
        time.sleep(POLL_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def config(name: str, link: str = "", more: str = "") -> str:
    return BASE.format(name=name, link=link, more=more)


def dialling(port: int, tls: str = "") -> str:
    return config("west", f'connect = ["127.0.0.1:{port}"]\n{tls}', ROUTE.format("east"))


def listening(port: int, tls: str = "") -> str:
    return config("east", f'listen = "127.0.0.1:{port}"\n{tls}')


def status(agent: AgentProcess) -> dict[str, Any]:
    with connect_sync(runtime_socket(agent)) as client:
        found: dict[str, Any] = client.get("/v1/status")
        return found


def runtime_socket(agent: AgentProcess) -> Path:
    """The one outside of the state directory."""
    return agent.directory / "tumpline" / f"{agent.name}.sock"


def counter(agent: AgentProcess, name: str) -> int:
    return int(status(agent)["counters"].get(name, 0))


def held(agent: AgentProcess) -> int:
    return int(status(agent)["store"]["bundles"])


def held_at_least(agent: AgentProcess, bundles: int) -> bool:
    return held(agent) >= bundles


def sunk(agent: AgentProcess) -> int:
    with connect_sync(runtime_socket(agent)) as client:
        return int(client.get("/v1/sink")["bundles"])


def source(agent: AgentProcess, to: str, count: int, size: int = 100) -> None:
    """Give the agent bundles; they are stored when this returns."""
    with connect_sync(runtime_socket(agent)) as client:
        assert list(client.stream("/v1/source", {"to": to, "count": count, "size": size}))[-1]["stored"] == count


def kept(agent: AgentProcess) -> list[str]:
    """The identities of all bundles that an agent holds."""
    found: list[str] = []
    after = 0
    with connect_sync(runtime_socket(agent)) as client:
        while page := client.get("/v1/bundles", {"after": after, "limit": 1000})["bundles"]:
            found += [bundle["id"] for bundle in page]
            after = page[-1]["seq"]
    return found


async def take(agent: AgentProcess, demux: str, count: int) -> list[str]:
    """Take so many bundles that wait for an endpoint, and say that they are done."""
    taken: list[str] = []
    async with connect(runtime_socket(agent)) as client, client.endpoint(demux) as endpoint:
        async with asyncio.timeout(HANG_S):
            async for adu in endpoint:
                taken.append(adu.payload.hex())
                await endpoint.done(adu.seq)
                if len(taken) == count:
                    break
    return taken


def logged(agent: AgentProcess, *words: str) -> list[str]:
    """The lines of an agent's log that have all these words."""
    lines = agent.log_path.read_text().splitlines()
    return [line for line in lines if all(word in line for word in words)]


def assert_one_line(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said
    assert len(said.lines) == 1, said.err
    for word in words:
        assert word in said.err, said.err


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    with Agents(tmp_path) as running:
        yield running
        for agent in running.running.values():
            assert not logged(agent, "Traceback"), agent.log_tail()


# ---- configuration -------------------------------------------------------------------------------------------------------

MISTAKEN = """
[node]
id = "dtn:/ground"
state_dirr = "x"
[store]
kind = "sqlit"
quota_bytes = "10 Gigs"
[[links]]
kind = "tcpcl4"
listen = "[::]:99999"
connect = 7
tls = { mode = "required", ca = "no.pem", cert = "no.pem", key = "no.key" }
[[routes]]
to = "dtn://rover/**"
[[contacts]]
peer = "dtn://rover/"
start = "soon"
duration = "10m"
[services.ech]
[log]
level = "loud"
"""
# line and key of each mistake, and a word of what to write instead
MISTAKES = [
    (3, "node.id", "dtn://node"),
    (4, "node.state_dirr", "'state_dir'"),
    (6, "store.kind", "'sqlite'"),
    (7, "store.quota_bytes", "10 GiB"),
    (10, "links[0].listen", "65535"),
    (11, "links[0].connect", '"..."'),
    (12, "links[0].tls.cert", "`tumpline cert issue"),
    (12, "links[0].tls.key", "`tumpline cert issue"),
    (12, "links[0].tls.ca", "`tumpline cert init`"),
    (13, "routes[0]", 'via = "dtn://node/"'),
    (17, "contacts[0].start", '"+30s"'),
    (19, "services.ech", "'echo'"),
    (21, "log.level", "debug, error, info, warning"),
]


def test_every_mistake_of_a_configuration_in_one_run(tmp_path: Path) -> None:
    file = tmp_path / "ground.toml"
    file.write_text(MISTAKEN)
    said = tumpline(tmp_path, "up", "--config", file)
    assert said.code == 2
    assert not said.out
    for line, key, remedy in MISTAKES:
        [found] = [each for each in said.lines if each.startswith(f"{file}:{line}: {key}: ")]
        assert remedy in found
    assert said.lines[-1] == f"tumpline: {len(MISTAKES)} mistakes in the configuration"
    assert len(said.lines) == len(MISTAKES) + 1
    assert not (tmp_path / "x").exists()


def test_a_configuration_that_is_no_toml_and_one_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "ground.toml"
    said = tumpline(tmp_path, "up", "--config", file)
    assert_one_line(said, 2, f"{file} does not exist", f"`tumpline config init {file}`")
    file.write_text("[node]\nid = dtn://ground/\n")
    assert_one_line(tumpline(tmp_path, "up", "--config", file), 2, f"{file}:2: ", "quotes")


def test_a_configuration_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "ground.toml"
    file.write_text(config("ground"))
    file.chmod(0)
    said = tumpline(tmp_path, "up", "--config", file, prefix=without_override())
    assert_one_line(said, 2, f"{file} cannot be read: permission denied", "name another file")


# ---- keys and certificates -----------------------------------------------------------------------------------------------


def without_override() -> list[str]:
    """A command prefix: root too is then held to the modes of its own files."""
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []


class Made(NamedTuple):
    """A CA that has been there for a while, and what it issued."""

    directory: Path

    @classmethod
    def here(cls, directory: Path) -> Made:
        ca.init_ca(directory, now=datetime.now(UTC) - timedelta(days=30))
        made = cls(directory)
        for name in ("west", "east"):
            made.issue(name)
        return made

    def issue(self, name: str, *, expired: bool = False) -> ca.Issued:
        """A certificate for a year from today on, or one that was over yesterday."""
        then = datetime.now(UTC) - timedelta(days=3 if expired else 0)
        days = 1 if expired else 365
        return ca.issue(self.directory, [f"dtn://{name}/"], days=days, now=then, overwrite=True)

    def line(self, cert: str, key: str | None = None) -> str:
        files = f'ca = "{self.directory}/ca.pem", cert = "{self.directory}/{cert}.pem"'
        key_file = self.directory / f"{key or cert}.key"
        return f'tls = {{ mode = "required", {files}, key = "{key_file}", authenticate = "node" }}'


@pytest.fixture
def certs(tmp_path: Path) -> Made:
    return Made.here(tmp_path / "certs")


def up_with(tmp_path: Path, line: str) -> Said:
    file = tmp_path / "west.toml"
    file.write_text(dialling(1, line))
    said = tumpline(tmp_path, "up", "--config", file, prefix=without_override())
    assert not (tmp_path / "state").exists()  # refused before anything was begun
    return said


def test_a_key_that_is_missing(tmp_path: Path, certs: Made) -> None:
    said = up_with(tmp_path, certs.line("west", "gone"))
    assert_one_line(said, 2, "links[0].tls.key", f"{certs.directory}/gone.key does not exist", "`tumpline cert issue")


def test_a_key_that_may_not_be_read(tmp_path: Path, certs: Made) -> None:
    (certs.directory / "west.key").chmod(0)
    said = up_with(tmp_path, certs.line("west"))
    key = certs.directory / "west.key"
    assert_one_line(said, 2, "links[0].tls.key", f"{key} cannot be read (permission denied)", f"`chmod 600 {key}`")


def test_a_key_of_another_certificate(tmp_path: Path, certs: Made) -> None:
    said = up_with(tmp_path, certs.line("west", "east"))
    assert_one_line(said, 2, "links[0].tls.key", "east.key is not the key of the certificate", "name the key that was")


def test_a_key_that_is_none(tmp_path: Path, certs: Made) -> None:
    (certs.directory / "west.key").write_text("nothing\n")
    said = up_with(tmp_path, certs.line("west"))
    assert_one_line(said, 2, "links[0].tls.key", "west.key holds no private key", "-----BEGIN PRIVATE KEY-----")


def test_an_expired_certificate_at_the_start_names_the_command_that_works(tmp_path: Path, certs: Made) -> None:
    certs.issue("west", expired=True)
    said = up_with(tmp_path, certs.line("west"))
    assert_one_line(said, 2, "links[0].tls.cert", f"{certs.directory}/west.pem expired on ", "`tumpline cert renew")
    command = re.search(r"`tumpline ([^`]+)`", said.err)
    assert command is not None
    assert tumpline(tmp_path, *command[1].split()).code == 0
    assert "valid         True" in tumpline(tmp_path, "cert", "show", certs.directory / "west.pem").out


def test_a_peer_whose_certificate_expired_is_served_once_it_is_renewed(agents: Agents, certs: Made) -> None:
    port = free_port()
    east = agents.start("east", listening(port, certs.line("east")))
    certs.issue("east", expired=True)  # while it runs, as time would do it
    west = agents.start("west", dialling(port, certs.line("west")))
    source(west, "dtn://east/sink", 5)
    wait_until(lambda: status(west)["links"][0]["dialling"][0]["failures"] > 3, "several attempts failed")
    [mine] = logged(west, "warning")
    assert "connection_failed" in mine
    assert f"127.0.0.1:{port}" in mine
    assert "the peer's certificate has expired; renew it there with `tumpline cert renew`" in mine
    [theirs] = logged(east, "warning")
    assert f"our certificate has expired; `tumpline cert renew {certs.directory}/east.pem`" in theirs
    assert held(west) == 5
    certs.issue("east")
    wait_until(lambda: sunk(east) == 5, "the bundles go once the certificate is renewed")
    wait_until(lambda: held(west) == 0, "nothing is left behind")


# ---- what is there already -----------------------------------------------------------------------------------------------


def test_a_port_in_use_leaves_nothing_behind(agents: Agents, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        directory = tmp_path / "east"
        directory.mkdir()
        file = directory / "east.toml"
        file.write_text(listening(port))
        said = tumpline(directory, "up", "--config", file)
        assert_one_line(said, 1, "port in use", f"127.0.0.1:{port}", "stop it or choose another `listen`")
        assert not list(directory.rglob("*.sock"))
        assert_one_line(tumpline(directory, "status"), 4, "no agent runs here")
    # The port is free now, and nothing of the first attempt is in the way.
    said = tumpline(directory, "up", "--detach", "--config", file)
    assert said.code == 0, said.err
    assert tumpline(directory, "down").code == 0


def test_a_second_agent_on_the_same_state(agents: Agents) -> None:
    first = agents.start("ground", config("ground"))
    said = tumpline(first.directory, "up", "--config", first.config_path)
    assert_one_line(
        said, 2, f"{first.directory}/state is held", f"pid {first.pid};", "`tumpline down --node ground`", "state_dir"
    )
    assert status(first)["pid"] == first.pid


def test_what_a_killed_agent_left_is_in_nobodys_way(agents: Agents) -> None:
    agent = agents.start("ground", config("ground"))
    killed = agent.pid
    agent.kill()
    assert (agent.directory / "state" / "lock").read_text().strip() == str(killed)
    assert runtime_socket(agent).is_socket()
    assert_one_line(tumpline(agent.directory, "status"), 4, "no agent runs here: start one with `tumpline up`")
    said = tumpline(agent.directory, "status", "--node", "ground")
    assert_one_line(said, 4, "no agent answers on", "ground.sock", "`tumpline up`")
    agent.start()
    agent.wait_ready()
    assert status(agent)["pid"] == agent.pid != killed


def test_commands_without_an_agent(tmp_path: Path) -> None:
    for verb in (["status"], ["peers"], ["ping", "dtn://east/"], ["down"], ["bundles", "ls"]):
        assert_one_line(tumpline(tmp_path, *verb), 4, "no agent runs here: start one with `tumpline up`")
    told = tumpline(tmp_path, "status", "--json")
    assert json.loads(told.out)["exit_code"] == told.code == 4


# ---- peers ---------------------------------------------------------------------------------------------------------------


def test_an_unreachable_peer(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    west = agents.start("west", dialling(port))
    file = tmp_path / "report.bin"
    file.write_bytes(os.urandom(100_000))
    why = re.compile(rf"tcpcl4: no session with 127\.0\.0\.1:{port}: connection refused; attempt \d+ in ")
    said = tumpline(west.directory, "send", file, "dtn://east/", "--timeout", "0.3")
    assert said.code == 6, said
    assert "report.bin: not yet delivered; the agent goes on" in said.lines
    assert why.match(said.lines[-1]), said.err
    said = tumpline(west.directory, "ping", "dtn://east/", "--count", "1", "--timeout", "0.3")
    assert said.code == 3
    assert said.lines[0] == "tumpline: no answer from dtn://east/echo within 0.3 s"
    assert why.match(said.lines[1]), said.err
    shown = tumpline(west.directory, "links", "ls")
    assert shown.code == 0
    assert why.match(shown.out.splitlines()[-1]), shown.out
    wait_until(lambda: status(west)["links"][0]["dialling"][0]["failures"] > 4, "several attempts failed")
    [line] = logged(west, "warning")
    assert "connection_failed" in line
    assert "connection refused" in line
    east = agents.start("east", listening(port))
    inbox = east.directory / "inbox"
    wait_until(lambda: (inbox / "report.bin").exists(), "the file arrives when the peer is there")
    assert (inbox / "report.bin").read_bytes() == file.read_bytes()


# ---- a full disk ---------------------------------------------------------------------------------------------------------


def small_disk(directory: Path, size: str) -> list[str]:
    """A command prefix: `directory` is a disk of that size, for this process alone and as long as it lives."""
    directory.mkdir(parents=True)
    namespaces = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
    return [*namespaces, "sh", "-c", script, str(directory)]


def fill_up(ballast: Path) -> None:
    """Take all the room of a disk."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_disk_that_others_filled(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    disk = small_disk(tmp_path / "disk", "4m")
    east = agents.start("east", listening(port).replace('"state"', f'"{tmp_path}/disk"'), program=[*disk, *PROGRAM])
    west = agents.start("west", dialling(port))
    ballast = Path(f"/proc/{east.pid}/root{tmp_path}/disk/ballast")
    fill_up(ballast)
    for size in (100, 4000, 200_000):
        source(west, "dtn://east/sink", 20, size)
    wait_until(lambda: counter(west, "forwards_refused") > 60, "the sender is refused, and tries again")
    assert held(west) + held(east) + sunk(east) >= 60
    full = logged(east, "warning", "disk full")
    assert f"no room in {tmp_path}/disk/store" in full[0]
    assert "free some, or move state_dir" in full[0]
    assert len(full) <= 4, "each kind of failure is told once"
    ballast.unlink()
    wait_until(lambda: sunk(east) == 60, "everything arrives when there is room")
    wait_until(lambda: held(west) == held(east) == 0, "nothing is left behind")


def test_a_disk_that_the_store_filled_empties_by_itself(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    disk = small_disk(tmp_path / "disk", "1m")
    east = agents.start("east", listening(port).replace('"state"', f'"{tmp_path}/disk"'), program=[*disk, *PROGRAM])
    west = agents.start("west", dialling(port))
    source(west, "dtn://east/late", 400, 4000)
    wait_until(lambda: counter(west, "forwards_refused") > 100, "the sender is refused, and tries again")
    assert 0 < held(east) < 400
    taken = asyncio.run(take(east, "late", 400))
    assert len(set(taken)) == 400, "each once"
    wait_until(lambda: held(west) == held(east) == 0, "nothing is left behind")


def test_a_start_on_a_disk_without_an_octet_left(tmp_path: Path) -> None:
    file = tmp_path / "ground.toml"
    file.write_text(config("ground").replace('"state"', f'"{tmp_path}/disk"'))
    script = 'dd if=/dev/zero of="$0/ballast" bs=4k 2>/dev/null; exec "$@"'
    fill = ["sh", "-c", script, str(tmp_path / "disk")]
    said = tumpline(tmp_path, "up", "--config", file, prefix=[*small_disk(tmp_path / "disk", "1m"), *fill])
    assert_one_line(said, 2, f"{tmp_path}/disk cannot be written: no space left on device", "free some room")


def test_a_full_disk_is_a_failure_of_ours_and_no_refusal_by_others(agents: Agents, tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "disk", "4m")
    west = agents.start(
        "west", dialling(free_port()).replace('"state"', f'"{tmp_path}/disk"'), program=[*disk, *PROGRAM]
    )
    source(west, "dtn://east/sink", 1)
    bundle = tmp_path / "one.bundle"
    assert tumpline(west.directory, "bundles", "export", "1", str(bundle)).code == 0
    assert tumpline(west.directory, "bundles", "rm", "1").code == 0
    fill_up(Path(f"/proc/{west.pid}/root{tmp_path}/disk/ballast"))
    full = f"disk full: no room in {tmp_path}/disk/store"
    assert_one_line(tumpline(west.directory, "source", "dtn://east/sink", "text"), 1, full)
    assert_one_line(tumpline(west.directory, "source", "dtn://east/sink", "--count", "500"), 1, full)
    assert_one_line(tumpline(west.directory, "source", "dtn://east/sink", "--count", "5", "--size", "200000"), 1, full)
    assert_one_line(tumpline(west.directory, "ping", "dtn://east/", "--timeout", "5"), 1, full)
    assert_one_line(tumpline(west.directory, "trace", "dtn://east/", "--timeout", "5"), 1, full)
    assert_one_line(tumpline(west.directory, "bundles", "import", bundle), 1, "no resources; free some room")


def test_a_sender_at_the_quota_waits_until_its_timeout(agents: Agents) -> None:
    small = dialling(free_port()) + "[store]\nquota_bytes = 20000\n"
    west = agents.start("west", small)
    said = tumpline(west.directory, "source", "dtn://east/sink", "--count", "40", "--size", "1000", "--timeout", "1.5")
    assert said.code == 3, said
    assert re.match(r"1\d of 40 stored, waiting: the store is full", said.lines[0]), said.err
    assert said.lines[-1].startswith("tumpline: no room came within 1.5 s: the store is full"), said.err
    said = tumpline(west.directory, "source", "dtn://east/sink", "x" * 1000, "--timeout", "0.2")
    assert_one_line(said, 3, "no room came within 0.2 s: the store is full")
    said = tumpline(west.directory, "ping", "dtn://east/", "--size", "1000", "--timeout", "0.2")
    assert said.code == 3, said
    assert said.lines[0].startswith("waiting: the store is full"), said.err
    file = west.directory / "report.bin"
    file.write_bytes(os.urandom(3000))
    said = tumpline(west.directory, "send", file, "dtn://east/", "--timeout", "0.2")
    assert said.code == 3, said
    file.write_bytes(os.urandom(30_000))
    said = tumpline(west.directory, "send", file, "dtn://east/", "--timeout", "20")
    assert said.code == 5, said
    assert "never fits into a store of 20000 octets" in said.err
    said = tumpline(west.directory, "source", "dtn://east/sink", "--count", "1", "--size", "30000")
    assert_one_line(said, 5, "never fits into a store of 20000 octets: raise its quota")


def test_a_file_that_is_sent_from_a_full_disk_goes_when_there_is_room(agents: Agents, tmp_path: Path) -> None:
    port = free_port()
    disk = small_disk(tmp_path / "disk", "4m")
    west = agents.start("west", dialling(port).replace('"state"', f'"{tmp_path}/disk"'), program=[*disk, *PROGRAM])
    ballast = Path(f"/proc/{west.pid}/root{tmp_path}/disk/ballast")
    fill_up(ballast)
    file = tmp_path / "report.bin"
    file.write_bytes(os.urandom(3000))
    said = tumpline(west.directory, "send", file, "dtn://east/", "--timeout", "0.5")
    assert said.code in (1, 3), said
    assert f"disk full: no room in {tmp_path}/disk/store; free some" in said.lines[-1]
    ballast.unlink()
    agents.start("east", listening(port))
    said = tumpline(west.directory, "send", file, "dtn://east/", "--timeout", "20")
    assert said.code == 0, said


# ---- ends in the middle --------------------------------------------------------------------------------------------------


def test_sigterm_in_the_middle_of_transfers(agents: Agents) -> None:
    port = free_port()
    east = agents.start("east", listening(port))
    slow = '[[contacts]]\npeer = "dtn://east/"\nstart = "+0s"\nduration = "1h"\nrate = "100 Mbit/s"\n'
    west = agents.start("west", dialling(port) + slow)
    source(west, "dtn://east/kept", 30, 1 << 20)
    wait_until(lambda: held(east) > 1, "some have come")
    east.stop()
    assert held(west) > 0, "stopped in the middle"
    assert logged(east, "agent_stopped")
    assert not logged(east, "warning")
    east.start()
    east.wait_ready()
    wait_until(lambda: held(east) > 15, "some more have come")
    west.stop()
    assert held(east) < 30, "stopped in the middle"
    west.start()
    west.wait_ready()
    wait_until(lambda: held(west) == 0, "the rest has gone")
    assert len(kept(east)) == len(set(kept(east))) == 30


def test_kills_in_the_middle_of_a_stream(agents: Agents) -> None:
    port, count = free_port(), 6000
    east = agents.start("east", listening(port))
    west = agents.start("west", dialling(port))
    source(west, "dtn://east/kept", count)
    for part in (1, 2, 3):
        wait_until(partial(held_at_least, east, part * count // 5), f"{part} fifths have come")
        east.kill()
        east.start()
        east.wait_ready()
    wait_until(lambda: held(west) == 0, "everything is acknowledged")
    assert len(kept(east)) == len(set(kept(east))) == count
    first = asyncio.run(take(east, "kept", count // 2))
    wait_until(lambda: held(east) == count - count // 2, "it is noted that they are done")
    east.kill()
    east.start()
    east.wait_ready()
    rest = asyncio.run(take(east, "kept", count - count // 2))
    assert len({*first, *rest}) == count, "all, and none twice"
    wait_until(lambda: held(east) == 0, "it is noted that they are done")

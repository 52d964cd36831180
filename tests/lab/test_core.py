"""Laboratories as the kernel has them: nodes reach each other, and when they end nothing is left, whoever was killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tumpline.errors import NotReachableError, StateError, TumplineError
from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.lab.processes import start_time
from tumpline.testing.leftovers import processes_of

pytestmark = pytest.mark.usefixtures("nothing_left")

CHAIN = """
nets:
  left: {subnet4: 10.1.0.0/24, subnet6: "fd00:1::/64"}
  right: {subnet4: 10.2.0.0/24, subnet6: "fd00:2::/64", mtu: 1280}
nodes:
  ground: {nets: [left]}
  relay: {nets: [left, right], forward: true}
  rover: {nets: [right]}
"""
# Without root: another user with nothing but the right to read files (Python may lie in a directory of root's).
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search"]
NOBODY += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]


def ping(lab: Lab, node: str, *target: str) -> None:
    done = lab.exec(node, ["ping", "-c", "1", "-W", "5", *target])
    assert done.returncode == 0, done.stdout + done.stderr


def test_nodes_reach_each_other_by_name_over_both_versions() -> None:
    with Lab.of(CHAIN, name=unique("chain")) as lab:
        for version in ("-4", "-6"):
            ping(lab, "ground", version, "relay")
            ping(lab, "ground", version, "rover")
            ping(lab, "rover", version, "ground.")
        assert lab.exec("rover", ["hostname"]).stdout == "rover\n"
        assert lab.exec("rover", ["sh", "-c", "exit 7"]).returncode == 7
        assert "br-left" in lab.exec(None, ["ip", "-o", "link"]).stdout
        assert "mtu 1280" in lab.exec("rover", ["ip", "link", "show", "right"]).stdout
        with pytest.raises(TumplineError, match="there is no node 'moon'; there are ground, relay, rover"):
            lab.exec("moon", ["true"])


def test_two_of_one_file_at_once_do_not_meet() -> None:
    with Lab.of(CHAIN, name=unique("a")) as one, Lab.of(CHAIN, name=unique("b")) as other:
        for lab in (one, other):
            ping(lab, "ground", "rover")
        assert one.exec("rover", ["ip", "link", "set", "right", "down"]).returncode == 0
        ping(other, "ground", "rover")


def test_a_second_up_says_so_and_harms_nothing() -> None:
    name = unique("twice")
    with Lab.of(CHAIN, name=name) as lab:
        with pytest.raises(StateError, match=f"{name} is up already; end it with `tumpline lab down {name}`"):
            Lab.of(CHAIN, name=name).up()
        ping(lab, "ground", "rover")
        ping(Lab.find(name), "ground", "rover")
    with pytest.raises(NotReachableError, match="no laboratory"):
        Lab.find(name)


def test_down_ends_what_runs_in_it() -> None:
    lab = Lab.of(CHAIN, name=unique("busy"))
    with lab:
        sleeper = lab.start("rover", ["sleep", "1000"])
    assert sleeper.wait(10) != 0
    lab.down()  # again: nothing to do


def test_what_cannot_be_built_leaves_nothing() -> None:
    lab = Lab.of(CHAIN, name=unique("bad"))
    lab.ports = [port._replace(address4="10.1.0.1/99") for port in lab.ports]
    with pytest.raises(TumplineError, match=r"10\.1\.0\.1/99"):
        lab.up()
    assert not lab.directory.exists()


_UP = """
import os, sys
from tumpline.lab import Lab
lab = Lab.read(sys.argv[1], name=sys.argv[2])
lab.up()
print(lab.holder.pid, flush=True)
sys.stdin.read()
"""


def up_elsewhere(tmp_path: Path, name: str, *prefix: str, code: str = _UP) -> tuple[subprocess.Popen[str], int]:
    """A laboratory that another process has made. The process, and the holder's pid."""
    file = tmp_path / "chain.yaml"
    file.write_text(CHAIN)
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", code, str(file), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def test_it_outlives_the_command_that_made_it_and_goes_by_another(tmp_path: Path) -> None:
    name = unique("orphan")
    kill(up_elsewhere(tmp_path, name)[0])
    lab = Lab.find(name)
    ping(lab, "ground", "rover")
    lab.down()


_WITH = """
import sys, time
from tumpline.lab import Lab
with Lab.read(sys.argv[1], name=sys.argv[2]) as lab:
    print(lab.holder.pid, flush=True)
    sys.stdin.read()
"""


def test_in_a_block_it_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    process, holder = up_elsewhere(tmp_path, name := unique("block"), code=_WITH)
    kill(process)
    while start_time(holder) is not None:
        os.sched_yield()
    Lab.of(CHAIN, name=name).down()  # its directory is still there


def test_after_its_holder_was_killed_it_can_be_made_again(tmp_path: Path) -> None:
    name = unique("crashed")
    process, holder = up_elsewhere(tmp_path, name)
    os.kill(holder, signal.SIGKILL)
    while start_time(holder) is not None:
        os.sched_yield()
    with pytest.raises(NotReachableError, match="not up"):
        Lab.find(name).exec("ground", ["true"])
    with Lab.of(CHAIN, name=name) as lab:
        ping(lab, "ground", "rover")
    kill(process)


def test_one_that_nobody_finished_is_made_anew(tmp_path: Path) -> None:
    name = unique("half")
    process, holder = up_elsewhere(tmp_path, name)
    lab = Lab.find(name)
    state = lab.directory / "lab.json"
    state.write_text(state.read_text().replace('"ready": true', '"ready": false'))
    with Lab.of(CHAIN, name=name) as fresh:
        assert fresh.holder.pid != holder
        ping(fresh, "ground", "rover")
    assert start_time(holder) is None
    kill(process)


def test_without_root(tmp_path: Path, runtime_dir: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2], runtime_dir):
        os.chmod(directory, 0o755)
    shutil.chown(runtime_dir, 65534, 65534)
    prefix = NOBODY if os.geteuid() == 0 else []
    name = unique("nobody")
    process, holder = up_elsewhere(tmp_path, name, *prefix)
    if prefix:
        assert os.stat(f"/proc/{holder}").st_uid == 65534
    code = (
        "from tumpline.lab import Lab; import sys; d = Lab.find(sys.argv[1]).exec('ground', ['ping', '-c1', 'rover']);"
    )
    code += "print(d); Lab.find(sys.argv[1]).down(); sys.exit(d.returncode)"
    done = subprocess.run([*prefix, sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert start_time(holder) is None
    kill(process)
    assert processes_of(name) == []

"""A network file of the older agent, up as it is: its agents talk over mutual TLS by the ways that the file gives."""

import subprocess
import sys
from pathlib import Path

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique
from tumpline.lab.stage import Stage

pytestmark = pytest.mark.usefixtures("nothing_left")

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "older-four-nodes.yaml"


def ping(lab: Lab, node: str, target: str) -> None:
    done = lab.exec(node, ["tumpline", "ping", target, "--count", "1", "--timeout", "20"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_four_nodes_works_as_it_is() -> None:
    with Lab.read(EXAMPLE, name=unique("four")) as lab:
        for node, target in (("harbour", "dtn://hut/"), ("hut", "dtn://depot/"), ("depot", "dtn://harbour/")):
            ping(lab, node, target)
        ping(lab, "hut", "ipn:20.0")
        security = {node: lab.exec(node, ["tumpline", "peers", "--json"]).stdout for node in ("harbour", "hut")}
        assert "TLSv1.3" in security["harbour"]
        assert '"link":"udpcl"' in security["hut"]  # as its route says
        assert lab.exec("hut", ["getent", "ahostsv4", "lighthouse.local"]).stdout.split()[0] == "10.66.2.1"
        assert lab.exec("hut", ["ip", "-6", "-o", "address", "show", "dev", "shore", "scope", "global"]).stdout == ""


def test_the_example_of_discovery_works_over_its_hops_by_all_node_ids() -> None:
    with Lab.read(EXAMPLE.with_name("older-discovery.yaml"), name=unique("chain")) as lab:
        for node, target in (
            ("mill", "ipn:31.0"),
            ("mill", "dtn://landing/"),
            ("ferry", "dtn://mill/"),
            ("mill", "ipn:30.0"),
        ):
            ping(lab, node, target)


def test_the_same_with_keys_and_key_logs_of_a_stage(tmp_path: Path) -> None:
    lab = Lab.read(EXAMPLE, name=unique("staged"))
    stage = Stage(tmp_path, lab.file)
    stage.complete()
    with Lab.read(stage.file, name=lab.name) as staged:
        ping(staged, "harbour", "dtn://depot/")
        assert "SERVER_TRAFFIC_SECRET_0" in stage.key_log("harbour").read_text()
        stage.keep_logs(staged.logs)
    assert "agent_started" in (tmp_path / "hut" / "log" / "hut.log").read_text()


def test_the_verbs_of_lab_take_such_a_file(tmp_path: Path) -> None:
    def lab(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "tumpline", "lab", *map(str, words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    told = lab("compose", EXAMPLE).stdout
    assert told.splitlines()[-1].endswith(
        "compose -f " + str(tmp_path / "older-four-nodes-containers/compose.yaml") + " up --build --detach"
    )
    lab("compose", EXAMPLE, "--source", tmp_path, code=2)
    try:
        up = lab("up", EXAMPLE)
        assert "older-four-nodes.yaml:23: nodes.harbour.config.apps.zeroconf: discovery is not there yet" in up.stderr
        assert "agent" in lab("status", EXAMPLE).stdout
        lab("exec", "hut", "--lab", EXAMPLE, "--", "ping", "-c1", "depot")
        assert "agent_started" in lab("logs", "hut").stdout
    finally:
        lab("down", EXAMPLE)
    assert "3 of 3 as expected" in lab("test", EXAMPLE).stdout


def test_datagrams_are_secured_where_the_file_says_so() -> None:
    text = EXAMPLE.read_text().replace(
        "      tls_enable: true\n", "      tls_enable: true\n      dtls_enable_tx: true\n"
    )
    with Lab.of(text, name=unique("dtls")) as lab:
        ping(lab, "harbour", "dtn://hut/")
        assert '"security":"DTLSv1.2"' in lab.exec("hut", ["tumpline", "peers", "--json"]).stdout

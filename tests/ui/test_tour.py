"""What the documents tell people to type, typed: two agents, every verb that moves something."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import Agents, clean_environment
from tumpline.bench.framework.certificates import Certificates
from tumpline.bench.framework.chain import address_of

pytestmark = pytest.mark.slow

CONFIG = """\
[node]
id = "dtn://{name}/"
state_dir = "state"

[[links]]
kind = "tcpcl4"
listen = "127.0.0.1:0"
{link}
[services.sink]
verify = true

[services.files]
directory = "inbox"
"""


class Tour:
    """Two agents and somebody who types."""

    def __init__(self, directory: Path, agents: Agents) -> None:
        self.directory = directory
        certificates = Certificates.make(directory / "certs", ["rover", "ground"])
        rover = agents.start("rover", CONFIG.format(name="rover", link=certificates.config_line("rover")))
        connect = f'connect = ["{address_of(rover)}"]\n'
        link = connect + certificates.config_line("ground")
        ground = agents.start("ground", CONFIG.format(name="ground", link=link))
        self.sockets = {"ground": str(ground.socket), "rover": str(rover.socket)}

    def start(self, node: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tumpline", *arguments, "--node", self.sockets[node], "--json"]
        environment = clean_environment(self.directory)
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
        )

    def type(self, node: str, *arguments: str, code: int = 0, **options: Any) -> list[Any]:
        with self.start(node, *arguments, **options) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, (arguments, out, err)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    directory = tmp_path_factory.mktemp("tour")
    with Agents(directory) as agents:
        yield Tour(directory, agents)


def test_ping_and_trace(tour: Tour) -> None:
    events = tour.type("ground", "ping", "dtn://rover/", "--count", "2", "--interval", "10ms")
    assert events[-1]["received"] == 2
    assert tour.type("ground", "trace", "dtn://rover/")[-1]["delivered"]


def test_ping_of_nobody(tour: Tour) -> None:
    events = tour.type("ground", "ping", "dtn://nobody/", "--count", "1", "--timeout", "200ms", code=3)
    assert events[-1]["received"] == 0


def test_peers_prove_who_they_are(tour: Tour) -> None:
    (value,) = tour.type("ground", "peers")
    (peer,) = (peer for peer in value["peers"] if peer["id"] == "dtn://rover/")
    assert (peer["state"], peer["authenticated"], peer["security"]) == ("up", True, "TLSv1.3")


def test_a_file_arrives_whole(tour: Tour) -> None:
    data = hashlib.shake_256(b"tour").digest(3_000_000)
    (tour.directory / "photo.jpg").write_bytes(data)
    with tour.start("rover", "recv", str(tour.directory / "here"), "--count", "1") as receiver:
        events = tour.type("ground", "send", str(tour.directory / "photo.jpg"), "dtn://rover/", "--timeout", "20s")
        assert events[-1] == {"event": "finished", "exit_code": 0, "reason": None}
        out, err = receiver.communicate(timeout=60)
    assert json.loads(out).get("octets") == len(data), (out, err)
    assert (tour.directory / "here" / "photo.jpg").read_bytes() == data


def test_a_stream_arrives_whole(tour: Tour) -> None:
    with (tour.directory / "log").open("w+") as log:
        log.write("line\n" * 1000)
        log.seek(0)
        events = tour.type("ground", "pipe", "dtn://rover/", "--name", "log.txt", "--timeout", "20s", stdin=log)
    assert events[-1]["exit_code"] == 0
    found = tour.directory / "rover" / "inbox" / "log.txt"
    assert found.read_text() == "line\n" * 1000


def test_a_file_for_nobody_is_stored_only(tour: Tour) -> None:
    (tour.directory / "note").write_text("note")
    events = tour.type("ground", "send", str(tour.directory / "note"), "dtn://nobody/", "--timeout", "200ms", code=6)
    assert [event["event"] for event in events][-2:] == ["stored", "finished"]


def test_an_endpoint_of_ones_own(tour: Tour) -> None:
    with tour.start("rover", "sink", "mine", "--count", "1") as sink:
        assert sink.stderr is not None
        assert "receiving at dtn://rover/mine" in sink.stderr.readline()
        (sent,) = tour.type("ground", "source", "dtn://rover/mine", "hello")
        assert sent["octets"] == 5
        out, _ = sink.communicate(timeout=60)
    assert json.loads(out)["sha256"] == hashlib.sha256(b"hello").hexdigest()


def test_ctrl_c_ends_without_a_word(tour: Tour) -> None:
    with tour.start("rover", "sink", "mine") as sink:
        assert sink.stderr is not None
        assert "receiving" in sink.stderr.readline()
        sink.send_signal(signal.SIGINT)
        out, err = sink.communicate(timeout=60)
    assert (sink.returncode, out, err) == (130, "", "")


def test_who_does_not_listen_any_more_is_no_error(tour: Tour) -> None:
    command = f"{sys.executable} -m tumpline completion bash | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert len(done.stdout) == 10
    assert done.stderr == ""


def test_numbered_adus_reach_the_sink(tour: Tour) -> None:
    assert tour.type("ground", "source", "dtn://rover/sink", "--count", "500", "--size", "200")[-1]["stored"] == 500


def test_bundles_out_and_in_again(tour: Tour) -> None:
    tour.type("ground", "source", "dtn://later/sink", "kept")
    (bundle,) = (one for one in tour.type("ground", "bundles", "ls") if one["destination"] == "dtn://later/sink")
    seq, file = str(bundle["seq"]), str(tour.directory / "bundle")
    tour.type("ground", "bundles", "export", seq, file)
    (decoded,) = tour.type("ground", "bundles", "decode", file)
    assert bytes.fromhex(decoded["payload"]["begins_hex"]) == b"kept"
    assert tour.type("ground", "bundles", "show", seq)[0]["id"] == bundle["id"]
    assert tour.type("ground", "bundles", "rm", seq) == [{"removed": True}]
    tour.type("ground", "bundles", "rm", seq, code=1)
    tour.type("ground", "bundles", "import", file)
    again = [one for one in tour.type("ground", "bundles", "ls") if one["destination"] == "dtn://later/sink"]
    assert [one["payload_octets"] for one in again] == [4]


def test_what_is_steered_shows_at_once(tour: Tour) -> None:
    tour.type("ground", "routes", "add", "dtn://far/**", "dtn://rover/", "--save")
    (routes,) = tour.type("ground", "routes", "ls")
    assert ("dtn://far/**", "dtn://rover/") in [(route["to"], route["via"]) for route in routes["routes"]]
    assert "dtn://far/**" in (tour.directory / "ground" / "ground.toml").read_text()
    tour.type("ground", "routes", "rm", "dtn://far/**", "dtn://rover/", "--save")
    assert "dtn://far/**" not in (tour.directory / "ground" / "ground.toml").read_text()
    tour.type("ground", "contacts", "add", "dtn://moon/", "--duration", "10m")
    (contacts,) = tour.type("ground", "contacts", "ls")
    assert [contact["peer"] for contact in contacts["contacts"]] == ["dtn://moon/"]
    tour.type("ground", "contacts", "rm", "dtn://moon/")
    tour.type("ground", "links", "add", "tcpcl4", "--name", "second", "--listen", "127.0.0.1:0")
    (links,) = tour.type("ground", "links", "ls")
    assert [link["name"] for link in links["links"]] == ["tcpcl4", "second"]
    tour.type("ground", "links", "rm", "second")
    tour.type("ground", "links", "rm", "second", code=1)


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        (["routes", "add", "dtn:/x", "dtn://rover/"], "dtn"),
        (["contacts", "add", "dtn://moon/", "--duration", "soon"], "soon"),
        (["links", "add", "tcpcl5"], "tcpcl4"),
        (["ping", "rover"], "rover"),
    ],
)
def test_what_cannot_be_understood_is_told(typed: list[str], word: str, tour: Tour) -> None:
    with tour.start("ground", *typed) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert word in err
    assert err.startswith("tumpline: ")
    assert "Traceback" not in err
    assert json.loads(out)["exit_code"] == process.returncode

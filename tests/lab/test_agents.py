"""Agents in nodes: what they are told, that they are reached from outside, what is seen of those that die."""

import tomllib
from pathlib import Path

import pytest

from tumpline.errors import StateError, TumplineError
from tumpline.lab import Lab
from tumpline.lab.agent_config import agent_config, merged, node_id
from tumpline.lab.api import unique
from tumpline.lab.read import loads
from tumpline.node.config import load as load_config
from tumpline.wire.eid import Eid

pytestmark = pytest.mark.usefixtures("nothing_left")

PAIR = """
nets:
  wire: {subnet4: 10.0.1.0/24, subnet6: "fd00:1::/64"}
contacts:
  - {peer: "dtn://rover/", start: +1h, duration: 10m}
nodes:
  ground:
    nets: [wire]
    agent:
      connect: [rover]
      key_log: true
      store: memory
      routes: [{to: "dtn://base/**", via: "dtn://rover/"}]
      config: {node: {aliases: ["ipn:7.0"], hop_limit: 5}, links: [{keepalive: 9}], routes: [{to: "ipn:1.0", via: "dtn://rover/"}]}
  rover:
    nets: [wire]
    agent: {id: "dtn://r1/", tls: false}
    run: [[sleep, "1000"], [sleep, "2000"]]
""".replace("keepalive:", "keepalive_s:")
ONE = """
nets: {wire: {subnet4: 10.0.1.0/24}}
nodes:
  ground: {nets: [wire], agent: {}}
"""


def test_a_configuration_says_what_the_file_says(tmp_path: Path) -> None:
    lab = loads(PAIR)
    agent = lab.nodes["ground"].agent
    assert agent is not None
    config = agent_config(lab, "ground", agent, tmp_path)
    assert config["node"] == {
        "id": "dtn://ground/",
        "state_dir": "state",
        "reports": True,
        "aliases": ["ipn:7.0"],
        "hop_limit": 5,
    }
    (link,) = config["links"]
    assert (link["listen"], link["keepalive_s"], link["tls"]["min_version"]) == ("[::]:4556", 9, "1.3")
    assert link["tls"]["key_log"] == str(tmp_path / "tls.keylog")
    assert config["peers"] == [{"id": "dtn://r1/", "link": "tcpcl4", "address": "rover:4556"}]
    assert [route["to"] for route in config["routes"]] == ["dtn://base/**", "ipn:1.0"]
    assert [contact["peer"] for contact in config["contacts"]] == ["dtn://rover/"]
    assert node_id(lab, "rover") == "dtn://r1/"


def test_what_is_laid_over_merges_tables_and_links_and_adds_to_lists_of_tables() -> None:
    base = {"a": {"x": 1, "y": 2}, "links": [{"k": 1, "t": {"m": 1}}], "routes": [{"to": 1}], "l": [1]}
    over = {"a": {"y": 3}, "links": [{"t": {"n": 2}}, {"k": 5}], "routes": [{"to": 2}], "l": [2], "b": 4}
    assert merged(base, over) == {
        "a": {"x": 1, "y": 3},
        "links": [{"k": 1, "t": {"m": 1, "n": 2}}, {"k": 5}],
        "routes": [{"to": 1}, {"to": 2}],
        "l": [2],
        "b": 4,
    }


def test_agents_are_there_with_what_they_were_told() -> None:
    with Lab.of(PAIR, name=unique("pair")) as lab:
        configuration = load_config(lab.directory / "nodes" / "ground" / "ground.toml")
        assert configuration.node.id == Eid.parse("dtn://ground/")
        assert tomllib.loads((lab.directory / "nodes" / "rover" / "rover.toml").read_text())["links"][0]["tls"] == {
            "mode": "off"
        }
        assert [(each.node, each.name, each.alive) for each in lab.programs] == [
            ("rover", "sleep", True),
            ("rover", "sleep-2", True),
            ("ground", "agent", True),
            ("rover", "agent", True),
        ]
        with lab.client("ground") as agent:
            status = agent.get("/v1/status")
            assert (status["node_id"], status["aliases"]) == ("dtn://ground/", ["ipn:7.0"])
            assert [each["open"] for each in agent.get("/v1/contacts")["contacts"]] == [False]
        assert "dtn://r1/" in lab.exec("rover", ["tumpline", "status"]).stdout
        with pytest.raises(TumplineError, match="there is no node 'moon'"):
            lab.client("moon")


def test_one_that_dies_is_seen_and_can_be_started_again() -> None:
    with Lab.of(ONE, name=unique("one")) as lab:
        with pytest.raises(StateError, match="the agent of ground runs already"):
            lab.start_agent("ground")
        lab.kill_agent("ground")
        lab.kill_agent("ground")
        assert [each.alive for each in Lab.find(lab.name).programs] == [False]
        lab.start_agent("ground")
        assert [each.alive for each in Lab.find(lab.name).programs] == [True]
        with lab.client("ground") as agent:
            assert agent.get("/v1/status")["node_id"] == "dtn://ground/"


def test_one_that_cannot_start_says_why() -> None:
    lab = Lab.of(ONE.replace("agent: {}", "agent: {config: {node: {hop_limit: 999}}}"), name=unique("bad"))
    with pytest.raises(TumplineError, match=r"(?s)agent of ground did not start:.*ground.toml:\d+: node.hop_limit"):
        lab.up()
    assert not lab.directory.exists()


def test_a_program_that_is_not_there_is_seen() -> None:
    with Lab.of(ONE.replace("agent: {}", "run: [[/no/such/program]]"), name=unique("run")) as lab:
        (program,) = lab.programs
        while program.alive:
            lab.exec("ground", ["true"])
        assert "/no/such/program" in Path(program.log).read_text()

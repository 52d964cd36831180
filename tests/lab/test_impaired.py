"""What a laboratory's file says of nets befalls packets, and can be changed while it is up; NATs stand where it puts them."""

import json
import re
import subprocess

import pytest

from tumpline.errors import TumplineError
from tumpline.lab import Lab
from tumpline.lab.api import unique

pytestmark = pytest.mark.usefixtures("nothing_left")

SLOW = """
nets:
  far: {subnet4: 10.1.0.0/24, subnet6: "fd00:1::/64", impair: {delay: 100 ms}}
  near: {subnet4: 10.2.0.0/24}
nodes:
  ground: {nets: {far: {}, near: {impair: {loss: 1.0}}}}
  rover: {nets: [far, near]}
"""
HOME = """
nets:
  wan: {subnet4: 11.22.33.0/24}
  lan: {subnet4: 192.168.1.0/24}
nodes:
  server: {nets: [wan]}
  box: {nets: [wan, lan], nat: {kind: symmetric, outside: wan}}
  pc: {nets: [lan]}
  shut: {nets: [wan], firewall: stateful}
"""


def rtt_ms(lab: Lab, *target: str) -> float:
    """The shortest: the first one waits for the address to be resolved too."""
    done = lab.exec("ground", ["ping", "-c", "3", "-i", "0.2", "-W", "5", *target])
    found = re.search(r"= ([\d.]+)/", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


@pytest.mark.measured
def test_a_delay_is_met_in_both_directions_and_can_be_changed() -> None:
    with Lab.of(SLOW, name=unique("slow")) as lab:
        for version in ("-4", "-6"):
            assert 200 <= rtt_ms(lab, version, "rover.far") < 220
        lab.impair("far", {"delay": "10 ms"}, node="rover")
        assert 110 <= rtt_ms(lab, "rover.far") < 130
        lab.impair("far", {})
        assert rtt_ms(lab, "rover.far") < 20
        assert lab.exec("ground", ["ping", "-c", "1", "-W", "1", "rover.near"]).returncode == 1
        assert sum(each["lost"] for each in lab.impairments()) > 0
        with pytest.raises(TumplineError, match="rover on near is not impaired"):
            lab.impair("near", {}, node="rover")
        with pytest.raises(TumplineError, match=r"impairment: .*loss"):
            lab.impair("far", {"loss": 7})
        with pytest.raises(TumplineError, match="nobody is not on a net 'moon'"):
            lab.impair("moon", {})
        assert rtt_ms(lab, "rover.far") < 20


STREAM = """
nets:
  far: {subnet4: 10.1.0.0/24, impair: {delay: 5 ms, rate: 10 Mbit/s, queue: 60 kB}}
nodes:
  ground: {nets: [far]}
  rover: {nets: {far: {impair: {}}}}
"""


@pytest.mark.measured
def test_a_stream_has_the_rate_of_the_net() -> None:
    with Lab.of(STREAM, name=unique("stream")) as lab:
        server = lab.start("rover", ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE)
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            assert server.poll() is None, "apt-get install iperf3"
        done = lab.exec("ground", ["iperf3", "-c", "rover", "-J", "-t", "2"])
        assert done.returncode == 0, done.stdout
        assert 9e6 < json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] < 10e6
        server.communicate()
        # Nothing was held back because it was no packet yet.
        assert [each["port"]["no_checksum"] for each in lab.impairments()] == [0] * 4


def test_who_is_behind_a_nat_reaches_out_and_is_not_reached() -> None:
    with Lab.of(HOME, name=unique("home")) as lab:
        assert lab.exec("pc", ["ping", "-c", "1", "-W", "5", "server"]).returncode == 0
        assert lab.exec("server", ["ping", "-c", "1", "-W", "1", "pc"]).returncode != 0
        assert "masquerade" in lab.exec("box", ["nft", "list", "ruleset"]).stdout
        assert lab.exec("shut", ["ping", "-c", "1", "-W", "5", "server"]).returncode == 0
        assert lab.exec("server", ["ping", "-c", "1", "-W", "1", "shut"]).returncode == 1

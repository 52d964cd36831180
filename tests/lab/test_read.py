"""Laboratories as people write them: what is taken, and what is said of mistakes."""

import pytest

from tumpline.errors import ConfigError
from tumpline.lab.addresses import ports_of
from tumpline.lab.links import plan
from tumpline.lab.names import hosts_file
from tumpline.lab.read import loads

CHAIN = """
nets:
  left: {subnet4: 10.1.0.0/24, subnet6: "fd00:1::/64"}
  right: {subnet4: 10.2.0.0/24, mtu: 1280, impair: {delay: 1.3 s, loss: 1 %, rate: 10 Mbit/s}}
nodes:
  ground: {nets: [left]}
  relay:
    nets: {left: {address4: 10.1.0.254}, right: {}}
    forward: true
  rover: {nets: [right]}
"""


def test_addresses_are_given_in_order_around_those_that_are_named() -> None:
    ports = {(port.node, port.net): port for port in ports_of(loads(CHAIN))}
    assert ports["ground", "left"].address4 == "10.1.0.1/24"
    assert ports["ground", "left"].address6 == "fd00:1::1/64"
    assert ports["relay", "left"].address4 == "10.1.0.254/24"
    assert ports["relay", "right"].address4 == "10.2.0.1/24"
    assert ports["rover", "right"].address4 == "10.2.0.2/24"
    assert ports["rover", "right"].address6 == ""


def test_names_are_those_of_the_net_that_both_are_on() -> None:
    lines = hosts_file(ports_of(loads(CHAIN)), "rover").splitlines()
    assert "10.2.0.1 relay relay. relay.local relay.right" in lines
    assert "10.1.0.254 relay.left" in lines
    assert "10.1.0.1 ground ground. ground.local ground.left" in lines


def test_hosts_lead_to_the_one_router_on_their_net() -> None:
    lab = loads(CHAIN)
    planned = plan(lab, ports_of(lab), {"ground": 11, "relay": 12, "rover": 13})
    assert "route add 0.0.0.0/0 via 10.1.0.254" in planned.nodes["ground"]
    assert "route add ::/0 via fd00:1::2" in planned.nodes["ground"]
    assert "route add 0.0.0.0/0 via 10.2.0.1" in planned.nodes["rover"]
    assert not any("/0 via" in line for line in planned.nodes["relay"])
    assert [bad.port.node for bad in planned.impaired] == ["relay", "rover"]
    assert any("br-right mtu 1280" in line for line in planned.switch)


MISTAKES = [
    ("nets:\n  a: {subnt4: 10.0.0.0/24}\nnodes: {}\n", "lab:2: nets.a.subnt4: there is no such key; did you mean"),
    ("nets:\n  a: {subnet4: 10.0.0.1/24}\nnodes: {}\n", "lab:2: nets.a.subnet4: 10.0.0.1/24 has host bits set"),
    ("nets:\n  a: {subnet4: 'fd00::/64'}\nnodes: {}\n", "lab:2: .*is of the other IP version"),
    ("nets: {}\nnodes:\n  n:\n    nets: [lan]\n", "lab:4: nodes.n.nets: there is no net 'lan'"),
    (
        "nets: {lan: {}}\nnodes:\n  n:\n    nets: [lan]\n    agent:\n      connect: [m]\n",
        "lab:6: .*no node 'm' has an agent",
    ),
    ("nets: {a-name-too-long: {}}\nnodes: {}\n", "lab:1: nets.a-name-too-long: .*is no name of a net"),
    (
        "nets: {a: {}}\nnodes: {n: {nets: [a], nat: {kind: cone, outside: a}}}\n",
        "nat.kind: 'cone' is none of the choices",
    ),
    ("nets: {a: {}}\nnodes: {n: {nets: [a], nat: {kind: upnp, outside: b}}}\n", "it is not on a net 'b'"),
    ("nets: {a: {impair: {delay: 3 parsec}}}\nnodes: {}\n", "lab:1: nets.a.impair.*delay.*3 parsec"),
    ("nets: {a: {impair: {loss: 2}}}\nnodes: {}\n", "loss: .*is no share"),
    ("nets:\n  - a\n", "lab:1: nets: this is a list, and must be a table"),
    ("nets: {a: &x {subnet4: *x}}\n", "lab:1: "),
    ("nets: [\n", "lab:2: .*correct the YAML there"),
    ("\x00", "lab:1: .*write YAML"),
    ("{}", "nets is missing"),
    (
        "nets: {a: {subnet4: 10.0.0.0/24}}\nnodes: {n: {nets: {a: {address4: 10.9.0.1}}}}\n",
        "10.9.0.1 is not in the net's subnet",
    ),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_mistakes_are_told_with_their_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        loads(text, "lab")


def test_aliases_of_aliases_are_not_followed_for_ever() -> None:
    levels = [f"  n{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    with pytest.raises(ConfigError, match="more than 200000 keys once its aliases are written out"):
        loads("\n".join(["nets:", "  n0: &a0 [1, 2]", *levels]), "lab")


def test_a_subnet_may_be_too_small() -> None:
    nodes = "".join(f"  n{number}: {{nets: [a]}}\n" for number in range(3))
    with pytest.raises(ConfigError, match="too few addresses for 3 nodes"):
        ports_of(loads(f"nets: {{a: {{subnet4: 10.0.0.0/30}}}}\nnodes:\n{nodes}"))

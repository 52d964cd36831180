"""The text that makes a router a NAT: what it says of each kind, and that nft takes it."""

from __future__ import annotations

import os
import subprocess
from itertools import product

import pytest

from tumpline.errors import ConfigError
from tumpline.lab.holder import check_tools, environment
from tumpline.lab.nat import (
    FirewallKind,
    NatKind,
    NatSpec,
    firewall_rules,
    nat_rules,
    nat_sysctls,
    upnp_argv,
    upnp_config,
)

OUTSIDE = "11.22.33.1"


def rules(kind: NatKind, hairpin: bool = False) -> str:
    return nat_rules(NatSpec(kind, ("home", "guests"), "wan", OUTSIDE, hairpin))


def chain(text: str, name: str) -> list[str]:
    """The lines of a chain, without its hook."""
    body = text.split(f"  chain {name} {{\n")[1].split("\n  }")[0]
    return [line.strip() for line in body.splitlines() if "hook" not in line]


@pytest.mark.parametrize(("kind", "hairpin"), product(NatKind, [False, True]))
def test_nft_takes_it_and_takes_it_again(kind: NatKind, hairpin: bool) -> None:
    accepted(rules(kind, hairpin) * 2)


@pytest.mark.parametrize(("kind", "inside"), product([FirewallKind.STATEFUL, FirewallKind.CLOSED], [(), ("home",)]))
def test_nft_takes_a_firewall(kind: FirewallKind, inside: tuple[str, ...]) -> None:
    accepted(firewall_rules(kind, inside) * 2)


def accepted(text: str) -> None:
    check_tools()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--net", "nft", "-f", "-"], input=text, text=True, capture_output=True, env=environment()
    )
    assert done.returncode == 0, f"{done.stderr}"


def test_who_may_send_to_a_mapping() -> None:
    known = f'iifname "wan" ip daddr {OUTSIDE}'
    assert chain(rules(NatKind.FULL_CONE), "prerouting") == [f"{known} dnat ip to udp dport map @inward"]
    (only,) = chain(rules(NatKind.ADDRESS_RESTRICTED), "prerouting")
    assert only == f"{known} ip saddr . udp dport @permitted dnat ip to udp dport map @inward"
    assert chain(rules(NatKind.PORT_RESTRICTED), "prerouting") == []


def test_only_the_masquerade_kind_lets_strangers_in_to_the_router() -> None:
    for kind in NatKind:
        drops = 'iifname "wan" drop' in chain(rules(kind), "input")
        assert drops is (kind is not NatKind.MASQUERADE)


@pytest.mark.parametrize("kind", [NatKind.MASQUERADE, NatKind.SYMMETRIC, NatKind.SYMMETRIC_SEQUENTIAL])
def test_who_keeps_no_mapping_has_no_table(kind: NatKind) -> None:
    assert "map outward" not in rules(kind)
    assert "chain learn" not in rules(kind)
    assert "map inward" in rules(kind, hairpin=True)


def test_ports_of_the_symmetric_kinds() -> None:
    assert 'oifname "wan" meta nfproto ipv4 masquerade fully-random' in rules(NatKind.SYMMETRIC)
    counted = rules(NatKind.SYMMETRIC_SEQUENTIAL)
    assert "numgen inc mod 2000 map { 0 : 41000, 1 : 41001," in counted
    assert "1999 : 42999 }" in counted


def test_blocked_drops_udp_before_all_else() -> None:
    assert chain(rules(NatKind.BLOCKED), "forward")[0] == "meta l4proto udp drop"


def test_a_hairpin_hides_the_inside_address() -> None:
    text = rules(NatKind.FULL_CONE, hairpin=True)
    assert f'iifname {{ "home", "guests" }} ip daddr {OUTSIDE} meta mark set 0x7470 dnat' in text
    assert f"meta mark 0x7470 snat ip to {OUTSIDE}" in chain(text, "postrouting")
    assert "0x7470" not in rules(NatKind.FULL_CONE)


def test_settings_of_the_kernel() -> None:
    settings = nat_sysctls(NatSpec(NatKind.UPNP, ("home",), "wan", OUTSIDE))
    assert settings["net/ipv4/ip_forward"] == settings["net/ipv6/conf/all/forwarding"] == "1"
    assert settings["net/bridge/bridge-nf-call-iptables"] == "0"
    assert settings["net/ipv4/conf/home/send_redirects"] == "0"


def test_the_file_of_miniupnpd_names_the_chains_of_the_rules() -> None:
    spec = NatSpec(NatKind.UPNP, ("home", "guests"), "wan", OUTSIDE)
    settings = [line.partition("=") for line in upnp_config(spec, "/run/leases").splitlines() if "=" in line]
    values = {key: value for key, _, value in settings}
    assert [value for key, _, value in settings if key == "listening_ip"] == ["home", "guests"]
    assert (values["ext_ifname"], values["lease_file"]) == ("wan", "/run/leases")
    assert f"table inet {values['upnp_table_name']} {{" in nat_rules(spec)
    for hook, key in (("forward", "forward"), ("prerouting", "nat"), ("postrouting", "nat_postrouting")):
        name = values[f"upnp_{key}_chain"]
        assert f"jump {name}" in chain(nat_rules(spec), hook)
        assert f"  chain {name} {{\n  }}" in nat_rules(spec)
    assert upnp_argv("/run/conf", "/run/pid")[-4:] == ["-f", "/run/conf", "-P", "/run/pid"]


@pytest.mark.parametrize("address", ["10.0.0.1", "100.64.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1"])
def test_an_address_that_miniupnpd_refuses_is_told_how_to_mend(address: str) -> None:
    with pytest.raises(ConfigError, match=f"{address} is a private or reserved one.*such as 11.22.33.0/24"):
        nat_rules(NatSpec(NatKind.UPNP, ("home",), "wan", address))


def test_no_firewall_is_no_text() -> None:
    assert firewall_rules(FirewallKind.NONE, ("home",)) == ""
    assert "ct state established,related accept" in firewall_rules(FirewallKind.STATEFUL)
    assert "established" not in firewall_rules(FirewallKind.CLOSED)
    assert 'iifname { "home" } accept' in firewall_rules(FirewallKind.STATEFUL, ("home",))

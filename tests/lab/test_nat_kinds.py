"""Each kind of NAT behaves as its name says, measured from inside against coturn; Debian's `stun` agrees where it can tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tumpline.lab.nat import FirewallKind, NatKind
from tumpline.testing.nat_world import SERVER4, SERVER6, NatWorld, Router, nat_world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("nat_kinds"),
]  # some 15 s, most of it waiting for what filters eat

FREE, ADDRESS, PORT = "endpoint-independent", "address-dependent", "address-and-port-dependent"


class Case(NamedTuple):
    router: Router
    mapping: str
    filtering: str
    ports: str
    stun: str = ""  # what Debian's client says of it


CASES = [
    Case(Router("full", NatKind.FULL_CONE), FREE, FREE, "preserved"),
    Case(
        Router("full-hp", NatKind.FULL_CONE, hairpin=True),
        *(FREE, FREE, "preserved"),
        "Independent Mapping, Independent Filter, preserves ports, will hairpin",
    ),
    Case(
        Router("addr", NatKind.ADDRESS_RESTRICTED),
        *(FREE, ADDRESS, "preserved"),
        "Independent Mapping, Address Dependent Filter, preserves ports, no hairpin",
    ),
    Case(
        Router("port", NatKind.PORT_RESTRICTED),
        *(FREE, PORT, "preserved"),
        "Independent Mapping, Port Dependent Filter, preserves ports, no hairpin",
    ),
    Case(Router("port-hp", NatKind.PORT_RESTRICTED, hairpin=True), FREE, PORT, "preserved"),
    Case(Router("masq", NatKind.MASQUERADE), FREE, PORT, "preserved"),
    Case(Router("masq-hp", NatKind.MASQUERADE, hairpin=True), FREE, PORT, "preserved"),
    Case(Router("sym", NatKind.SYMMETRIC), PORT, PORT, "random", "Dependent Mapping, random port, no hairpin"),
    Case(Router("sym-hp", NatKind.SYMMETRIC, hairpin=True), PORT, PORT, "random"),
    Case(Router("seq", NatKind.SYMMETRIC_SEQUENTIAL), PORT, PORT, "sequential"),
    Case(Router("upnp", NatKind.UPNP), FREE, PORT, "preserved"),
    # Two NATs, one behind the other: each question is answered by the stricter one.
    Case(Router("in1", NatKind.PORT_RESTRICTED, outside="n-port"), FREE, PORT, "preserved"),
    Case(Router("in2", NatKind.FULL_CONE, outside="n-sym"), PORT, PORT, "random"),
    Case(Router("in3", NatKind.ADDRESS_RESTRICTED, outside="n-full"), FREE, ADDRESS, "preserved"),
]
BY_NAME = {case.router.name: case for case in CASES}
BLOCKED = Router("blocked", NatKind.BLOCKED)
OPEN = {f"fw-{kind.value}": {"nets": ["wan"], "firewall": kind.value} for kind in FirewallKind}


class Measured(NamedTuple):
    """Futures: the tests look at what runs side by side."""

    behavior: dict[str, Future[dict[str, Any]]]
    over_ipv6: dict[str, Future[dict[str, Any]]]
    stun: dict[str, Future[str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        with nat_world([*(case.router for case in CASES), BLOCKED], OPEN) as world:
            yield world


@pytest.fixture(scope="module")
def measured(world: NatWorld) -> Measured:
    hosts = [f"in-{name}" for name in (*BY_NAME, "blocked")]
    behavior = {node: world.measure(node) for node in (*hosts, *OPEN)}
    stun = {case.router.name: world.stun(case.router.host) for case in CASES if case.stun}
    over_ipv6 = {node: world.measure(node, f"[{SERVER6}]") for node in ("in-full", "in-blocked", *OPEN)}
    return Measured(behavior, over_ipv6, stun)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_kind_is_what_its_name_says(measured: Measured, world: NatWorld, name: str) -> None:
    case, found = BY_NAME[name], measured.behavior[f"in-{name}"].result()
    assert (found["problem"], found["blocked"], found["natted"], found["alg"]) == ("", False, True, False)
    assert (found["mapping"], found["filtering"], found["ports"]) == (case.mapping, case.filtering, case.ports)
    assert found["hairpin"] is case.router.hairpin
    assert found["port_step"] == (1 if case.ports == "sequential" else None)
    outermost = case.router if case.router.outside == "wan" else BY_NAME[case.router.outside[2:]].router
    assert found["mapped"].split(":")[0] == world.spec(outermost.name).outside_address4


def test_blocked_lets_no_datagram_through(measured: Measured, world: NatWorld) -> None:
    found = measured.behavior["in-blocked"].result()
    assert found["blocked"]
    assert "does not answer: UDP is blocked" in found["problem"]
    tcp = f"exec 3<>/dev/tcp/{SERVER4}/3478 && echo through"
    assert world.lab.exec("in-blocked", ["bash", "-c", tcp]).stdout == "through\n"


@pytest.mark.parametrize("name", [case.router.name for case in CASES if case.stun])
def test_the_stun_client_of_debian_agrees(measured: Measured, name: str) -> None:
    assert f"Primary: {BY_NAME[name].stun}" in measured.stun[name].result()


@pytest.mark.parametrize(("kind", "filtering"), [("none", FREE), ("stateful", PORT), ("closed", None)])
def test_a_firewall_filters_and_translates_nothing(measured: Measured, kind: str, filtering: str | None) -> None:
    for found in (measured.behavior[f"fw-{kind}"].result(), measured.over_ipv6[f"fw-{kind}"].result()):
        assert found["blocked"] is (filtering is None)
        assert found["filtering"] == filtering
        if filtering is not None:
            assert (found["natted"], found["mapping"], found["hairpin"]) == (False, FREE, None)


def test_no_kind_translates_ipv6_but_each_guards_it(measured: Measured) -> None:
    found = measured.over_ipv6["in-full"].result()
    assert (found["natted"], found["mapping"], found["filtering"]) == (False, FREE, PORT)
    assert measured.over_ipv6["in-blocked"].result()["blocked"]


_AS_A_USER = """
import json, sys
from tumpline.lab.nat import NatKind
from tumpline.testing.nat_world import Router, nat_world
routers = [Router(name, NatKind(kind), hairpin) for name, kind, hairpin in json.loads(sys.argv[1])]
with nat_world(routers) as world:
    runs = [world.stun(router.host) for router in routers]
    print(json.dumps([run.result() for run in runs]))
"""
# Another user with nothing but the right to read files (Python may lie in a directory of root's; in the user namespace
# not even that right counts there, so it is only Debian's client that runs in the nodes).
_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all,+dac_read_search"]
_NOBODY += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]


def test_an_ordinary_user_has_them_too(runtime_dir: Path) -> None:
    prefix = _NOBODY if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(runtime_dir, 65534, 65534)
        for directory in (runtime_dir, *runtime_dir.parents[:2]):
            directory.chmod(0o755)
    cases = [case for case in CASES if case.stun]
    asked = json.dumps([(case.router.name, case.router.kind.value, case.router.hairpin) for case in cases])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _AS_A_USER, asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for case, said in zip(cases, json.loads(done.stdout), strict=True):
        assert f"Primary: {case.stun}" in said

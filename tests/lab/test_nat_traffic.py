"""What the kinds of NAT do to other traffic than STUN's: strangers who are faster, hosts that want the same port, miniupnpd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tumpline.lab.api import Lab
from tumpline.lab.nat import NatKind
from tumpline.testing.nat_world import OTHER4, SERVER4, NatWorld, Router, await_udp, nat_world, receiving, send

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("nat_traffic")]

TWO_HOSTS = [
    Router("full", NatKind.FULL_CONE),
    Router("addr", NatKind.ADDRESS_RESTRICTED),
    Router("port", NatKind.PORT_RESTRICTED),
]
ROUTERS = [*TWO_HOSTS, Router("masq", NatKind.MASQUERADE), Router("upnp", NatKind.UPNP)]
SECOND = {f"in2-{router.name}": {"nets": [router.net], "gateway": router.name} for router in TWO_HOSTS}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatWorld]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        with nat_world(ROUTERS, SECOND) as world:
            yield world


def seen_from(lab: Lab, node: str, port: int, server: str = SERVER4, to: int = 9000) -> str:
    """Where the server sees a datagram from that port of the node."""
    with receiving(lab, "server", to, server) as heard:
        send(lab, node, port, server, to)
    return heard[0]


@pytest.mark.parametrize(("name", "kept"), [("port", True), ("masq", False)])
def test_a_stranger_who_is_faster_takes_the_port_of_the_masquerade_kind_only(
    world: NatWorld, name: str, kept: bool
) -> None:
    outside = world.spec(name).outside_address4
    send(world.lab, "server", 9000, outside, 5000)
    assert (seen_from(world.lab, f"in-{name}", 5000) == f"{outside}:5000") is kept


@pytest.mark.parametrize("name", [router.name for router in TWO_HOSTS])
def test_two_hosts_that_want_one_port_each_have_their_own(world: NatWorld, name: str) -> None:
    """And each keeps it towards everybody: where Linux alone would give both the same, towards different servers."""
    lab, outside = world.lab, world.spec(name).outside_address4
    first = seen_from(lab, f"in-{name}", 6000)
    second = seen_from(lab, f"in2-{name}", 6000, OTHER4)
    assert first == f"{outside}:6000"
    assert second != first
    assert seen_from(lab, f"in2-{name}", 6000, SERVER4) == second
    assert seen_from(lab, f"in-{name}", 6000, OTHER4) == first


@pytest.mark.parametrize("name", ["full", "addr"])
def test_what_is_sent_to_a_mapping_comes_to_its_host(world: NatWorld, name: str) -> None:
    lab = world.lab
    _, first = seen_from(lab, f"in-{name}", 6100).split(":")
    outside, second = seen_from(lab, f"in2-{name}", 6100).split(":")
    for host, port in ((f"in-{name}", first), (f"in2-{name}", second)):
        with receiving(lab, host, 6100) as heard:
            send(lab, "server", 9100, outside, int(port))  # another port of an address that was sent to
        assert heard == [f"{SERVER4}:9100"]


def test_miniupnpd_maps_ports_by_nat_pmp_and_by_upnp(world: NatWorld) -> None:
    lab, outside = world.lab, world.spec("upnp").outside_address4
    await_udp(lab, "upnp", 5351)  # NAT-PMP
    await_udp(lab, "upnp", 1900)  # SSDP
    inside, gateway = lab.addresses("in-upnp")[0], lab.addresses("upnp", "n-upnp")[0]
    for command, port in (
        (["natpmpc", "-g", gateway, "-a", "7001", "7001", "udp", "600"], 7001),
        (["upnpc", "-m", "n-upnp", "-a", inside, "7002", "7002", "UDP"], 7002),
    ):
        done = lab.exec("in-upnp", command)
        assert done.returncode == 0, done.stdout + done.stderr
        with receiving(lab, "in-upnp", port) as heard:
            send(lab, "server", 9200, outside, port)
        assert heard == [f"{SERVER4}:9200"]

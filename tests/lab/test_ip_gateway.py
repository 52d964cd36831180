"""IP over bundles in a laboratory: ping's packets wait for contacts that come and go, and those that waited too long are gone."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

HANG_S = 60.0
POLL_S = 0.05
LIFETIME_S = 1  # of rover's packets
LAB = """
nets:
  wire: {subnet4: 10.31.1.0/24}
nodes:
  ground:
    nets: [wire]
    agent:
      connect: [rover]
      store: memory
      contacts: [{peer: "dtn://rover/", start: +1h, duration: 1s}]
      services:
        ip_gateway:
          routes: &routes [{to: "bbbb:1::/64", node: "dtn://ground/"}, {to: "bbbb:2::/64", node: "dtn://rover/"},
                           {to: 10.2.1.0/24, node: "dtn://ground/"}, {to: 10.2.2.0/24, node: "dtn://rover/"}]
          tun: {addresses: ["bbbb:1::1/64", 10.2.1.1/24]}
  rover:
    nets: [wire]
    agent:
      store: memory
      services:
        ip_gateway:
          routes: *routes
          lifetime_s: LIFETIME
          tun: {addresses: ["bbbb:2::1/64", 10.2.2.1/24]}
""".replace("LIFETIME", str(LIFETIME_S))


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.of(LAB, name=unique("gateway")) as lab:
        yield lab


def get(lab: Lab, node: str, path: str) -> dict[str, Any]:
    with lab.client(node) as agent:
        answer: dict[str, Any] = agent.get(path)
        return answer


def gateway(lab: Lab, node: str) -> dict[str, Any]:
    counters: dict[str, Any] = get(lab, node, "/v1/status")["services"]["ip_gateway"]
    return counters


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(POLL_S)


def contact(lab: Lab, duration: str) -> None:
    """From now on, so long."""
    with lab.client("ground") as agent:
        agent.post("/v1/contacts", {"peer": "dtn://rover/", "start": "+0s", "duration": duration})


def is_apart(lab: Lab) -> bool:
    return not any(each["state"] == "up" for each in get(lab, "ground", "/v1/peers")["peers"])


def ping(lab: Lab, node: str, address: str, *options: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return lab.start(node, ["ping", "-c", "3", "-i", "0.2", *options, address], stdout=pipe, text=True)


def test_packets_wait_for_contacts_and_not_for_ever(lab: Lab) -> None:
    waiting = [ping(lab, "ground", address, "-W", "50") for address in ("bbbb:2::1", "10.2.2.1")]
    until(lambda: gateway(lab, "ground")["packets_out"] == 6, "six requests in bundles")
    assert get(lab, "ground", "/v1/status")["store"]["bundles"] >= 2
    contact(lab, "4s")
    for each in waiting:
        output, _ = each.communicate(timeout=HANG_S)
        assert each.returncode == 0, output
        assert "3 received" in output
        assert [int(number) for number in re.findall(r"icmp_seq=(\d+)", output)] == [1, 2, 3]
        assert "DUP" not in output
    assert gateway(lab, "rover")["packets_in"] == 6

    until(lambda: is_apart(lab), "the end of the contact")
    late = ping(lab, "rover", "bbbb:1::1", "-W", "4")
    until(lambda: gateway(lab, "rover")["packets_out"] == 9, "three more requests")
    until(lambda: get(lab, "rover", "/v1/status")["store"]["bundles"] == 0, "the end of their lifetime")
    contact(lab, "20s")
    until(lambda: not is_apart(lab), "another contact")
    during = ping(lab, "rover", "10.2.1.1", "-W", "10")
    output, _ = during.communicate(timeout=HANG_S)
    assert "3 received" in output
    assert gateway(lab, "ground")["packets_in"] == 6 + 3
    output, _ = late.communicate(timeout=HANG_S)
    assert "0 received" in output

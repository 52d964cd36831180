"""Nodes that meet at a broker alone: bundles and IP packets of one membership, in a laboratory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tumpline.lab import Lab
from tumpline.lab.api import unique

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

LAB = """
nets:
  west: {subnet4: 10.32.1.0/24}
  east: {subnet4: 10.32.2.0/24}
nodes:
  broker:
    nets: [west, east]
    run: [[tumpline, broker, --listen, "0.0.0.0:5672", --users, USERS]]
  ground:
    nets: [west]
    agent: &agent
      store: memory
      config:
        links:
          - {}
          - &link
            kind: amqp
            member: ground
            url: "amqp://lab:secret-of-the-lab@broker/"
            key: KEY
            tun: {addresses: ["bbbb::1/64", 10.2.0.1/24]}
  rover:
    nets: [east]
    agent:
      store: memory
      config: {links: [{}, {<<: *link, member: rover, tun: {addresses: ["bbbb::2/64", 10.2.0.2/24]}}]}
"""


def test_bundles_and_packets_share_a_membership(tmp_path: Path) -> None:
    users, key = tmp_path / "users", tmp_path / "key"
    users.write_text("lab:secret-of-the-lab\n")
    key.write_bytes(bytes(range(32)))
    for path in (users, key):
        path.chmod(0o600)
    text = LAB.replace("USERS", str(users)).replace("KEY", str(key))
    with Lab.of(text, name=unique("amqp")) as lab:
        assert lab.exec("ground", ["ping", "-c", "1", "-W", "1", lab.addresses("rover")[0]]).returncode != 0, (
            "they meet elsewhere too"
        )
        asked = lab.exec("ground", ["tumpline", "ping", "dtn://rover/echo", "--count", "3", "--timeout", "30"])
        assert asked.returncode == 0, asked.stderr
        for address in ("bbbb::2", "10.2.0.2"):
            pinged = lab.exec("ground", ["ping", "-c", "3", "-i", "0.2", "-W", "5", address])
            assert "3 received" in pinged.stdout, pinged.stdout
            assert "DUP" not in pinged.stdout
        with lab.client("rover") as agent:
            (peer,) = agent.get("/v1/peers")["peers"]
        assert (peer["link"], peer["address"], peer["security"]) == ("amqp", "ground", "AES-256-GCM, given key")
        assert "secret-of-the-lab" not in "".join(file.read_text() for file in lab.logs.iterdir())

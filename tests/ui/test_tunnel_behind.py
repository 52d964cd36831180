"""What is tested lies behind the agents' machines: `--re-route-packets-...`, as the older agent's users have it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tumpline.testing.rabbitmq import Vhost
from tumpline.testing.sites import Sites, sites

BEHIND = {"client": "aaaa::/64", "server": "cccc::/64"}
HOSTS = {"client": "1", "server": "2"}


@pytest.fixture
def laboratory(tmp_path_factory: pytest.TempPathFactory, rabbitmq: Vhost) -> Iterator[Sites]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        with sites(list(BEHIND), tmp_path_factory.mktemp("sites"), BEHIND) as made:
            made.connect_broker(rabbitmq.url)
            yield made


@pytest.mark.parametrize("format", ["auto", "v1"])
def test_hosts_behind_two_agents_reach_each_other(laboratory: Sites, format: str) -> None:
    for number, (site, network) in enumerate(BEHIND.items()):
        prefix = network.partition("::")[0]
        before = laboratory.lab.exec(site, ["ip", "-6", "route"]).stdout
        agent = laboratory.connect(
            site, "--format", format, "--ipv6-host", HOSTS[site], "--re-route-packets-if", f"lan{number}",
            "--re-route-packets-prefix", prefix, "--re-route-packets-host", "2", name=f"coap_{site}",
        )  # fmt: skip
        agent.await_event("ready")
        assert before != laboratory.lab.exec(site, ["ip", "-6", "route"]).stdout
    laboratory.await_ping("client-iut", "cccc::2")
    assert laboratory.ping("server-iut", "aaaa::2")
    laboratory.end_agents()
    for number, site in enumerate(BEHIND):
        routes = laboratory.lab.exec(site, ["ip", "-6", "route"]).stdout
        assert "tumpline" not in routes
        assert f"lan{number}" in routes

"""Options of old for what lies behind another interface."""

import pytest

from tumpline.drivers.ports.tun import TunConfig
from tumpline.errors import ConfigError
from tumpline.node.overlay.rerouting import rerouted
from tumpline.node.overlay.settings import Wish, settings_of


def test_as_the_older_agent_did_it() -> None:
    assert rerouted("coap_client", None, "eth1", "aaaa", "2") == {
        "routes": ["bbbb:1415:9200::/96", "cccc::/64"],
        "route_metric": 1,
        "behind": {"interface": "eth1", "networks": ["aaaa::/64"]},
    }
    assert rerouted("coap_server", "dddd::", "eth1", "cccc:", "2")["routes"] == ["dddd:1415:9200::/96", "aaaa::/64"]
    assert rerouted("coap_server", None, None, None, None) == {}


@pytest.mark.parametrize("given", [("eth1", None, None), (None, "aaaa", None), (None, None, "2")])
def test_they_belong_together(given: tuple[str | None, str | None, str | None]) -> None:
    with pytest.raises(ConfigError, match="--re-route-packets-if eth1"):
        rerouted("coap_server", None, *given)


def test_the_port_takes_them() -> None:
    wish = Wish(name="coap_client", url="amqp://h/", re_route_packets_if="eth1", re_route_packets_prefix="aaaa")
    config = settings_of(wish).port_config
    assert isinstance(config, TunConfig)
    assert config.behind is not None
    assert (config.behind.interface, config.behind.networks) == ("eth1", ["aaaa::/64"])
    assert config.route_metric == 1

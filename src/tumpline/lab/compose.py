"""A laboratory as containers: a compose file for Docker or Podman, and what their image is built from.

Every node has the addresses that `tumpline lab up` gives it; each net's bridge has the same name, `br-NET`. What needs
more than nets and agents (NAT kinds, impairment, firewalls) is for namespaces alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import yaml

from tumpline import __version__
from tumpline.errors import ConfigError
from tumpline.lab.addresses import Port, ports_of
from tumpline.lab.links import bridge_of
from tumpline.lab.model import LabFile, NodeSection
from tumpline.lab.nat import FirewallKind

CONTAINERFILE: Final = "Containerfile"
IMAGE: Final = "tumpline-lab"
# In a container:
CONFIGURATION: Final = "/etc/tumpline/conf"
KEYS: Final = "/etc/tumpline/keys"
LOGS: Final = "/var/log/dtn"
STATE: Final = "/var/lib/tumpline"
_PACKAGES = "iproute2 iputils-ping procps tcpdump"
_BASE = f"""\
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends {_PACKAGES} && rm -rf /var/lib/apt/lists/*
"""


def containerfile(from_source: bool) -> str:
    """What the image is built from: a checkout (compose's additional context `source`), or the released version."""
    if from_source:
        return f"{_BASE}COPY --from=source . /usr/src/tumpline\nRUN pip install --no-cache-dir /usr/src/tumpline\n"
    return f"{_BASE}RUN pip install --no-cache-dir tumpline=={__version__}\n"


def compose(lab: LabFile, source: Path | None = None) -> str:
    """The compose file; `source`: a checkout that the image is built from. Raises: ConfigError with all that containers
    cannot be."""
    if wrong := list(_not_for_containers(lab)):
        raise ConfigError([f"{lab.name}: {each}; use `tumpline lab up`" for each in wrong])
    ports = ports_of(lab)
    value = {
        "name": lab.name.lower().replace(".", "-"),  # compose's own rule for names of projects
        "services": {name: _service(name, node, ports, source) for name, node in lab.nodes.items()},
        "networks": {net: _network(lab, net, ports) for net in lab.nets},
    }
    return yaml.safe_dump(value, sort_keys=False)


def _service(name: str, node: NodeSection, ports: list[Port], source: Path | None) -> dict[str, Any]:
    build: dict[str, Any] = {"context": ".", "dockerfile": CONTAINERFILE}
    if source is not None:
        build["additional_contexts"] = {"source": str(source.absolute())}
    mine = [port for port in ports if port.node == name]
    service = {
        "image": IMAGE,
        "build": build,
        "hostname": name,
        "init": True,
        "cap_add": ["NET_ADMIN", "NET_RAW"],
        "networks": {port.net: _endpoint(name, port) for port in mine},
    }
    if node.agent is None:
        return {**service, "command": ["sleep", "infinity"]}
    return {
        **service,
        "environment": {"SSLKEYLOGFILE": f"{LOGS}/tlskeylog"},
        "volumes": [
            f"./{name}/etc:{CONFIGURATION}:ro",
            f"./{name}/keys:{KEYS}:ro",
            f"./{name}/log:{LOGS}",
            STATE,
        ],
        "command": ["tumpline", "up", "--config", f"{CONFIGURATION}/{name}.toml"],
    }


def _endpoint(name: str, port: Port) -> dict[str, Any]:
    given = (("ipv4_address", port.address4), ("ipv6_address", port.address6))
    return {"aliases": [f"{name}.local"], **{key: text.partition("/")[0] for key, text in given if text}}


def _network(lab: LabFile, net: str, ports: list[Port]) -> dict[str, Any]:
    section = lab.nets[net]
    options = {"com.docker.network.bridge.name": bridge_of(net), "com.docker.network.driver.mtu": str(section.mtu)}
    taken = {address for port in ports if port.net == net for address in port.addresses}
    pools = [_pool(subnet, taken) for subnet in (section.subnet4, section.subnet6) if subnet]
    network: dict[str, Any] = {"driver": "bridge", "driver_opts": options}
    if section.subnet6:
        network["enable_ipv6"] = True
    return {**network, **({"ipam": {"config": pools}} if pools else {})}


def _pool(subnet: str, taken: set[str]) -> dict[str, str]:
    """The engine's own address is the last one that is free: the first ones are the nodes'."""
    network = ip_network(subnet)
    last = network.num_addresses - (2 if network.version == 4 else 1)
    free = (str(network[number]) for number in range(last, 0, -1) if network[number] not in map(ip_address, taken))
    return {"subnet": subnet, "gateway": next(free, str(network[last]))}


def _not_for_containers(lab: LabFile) -> Iterator[str]:
    if lab.engine != "namespaces":
        yield f"engine: {lab.engine}: containers have no virtual time"
    for net, section in lab.nets.items():
        if section.impair is not None:
            yield f"nets.{net}.impair: containers have no impairment"
    for name, node in lab.nodes.items():
        for key, asked in (("nat", node.nat), ("forward", node.forward), ("run", node.run), ("gateway", node.gateway)):
            if asked:
                yield f"nodes.{name}.{key}: containers are given nets and agents alone"
        if node.firewall is not FirewallKind.NONE:
            yield f"nodes.{name}.firewall: containers are given nets and agents alone"
        if any(port.impair is not None for port in node.ports.values()):
            yield f"nodes.{name}.nets: containers have no impairment"

"""From a YAML file to a laboratory, or to all mistakes in the file with their lines."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path as FilePath

import msgspec

from tumpline.errors import ConfigError
from tumpline.lab import expect
from tumpline.lab.addresses import NO_ADDRESS
from tumpline.lab.model import LAB_NAME, NET_NAME, NODE_NAME, LabFile, NetSection, NodeSection
from tumpline.lab.older import from_older, is_older
from tumpline.node.config.checker import Checker
from tumpline.node.config.problems import Path, Problems
from tumpline.node.config.yaml import parse
from tumpline.node.registry import did_you_mean

MAX_OCTETS = 4 << 20  # what is larger was not written by people


def load(file: FilePath, apart: bool = False) -> LabFile:
    """The laboratory in a file; `apart`: one of the older agent, with its three agents in each node.

    Raises: ConfigError with every mistake in it."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); name a laboratory's YAML file") from error
    return loads(text, str(file), file.stem, file.absolute().parent, apart)


def loads(
    text: str, source: str = "laboratory", name: str = "lab", base: FilePath | None = None, apart: bool = False
) -> LabFile:
    """As `load`, for a text; `name` is what it is called if it does not say. Raises: ConfigError."""
    problems = Problems(source)
    if len(text) > MAX_OCTETS:
        raise ConfigError(f"{source}: {len(text)} octets are no laboratory; at most {MAX_OCTETS}")
    value = parse(text, problems)
    problems.raise_if_any()
    if is_older(value):
        value = from_older(value, problems, apart)
        problems.raise_if_any()
    elif apart:
        raise ConfigError(f"{source}: only the older agent's network files know three agents a node; leave --dbus out")
    made = Checker(problems, base or FilePath.cwd(), assign=": ").struct(value, LabFile, ())
    if isinstance(made, LabFile):
        _check(made, problems)
        expect.read(made, Checker(problems, base or FilePath.cwd()))
    problems.raise_if_any()
    assert isinstance(made, LabFile)
    if made.name:
        return made
    return msgspec.structs.replace(made, name=name if re.search(LAB_NAME, name) else "lab")


# ---- what several sections together show ----------------------------------------------------------------------------


def _check(lab: LabFile, problems: Problems) -> None:
    for name, net in lab.nets.items():
        _named(name, NET_NAME, "net", ("nets", name), problems)
        _subnets(net, ("nets", name), problems)
    for name, node in lab.nodes.items():
        _named(name, NODE_NAME, "node", ("nodes", name), problems)
        _node(lab, node, ("nodes", name), problems)


def _named(name: str, pattern: str, what: str, path: Path, problems: Problems) -> None:
    if not isinstance(name, str) or not re.search(pattern, name):
        problems.add(path, f"{name!r} is no name of a {what}; write one that matches {pattern}")


def _subnets(net: NetSection, path: Path, problems: Problems) -> None:
    for key, text, kind in (("subnet4", net.subnet4, IPv4Network), ("subnet6", net.subnet6, IPv6Network)):
        try:
            if text and not isinstance(ip_network(text), kind):
                problems.add((*path, key), f"{text} is of the other IP version; write it under the other key")
        except ValueError as error:
            problems.add((*path, key), f"{error}; write for example 10.0.1.0/24 or fd00:1::/64")


def _node(lab: LabFile, node: NodeSection, path: Path, problems: Problems) -> None:
    for net, port in node.ports.items():
        if net not in lab.nets:
            problems.add((*path, "nets"), f"there is no net {net!r}; {did_you_mean(net, lab.nets)}")
            continue
        for key in ("address4", "address6"):
            _address(
                getattr(port, key), getattr(lab.nets[net], f"subnet{key[-1]}"), (*path, "nets", net, key), problems
            )
    if node.gateway and node.gateway not in lab.nodes:
        problems.add((*path, "gateway"), f"there is no node {node.gateway!r}; {did_you_mean(node.gateway, lab.nodes)}")
    if node.nat is not None:
        for key, nets in (("outside", [node.nat.outside]), ("inside", node.nat.inside)):
            for net in nets:
                if net not in node.ports:
                    problems.add((*path, "nat", key), f"it is not on a net {net!r}; {did_you_mean(net, node.ports)}")
    for other in node.agent.connect if node.agent is not None else ():
        if other not in lab.nodes or lab.nodes[other].agent is None:
            with_agent = [name for name, each in lab.nodes.items() if each.agent is not None]
            problems.add(
                (*path, "agent", "connect"), f"no node {other!r} has an agent; {did_you_mean(other, with_agent)}"
            )


def _address(text: str, subnet: str, path: Path, problems: Problems) -> None:
    if text in ("", NO_ADDRESS):
        return
    try:
        if not subnet or ip_address(text) not in ip_network(subnet):
            problems.add(path, f"{text} is not in the net's subnet ({subnet or 'it has none'}); write one that is")
    except ValueError as error:
        problems.add(path, f"{error}; write an address without a prefix length")

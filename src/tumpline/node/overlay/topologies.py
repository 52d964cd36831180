"""Files of topologies: several YAML documents, each a configuration with its name. Those that many know come with the program."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from tumpline.errors import ConfigError
from tumpline.machines.packet_router import Topology, topology_of

SHIPPED: Final = "topologies.yaml"
FILE_OCTETS_MOST: Final = 4 << 20
_SUFFIXES: Final = (".yaml", ".yml")


def find_topology(asked: str) -> Topology:
    """`COAP_CFG_01`, `FILE.yaml` with one configuration, or `FILE.yaml#COAP_CFG_01`. Raises: ConfigError."""
    path, _, name = asked.partition("#")
    if path.endswith(_SUFFIXES):
        return _choose(path, read_topologies(_text(Path(path)), path), name)
    return _choose("--config", shipped_topologies(), asked)


def shipped_topologies() -> list[Topology]:
    """Those that come with the program."""
    text = files("tumpline.node.overlay").joinpath(SHIPPED).read_text("utf-8")
    return read_topologies(text, SHIPPED)


def read_topologies(text: str, source: str) -> list[Topology]:
    """Raises: ConfigError with all mistakes, each with where it is."""
    topologies: list[Topology] = []
    problems: list[str] = []
    for document in _documents(text, source):
        try:
            topologies.append(topology_of(document))
        except ConfigError as error:
            problems += [f"{source}: {problem}" for problem in error.problems]
    if not topologies and not problems:
        problems.append(f"{source}: is empty; write configuration_id, nodes, topology, addressing")
    if problems:
        raise ConfigError(problems)
    return topologies


class _Loader(yaml.SafeLoader):
    """Takes `!configuration`, which older files have before each document, and any other tag, for nothing."""


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _untagged)


def _documents(text: str, source: str) -> list[Any]:
    """Aliases are not resolved: a few lines of them can mean more than any memory holds."""
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_Loader)):
            raise ConfigError(f"{source}: aliases (*name) are not read here; write it out")
        return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{source}:{line}: {error.problem or error.context}; correct the YAML there") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}:1: {' '.join(str(error).split())}; write YAML") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_OCTETS_MOST:
            raise ConfigError(f"--config {path}: longer than {FILE_OCTETS_MOST} octets; that is no file of topologies")
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}; name a file that can be read") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config {path}: is no text; write YAML in UTF-8") from error


def _choose(source: str, topologies: list[Topology], name: str) -> Topology:
    by_name = {topology.configuration_id: topology for topology in topologies}
    if not name and len(topologies) == 1:
        return topologies[0]
    if name in by_name:
        return by_name[name]
    if not name:
        raise ConfigError(f"{source}: has several; write for example {source}#{topologies[0].configuration_id}")
    near = get_close_matches(name, by_name, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(by_name)}; or name a file (NAME.yaml)"
    raise ConfigError(f"{source}: no configuration {name}; {hint}")

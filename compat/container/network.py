"""One network of the older agent's file, and what its verbs do to it; who carries them out comes from subclasses."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec
import yaml

import tumpline
from tumpline.errors import ConfigError, StateError, TumplineError
from tumpline.lab.model import LabFile
from tumpline.lab.older import is_older
from tumpline.lab.read import loads
from tumpline.lab.stage import Stage

LOG = logging.getLogger("run")
RATE_BIT_S: Final = 200_000  # of rate_ctrl, on each net of each node
READY_S: Final = 60.0  # the older one waits for ever; whoever waits for a script wants to know
POLL_S: Final = 0.2
# A burst of one frame of the largest usual kind with its header, so that 200 kbit/s are that from the first frame on.
TBF: Final = ("tbf", "rate", f"{RATE_BIT_S}bit", "burst", "3200", "latency", "400ms")


class Options(NamedTuple):
    """Of the command line."""

    stage_dir: Path | None = None
    no_cache: bool = False


class Network(ABC):
    """The verbs. Each raises TumplineError in one sentence if it cannot be done."""

    apart = False  # whether nodes have three agents each, over a D-Bus of their own

    def __init__(self, lab: LabFile, stage: Stage, options: Options) -> None:
        self.lab = lab
        self.stage = stage
        self.options = options

    @property
    def agents(self) -> list[str]:
        """Nodes with an agent: in files of the older agent, all."""
        return [name for name, node in self.lab.nodes.items() if node.agent is not None]

    def check_node(self, node: str) -> None:
        """Raises: ConfigError: there is none of that name."""
        if node not in self.lab.nodes:
            raise ConfigError(f"there is no node {node!r}; there are {', '.join(self.lab.nodes)}")

    def pkigen(self) -> None:
        """A private CA, and keys for each node, anew."""
        self.stage.make_keys()
        LOG.info("keys and certificates are in %s/NODE/keys", self.stage.directory)

    def prep(self) -> None:
        """All that the first versions did before `start`."""
        self.pkigen()
        self.build()
        self.create()

    def check_sand(self) -> None:
        """Raises: TumplineError, always."""
        raise TumplineError("check_sand: SAND is not there yet, nor the signatures that it looks for; leave it out")

    @abstractmethod
    def build(self) -> None:
        """Make the image, or see that nothing is missing."""

    @abstractmethod
    def create(self) -> None:
        """Write what nodes are told."""

    @abstractmethod
    def start(self) -> None:
        """Start all nodes; those that run go on."""

    @abstractmethod
    def ready(self) -> None:
        """Wait until all agents answer. Raises: NoAnswerError."""

    @abstractmethod
    def rate_ctrl(self) -> None:
        """From now on each node sends 200 kbit/s on each net at most."""

    @abstractmethod
    def stop(self) -> None:
        """End all nodes; keys, logs and configurations stay."""

    @abstractmethod
    def delete(self) -> None:
        """End all nodes, and remove what `create` has written."""

    @abstractmethod
    def exec(self, node: str, command: Sequence[str]) -> int:
        """Run a command in a node; its exit code."""


N = TypeVar("N", bound=Network)


def read_network(config: Path, options: Options, kind: type[N]) -> N:
    """The network in a file. Raises: ConfigError."""
    try:
        text = config.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config} cannot be read: {error}; name the network's YAML file") from error
    text = with_agents(text)
    apart = kind.apart and _is_older(text)
    lab = loads(text, str(config), config.stem, config.absolute().parent, apart=apart)
    stage_dir = (options.stage_dir or config.parent / "workdir").absolute()
    if stage_dir.is_relative_to("/run"):
        raise StateError(f"{stage_dir}: nodes have a /run of their own; name another directory with --stage-dir")
    # Two checkouts may each have an example.yaml up; the same file and stage are the same laboratory in every call.
    mark = hashlib.sha256(str(stage_dir).encode()).hexdigest()[:6]
    lab = msgspec.structs.replace(lab, name=f"{lab.name[:50]}-{mark}")
    return kind(lab, Stage(stage_dir, lab), options)


def with_agents(text: str) -> str:
    """The text, so that it is known for one of the older agent's: a file that says nothing but nets and nodes could be
    one of ours, whose nodes have no agents then."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # told when it is read
    nodes = value.get("nodes") if isinstance(value, dict) else None
    if not isinstance(nodes, dict) or set(value) - {"nets", "nodes"}:
        return text
    plain = all(
        isinstance(node, dict) and set(node) == {"nets"} and isinstance(node["nets"], list) for node in nodes.values()
    )
    if not plain:
        return text
    return yaml.safe_dump(
        value | {"nodes": {name: node | {"config": {}} for name, node in nodes.items()}}, sort_keys=False
    )


def _is_older(text: str) -> bool:
    try:
        return is_older(yaml.safe_load(text))
    except yaml.YAMLError:
        return False  # told when it is read


def checkout() -> Path | None:
    """Where tumpline's source lies, if this is no installed release."""
    root = Path(tumpline.__file__).parents[2]
    return root if (root / "pyproject.toml").is_file() else None

"""What this installation can do: the parts in the tree and those of outside packages (ARCHITECTURE.md §6).

One module in a room, ending with `SPEC`, is one part. Nothing is listed anywhere: the rooms are walked.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, NamedTuple, TypeVar

import tumpline.drivers.links
import tumpline.drivers.ports
import tumpline.drivers.stores
import tumpline.machines.routing
import tumpline.node.services
from tumpline.drivers.links._api import LinkSpec
from tumpline.drivers.ports._api import PortSpec
from tumpline.drivers.stores._api import StoreSpec
from tumpline.errors import ConfigError
from tumpline.machines.routing._api import RoutingSpec
from tumpline.node.services._api import ServiceSpec

Spec = TypeVar("Spec", LinkSpec, PortSpec, StoreSpec, ServiceSpec, RoutingSpec)


class Room(NamedTuple, Generic[Spec]):
    """The parts of one kind, by the name that a configuration uses."""

    what: str  # for sentences: "link"
    parts: dict[str, Spec]

    def get(self, name: str) -> Spec:
        """Raises: ConfigError with what was probably meant."""
        if name in self.parts:
            return self.parts[name]
        raise ConfigError(f"there is no {self.what} {name!r}; {did_you_mean(name, self.parts)}")


class Registry(NamedTuple):
    """Everything that a configuration may name."""

    links: Room[LinkSpec]
    ports: Room[PortSpec]
    stores: Room[StoreSpec]
    services: Room[ServiceSpec]
    routing: Room[RoutingSpec]


@cache
def load_registry() -> Registry:
    """Walk the rooms, once a process. Raises: ConfigError (two parts of one name, a part that cannot be loaded)."""
    return Registry(
        Room("link", _collect(LinkSpec, tumpline.drivers.links, "tumpline.links")),
        load_ports(),
        Room("store", _collect(StoreSpec, tumpline.drivers.stores, "tumpline.stores")),
        Room("service", _collect(ServiceSpec, tumpline.node.services, "tumpline.services")),
        Room("routing strategy", _collect(RoutingSpec, tumpline.machines.routing, "tumpline.routing")),
    )


@cache
def load_ports() -> Room[PortSpec]:
    """That one room alone: whoever joins an overlay needs no link, store or service. Raises: ConfigError."""
    return Room("port", _collect(PortSpec, tumpline.drivers.ports, "tumpline.ports"))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to write instead of `word`."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"write one of: {', '.join(names)}" if names else "there is none to choose from"


def _collect(kind: type[Spec], room: Any, group: str) -> dict[str, Spec]:
    found = list(_in_tree(room)) + list(_outside(group))
    return join(kind, found)


def join(kind: type[Spec], found: Iterable[tuple[str, Any]]) -> dict[str, Spec]:
    """Specs by name, from (where it comes from, spec) pairs. Raises: ConfigError naming both when a name is there twice."""
    parts: dict[str, Spec] = {}
    origins: dict[str, str] = {}
    for origin, spec in found:
        if not isinstance(spec, kind):
            raise ConfigError(f"{origin} is no {kind.__name__}; end the module with SPEC = {kind.__name__}(...)")
        name = spec[0]
        if name in parts:
            raise ConfigError(f"{origins[name]} and {origin} are both called {name!r}; remove or rename one of them")
        parts[name], origins[name] = spec, origin
    return parts


def _in_tree(room: Any) -> Iterator[tuple[str, Any]]:
    names = sorted(module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_"))
    for name in names:
        module = importlib.import_module(f"{room.__name__}.{name}")
        yield module.__name__, getattr(module, "SPEC", None)


def _outside(group: str) -> Iterator[tuple[str, Any]]:
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        origin = f"{entry.value} (entry point {entry.name!r} of {group})"
        try:
            yield origin, entry.load()
        except Exception as error:  # whatever an outside package raises while it is imported is its own
            raise ConfigError(f"{origin} cannot be loaded: {error!r}; update or remove that package") from error

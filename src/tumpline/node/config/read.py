"""From a file to a Configuration: each section by its class, then what only several sections together show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeVar

from tumpline.drivers.dial import parse_address
from tumpline.errors import ConfigError, TumplineError
from tumpline.machines.plan import Peer, Route
from tumpline.node.config.checker import BAD, Bad, Checker
from tumpline.node.config.contact import ContactSection, Planned, planned
from tumpline.node.config.model import (
    DEFAULT_PORT,
    LATER,
    BusSection,
    ControlSection,
    LinkSection,
    LogSection,
    NodeSection,
    PeerSection,
    RouteSection,
    RoutingSection,
    StoreSection,
)
from tumpline.node.config.problems import Path, Problems
from tumpline.node.config.toml import parse
from tumpline.node.config.value import Configuration, LinkSettings, RoutingSettings, ServiceSettings, StoreSettings
from tumpline.node.keys import examine
from tumpline.node.registry import Registry, Room, did_you_mean, load_registry

SECTIONS = (
    "node",
    "store",
    "routing",
    "links",
    "peers",
    "routes",
    "contacts",
    "services",
    "control",
    "bus",
    "log",
    *LATER,
)
NAMED = frozenset({"amqp", "memory"})  # kinds of links whose addresses are names, not hosts and ports
Item = TypeVar("Item")


def loads(text: str, path: FilePath | None = None, registry: Registry | None = None) -> Configuration:
    """The configuration in a text; `path` is where it stands (relative paths start there). Raises: ConfigError with every
    mistake in it."""
    problems = Problems(str(path) if path is not None else "configuration")
    document = parse(text, problems)
    problems.lines = document.lines
    base = path.absolute().parent if path is not None else FilePath.cwd()
    reader = _Reader(document.data, Checker(problems, base, document.complete), registry or load_registry())
    sections = reader.read()
    problems.raise_if_any()
    name = sections["node"].name or (path.stem if path is not None else "node")
    return Configuration(
        path=path.absolute() if path is not None else None,
        name=name,
        base=base,
        registry=reader.registry,
        raw=document.data,
        lines=document.lines,
        **sections,
    )


def read_sections(data: dict[str, Any], checker: Checker, registry: Registry) -> dict[str, Any]:
    """The fields of a Configuration that are sections, as far as they are right: mistakes go to the checker's problems."""
    return _Reader(data, checker, registry).read()


def read_link(table: dict[str, Any], registry: Registry, base: FilePath, taken: Sequence[str]) -> LinkSettings:
    """One link from outside a file. Raises: ConfigError."""
    problems = Problems("links")
    reader = _Reader({"links": [table]}, Checker(problems, base), registry)
    links = reader.links(taken)
    if len(problems):
        problems.raise_if_any()
    return links[0]


class _Reader:
    """Reads the sections of one document. What is wrong goes to `checker.problems`."""

    def __init__(self, data: dict[str, Any], checker: Checker, registry: Registry) -> None:
        self.registry = registry
        self._data = data
        self._checker = checker
        self._problems = checker.problems

    def read(self) -> dict[str, Any]:
        """The fields of a Configuration, as far as the sections are right."""
        self._sections()
        links = self.links()
        known = {link.name for link in links} | self._named()
        return {
            "node": self._node(),
            "store": self._store(),
            "routing": self._routing(),
            "links": links,
            "peers": self._peers(links, known),
            "routes": [
                Route(each.to, each.via, each.priority, each.name) for _, each in self._tables("routes", RouteSection)
            ],
            "contacts": self._contacts(known),
            "services": self._services(),
            "control": self._control(),
            "bus": self._checker.struct(self._data.get("bus", {}), BusSection, ("bus",)),
            "log": self._checker.struct(self._data.get("log", {}), LogSection, ("log",)),
        }

    def _sections(self) -> None:
        for name in self._data:
            if name in LATER:
                self._problems.add((name,), f"{LATER[name]} is not part of this release; remove the section")
            elif name not in SECTIONS:
                what = "section" if isinstance(self._data[name], dict | list) else "key outside of the sections"
                usual = set(SECTIONS) - set(LATER)
                self._problems.add((name,), f"there is no such {what}; {did_you_mean(name, usual)}")

    # ---- sections ---------------------------------------------------------------------------------------------------

    def _node(self) -> Any:
        if "node" not in self._data:
            if self._checker.complete:
                self._problems.add((), 'node: the section is missing; write [node] and below it id = "dtn://ground/"')
            return BAD
        return self._checker.struct(self._data["node"], NodeSection, ("node",))

    def _control(self) -> Any:
        return self._checker.struct(self._data.get("control", {}), ControlSection, ("control",))

    def _store(self) -> Any:
        made = self._by_kind(self._data.get("store", {}), StoreSection, self.registry.stores, ("store",))
        return made and StoreSettings(*made)

    def _routing(self) -> Any:
        made = self._by_kind(self._data.get("routing", {}), RoutingSection, self.registry.routing, ("routing",))
        return made and RoutingSettings(made[0], made[1])

    def links(self, taken: Sequence[str] = ()) -> list[LinkSettings]:
        """`[[links]]`. `taken`: names that are in use already."""
        links: list[LinkSettings] = []
        names = set(taken)
        listening: dict[tuple[str, str], Path] = {}
        for path, table in self._list("links"):
            if isinstance(table, dict):
                self._link_addresses(table, path, listening)
                self._identities(table, path)
            made = self._by_kind(table, LinkSection, self.registry.links, path)
            if made is None:
                continue
            spec, config, section = made
            name = section.name or _free_name(section.kind, names)
            if name in names:
                self._problems.add((*path, "name"), f"{name!r} is the name of another link; choose another one")
            names.add(name)
            links.append(LinkSettings(name, spec, config))
        return links

    def _link_addresses(self, table: dict[str, Any], path: Path, listening: dict[tuple[str, str], Path]) -> None:
        """Addresses that are none (unless they are names of the link's own kind), and listening twice at one place."""
        kind = str(table.get("kind"))
        for key in ("listen", "connect"):
            value = table.get(key, [])
            for address in value if isinstance(value, list) else [value]:
                where = (*path, key)
                if not isinstance(address, str) or not (kind in NAMED or self._address(address, where)):
                    continue
                first = listening.setdefault((kind, address), where) if key == "listen" else where
                if first != where and not address.endswith((":0", "*")):
                    line = self._problems.line(first)
                    self._problems.add(where, f"{address} is listened on already (line {line}); choose another port")

    def _address(self, text: str, path: Path) -> bool:
        try:
            parse_address(text, DEFAULT_PORT)
        except TumplineError as error:
            self._problems.add(path, str(error))
            return False
        return True

    def _identities(self, table: dict[str, Any], path: Path) -> None:
        """Certificates and keys, wherever a link's tables have them."""
        for name, value in table.items():
            if isinstance(value, dict):
                self._identities(value, (*path, name))
        if {"cert", "ca"} & set(table):
            files = (table.get(field) for field in ("cert", "key", "ca"))
            # What is no path is told where the section is checked.
            named = (each if isinstance(each, str) and "\0" not in each else "" for each in files)
            cert, key, ca = (self._checker.file(each) if each else None for each in named)
            for mistake in examine(cert, key, ca)[1]:
                self._problems.add((*path, mistake.field), mistake.sentence)

    def _peers(self, links: list[LinkSettings], known: set[str]) -> list[Peer]:
        kinds = {link.name: link.spec.scheme for link in links}
        peers = []
        for path, each in self._tables("peers", PeerSection):
            self._link_known(each.link, known, path)
            if kinds.get(each.link, "memory") not in NAMED:
                self._address(each.address, (*path, "address"))
            peers.append(Peer(each.id, each.link, each.address, tuple(each.aliases)))
        return peers

    def _contacts(self, known: set[str]) -> list[Planned]:
        found = []
        for path, section in self._tables("contacts", ContactSection):
            each, wrong = planned(section)
            for key, sentence in wrong:
                self._problems.add((*path, key), sentence)
            if section.link is not None:
                self._link_known(section.link, known, path)
            if each is not None:
                found.append(each)
        return found

    def _link_known(self, name: str, known: set[str], path: Path) -> None:
        if name not in known:
            meant = did_you_mean(name, known) if known else f'write [[links]] with kind = "{name}"'
            self._problems.add((*path, "link"), f"no link is called {name!r}; {meant}")

    def _services(self) -> list[ServiceSettings]:
        table = self._data.get("services", {})
        if not isinstance(table, dict):
            self._problems.add(("services",), "this must be a table; write [services.echo]")
            return []
        found = []
        room = self.registry.services
        for name in [*table, *(name for name, spec in room.parts.items() if spec.always and name not in table)]:
            path: Path = ("services", name)
            try:
                spec = room.get(name)
            except ConfigError as error:
                self._problems.add(path, str(error))
                continue
            config = self._checker.struct(table.get(name, {}), spec.config, path)
            found.append(ServiceSettings(spec, config))
        return found

    # ---- helpers ------------------------------------------------------------------------------------------------------

    def _by_kind(self, table: Any, section: type[Any], room: Room[Any], path: Path) -> tuple[Any, Any, Any] | None:
        """(spec, its config, the common keys) of a table whose `kind` chooses the part; None after a mistake."""
        common = section.__struct_fields__
        if not isinstance(table, dict):
            self._checker.struct(table, section, path)
            return None
        made = self._checker.struct({key: table[key] for key in common if key in table}, section, path)
        kind = table.get("kind") if isinstance(made, Bad) else made.kind
        if not isinstance(kind, str):
            return None
        try:
            spec = room.get(kind)
        except ConfigError as error:
            self._problems.add((*path, "kind"), str(error))
            return None
        own = {key: value for key, value in table.items() if key not in common}
        config = self._checker.struct(own, spec.config, path, also=common)
        return None if isinstance(made, Bad) or isinstance(config, Bad) else (spec, config, made)

    def _list(self, name: str) -> list[tuple[Path, Any]]:
        tables = self._data.get(name, [])
        if not isinstance(tables, list):
            self._problems.add((name,), f"this must be a list of tables; write [[{name}]] with two brackets")
            return []
        return [((name, index), table) for index, table in enumerate(tables)]

    def _tables(self, name: str, section: type[Item]) -> Iterable[tuple[Path, Item]]:
        for path, table in self._list(name):
            made = self._checker.struct(table, section, path)
            if not isinstance(made, Bad):
                yield path, made

    def _named(self) -> set[str]:
        """Names and kinds of all links, right or wrong: a wrong link is no reason to call its name unknown."""
        links = self._data.get("links", [])
        tables = [table for table in links if isinstance(table, dict)] if isinstance(links, list) else []
        return {str(table.get("name") or table.get("kind", "")) for table in tables} - {""}


def _free_name(kind: str, names: set[str]) -> str:
    number = 1
    while (name := kind if number == 1 else f"{kind}-{number}") in names:
        number += 1
    return name

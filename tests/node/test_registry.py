"""The rooms are walked; two parts of one name are an error; a wrong name is told what was meant."""

from pathlib import Path

import pytest

import tumpline
from tumpline.drivers.links._api import LinkSpec
from tumpline.errors import ConfigError
from tumpline.node import registry
from tumpline.node.registry import Room, did_you_mean, join, load_registry

ROOMS = {
    "links": "drivers/links",
    "stores": "drivers/stores",
    "services": "node/services",
    "routing": "machines/routing",
}


def test_every_module_of_a_room_is_a_part() -> None:
    source = Path(tumpline.__file__).parent
    found = load_registry()._asdict()
    for kind, folder in ROOMS.items():
        modules = {path.stem for path in (source / folder).glob("[!_]*.py")}
        assert len(found[kind].parts) == len(modules), kind
        assert modules, kind


def test_parts_are_named_by_their_spec() -> None:
    for room in load_registry():
        for name, spec in room.parts.items():
            assert spec[0] == name


def test_a_name_that_is_there_twice_names_both() -> None:
    spec = load_registry().links.parts["tcpcl4"]
    with pytest.raises(ConfigError, match=r"first\.module and second\.module are both called 'tcpcl4'"):
        join(LinkSpec, [("first.module", spec), ("second.module", spec)])


def test_a_module_without_a_spec() -> None:
    with pytest.raises(ConfigError, match=r"some\.module is no LinkSpec; end the module with SPEC = LinkSpec"):
        join(LinkSpec, [("some.module", None)])


def test_what_was_meant() -> None:
    room = Room("link", load_registry().links.parts)
    assert room.get("tcpcl4").scheme == "tcpcl4"
    with pytest.raises(ConfigError, match=r"there is no link 'tcpcl'; did you mean 'tcpcl4'\?"):
        room.get("tcpcl")
    assert did_you_mean("zzz", ["b", "a"]) == "write one of: a, b"
    assert did_you_mean("zzz", []) == "there is none to choose from"


class Entry:
    """An entry point of an outside package."""

    def __init__(self, name: str, what: object) -> None:
        self.name = name
        self.value = f"outside.{name}:SPEC"
        self._what = what

    def load(self) -> object:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


def test_outside_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_registry().links.parts["tcpcl4"]._replace(scheme="pigeon")
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry("pigeon", spec)] if "links" in group else [])
    load_registry.cache_clear()
    try:
        assert load_registry().links.get("pigeon") is spec
    finally:
        load_registry.cache_clear()


def test_an_outside_package_with_a_name_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_registry().links.parts["tcpcl4"]
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry("mine", spec)] if "links" in group else [])
    load_registry.cache_clear()
    try:
        with pytest.raises(
            ConfigError, match=r"tumpline\.drivers\.links\.tcpcl4 and outside\.mine:SPEC .* both called"
        ):
            load_registry()
    finally:
        load_registry.cache_clear()


def test_an_outside_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Entry("broken", ImportError("no module named feathers"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken] if "stores" in group else [])
    load_registry.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"feathers.*update or remove that package"):
            load_registry()
    finally:
        load_registry.cache_clear()

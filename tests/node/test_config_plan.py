"""The contact plan over restarts, and changes that are saved."""

import json
from pathlib import Path

import pytest

from tumpline.errors import ConfigError, MalformedError, StateError
from tumpline.machines.plan import Contact
from tumpline.node.config import Configuration, load, loads, read_link
from tumpline.node.config.plan import Plan
from tumpline.node.state import StateDir
from tumpline.wire.eid import Eid

ROVER = Eid.parse("dtn://rover/")
TEXT = """\
# the whole plan
[node]
id = "dtn://ground/"

[[contacts]]        # first
peer = "dtn://rover/"
start = "+30s"
duration = "10m"

# what follows is about routes
[[routes]]
to = "dtn://rover/**"   # keep me
via = "dtn://relay/"

[[routes]]
to = "ipn:*.*.*"
via = "ipn:7.0"

[log]
level = "info"
"""


class Clock:
    """DTN time as the test says."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    (tmp_path / "ground.toml").write_text(TEXT)
    return load(tmp_path / "ground.toml")


def plan(configuration: Configuration, directory: Path, clock: Clock) -> Plan:
    with StateDir.hold(directory / "state") as state:
        return configuration.plan(state, clock)


def test_a_relative_start_is_kept_over_restarts(configuration: Configuration, tmp_path: Path, clock: Clock) -> None:
    first = plan(configuration, tmp_path, clock).contacts
    assert first == [Contact(ROVER, 1_030_000, 600_000)]
    clock.ms += 3_600_000
    assert plan(configuration, tmp_path, clock).contacts == first


def test_a_changed_contact_begins_anew_and_the_others_do_not(tmp_path: Path, clock: Clock) -> None:
    head = '[node]\nid = "dtn://a/"\n'
    one = '[[contacts]]\npeer = "dtn://b/"\nstart = "+1s"\n'
    two = '[[contacts]]\npeer = "dtn://c/"\nstart = "+1s"\n'
    plan(loads(head + one + two), tmp_path, clock)
    clock.ms += 5000
    # The order of the file is no change; a rate is.
    contacts = plan(loads(head + two + one + 'rate = "1 kbit/s"\n'), tmp_path, clock).contacts
    assert [contact.start_ms for contact in contacts] == [1_001_000, 1_006_000]
    remembered = json.loads((tmp_path / "state" / "plan.json").read_text())["first_seen_dtn_ms"]
    assert sorted(remembered.values()) == [1_000_000, 1_005_000]  # what is gone is forgotten


def test_absolute_times_and_cron_need_no_memory(tmp_path: Path, clock: Clock) -> None:
    text = (
        '[node]\nid = "dtn://a/"\n[[contacts]]\npeer = "dtn://b/"\nstart = "2000-01-01T00:01:00Z"\n'
        '[[contacts]]\npeer = "dtn://c/"\nstart = "cron: */5 * * * *"\nduration = "1m"\n'
        '[[contacts]]\npeer = "dtn://d/"\n'
    )
    contacts = plan(loads(text), tmp_path, clock).contacts
    assert [(contact.start_ms, contact.cron) for contact in contacts] == [
        (60_000, None),
        (None, "*/5 * * * *"),
        (None, None),
    ]
    assert not (tmp_path / "state" / "plan.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"first_seen_dtn_ms": {"x": "y"}}'])
def test_a_damaged_memory(configuration: Configuration, tmp_path: Path, clock: Clock, content: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "plan.json").write_text(content)
    with pytest.raises(StateError, match=r"is damaged .*; remove it: relative contacts begin anew"):
        plan(configuration, tmp_path, clock)


def test_contacts_by_command(configuration: Configuration, tmp_path: Path, clock: Clock) -> None:
    running = plan(configuration, tmp_path, clock)
    clock.ms += 1000
    added = running.add("ipn:7.0", "+5s", "1m", "9600", "tcpcl4")
    assert added == Contact(Eid.parse("ipn:7.0"), 1_006_000, 60_000, 9600, None, "tcpcl4")
    assert len(running.contacts) == 2
    assert running.remove("ipn:7.0", "+6s") == []
    assert running.remove("ipn:7.0", "+5s") == [added]
    assert [contact.peer for contact in running.remove("dtn://rover/")] == [ROVER]
    assert running.contacts == []
    assert (tmp_path / "ground.toml").read_text() == TEXT  # nothing was saved


def test_a_contact_that_is_added_again_counts_from_now(
    configuration: Configuration, tmp_path: Path, clock: Clock
) -> None:
    running = plan(configuration, tmp_path, clock)
    running.add("ipn:7.0", "+5s", "1m")
    running.remove("ipn:7.0")
    clock.ms += 1000
    assert running.add("ipn:7.0", "+5s", "1m").start_ms == 1_006_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("rover", "+5s", "1m"), "no endpoint ID"),
        (("dtn://b/x", "+5s", "1m"), "is an endpoint, not a node"),
        (("dtn://b/", "soon", "1m"), "'soon' is no start"),
        (("dtn://b/", "+5s", "long"), "'long' is no duration"),
        (("dtn://b/", "+5s", "1m", "quick"), "'quick' is no rate"),
        (("dtn://b/", "cron: * * * *", "1m"), "write five"),
        (("dtn://b/", "cron: * * * * *", ""), "windows by cron have a length"),
    ],
)
def test_wrong_contacts_by_command(
    configuration: Configuration, tmp_path: Path, clock: Clock, arguments: tuple[str, ...], sentence: str
) -> None:
    running = plan(configuration, tmp_path, clock)
    with pytest.raises((ConfigError, MalformedError), match=sentence):
        running.add(*arguments)  # type: ignore[arg-type]
    assert len(running.contacts) == 1


# ---- changes that are saved -------------------------------------------------------------------------------------------------


def again(configuration: Configuration) -> Configuration:
    assert configuration.path is not None
    return load(configuration.path)


def test_a_saved_contact(configuration: Configuration, tmp_path: Path, clock: Clock) -> None:
    running = plan(configuration, tmp_path, clock)
    added = running.add("ipn:7.0", "+5s", "1m", "9600", save=True)
    clock.ms += 60_000
    assert plan(again(configuration), tmp_path, clock).contacts[1] == added
    running.remove("dtn://rover/", save=True)
    assert [each.contact.peer for each in again(configuration).contacts] == [Eid.parse("ipn:7.0")]


def test_cutting_a_table_out_leaves_the_rest_as_it_was(
    configuration: Configuration, tmp_path: Path, clock: Clock
) -> None:
    plan(configuration, tmp_path, clock).remove("dtn://rover/", save=True)
    begin, end = TEXT.index("[[contacts]]"), TEXT.index("# what follows")
    assert (tmp_path / "ground.toml").read_text() == TEXT[:begin] + TEXT[end:]


def test_saved_routes(configuration: Configuration) -> None:
    configuration.save_route("dtn://mars/**", "dtn://relay/", 3)
    configuration.save_route("dtn://mars/**", "dtn://relay/", 4)  # replaces the first
    routes = again(configuration).routes
    assert [(str(route.pattern), route.priority) for route in routes][2:] == [("dtn://mars/**", 4)]
    configuration.drop_route("dtn://rover/**", "dtn://relay/")
    configuration.drop_route("dtn://mars/**", "dtn://relay/")
    assert [str(route.via) for route in again(configuration).routes] == ["ipn:7.0"]
    assert again(configuration).log.level == "info"


def test_saved_links(configuration: Configuration) -> None:
    table = {"kind": "tcpcl4", "name": "extra", "listen": "127.0.0.1:0", "tls": {"mode": "off"}}
    settings = read_link(table, configuration.registry, configuration.base, [])
    assert (settings.name, settings.config.listen) == ("extra", "127.0.0.1:0")
    configuration.save_link(table)
    saved = again(configuration)
    assert [(link.name, link.config) for link in saved.links] == [("extra", settings.config)]
    saved.drop_link("extra")
    assert again(configuration).links == []


def test_a_link_by_command_is_checked_like_one_in_the_file(configuration: Configuration) -> None:
    with pytest.raises(ConfigError) as raised:
        read_link(
            {"kind": "tcpcl4", "listen": "h:x", "keepalive": 1, "name": "used"},
            configuration.registry,
            configuration.base,
            ["used"],
        )
    text = str(raised.value)
    assert "links[0].listen" in text
    assert "did you mean 'keepalive_s'?" in text
    assert read_link({"kind": "memory"}, configuration.registry, configuration.base, ["memory"]).name == "memory-2"


def test_what_stands_in_one_line_is_left_to_people(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    text = 'routes = [{ to = "ipn:1.1", via = "ipn:7.0" }]\n[node]\nid = "dtn://a/"\n'
    path.write_text(text)
    configuration = load(path)
    with pytest.raises(ConfigError, match="in one line"):
        configuration.save_route("ipn:2.2", "ipn:7.0")
    with pytest.raises(ConfigError, match=r":1: routes is written in one line; edit it by hand"):
        configuration.drop_route("ipn:1.1", "ipn:7.0")
    assert path.read_text() == text


def test_brackets_within_a_value_do_not_end_a_table(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[node]\nid = "dtn://a/"\n[[links]]\nkind = "memory"\nlisten = """\n[no]\n[[header]]"""\n')
    load(path).drop_link("memory")
    assert path.read_text() == '[node]\nid = "dtn://a/"\n'


def test_subtables_go_with_their_table(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[node]\nid = "dtn://a/"\n[[links]]\nkind = "tcpcl4"\n[links.tls]\nmode = "off"\n[log]\n')
    load(path).drop_link("tcpcl4")
    assert path.read_text() == '[node]\nid = "dtn://a/"\n[log]\n'


def test_nothing_is_saved_without_a_file() -> None:
    with pytest.raises(ConfigError, match="without a configuration file"):
        loads('[node]\nid = "dtn://a/"\n').save_route("ipn:1.1", "ipn:7.0")

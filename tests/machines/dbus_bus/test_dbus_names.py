"""Names under any sequence of requests: what clients are told adds up to what is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tumpline.machines.dbus import CallReceived
from tumpline.testing.bus_net import BusNet, NetClient
from tumpline.wire.dbus import Kind, Message

NAMES = ["org.example.A", "org.example.B"]
RULE = "member='NameOwnerChanged'"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(0, 3), st.sampled_from(NAMES), st.integers(0, 7)),
        st.tuples(st.just("release"), st.integers(0, 3), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 3), st.just(""), st.just(0)),
    ),
    max_size=30,
)


class Told:
    """What one client believes it owns."""

    def __init__(self, client: NetClient) -> None:
        self.client = client
        self.owned: set[str] = set()

    def listen(self) -> None:
        for member, name, *_ in self.client.signals():
            if member == "NameAcquired":
                assert name not in self.owned, "acquired twice"
                self.owned.add(name)
            elif member == "NameLost":
                self.owned.remove(name)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_what_is_told_adds_up(steps: list[tuple[str, int, str, int]]) -> None:
    net = BusNet()
    watcher = net.join()
    net.ask(watcher, "AddMatch", "s", RULE)
    told = [Told(net.join()) for _ in range(4)]
    watcher.signals()
    owner = dict.fromkeys(NAMES, "")
    for what, at, name, flags in steps:
        if what == "leave":
            net.leave(told[at].client)
            told[at] = Told(net.join())
        else:
            _ask(net, told[at].client, what, name, flags)
        for member, changed, old, new in watcher.signals():
            assert member == "NameOwnerChanged"
            if changed in owner:
                assert (owner[changed], new != old) == (old, True), "each change begins where the last one ended"
                owner[changed] = new
        for each in told:
            each.listen()
        _check(net, watcher, told, owner)


def _ask(net: BusNet, client: NetClient, what: str, name: str, flags: int) -> None:
    if what == "release":
        mine = client.at_bus.number in net.bus.names.queue(name)
        known = name in net.bus.names.names()
        assert net.ask(client, "ReleaseName", "s", name) == (1 if mine else 3 if known else 2)
        assert client.at_bus.number not in net.bus.names.queue(name)
        return
    result = net.ask(client, "RequestName", "su", name, flags)
    queue = net.bus.names.queue(name)
    assert (queue[0] == client.at_bus.number) == (result in (1, 4))
    assert (client.at_bus.number in queue) == (result != 3)
    assert result != 2 or not flags & 4, "who does not queue waits nowhere"


def _check(net: BusNet, watcher: NetClient, told: list[Told], owner: dict[str, str]) -> None:
    for name in NAMES:
        queue = net.bus.names.queue(name)
        assert len(queue) == len(set(queue)), "waits twice"
        holders = [each.client.name for each in told if name in each.owned]
        assert holders == ([owner[name]] if owner[name] else []), "one believes to own it, the one who does"
        assert net.ask(watcher, "NameHasOwner", "s", name) is bool(holders)
    for each in told:
        assert sorted(net.bus.names.owned_by(each.client.at_bus.number)) == sorted(each.owned)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["call", "answer", "leave"]), st.integers(0, 2), st.integers(0, 2)), max_size=25)
)
def test_every_call_ends_once(steps: list[tuple[str, int, int]]) -> None:
    net = BusNet()
    clients = [net.join() for _ in range(3)]
    waiting: list[tuple[NetClient, int]] = []
    for what, at, other in steps:
        client = clients[at]
        if what == "call":
            call = Message(Kind.CALL, 0, "/", "org.example.A", "Do", destination=clients[other].name)
            waiting.append((client, net.call(client, call)))
        elif what == "answer":
            _answer_first(net, client)
        else:
            net.leave(client)
            clients[at] = net.join()
    for client in clients:
        net.leave(client)
    for client, serial in waiting:
        answers = [event for event in client.seen if getattr(event, "serial", None) == serial]
        assert len(answers) == 1 or (client.reason and not answers), "a call that is not over, or over twice"
    assert net.clients == {}


def _answer_first(net: BusNet, client: NetClient) -> None:
    calls = [event for event in client.seen if isinstance(event, CallReceived)]
    if calls:
        client.seen.remove(calls[0])
        message = calls[0].message
        net.send(client, Message(Kind.RETURN, 0, reply_serial=message.serial, destination=message.sender))

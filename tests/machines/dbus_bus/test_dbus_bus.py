"""What only a bus without I/O can be made to show: bounds, strangers, slow readers, deadlines, descriptors."""

from __future__ import annotations

import pytest

from tumpline.machines.dbus import Answered, CallReceived
from tumpline.machines.dbus.connection import BUS_NAME
from tumpline.machines.dbus_bus import Bus, Credentials
from tumpline.testing.bus_net import CONFIG, HOST, BusNet, NetClient
from tumpline.testing.fds import CountedFd
from tumpline.wire.dbus import Kind, Message, encode_message

PATH, IFACE, NAME = "/org/example", "org.example.A", "org.example.Name"
SAID = Message(Kind.SIGNAL, 0, PATH, IFACE, "Said")
DO = Message(Kind.CALL, 0, PATH, IFACE, "Do")
ERROR = "org.freedesktop.DBus.Error"


def error_of(net: BusNet, client: NetClient, serial: int) -> tuple[str, str]:
    answer = net.answer(client, serial)
    assert answer is not None
    return answer.error_name.rpartition(".")[2], str(answer.body_values()[0])


@pytest.mark.parametrize("uid", [HOST.uid, 0, 2000])
def test_who_may_use_it(uid: int) -> None:
    net = BusNet(CONFIG._replace(uids=frozenset({2000})))
    client = net.join(uid)
    assert net.ask(client, "GetConnectionUnixUser", "s", client.name) == uid


def test_strangers_are_told_and_let_go() -> None:
    net = BusNet()
    stranger = net.connect(uid=2000)
    net.settle()
    assert stranger.reason == f"{ERROR}.AccessDenied: user 2000 may not use this bus, which is user 1000's"
    assert net.clients == {}


def test_nobody_is_taken_for_another() -> None:
    net = BusNet()
    thief = net.connect(uid=2000)
    thief.machine.outbox.clear()
    thief.machine.outbox.put_pieces(b"\0AUTH EXTERNAL 31303030\r\n")
    net.settle()
    assert "does not take user" in thief.reason


def test_nothing_comes_before_hello() -> None:
    net = BusNet()
    client, witness = net.connect(), net.join()
    client.machine.outbox.put_pieces(b"NEGOTIATE_UNIX_FD\r\nBEGIN\r\n" + encode_message(SAID._replace(serial=1)))
    net.ask(witness, "AddMatch", "s", "interface='org.example.A'")
    net.settle()
    assert client.at_bus.is_over
    assert witness.signals() == []


def test_a_broken_body_reaches_nobody() -> None:
    net = BusNet()
    a, b = net.join(), net.join()
    broken = encode_message(SAID._replace(serial=9, destination=b.name).with_body("s", "x"))[:-1] + b"\1"
    a.machine.outbox.put_pieces(broken)
    net.settle()
    assert "broke the rules" not in b.reason
    assert b.signals() == []
    assert a.at_bus.is_over


def test_who_takes_too_long_to_join() -> None:
    net = BusNet(CONFIG._replace(joining_s=10.0))
    slow = net.bus.accept(HOST, 0.0)
    later = net.bus.accept(HOST, 5.0)
    assert slow is not None
    assert later is not None
    assert net.bus.next_timeout() == 10.0
    net.bus.handle_timeout(10.0)
    assert [(over.client, over.reason) for over in net.bus.take_over()] == [
        (slow.number, "it has not said Hello within 10 s")
    ]
    assert net.bus.next_timeout() == 15.0


def test_those_who_join_do_not_keep_others_out() -> None:
    net = BusNet(CONFIG._replace(joining_most=3))
    silent = [net.bus.accept(HOST, 0.0) for _ in range(3)]
    assert net.join().name == ":1.0"
    assert silent[0] is not None
    assert silent[0].is_over
    assert silent[1] is not None
    assert not silent[1].is_over


def test_a_full_bus() -> None:
    bus = Bus(CONFIG._replace(clients_most=2))
    assert bus.accept(HOST, 0.0)
    assert bus.accept(HOST, 0.0)
    assert bus.accept(HOST, 0.0) is None
    bus.lost(1, "left")
    assert bus.accept(HOST, 0.0)


def test_names_and_rules_are_bounded() -> None:
    net = BusNet(CONFIG._replace(names_most=2, rules_most=2))
    a, b = net.join(), net.join()
    assert [net.ask(a, "RequestName", "su", f"{NAME}{at}", 0) for at in range(3)] == [1, 1, "LimitsExceeded"]
    assert net.ask(a, "RequestName", "su", f"{NAME}1", 0) == 4
    assert net.ask(b, "RequestName", "su", f"{NAME}1", 0) == 2
    assert net.ask(a, "ReleaseName", "s", f"{NAME}1") == 1
    assert net.ask(a, "RequestName", "su", f"{NAME}2", 0) == 1
    rules = [net.ask(a, "AddMatch", "s", "member='A'") for _ in range(3)]
    assert rules == [None, None, "LimitsExceeded"]
    assert net.ask(a, "RemoveMatch", "s", "member='A'") is None
    assert net.ask(a, "AddMatch", "s", "member='B'") is None


def test_answers_awaited_are_bounded() -> None:
    net = BusNet(CONFIG._replace(replies_most=2))
    a, b = net.join(), net.join()
    serials = [net.call(a, DO._replace(destination=b.name)) for _ in range(3)]
    assert error_of(net, a, serials[2]) == ("LimitsExceeded", "2 calls of yours wait for their answers already")
    net.send(b, Message(Kind.RETURN, 0, reply_serial=serials[0], destination=a.name))
    again = net.call(a, DO._replace(destination=b.name))
    assert net.answer(a, again) is None


def test_a_serial_that_waits_is_not_taken_twice() -> None:
    net = BusNet()
    a, b = net.join(), net.join()
    serial = net.call(a, DO._replace(destination=b.name))
    a.machine.outbox.put_message(DO._replace(destination=b.name, serial=serial))
    net.settle()
    assert error_of(net, a, serial)[0] == "AccessDenied"


def test_a_slow_reader_is_let_go_and_nobody_else() -> None:
    net = BusNet(CONFIG._replace(outgoing_octets_most=100_000))
    a, slow, b = net.join(), net.join(), net.join()
    for client in (slow, b):
        net.ask(client, "AddMatch", "s", "interface='org.example.A'")
    slow.is_deaf = True
    for _ in range(20):
        net.send(a, SAID.with_body("ay", b"x" * 10_000))
    assert "it reads too slowly" in slow.reason
    assert len(b.signals()) == 20
    assert net.ask(a, "NameHasOwner", "s", b.name) is True


def test_calls_to_one_that_does_not_read_are_refused() -> None:
    net = BusNet(CONFIG._replace(outgoing_octets_most=100_000))
    a, slow = net.join(), net.join()
    slow.is_deaf = True
    call = DO._replace(destination=slow.name).with_body("ay", b"x" * 60_000)
    first, second = net.call(a, call), net.call(a, call)
    assert net.answer(a, first) is None
    name, text = error_of(net, a, second)
    assert name == "LimitsExceeded"
    assert "reads too slowly" in text
    assert slow.reason == "", "it may be busy; what comes unasked would be another matter"


def test_all_queues_together_are_bounded() -> None:
    net = BusNet(CONFIG._replace(held_octets_most=4_000_000))
    a, deaf = net.join(), [net.join() for _ in range(4)]
    serials = []
    for _ in range(3):
        for client in deaf:
            client.is_deaf = True
            serials.append(net.call(a, DO._replace(destination=client.name).with_body("ay", b"x" * 1_200_000)))
    refused = [serial for serial in serials if net.answer(a, serial) is not None]
    assert 0 < len(refused) < len(serials)
    assert sum(client.at_bus.outbox.octets for client in deaf) < 4_000_000 + 4 * 1_300_000


def test_parts_of_messages_count_as_well() -> None:
    net = BusNet(CONFIG._replace(held_octets_most=4_000_000))
    senders, bystander = [net.join() for _ in range(4)], net.join()
    part = encode_message(SAID._replace(serial=9).with_body("ay", b"x" * 3_000_000))[:1_500_000]
    for sender in senders:
        net.bus.receive(sender.at_bus.number, memoryview(part))
    net.settle()
    assert [bool(sender.reason) for sender in senders] == [False, False, True, True], "those who made it too much"
    assert net.ask(bystander, "NameHasOwner", "s", senders[0].name) is True


def test_before_hello_nobody_sends_long_messages() -> None:
    net = BusNet()
    stranger = net.connect(uid=2000)
    hello = Message(Kind.CALL, 1, "/", member="Hello", destination=BUS_NAME).with_body("ay", b"x" * 5000)
    stranger.machine.outbox.clear()
    stranger.machine.outbox.put_pieces(b"\0AUTH EXTERNAL 32303030\r\nBEGIN\r\n" + encode_message(hello)[:100])
    net.settle()
    assert stranger.at_bus.is_over
    assert stranger.at_bus.octets == 0


def test_descriptors_for_a_slow_reader_are_bounded() -> None:
    net, fds = BusNet(CONFIG._replace(outgoing_fds_most=3)), [CountedFd() for _ in range(2)]
    a, slow = net.join(), net.join()
    slow.is_deaf = True
    serials = [net.call(a, DO._replace(destination=slow.name), fds) for _ in range(3)]
    assert [net.answer(a, serial) is None for serial in serials] == [True, False, False]
    assert error_of(net, a, serials[1])[0] == "LimitsExceeded"
    assert [fd.holders for fd in fds] == [2, 2]


def test_descriptors_are_held_by_those_who_take_them_alone() -> None:
    net, fds = BusNet(), [CountedFd() for _ in range(4)]
    a, b, c = net.join(), net.join(), net.join()
    for client in (b, c):
        net.ask(client, "AddMatch", "s", "member='Said'")
    net.call(a, DO._replace(destination=b.name), fds[:1])
    net.send(a, SAID, fds[1:2])
    net.call(a, DO._replace(destination="org.example.Nobody"), fds[2:3])
    net.send(a, Message(Kind.RETURN, 0, reply_serial=7, destination=b.name), fds[3:])
    assert [fd.holders - 1 for fd in fds] == [1, 2, 0, 0], "our own, and one for each receiver"
    assert [event.fds for event in b.seen if isinstance(event, CallReceived)] == [(fds[0],)]
    c.is_deaf = True
    net.send(a, SAID, fds[3:])
    net.leave(c)
    assert fds[3].holders == 2, "what waited for one who left is let go"


def test_descriptors_only_to_those_who_take_them() -> None:
    net = BusNet()
    a, b = net.join(), net.join()
    b.at_bus.auth.passes_fds = False
    fd = CountedFd()
    net.ask(b, "AddMatch", "s", "member='Said'")
    serial = net.call(a, DO._replace(destination=b.name), [fd])
    assert error_of(net, a, serial)[0] == "NotSupported"
    net.send(a, SAID, [fd])
    assert b.signals() == []
    serial = net.call(b, DO._replace(destination=a.name))
    net.send(a, Message(Kind.RETURN, 0, reply_serial=serial, destination=b.name), [fd])
    assert error_of(net, b, serial)[0] == "NotSupported"
    assert fd.holders == 1


def test_the_bus_says_who_has_left_in_one_piece() -> None:
    """Many leave at once, each the next in the queue of the name of the one before."""
    net = BusNet()
    clients = [net.join() for _ in range(5)]
    for client in clients[:4]:
        net.ask(client, "RequestName", "su", NAME, 0)
    watcher = clients[4]
    net.ask(watcher, "AddMatch", "s", "member='NameOwnerChanged',arg0='org.example.Name'")
    for client in clients[:4]:
        net.bus._let_go(client.at_bus, "all at once")
    net.bus._settle()
    net.settle()
    chain = watcher.signals()
    assert [changed[3] for changed in chain] == [*(client.name for client in clients[1:4]), ""]
    assert [changed[2] for changed in chain] == [client.name for client in clients[:4]]


def test_running_services_need_no_start() -> None:
    net = BusNet()
    a = net.join()
    net.ask(a, "RequestName", "su", NAME, 0)
    # D-Bus specification, StartServiceByName: 2 where the name has an owner (dbus-daemon looks for a file all the same).
    assert net.ask(a, "StartServiceByName", "su", NAME, 0) == 2
    assert net.ask(a, "StartServiceByName", "su", BUS_NAME, 0) == 2


def test_calls_to_oneself_and_leaving_meanwhile() -> None:
    net = BusNet()
    a = net.join()
    serial = net.call(a, DO._replace(destination=a.name))
    (call,) = [event.message for event in a.seen if isinstance(event, CallReceived)]
    net.send(a, Message(Kind.RETURN, 0, reply_serial=call.serial, destination=a.name))
    assert [event.serial for event in a.seen if isinstance(event, Answered)][-1] == serial
    net.call(a, DO._replace(destination=a.name))
    net.leave(a)
    assert net.clients == {}


def test_who_is_gone_is_not_heard() -> None:
    net, fd = BusNet(), CountedFd()
    a = net.join()
    net.leave(a)
    net.bus.receive(a.at_bus.number, memoryview(b"anything"), [fd])
    net.bus.lost(a.at_bus.number, "again")
    assert fd.holders == 0
    assert net.bus.take_over() == []
    assert net.bus.accept(Credentials(0, 1), 0.0) is not None

"""The objects of a node on D-Bus without a bus: what they ask of the agent."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from tumpline.drivers.dbus import BusError, Call
from tumpline.drivers.tasks import TaskOwner
from tumpline.machines.contract import Octets, Payload
from tumpline.machines.effects import Adu, Notice
from tumpline.node.services import endpoints, trace
from tumpline.node.services._api import Service
from tumpline.node.services.endpoints import Endpoints
from tumpline.node.services.trace import Trace
from tumpline.testing.control import MemoryAgent
from tumpline.testing.services import MemoryNode
from tumpline.ui.dbus.app import DataObject
from tumpline.ui.dbus.bp import AGENT_PATH, PING, BpAgent
from tumpline.ui.dbus.steering import NodeObject
from tumpline.wire.eid import Eid

CALL = cast("Call", None)  # of methods that do not look at it
TCPCL = {"kind": "dbus_cl", "name": "tcpcl", "service": "org.ietf.dtn.node.tcpcl"}


class Twin(MemoryAgent):
    """An agent whose snapshot a test chooses."""

    def __init__(self, node: MemoryNode) -> None:
        super().__init__(node)
        self.shown: dict[str, Any] = {}

        self.may_read = threading.Event()
        self.may_read.set()
        self.endpoints = Endpoints()

    def snapshot(self) -> dict[str, Any]:
        return super().snapshot() | self.shown

    def service(self, name: str) -> Service:
        return self.endpoints if name == "endpoints" else super().service(name)

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        assert self.may_read.wait(10)
        return super().read_payload(payload, offset, length)


class Objects:
    def __init__(self, directory: Path) -> None:
        self.agent = Twin(MemoryNode("dtn://ground/", directory))
        self.emitted: list[tuple[Any, ...]] = []
        self.failures: list[BaseException] = []
        self.tasks = TaskOwner(lambda _name, error: self.failures.append(error))
        self.bp = BpAgent(self.agent, self.emit, "system", self.tasks)
        self.node = NodeObject(self.agent, self.emit)
        self.data = DataObject(self.agent, self.emit, "any")

    def emit(self, *what: Any) -> None:
        self.emitted.append(what)


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[Objects]:
    made = Objects(tmp_path)
    yield made
    await made.tasks.stop()
    assert not made.failures


@pytest.mark.parametrize(("in_flight", "stopped"), [([], True), ([0, 0], True), ([0, 3], False)])
async def test_shutdown_says_whether_it_has_to_wait(objects: Objects, in_flight: list[int], stopped: bool) -> None:
    objects.agent.shown["peers"] = [{"in_flight": count} for count in in_flight]
    assert objects.bp.shutdown(CALL) is stopped
    assert objects.agent.stopped.result() is True, "gracefully"


async def test_stop_does_not_wait(objects: Objects) -> None:
    objects.bp.stop(CALL)
    assert objects.agent.stopped.result() is False


async def test_an_agent_is_attached_as_a_link_of_its_layer_s_name(objects: Objects) -> None:
    await objects.bp.cl_attach(CALL, "tcpcl", "org.ietf.dtn.node.tcpcl")
    (asked,) = objects.agent.asked
    wanted = {"cl": "tcpcl", "bus": "system", "authenticate": "none"}
    assert asked[1] == TCPCL | wanted


async def test_attaching_twice_changes_nothing_and_another_has_a_name_of_its_own(objects: Objects) -> None:
    objects.agent.shown["links"] = [TCPCL]
    await objects.bp.cl_attach(CALL, "tcpcl", "org.ietf.dtn.node.tcpcl")
    assert not objects.agent.asked
    await objects.bp.cl_attach(CALL, "tcpcl", "org.ietf.dtn.other.tcpcl")
    assert "name" not in objects.agent.asked[0][1]


async def test_layers_that_are_not_there_are_refused(objects: Objects) -> None:
    with pytest.raises(BusError, match="cltype 'btpu' is not attached here: write tcpcl or udpcl") as refused:
        await objects.bp.cl_attach(CALL, "btpu", "org.ietf.dtn.node.btpu")
    assert refused.value.name == "org.freedesktop.DBus.Error.NotSupported"


async def test_a_ping_that_cannot_be_sent_says_why(objects: Objects) -> None:
    await objects.agent.node.add(trace.SPEC, Trace())
    objects.agent.node.refuse = "no such source"
    number = objects.bp.start_ping(CALL, "dtn://rover/echo", 100, 1.0)
    while not objects.emitted:
        await asyncio.sleep(0)
    why = "no such source"
    assert objects.emitted == [(AGENT_PATH, PING, "finished", number, "dtn://rover/echo", False, 0.0, why)]


async def test_status_reports_become_signals(objects: Objects) -> None:
    fields = {
        "reporter": "dtn://relay/",
        "status": ["forwarded"],
        "times_ms": {},
        "reason": 0,
        "source": "dtn://ground/x",
    }
    objects.node.heard(Notice("status_report_received", fields | {"created_ms": 7, "sequence": 8}))
    objects.node.heard(Notice("session_ended", {}))
    ((_, _, member, *told),) = objects.emitted
    assert (member, told) == ("status_reported", ["dtn://relay/", "dtn://ground/x", 7, 8, ["forwarded"], 0])


async def arrived(objects: Objects, payload: bytes) -> str:
    """The number of an ADU that waits at an endpoint called inbox."""
    await objects.agent.node.add(endpoints.SPEC, objects.agent.endpoints)
    assert objects.data.register(CALL, "inbox") == "dtn://ground/inbox"
    objects.agent.node.arrive(Eid.parse("dtn://rover/x"), Adu(Eid.parse("dtn://ground/inbox"), Octets(payload)))
    while not objects.emitted:
        await asyncio.sleep(0)
    (number,) = objects.data.queue(CALL)
    assert objects.emitted.pop()[3:] == ("dtn://ground/inbox", number, "dtn://rover/x", len(payload))
    return number


async def test_what_is_being_written_is_written_though_the_caller_goes(objects: Objects, tmp_path: Path) -> None:
    """A thread goes on whatever happens: so what it writes counts, and nobody takes its payload away meanwhile."""
    number = await arrived(objects, b"came")
    objects.agent.may_read.clear()
    target = tmp_path / "came"
    popping = objects.tasks.start(objects.data.pop_file(CALL, number, str(target)), "pop")
    while objects.data.queue(CALL):
        await asyncio.sleep(0)
    with pytest.raises(BusError, match="an ADU of 'inbox' is being popped"):
        objects.data.unregister(CALL, "inbox")
    with pytest.raises(BusError, match="no ADU"):
        objects.data.pop_data(CALL, number)
    popping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await popping
    objects.agent.may_read.set()
    await objects.data.close()
    assert target.read_bytes() == b"came"
    assert not objects.agent.node.waiting, "the node has forgotten it"


async def test_the_end_gives_back_what_nobody_popped(objects: Objects) -> None:
    number = await arrived(objects, b"came")
    await objects.data.close()
    assert list(objects.agent.node.waiting) == [int(number)]
    assert not objects.agent.node.owners

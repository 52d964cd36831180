"""A node on a bus: which objects stand where, from when the agent is up to when it begins to stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from tumpline.drivers.dbus.presence import Presence
from tumpline.drivers.tasks import TaskOwner
from tumpline.machines.effects import Notice
from tumpline.node.control.api import Agent
from tumpline.ui.dbus.app import DATA_PATH, DataObject
from tumpline.ui.dbus.bp import ADMIN_PATH, AGENT_PATH, BpAdmin, BpAgent
from tumpline.ui.dbus.steering import NodeObject

if TYPE_CHECKING:
    from tumpline.node.agent import Adapter
    from tumpline.node.config import Configuration
    from tumpline.node.config.model import BusSection

log = logging.getLogger("tumpline.ui.dbus")


def on_bus(configuration: Configuration) -> Adapter:
    """What shows an agent on the bus that its configuration names."""

    def shown(agent: Agent) -> AbstractAsyncContextManager[None]:
        return _Node(agent, configuration.bus).shown()

    return shown


class _Node:
    """All objects of one agent, and their way to the bus."""

    def __init__(self, agent: Agent, section: BusSection) -> None:
        self._agent = agent
        self._tasks = TaskOwner(_task_failed)
        self._bp = BpAgent(agent, self._emit, section.kind, self._tasks)
        self._admin = BpAdmin(agent, self._emit)
        self._node = NodeObject(agent, self._emit)
        self._data = DataObject(agent, self._emit, section.files)
        self._presence = Presence(section.kind, section.service or "")
        self._presence.export(AGENT_PATH, *self._bp.interfaces(), *self._node.interfaces())
        self._presence.export(ADMIN_PATH, *self._admin.interfaces())
        self._presence.export(DATA_PATH, *self._data.interfaces())

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Raises: BusUnavailableError (no such bus), BusError (somebody has the name)."""
        unsubscribe = self._agent.subscribe(self._heard)
        try:
            await self._presence.start()
            yield
        finally:
            unsubscribe()
            await self._presence.stop()
            await self._data.close()
            await self._tasks.stop()

    def _heard(self, notice: Notice) -> None:
        self._admin.heard(notice)
        self._node.heard(notice)

    def _emit(self, path: str, interface: str, member: str, *arguments: Any) -> None:
        self._presence.emit(path, interface, member, *arguments)


def _task_failed(name: str, error: BaseException) -> None:
    log.error("task_failed", extra={"fields": {"task": name, "error": repr(error)}})

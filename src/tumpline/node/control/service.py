"""From a name to the service that an operation works with."""

from __future__ import annotations

from typing import TypeVar

from tumpline.node.control.api import Agent, NotFoundError

S = TypeVar("S")


def service(agent: Agent, name: str, kind: type[S]) -> S:
    """The service of that name, if it is the one that this operation works with. Raises: NotFoundError."""
    found = agent.service(name)
    if not isinstance(found, kind):
        raise NotFoundError(f"the service called {name} on this node is another one")
    return found

"""`serve(..., adapters=...)`: what shows a running agent to others comes and goes with it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tumpline.errors import RefusedError
from tumpline.node.agent import Agent, serve
from tumpline.node.client import connect
from tumpline.node.config import Configuration, loads


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return loads('[node]\nid = "dtn://here/"\nstate_dir = "state"\n[store]\nkind = "memory"\n', tmp_path / "here.toml")


async def test_an_adapter_lives_from_control_up_to_the_agent_s_end(configuration: Configuration) -> None:
    story: list[str] = []

    @asynccontextmanager
    async def adapter(agent: Agent) -> AsyncIterator[None]:
        async with connect(configuration.state_dir) as client:  # control answers before
            story.append((await client.get("/v1/status"))["node_id"])
        yield
        assert agent.snapshot()["node_id"] == "dtn://here/"
        story.append("left")

    agents: list[Agent] = []

    @asynccontextmanager
    async def second(agent: Agent) -> AsyncIterator[None]:
        agents.append(agent)
        yield
        story.append("second left")

    def ready() -> None:
        story.append("ready")
        agents[0].stop()

    assert await serve(configuration, ready=ready, adapters=[adapter, second]) == 0
    assert story == ["dtn://here/", "ready", "second left", "left"]


async def test_an_agent_without_its_adapter_does_not_start(configuration: Configuration) -> None:
    def adapter(_agent: Agent) -> AbstractAsyncContextManager[None]:
        raise RefusedError("the name is taken")

    ready: list[bool] = []
    with pytest.raises(RefusedError, match="the name is taken"):
        await serve(configuration, ready=lambda: ready.append(True), adapters=[adapter])
    assert not ready
    assert not list(configuration.state_dir.glob("*.sock"))

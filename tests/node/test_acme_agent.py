"""A running agent that challenges itself, over control: the whole way through its store, both sides of the exchange."""

from pathlib import Path
from typing import Any

import pytest

from tumpline.errors import RefusedError
from tumpline.node.agent import Agent, serve
from tumpline.node.client import Client, connect
from tumpline.node.config import loads

ID_CHAL, TOKEN_CHAL = "dDtaviYTPUWFS3NK37YWfQ", "tPUZNY4ONIk6LxErRFEjVw"
THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
SECRETS = {"token_chal": TOKEN_CHAL, "thumbprint": THUMBPRINT}
CONFIG = """
[node]
id = "dtn://here/"
aliases = ["ipn:12.0"]
state_dir = "state"
[store]
kind = "sqlite"
[services.acme]
record_types = [255, 65536]
"""


async def challenged(client: Client, node: str, **facts: Any) -> dict[str, Any]:
    asked = {"node": node, "id_chal": ID_CHAL, "rtt_s": 0.0} | SECRETS | facts
    *_, last = [event async for event in client.stream("/v1/acme/challenge", asked)]
    return last


async def steer(client: Client) -> None:
    assert (await challenged(client, "dtn://here/"))["exit_code"] == 3
    await client.post("/v1/acme/expect", {"id_chal": ID_CHAL} | SECRETS)
    assert (await client.get("/v1/acme"))["expected"] == [ID_CHAL]
    assert (await challenged(client, "dtn://here/"))["valid"] is True
    assert (await challenged(client, "ipn:12.0"))["valid"] is True, "each of its IDs is one of its own"
    assert (await challenged(client, "dtn://here/", source="ipn:12.0"))["valid"] is True
    wrong = await challenged(client, "dtn://here/", thumbprint="A" * 43)
    assert (wrong["valid"], wrong["exit_code"]) == (False, 5)
    assert await client.delete("/v1/acme/expect", {"id_chal": ID_CHAL}) == {"removed": True}
    assert await client.delete("/v1/acme/expect", {"id_chal": ID_CHAL}) == {"removed": False}
    told = await client.get("/v1/acme")
    assert {key: told[key] for key in ("answered", "valid", "invalid")} == {"answered": 4, "valid": 3, "invalid": 2}
    with pytest.raises(RefusedError, match="none of this node's IDs"):
        await challenged(client, "dtn://here/", source="dtn://other/")


async def test_both_sides_over_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    configuration = loads(CONFIG, tmp_path / "here.toml")
    steered: list[bool] = []

    class Steering:
        """An adapter that is itself a client of control."""

        def __init__(self, agent: Agent) -> None:
            self._agent = agent

        async def __aenter__(self) -> None:
            async with connect(configuration.state_dir) as client:
                await steer(client)
            steered.append(True)
            self._agent.stop()

        async def __aexit__(self, *_: object) -> None: ...

    assert await serve(configuration, adapters=[Steering]) == 0
    assert steered

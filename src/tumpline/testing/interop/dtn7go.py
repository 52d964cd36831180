"""dtn7-go's dtnd: TCPCLv4 as of draft 23, BPv7, an application over REST."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from tumpline.testing.interop.install import DTN7_GO_PEER, install
from tumpline.testing.interop.process import Process, free_port, request, wait_for

CONFIG = """
[core]
store = "store"
node-id = "dtn://gopher/"
[logging]
level = "debug"
[discovery]
ipv4 = false
ipv6 = false
[agents]
ping = "dtn://gopher/ping"
[agents.webserver]
address = "127.0.0.1:{web}"
rest = true
{where}
[routing]
algorithm = "epidemic"
"""
LISTEN = '[[listen]]\nprotocol = "tcpclv4"\nendpoint = "127.0.0.1:{port}"'
DIAL = '[[peer]]\nprotocol = "tcpclv4"\nendpoint = "127.0.0.1:{port}"'
PAYLOAD_BLOCK = 1


class Dtn7Go(Process):
    """One dtnd that listens or dials, with one application."""

    node_id = "dtn://gopher/"
    endpoint = "dtn://gopher/app"
    ping = "dtn://gopher/ping"

    def __init__(self, directory: Path, port: int, *, dials: bool) -> None:
        self._web = free_port()
        self._came: list[bytes] = []
        directory.mkdir(parents=True, exist_ok=True)
        where = (DIAL if dials else LISTEN).format(port=port)
        (directory / "dtnd.toml").write_text(CONFIG.format(web=self._web, where=where))
        super().__init__([str(install(DTN7_GO_PEER) / "dtnd"), "dtnd.toml"], directory)
        self._uuid = wait_for(self._register, "dtn7-go serves its REST interface")

    def _register(self) -> str | None:
        self.check()
        try:
            return str(self._ask("register", endpoint_id=self.endpoint)["uuid"])
        except OSError:
            return None  # it does not listen yet

    def _ask(self, verb: str, **values: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(request(self._web, "POST", f"/rest/{verb}", json.dumps(values).encode()))
        assert not answer["error"], answer["error"]
        return answer

    def send(self, destination: str, payload: bytes) -> None:
        """Send an ADU from `endpoint`; its interface takes text only."""
        arguments = {
            "destination": destination,
            "source": self.endpoint,
            "creation_timestamp_now": 1,
            "lifetime": "1h",
            "payload_block": payload.decode("ascii"),
        }
        self._ask("build", uuid=self._uuid, arguments=arguments)

    def fetch(self) -> bytes | None:
        """The next ADU that came to `endpoint`, if one did."""
        self._came += [_payload(bundle) for bundle in self._ask("fetch", uuid=self._uuid)["bundles"]]
        return self._came.pop(0) if self._came else None


def _payload(bundle: dict[str, Any]) -> bytes:
    (data,) = (block["data"] for block in bundle["canonicalBlocks"] if block["blockTypeCode"] == PAYLOAD_BLOCK)
    return base64.b64decode(data)

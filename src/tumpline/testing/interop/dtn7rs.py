"""dtn7-rs' dtnd: TCPCLv4, BPv7, an application over HTTP."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from tumpline.testing.interop.install import DTN7_RS_PEER, install
from tumpline.testing.interop.process import Process, free_port, request, wait_for
from tumpline.wire.bundle7 import LENIENT, decode_bundle_untrusted

NOTHING = b"Nothing to receive"


class Dtn7Rs(Process):
    """One dtnd that listens, and dials where `dials`, with one application."""

    node_id = "dtn://crab/"
    endpoint = "dtn://crab/app"

    def __init__(self, directory: Path, port: int, *, dials: bool) -> None:
        self._web = free_port()
        mine = free_port() if dials else port
        command = [str(install(DTN7_RS_PEER) / "dtnd"), "--debug", "--nodeid", "crab", "--endpoint", "app"]
        command += ["--cla", f"tcp:bind=127.0.0.1:port={mine}", "--web-port", str(self._web), "--routing", "epidemic"]
        command += ["--disable_nd", "--db", "mem", "--ipv4", "--janitor", "1s"]
        if dials:
            command += ["--static-peer", f"tcp://127.0.0.1:{port}/ours"]
        super().__init__(command, directory)
        wait_for(self._serves, "dtn7-rs serves its HTTP interface")
        if dials:  # it opens a session when there is something to send, not before
            self.send("dtn://ours/echo", b"knock")
            wait_for(self.fetch, "the echo of the first bundle")

    def _serves(self) -> bool | None:
        self.check()
        try:
            return bool(request(self._web, "GET", "/status/nodeid")) or None
        except OSError:
            return None  # it does not listen yet

    def send(self, destination: str, payload: bytes) -> None:
        """Send an ADU from the node itself: its interface knows no other source."""
        request(self._web, "POST", "/send?" + urllib.parse.urlencode({"dst": destination}), payload)

    def fetch(self) -> bytes | None:
        """The payload of the next bundle that came to `endpoint` or to the node itself; it encodes them anew."""
        for path in ("app", self.node_id):
            answer = request(self._web, "GET", f"/endpoint?{path}")
            if answer != NOTHING:
                return decode_bundle_untrusted(answer, LENIENT).payload
        return None

"""Two TCPCL agents as processes on a bus of their own, joined by one session; files go from one to the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tumpline.bench.framework.agents import clean_environment
from tumpline.bench.framework.certificates import Certificates
from tumpline.drivers.dbus import BusConnection, MatchRule, Message
from tumpline.drivers.dbus.server import EmbeddedBus
from tumpline.errors import TumplineError
from tumpline.wire.dbus import Kind

SENDER, RECEIVER = "bench.sender", "bench.receiver"
_AGENT, _CONTACT = "/org/ietf/dtn/tcpcl/Agent", "/org/ietf/dtn/tcpcl/Contact0"
_HANG_S = 240.0
_STOP_S = 10.0
_CALLS_MOST = 64  # files that are under way at once


class TcpclAgents:
    """For as long as `running` lasts. One file or many: `seconds`."""

    def __init__(
        self, directory: Path, certificates: Certificates | None, runner: asyncio.Runner, stack: ExitStack
    ) -> None:
        self.directory = directory
        self.certificates = certificates
        self._runner = runner
        self._processes = stack
        self._bus: BusConnection | None = None
        self._finished: dict[str, asyncio.Future[str]] = {}  # of receptions, by transfer
        self._pids: list[int] = []

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self, address: str) -> None:
        """Start both and join them. Raises: TumplineError with the end of a log."""
        port = _free_port()
        for name, more in ((RECEIVER, {"init_listen": [{"address": "127.0.0.1", "port": port}]}), (SENDER, {})):
            await self._start_agent(name, address, more | _tls(self.certificates, name))
        self._bus = await BusConnection.open(address)
        established = asyncio.get_running_loop().create_future()
        rule = MatchRule(kind=Kind.SIGNAL, sender=RECEIVER)
        await self._bus.subscribe(rule, lambda message, values: self._heard(message, values, established))
        await self._call(SENDER, _AGENT, "connect", "sq", "127.0.0.1", port)
        async with asyncio.timeout(_HANG_S):
            await established

    async def _start_agent(self, name: str, address: str, settings: dict[str, Any]) -> None:
        process = self._launch(name, address, settings)
        assert process.stdout is not None
        if not await asyncio.to_thread(process.stdout.readline):  # the bus that it joins lives on this loop
            raise TumplineError(f"{name} did not start: {self._log(name).read_text().strip()[-500:]}")
        self._pids.append(process.pid)

    def _launch(self, name: str, address: str, settings: dict[str, Any]) -> subprocess.Popen[str]:
        config = self.directory / f"{name}.yaml"
        # YAML has JSON within it.
        config.write_text(json.dumps({"tcpcl": {"node_id": f"dtn://{name}/", "bus_service": name} | settings}))
        role = [sys.executable, "-m", "tumpline.ui.agents", "tcpcl"]
        command = [*role, "--config-file", str(config), "--bus-addr", address]
        environment = clean_environment(self.directory) | {"TMPDIR": str(self.directory)}
        with self._log(name).open("w") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        self._processes.callback(_end, process)
        return process

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    async def stop(self) -> None:
        """Leave the bus."""
        if self._bus is not None:
            await self._bus.close()

    def rss_max_mib(self) -> float:
        """The most memory that either of them ever held resident."""
        lines = [line for pid in self._pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return max(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

    # ---- files -------------------------------------------------------------------------------------------------------

    def seconds(self, sources: Sequence[Path]) -> float:
        """From asking for the first file until the last has come, each taken from the receiver under a name of its own,
        and found equal afterwards. Raises: TumplineError."""
        targets = [source.with_name(f"{source.name}-came") for source in sources]
        try:
            took = self._runner.run(self._carry(sources, targets))
            for source, target in zip(sources, targets, strict=True):
                if digest(source) != digest(target):
                    raise TumplineError(f"{target.name} is not what was sent")
        finally:
            for target in targets:
                target.unlink(missing_ok=True)
        return took

    async def _carry(self, sources: Sequence[Path], targets: Sequence[Path]) -> float:
        self._finished.clear()
        at_once = asyncio.Semaphore(_CALLS_MOST)
        begin = time.perf_counter()
        async with asyncio.timeout(_HANG_S), asyncio.TaskGroup() as group:
            for source, target in zip(sources, targets, strict=True):
                group.create_task(self._carry_one(source, target, at_once))
        return time.perf_counter() - begin

    async def _carry_one(self, source: Path, target: Path, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            transfer = await self._call(SENDER, _CONTACT, "send_bundle_file", "s", str(source))
            result = await self._end_of(transfer)
            if result != "success":
                raise TumplineError(f"transfer {transfer} ended with {result!r}")
            await self._call(RECEIVER, _CONTACT, "recv_bundle_pop_file", "ss", transfer, str(target))

    def _end_of(self, transfer: str) -> asyncio.Future[str]:
        return self._finished.setdefault(transfer, asyncio.get_running_loop().create_future())

    def _heard(self, message: Message, values: tuple[Any, ...], established: asyncio.Future[None]) -> None:
        if message.member == "recv_bundle_finished":
            self._end_of(values[0]).set_result(values[2])
        elif values == ("established",):
            established.set_result(None)

    async def _call(self, service: str, path: str, member: str, signature: str, *arguments: Any) -> Any:
        assert self._bus is not None
        interface = "org.ietf.dtn.tcpcl.Agent" if path == _AGENT else "org.ietf.dtn.tcpcl.Contact"
        values = await self._bus.call(service, path, interface, member, signature, *arguments)
        return values[0] if values else None


@contextmanager
def running(tls: bool) -> Iterator[TcpclAgents]:
    """Both agents, for as long as the block lasts; all files lie below one directory."""
    with TemporaryDirectory(prefix="tumpline-bench-") as name, asyncio.Runner() as runner, ExitStack() as stack:
        directory = Path(name)
        bus = runner.run(_host_bus(directory))
        stack.callback(bus.close)
        certificates = Certificates.make(directory / "certs", (SENDER, RECEIVER)) if tls else None
        agents = TcpclAgents(directory, certificates, runner, stack)
        try:
            runner.run(agents.start(bus.address))
            yield agents
        finally:
            runner.run(agents.stop())


async def _host_bus(directory: Path) -> EmbeddedBus:
    return EmbeddedBus.start(f"unix:path={directory}/bus")


def _tls(certificates: Certificates | None, name: str) -> dict[str, Any]:
    if certificates is None:
        return {"tls_enable": False}
    cert, key = certificates.issued[name]
    files = {"tls_ca_file": certificates.authority, "tls_cert_file": cert, "tls_key_file": key}
    return {"require_tls": True, "require_node_authn": True, **{key: str(path) for key, path in files.items()}}


def digest(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _free_port() -> int:
    """Nobody else's for the moment that the agent needs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()

"""A real RabbitMQ for tests: on a free port of the loopback, in a directory of its own, gone with whoever started it.

    python -m tumpline.testing.rabbitmq DIRECTORY [ADDRESS]

keeps one running as long as somebody holds DIRECTORY/users: the processes of one test run share it (`shared_rabbitmq`).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from tumpline.drivers.amqp.url import AmqpUrl
from tumpline.testing.certificates import Authority

SERVER: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # not the wrapper in /usr/sbin, which changes the user
READY_S: Final = 90.0  # 6 s on a machine that has nothing else to do
USER, PASSWORD = "tester", "s3cret-of-tests"

# Erlang, evaluated at the start: a port on the loopback where each message is an expression that is answered by its value.
# rabbitmqctl would take a second and a half for each. Who may not read the secret may not ask: it could be anybody here.
_DOOR = """
spawn(fun() ->
  Serve = fun Again(S) -> case gen_tcp:recv(S, 0) of
    {ok, Text} ->
      Answer = try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
        {ok, Exprs} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Exprs, []),
        io_lib:format("=~0tp", [Value])
      catch Class:Reason -> io_lib:format("!~0tp: ~0tp", [Class, Reason]) end,
      gen_tcp:send(S, unicode:characters_to_binary(Answer)), Again(S);
    _ -> ok end end,
  {ok, L} = gen_tcp:listen(DOOR_PORT, [binary, {packet, 4}, {active, false}, {ip, {127,0,0,1}}, {reuseaddr, true}]),
  {ok, Secret} = file:read_file("DOOR_SECRET"),
  Accept = fun Again() -> {ok, S} = gen_tcp:accept(L),
    Pid = spawn(fun() -> receive go -> {ok, Secret} = gen_tcp:recv(S, 0), Serve(S) end end),
    ok = gen_tcp:controlling_process(S, Pid), Pid ! go, Again() end,
  Accept()
end).
"""


class RabbitMq:
    """One broker. `start` (from the main thread: it dies with that), `stop`, `kill`; then `start` again, with the same data.

    Erlang's own look-up service (epmd) is one of its own too: brokers of several test runs know nothing of each other."""

    def __init__(self, directory: Path, address: str = "127.0.0.1") -> None:
        self.directory = directory
        self.address = address
        self.port, self._tls_port, self._door_port, self._epmd_port = _ports(directory)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._secret = directory / "secret"
        self._names = (f"{os.getpid()}-{number}" for number in count(1))

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when it takes connections."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Returns at once: `wait_ready` may be called by another thread."""
        assert threading.current_thread() is threading.main_thread(), "it would die with the thread that started it"
        if self._epmd is None:
            self._epmd = _mortal(["epmd", "-port", f"{self._epmd_port}", "-address", "127.0.0.1"], self._environment())
        self._configure()
        _write_secret(self._secret)
        door = ["-eval", _DOOR.replace("DOOR_PORT", f"{self._door_port}").replace("DOOR_SECRET", f"{self._secret}")]
        self._server = _mortal([SERVER, *door], self._environment(), self.directory / "output")

    def wait_ready(self) -> None:
        """Until it takes connections."""
        deadline = time.monotonic() + READY_S
        while not (_answers_amqp(self.port) and self._door_is_open()):  # the door comes last
            ended = self._server is not None and self._server.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ does not start: {(self.directory / 'output').read_text()[-2000:]}")
            time.sleep(0.05)

    def _door_is_open(self) -> bool:
        try:
            return self.evaluate("ok") == "ok"
        except OSError:
            return False

    def stop(self) -> None:
        """In order: clients are told."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut: nobody is told but by the kernel."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """It and all it has left."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._server is not None:
            self._server.send_signal(number)
            self._server.wait(30)
            self._server = None

    # ---- what tests ask ----------------------------------------------------------------------------------------------

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression, evaluated in the broker."""
        with socket.create_connection(("127.0.0.1", self._door_port), timeout=60) as sock:
            for octets in (self._secret.read_bytes(), expression.encode() + b"."):
                sock.sendall(struct.pack(">I", len(octets)) + octets)
            (length,) = struct.unpack(">I", _exactly(sock, 4))
            answer = _exactly(sock, length).decode()
        if not answer.startswith("="):
            raise RuntimeError(f"RabbitMQ: {expression}: {answer[1:]}")
        return answer[1:]

    def new_vhost(self) -> str:
        """One that nobody has used."""
        name = f"test-{next(self._names)}"
        host, user = f'<<"{name}">>', f'<<"{USER}">>'
        self.evaluate(f"rabbit_vhost:add({host}, {user})")
        everything = '<<".*">>'
        permissions = ", ".join([everything] * 3)
        self.evaluate(f"rabbit_auth_backend_internal:set_permissions({user}, {host}, {permissions}, {user})")
        return name

    def drop_vhost(self, name: str) -> None:
        """With all that is in it; its connections are closed."""
        self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"{USER}">>)')

    def queues(self, vhost: str) -> set[str]:
        """Their names."""
        listed = self.evaluate(f'[element(4, amqqueue:get_name(Q)) || Q <- rabbit_amqqueue:list(<<"{vhost}">>)]')
        return set(re.findall(r'<<"([^"]*)"', listed))

    def close_connections(self, vhost: str, reason: str = "closed by a test") -> None:
        """As an operator would: clients are told (320)."""
        self.evaluate(
            f'[rabbit_networking:close_connection(P, "{reason}") ||'
            f' [{{pid, P}}, {{vhost, <<"{vhost}">>}}] <- rabbit_networking:connection_info_all([pid, vhost])]'
        )

    def connection_names(self, vhost: str) -> set[str]:
        """What clients there call themselves."""
        listed = self.evaluate(
            f'[proplists:get_value(<<"connection_name">>, [{{K, V}} || {{K, _, V}} <- C], <<>>) ||'
            f' [{{client_properties, C}}, {{vhost, <<"{vhost}">>}}]'
            f" <- rabbit_networking:connection_info_all([client_properties, vhost])]"
        )
        return set(re.findall(r'<<"([^"]*)"', listed))

    def block(self) -> None:
        """Publishers are to wait, as when memory is short."""
        self.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")

    def unblock(self) -> None:
        """They may go on."""
        self.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")

    def url(self, vhost: str = "/") -> AmqpUrl:
        """For our own client."""
        return AmqpUrl("127.0.0.1", self.port, vhost, USER, PASSWORD)

    def tls_url(self, vhost: str = "/") -> AmqpUrl:
        """The same over TLS; the broker's certificate names localhost."""
        url = AmqpUrl("127.0.0.1", self._tls_port, vhost, USER, PASSWORD, is_tls=True)
        return url._replace(ca=f"{self.ca}", server_name="localhost")

    @property
    def ca(self) -> Path:
        """Of the broker's certificate."""
        return self.directory / "ca.pem"

    def uri(self, vhost: str) -> str:
        """For others' clients, and for commands."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{vhost}"

    # ---- configuration -----------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        (self.directory / "enabled_plugins").write_text("[].")
        lines = [
            f"listeners.tcp.1 = {self.address}:{self.port}",
            "log.console = true",
            "log.console.level = warning",
            "log.file = false",
            f"default_user = {USER}",
            f"default_pass = {PASSWORD}",
        ]
        if not self.ca.exists():
            Authority(self.directory).issue("broker", hosts=["localhost"])
        lines += [
            f"listeners.ssl.1 = 127.0.0.1:{self._tls_port}",
            f"ssl_options.cacertfile = {self.ca}",
            f"ssl_options.certfile = {self.directory / 'broker.pem'}",
            f"ssl_options.keyfile = {self.directory / 'broker.key'}",
        ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    def _environment(self) -> dict[str, str]:
        directory = f"{self.directory}"
        # One scheduler, and it does not wait busily: the other cores are wanted by those who talk with the broker. Tables that
        # nobody shares need no locks: a message costs it a quarter less than with two.
        arguments = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
        return {
            **os.environ,
            "HOME": directory,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": f"{self._epmd_port}",
            "RABBITMQ_NODENAME": f"rabbit{self.port}@localhost",
            "RABBITMQ_DIST_PORT": f"{_free_port()}",
            "RABBITMQ_MNESIA_BASE": f"{directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": arguments,
            "RUNNING_UNDER_SYSTEMD": "true",  # no shell between: signals go to the broker itself
        }


class Vhost(NamedTuple):
    """One virtual host of a broker."""

    broker: RabbitMq
    name: str

    @property
    def url(self) -> AmqpUrl:
        """For our own client."""
        return self.broker.url(self.name)

    @property
    def tls_url(self) -> AmqpUrl:
        """The same over TLS."""
        return self.broker.tls_url(self.name)

    @property
    def uri(self) -> str:
        """For others' clients, and for commands."""
        return self.broker.uri(self.name)

    def queues(self) -> set[str]:
        """Their names."""
        return self.broker.queues(self.name)

    def close_connections(self) -> None:
        """As an operator would: clients are told (320)."""
        self.broker.close_connections(self.name)

    def delete_queue(self, queue: str) -> None:
        """As an operator would, whoever reads from it: clients are told (basic.cancel)."""
        self.broker.evaluate(
            f'rabbit_amqqueue:with(rabbit_misc:r(<<"{self.name}">>, queue, <<"{queue}">>),'
            " fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<>>) end)"
        )


@contextmanager
def private_rabbitmq(directory: Path, address: str = "127.0.0.1") -> Iterator[RabbitMq]:
    """One for yourself, for what ends or slows it. From the main thread."""
    directory.mkdir(parents=True, exist_ok=True)
    broker = RabbitMq(directory, address)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


@contextmanager
def shared_rabbitmq(directory: Path) -> Iterator[RabbitMq]:
    """One for all processes that name this directory: the first one starts it, and it ends when nobody is left."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "start", "w") as start, open(directory / "users", "w") as users:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        broker = RabbitMq(directory / "broker")
        if not _answers_amqp(broker.port):
            keeper = [
                sys.executable,
                "-m",
                "tumpline.testing.rabbitmq",
                f"{directory}",
            ]  # nobody's child: who began may
            subprocess.run(["setsid", "--fork", *keeper], stdin=subprocess.DEVNULL, check=True)  # end before others do
        broker.wait_ready()
        fcntl.flock(start, fcntl.LOCK_UN)
        yield broker


def keep(directory: Path, address: str = "127.0.0.1") -> None:
    """Run a broker as long as somebody holds the lock."""
    with private_rabbitmq(directory / "broker", address), open(directory / "users") as users:
        fcntl.flock(users, fcntl.LOCK_EX)


def _mortal(command: list[str], environment: dict[str, str], output: Path | None = None) -> subprocess.Popen[bytes]:
    """A process that dies with ours, however that ends."""
    with open(output or os.devnull, "ab") as out:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def _ports(directory: Path) -> list[int]:
    """Four free ones; the same for everybody who names this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "ports"
    try:
        return [int(port) for port in path.read_text().split()]
    except FileNotFoundError:
        ports = [_free_port() for _ in range(4)]
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
            file.write(" ".join(map(str, ports)))
        os.replace(file.name, path)
    return ports


def _write_secret(path: Path) -> None:
    """Once; nobody else may read it."""
    with suppress(FileExistsError), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(16))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _answers_amqp(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(sock.recv(1))
    except OSError:
        return False


def _exactly(sock: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        part = sock.recv(octets - len(found))
        if not part:
            raise ConnectionError("RabbitMQ ended while it was asked")
        found += part
    return found


if __name__ == "__main__":
    keep(Path(sys.argv[1]), *sys.argv[2:])

"""Asks a STUN server what the NATs on the way do to UDP: `python -m tumpline.drivers.nat_behavior SERVER` prints JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from contextlib import ExitStack
from enum import Enum

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.dial import Address, parse_address, resolve
from tumpline.errors import TumplineError
from tumpline.machines.nat_behavior import DEFAULT_TIMING, SOCKETS, NatBehavior, NatBehaviorMachine, Timing
from tumpline.wire.stun import TRANSACTION_OCTETS, TransportAddress

STUN_PORT = 3478  # RFC 8489 §18.6
DATAGRAM_OCTETS_MOST = 65_536


async def measure(server: Address, timing: Timing = DEFAULT_TIMING) -> NatBehavior:
    """Run all tests against one server. Raises: TumplineError (no such name, no route)."""
    family, sockaddr = (await resolve(server))[0]
    remote = TransportAddress(str(sockaddr[0]), int(sockaddr[1]))
    with ExitStack() as stack:
        sockets = [stack.enter_context(_open(family, remote)) for _ in range(SOCKETS)]
        return await _Run(remote, sockets, timing).result()


def _open(family: socket.AddressFamily, remote: TransportAddress) -> socket.socket:
    """A socket bound to the address that the route to the server starts from: only so NAT can be told from none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(remote)
            host = probe.getsockname()[0]
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind((host, 0))
    except OSError as error:
        raise TumplineError(f"no way to {remote}: {error.strerror}; see: ip route get {remote.host}") from None
    return opened


class _Run:
    """Feeds the machine from its sockets, and one timer."""

    def __init__(self, remote: TransportAddress, sockets: list[socket.socket], timing: Timing) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        local = [_address(each.getsockname()) for each in sockets]
        self._machine = NatBehaviorMachine(
            remote, local, lambda: os.urandom(TRANSACTION_OCTETS), self._loop.time(), timing
        )
        self._alarm = Alarm(self._timeout)
        self._over: asyncio.Future[NatBehavior] = self._loop.create_future()

    async def result(self) -> NatBehavior:
        for number, each in enumerate(self._sockets):
            self._loop.add_reader(each, self._read, number)
        try:
            self._act()
            return await self._over
        finally:
            for each in self._sockets:
                self._loop.remove_reader(each)
            self._alarm.cancel()

    def _read(self, number: int) -> None:
        while True:
            try:
                data, source = self._sockets[number].recvfrom(DATAGRAM_OCTETS_MOST)
            except BlockingIOError:
                break
            except ConnectionError:
                continue  # an ICMP error of an earlier datagram: the test that it belongs to runs into its end
            self._machine.receive_datagram(number, data, _address(source), self._loop.time())
        self._act()

    def _timeout(self) -> None:
        self._machine.handle_timeout(self._loop.time())
        self._act()

    def _act(self) -> None:
        for datagram in self._machine.datagrams_to_send():
            try:
                self._sockets[datagram.socket].sendto(datagram.data, datagram.destination)
            except OSError:
                continue  # no buffer, no route, forbidden by a firewall: a datagram that is lost, and sent again
        self._alarm.set(self._machine.next_timeout())
        if self._machine.result is not None and not self._over.done():
            self._over.set_result(self._machine.result)


def _address(sockaddr: tuple[str | int, ...]) -> TransportAddress:
    return TransportAddress(str(sockaddr[0]), int(sockaddr[1]))


def as_json(behavior: NatBehavior) -> str:
    """One JSON object; addresses as people write them."""

    def plain(value: object) -> object:
        if isinstance(value, TransportAddress):
            return str(value)
        return value.value if isinstance(value, Enum) else value

    return json.dumps({name: plain(value) for name, value in behavior._asdict().items()})


def main(arguments: list[str]) -> int:
    """0: measured, also if the answer is that all is blocked; 1: there is no way to the server."""
    parser = argparse.ArgumentParser(prog="python -m tumpline.drivers.nat_behavior", description=__doc__)
    parser.add_argument("server", help="HOST[:PORT] of a STUN server with two addresses (RFC 5780), such as coturn")
    parser.add_argument("--test-s", type=float, default=DEFAULT_TIMING.test_s, help="seconds that one test may take")
    options = parser.parse_args(arguments)
    try:
        server = parse_address(options.server, STUN_PORT)
        print(as_json(asyncio.run(measure(server, Timing(test_s=options.test_s)))))
    except TumplineError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Behaviour discovery over sockets on loopback; behind NATs: tests/lab/test_nat_kinds.py."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tumpline.drivers.dial import Address
from tumpline.drivers.nat_behavior import main, measure
from tumpline.machines.nat_behavior import Dependence, Ports, Timing
from tumpline.wire.stun import Attr, ChangeRequest, Kind, Message, TransportAddress, decode_stun_untrusted, encode_stun

HOSTS = ("127.0.0.1", "127.0.0.2")


class StunServer:
    """RFC 5780 §6 on two addresses and two ports of loopback."""

    def __init__(self, stack: ExitStack) -> None:
        self.sockets: dict[TransportAddress, socket.socket] = {}
        ports = [0, 0]
        for host in HOSTS:
            for number in (0, 1):
                opened = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                opened.setblocking(False)
                opened.bind((host, ports[number]))
                ports[number] = opened.getsockname()[1]
                self.sockets[TransportAddress(host, ports[number])] = opened
        self.ports = ports

    def answer(self, asked: TransportAddress) -> None:
        data, source = self.sockets[asked].recvfrom(2000)
        request = decode_stun_untrusted(data)
        change = request.get(Attr.CHANGE_REQUEST) or ChangeRequest(False, False)
        other = TransportAddress(HOSTS[asked.host == HOSTS[0]], self.ports[asked.port == self.ports[0]])
        origin = TransportAddress(
            other.host if change.address else asked.host, other.port if change.port else asked.port
        )
        told = ((Attr.XOR_MAPPED_ADDRESS, TransportAddress(*source)), (Attr.OTHER_ADDRESS, other))
        message = Message(Kind.SUCCESS, request.method, request.transaction, told)
        self.sockets[origin].sendto(encode_stun(message), source)


@pytest.fixture
def server() -> Iterator[StunServer]:
    with ExitStack() as stack:
        yield StunServer(stack)


async def test_loopback_has_no_nat_and_no_filter(server: StunServer) -> None:
    loop = asyncio.get_running_loop()
    for address, each in server.sockets.items():
        loop.add_reader(each, server.answer, address)
    found = await measure(Address(HOSTS[0], server.ports[0]), Timing(pace_s=0.001))
    for each in server.sockets.values():
        loop.remove_reader(each)
    assert (found.blocked, found.natted, found.hairpin, found.problem) == (False, False, None, "")
    assert (found.mapping, found.filtering) == (Dependence.ENDPOINT_INDEPENDENT, Dependence.ENDPOINT_INDEPENDENT)
    assert (found.mapped, found.ports) == (found.local, Ports.PRESERVED)
    assert found.rtt_s is not None


def test_a_silent_server_is_printed_as_blocked(server: StunServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"127.0.0.1:{server.ports[0]}", "--test-s", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["blocked"], found["mapping"]) == (True, None)
    assert found["problem"].startswith(f"127.0.0.1:{server.ports[0]} does not answer")


def test_nobody_there_is_no_error_either(server: StunServer, capsys: pytest.CaptureFixture[str]) -> None:
    port = server.ports[0]
    for each in server.sockets.values():
        each.close()
    assert main([f"127.0.0.1:{port}", "--test-s", "0.1"]) == 0
    assert json.loads(capsys.readouterr().out)["blocked"]


@pytest.mark.parametrize(
    ("server_text", "said"),
    [
        ("255.255.255.255", "no way to 255.255.255.255:3478: Permission denied; see: ip route get 255.255.255.255"),
        ("[::1", "is no address; write an IPv6 address with a port as [v6]:port"),
    ],
)
def test_what_cannot_be_asked_is_one_line(server_text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([server_text]) == 1
    assert said in capsys.readouterr().err

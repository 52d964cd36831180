"""Radios without radio: the air of one place, motes that speak CoAP over it, and a probe at the end of a serial line.

A mote repeats what nobody acknowledges, as radios do. An active probe acknowledges for the motes of other places at once and
puts what it heard on its line; a passive one only listens. The serial line is a pseudo-terminal behind a name that stays.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tumpline.errors import MalformedError
from tumpline.machines.slip_line import SlipLine
from tumpline.testing.lowpan import (
    COAP_PORT,
    CONTENT,
    GET,
    NOT_FOUND,
    Coap,
    Datagram,
    Reassembly,
    acknowledgement,
    data_frame,
    decode_coap,
    encode_coap,
    encode_datagram,
)
from tumpline.wire.dot15d4 import BROADCAST, FCS_OCTETS, FrameType, Head, decode_head_untrusted, fcs, has_valid_fcs
from tumpline.wire.sensniff import MAGIC
from tumpline.wire.slip import encode_slip

RETRIES: Final = 3  # macMaxFrameRetries (IEEE Std 802.15.4-2020, Table 8-94)
RSS_DBM, LQI, CHANNEL = -61, 104, 26
RADIO_ADDRESS: Final = bytes.fromhex("00124b0000000099")


class Station(Protocol):
    """Whoever is within reach."""

    def hear(self, frame: bytes) -> bool:
        """A frame without its FCS is in the air. True: I acknowledge it."""


class Air:
    """What one station sends the others hear, at once, unless `lose` says that this frame, or this acknowledgement, is lost."""

    def __init__(self, lose: Callable[[], bool] = lambda: False) -> None:
        self.stations: list[Station] = []
        self.frames: list[bytes] = []  # all that was in the air, acknowledgements too
        self.lose = lose

    def transmit(self, sender: Station, frame: bytes) -> tuple[bool, int]:
        """With repetitions, if the frame wants an acknowledgement. Returns: whether there was one, and transmissions."""
        wants = _head(frame).wants_ack
        for count in range(1, 2 + RETRIES if wants else 2):
            if self._once(sender, frame):
                return True, count
        return not wants, count

    def _once(self, sender: Station, frame: bytes) -> bool:
        self.frames.append(frame)
        if self.lose():
            return False
        # Those who acknowledge do it before anybody else says anything.
        acknowledged = [other.hear(frame) for other in self.stations if other is not sender]
        if not any(acknowledged):
            return False
        ack = acknowledgement(frame[2])
        self.frames.append(ack)
        if self.lose():
            return False
        for other in self.stations:
            other.hear(ack)
        return True


def _head(frame: bytes) -> Head:
    return decode_head_untrusted(frame)


# ---- motes ----------------------------------------------------------------------------------------------------------


class Mote:
    """A device under test: CoAP server and client over 6LoWPAN."""

    def __init__(self, air: Air, address: bytes, resources: dict[str, bytes] | None = None) -> None:
        self.address = address
        self.unacknowledged = 0
        self.duplicates = 0
        self.transmissions = 0
        self._air = air
        self._resources = resources or {}
        self._reassembly = Reassembly()
        self._sequence = self._tag = self._message_id = 0
        self._heard: dict[bytes, int] = {}
        self._answers: dict[bytes, asyncio.Future[Coap]] = {}
        self._loop = asyncio.get_running_loop()
        air.stations.append(self)

    async def get(self, server: bytes, path: str) -> Coap:
        """Ask a mote, which may be far away."""
        self._message_id += 1
        token = self._message_id.to_bytes(2, "big")
        answer: asyncio.Future[Coap] = self._loop.create_future()
        self._answers[token] = answer
        request = encode_coap(Coap(False, GET, self._message_id, token, path))
        self.send(Datagram(self.address, server, 40_000, COAP_PORT, request))
        return await answer

    def hear(self, frame: bytes) -> bool:
        """See Station."""
        head = _head(frame)
        if head.kind is not FrameType.DATA or head.destination != self.address:
            return False
        assert head.source is not None
        assert head.sequence is not None
        if self._heard.get(head.source) == head.sequence:
            self.duplicates += 1  # repeated, because its sender missed the acknowledgement
        else:
            self._heard[head.source] = head.sequence
            self._loop.call_soon(self._take, frame)
        return True

    def _take(self, frame: bytes) -> None:
        datagram = self._reassembly.receive(frame)
        if datagram is not None:
            self.take(datagram)

    def take(self, datagram: Datagram) -> None:
        """It is for this mote."""
        message = decode_coap(datagram.payload)
        if message.is_acknowledgement:
            self._answers.pop(message.token).set_result(message)
        else:
            self._answer(datagram, message)

    def _answer(self, request: Datagram, asked: Coap) -> None:
        content = self._resources.get(asked.path)
        code = NOT_FOUND if content is None else CONTENT
        answer = encode_coap(Coap(True, code, asked.message_id, asked.token, "", content or b""))
        self.send(Datagram(self.address, request.source, COAP_PORT, request.source_port, answer))

    def send(self, datagram: Datagram) -> None:
        """Into the air, fragmented if need be."""
        self._tag += 1
        for payload in encode_datagram(datagram, self._tag):
            self._sequence = (self._sequence + 1) % 256
            frame = data_frame(self._sequence, self.address, datagram.destination, payload)
            acknowledged, transmissions = self._air.transmit(self, frame)
            self.transmissions += transmissions
            self.unacknowledged += not acknowledged


class UdpMote(Mote):
    """A mote whose application is a program of this machine: it is at `program`, or is whoever sends to `port`."""

    def __init__(self, air: Air, address: bytes, peer: bytes, program: tuple[str, int] | None = None) -> None:
        super().__init__(air, address)
        self._peer = peer
        self._peer_port = COAP_PORT
        self._program = program
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        payload, self._program = self._socket.recvfrom(1 << 16)
        self.send(Datagram(self.address, self._peer, COAP_PORT, self._peer_port, payload))

    def take(self, datagram: Datagram) -> None:
        """See Mote."""
        self._peer_port = datagram.source_port
        if self._program is not None:
            self._socket.sendto(datagram.payload, self._program)

    def close(self) -> None:
        """The program has ended."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


# ---- probes ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ProbeKind:
    """What a probe's firmware does."""

    dialect: str = "slip"  # slip, slip-radio, sensniff
    is_passive: bool = False
    has_fcs: bool = False  # on the serial line
    shares_ends: bool = False  # one END between two frames
    passes_acknowledgements: bool = False  # a firmware that knows no better


class Probe:
    """A radio at the other end of a serial line. `path` is what a port opens."""

    def __init__(self, air: Air, path: Path, kind: ProbeKind | None = None) -> None:
        self.path = path
        self.kind = kind or ProbeKind()
        self.channel = CHANNEL
        self.pan_id = 0
        self.short_address = 0
        self.rx_mode = 3
        self.sent: list[tuple[bool, int]] = []  # for each frame out of the line: acknowledged, transmissions
        self.malformed = 0
        self.air = air
        self._loop = asyncio.get_running_loop()
        self._line = SlipLine()
        self._master = self._slave = -1
        self._unwritten = bytearray()
        air.stations.append(self)
        self.plug()

    def plug(self) -> None:
        """It is there (again), and boots."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # until somebody opens it, nothing is echoed
        os.set_blocking(self._master, False)
        self.path.symlink_to(os.ttyname(self._slave))
        self._line = SlipLine()
        self._loop.add_reader(self._master, self._read)

    def unplug(self) -> None:
        """Pulled out. Idempotent."""
        if self._master < 0:
            return
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        self.path.unlink()
        os.close(self._slave)
        os.close(self._master)
        self._master = -1
        self._unwritten.clear()

    # ---- air to line ----------------------------------------------------------------------------------------------------

    def hear(self, frame: bytes) -> bool:
        """See Station. An active one answers for all who are not here."""
        head = _head(frame)
        if self._master < 0:
            return False
        if self.kind.is_passive or head.kind is not FrameType.ACK or self.kind.passes_acknowledgements:
            self._write(self._framed(frame))
        is_here = any(isinstance(other, Mote) and other.address == head.destination for other in self.air.stations)
        is_for_one = head.destination not in (None, BROADCAST)
        return not self.kind.is_passive and head.wants_ack and is_for_one and not is_here

    def _framed(self, frame: bytes) -> bytes:
        if self.kind.dialect == "sensniff":
            body = frame + bytes([RSS_DBM & 0xFF, 0x80 | LQI])
            return MAGIC + b"\x02\x00" + len(body).to_bytes(2, "big") + body
        line = encode_slip(frame + fcs(frame) if self.kind.has_fcs else frame)
        return line[1:] if self.kind.shares_ends else line

    def say(self, text: str) -> None:
        """As firmware prints among frames."""
        self._write(text.encode())

    def _write(self, octets: bytes) -> None:
        self._unwritten += octets
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._master, self._unwritten)]
            self._loop.remove_writer(self._master)
        except BlockingIOError:
            self._loop.add_writer(self._master, self._flush)

    # ---- line to air ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        data = os.read(self._master, 1 << 16)
        if self.kind.dialect == "sensniff":
            self._obey_sensniff(data)
            return
        for octets in self._line.receive(data):
            if self.kind.dialect == "slip":
                self._send(octets)
            else:
                self._obey_slip_radio(octets)

    def _send(self, octets: bytes) -> tuple[bool, int]:
        if self.kind.has_fcs:
            self.malformed += not has_valid_fcs(octets)
            octets = octets[:-FCS_OCTETS]
        try:
            outcome = self.air.transmit(self, octets)
        except MalformedError:
            self.malformed += 1
            outcome = False, 0
        self.sent.append(outcome)
        return outcome

    def _obey_slip_radio(self, octets: bytes) -> None:
        """As examples/slip-radio of Contiki-NG does."""
        params = {1: self.channel, 2: self.pan_id, 3: self.short_address, 4: self.rx_mode}
        match octets[:2]:
            case b"!S":
                acknowledged, transmissions = self._send(octets[4 + 3 * octets[3] :])
                status = 0 if acknowledged else 2
                self._write(encode_slip(b"!R" + bytes([octets[2], status, transmissions])))
            case b"!V":
                param, value = int.from_bytes(octets[2:4], "big"), int.from_bytes(octets[4:6], "big")
                params[param] = value
                self.channel, self.pan_id, self.short_address, self.rx_mode = params.values()
                self._write(encode_slip(b"\rradio: setting param\n"))
            case b"?V":
                param = int.from_bytes(octets[2:4], "big")
                self._write(encode_slip(b"!V" + octets[2:4] + params[param].to_bytes(2, "big")))
            case b"?M":
                self._write(encode_slip(b"!M" + RADIO_ADDRESS))
            case _:
                self._write(encode_slip(b"EUnknown command"))

    def _obey_sensniff(self, data: bytes) -> None:
        """Version 2 alone; whole commands come in one read."""
        for command in data.split(MAGIC)[1:]:
            if command[:2] == b"\x02\x84" and len(command) == 5:
                self.channel = command[4]
            elif command[:2] != b"\x02\x81":
                continue
            self._write(MAGIC + b"\x02\x01\x00\x01" + bytes([self.channel]))

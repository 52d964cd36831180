"""A bus of our own on a UNIX socket, for machines without dbus-daemon."""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tumpline.drivers.accept import Acceptor
from tumpline.drivers.alarm import Alarm
from tumpline.drivers.dbus.descriptors import Descriptor
from tumpline.drivers.dbus.dial import resolve, unix_name
from tumpline.drivers.dbus.machine_id import machine_id
from tumpline.drivers.dbus.place import Place, PlaceTakenError
from tumpline.drivers.dbus.sockets import BusSocket
from tumpline.machines.dbus_bus import Bus, BusConfig, Client, Credentials
from tumpline.wire.dbus import ServerAddress, encode_address

__all__ = ["EmbeddedBus", "PlaceTakenError"]

ACCEPTS_MOST: Final = 16  # in one wake-up
_UCRED: Final = struct.Struct("iII")  # struct ucred of Linux: pid, uid, gid
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h
_GROUPS_MOST: Final = 256

log = logging.getLogger(__name__)


class EmbeddedBus:
    """One bus, from `start` to `close`. The socket's file is for its user alone unless others are let in."""

    def __init__(self, place: Place, config: BusConfig) -> None:
        """For `start`."""
        self._place = place
        self._bus = Bus(config)
        self._sockets: dict[int, BusSocket] = {}
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._timed_out)
        self._turn_due = False
        self._acceptor = Acceptor(place.listener, ACCEPTS_MOST, self._welcome, self._exhausted)

    @classmethod
    def start(
        cls,
        address: str,
        *,
        uids: frozenset[int] = frozenset(),
        configure: Callable[[BusConfig], BusConfig] = lambda config: config,
    ) -> EmbeddedBus:
        """Host a bus there, for this user, root and `uids`. `configure` may change bounds.

        Raises: PlaceTakenError: somebody hosts one there; BusUnavailableError: it cannot be hosted there."""
        place = Place.take(Path(unix_name(resolve(address)[0])), is_shared=bool(uids))
        host = Credentials(os.getuid(), os.getpid(), tuple(os.getgroups()))
        config = BusConfig(os.urandom(16).hex(), host, uids, machine_id())
        return cls(place, configure(config))

    @property
    def address(self) -> str:
        """Where clients find it, with the identity of just this bus."""
        return encode_address(ServerAddress("unix", {"path": str(self._place.path), "guid": self._bus.config.guid}))

    def close(self) -> None:
        """Let all clients go; nothing is left behind. Idempotent."""
        if self._place.is_given_up:
            return
        self._acceptor.stop()
        self._alarm.cancel()
        for each in self._sockets.values():
            each.flush()
            each.close()
        for number in list(self._sockets):
            self._bus.lost(number, "the bus ends")
        self._sockets.clear()
        self._place.give_up()

    # ---- accepting ---------------------------------------------------------------------------------------------------

    def _exhausted(self, why: str) -> None:
        log.warning("the bus %s cannot accept: %s", self._place.path, why)

    def _welcome(self, sock: socket.socket, _peer: str) -> None:
        try:
            client = self._bus.accept(_credentials(sock), self._loop.time())
        except OSError:
            client = None  # it has left already
        if client is None:
            sock.close()
        else:
            self._sockets[client.number] = self._open(sock, client)
        self._soon()

    def _open(self, sock: socket.socket, client: Client) -> BusSocket:
        number = client.number

        def received(data: memoryview, fds: list[Descriptor]) -> None:
            self._bus.receive(number, data, fds)
            self._soon()

        def broken(reason: str) -> None:
            self._bus.lost(number, reason)
            self._soon()

        return BusSocket(sock, client, received, broken, lambda: self._flush(number))

    # ---- the loop of the machine -------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """What many clients cause in one turn of the loop is written together."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._place.is_given_up:
            return
        for number in self._bus.take_written():
            self._flush(number)
        for number, reason in self._bus.take_over():
            log.debug("client %d of the bus %s is gone: %s", number, self._place.path, reason)
            self._sockets.pop(number).close()
        self._alarm.set(self._bus.next_timeout())

    def _flush(self, number: int) -> None:
        found = self._sockets.get(number)
        if found is not None:
            found.flush()

    def _timed_out(self) -> None:
        self._bus.handle_timeout(self._loop.time())
        self._turn()


def _credentials(sock: socket.socket) -> Credentials:
    """Who connected, as the kernel says. Raises: OSError."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    groups = array.array("I")
    try:
        groups.frombytes(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MOST * groups.itemsize))
    except OSError:
        pass  # older kernels do not tell, nor do any of more groups than that
    return Credentials(uid, pid, tuple(groups))

"""Taking connections from a listening socket, also when the process runs out of descriptors."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

REST_S: Final = 0.2  # after the process ran out of descriptors
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Hands connections to `welcome(sock, peer)` from now on, until `stop`; the listening socket stays the caller's.

    `most` of them in one wake-up. `exhausted(why)` hears that nothing can be accepted for a moment."""

    def __init__(
        self,
        listener: socket.socket,
        most: int,
        welcome: Callable[[socket.socket, Any], None],
        exhausted: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._most = most
        self._welcome = welcome
        self._exhausted = exhausted
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._resume()

    def stop(self) -> None:
        """Before the socket is closed. Idempotent."""
        self._loop.remove_reader(self._listener.fileno())
        if self._rest is not None:
            self._rest.cancel()

    def _resume(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(self._most):
            try:
                sock, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return
            self._welcome(sock, peer)

    def _pause(self, error: OSError) -> None:
        """Without descriptors `accept` fails at once, for ever: look again in a moment."""
        self._exhausted(error.strerror or str(error))
        self._loop.remove_reader(self._listener.fileno())
        self._rest = self._loop.call_later(REST_S, self._resume)

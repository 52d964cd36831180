"""Messages of our own that wait to be written: acknowledgements, refusals, upkeep."""

from __future__ import annotations

from tumpline.errors import RemoteProtocolError
from tumpline.wire.tcpcl4 import TerminationCode


class Outbox:
    """Whole messages in order, bounded: a peer that sends but never reads must not fill our memory."""

    __slots__ = ("_messages", "_most", "octets")

    def __init__(self, octets_most: int) -> None:
        self._messages: list[bytes] = []
        self._most = octets_most
        self.octets = 0

    def put(self, messages: bytes) -> None:
        """Append whole messages."""
        self._messages.append(messages)
        self.octets += len(messages)

    def check(self) -> None:
        """Raises: RemoteProtocolError (the peer has left too much unread)."""
        if self.octets > self._most:
            raise RemoteProtocolError(
                f"the peer leaves {self.octets} octets of acknowledgements unread", TerminationCode.RESOURCE_EXHAUSTION
            )

    def take(self) -> list[bytes]:
        """Everything, to be written now."""
        messages, self._messages, self.octets = self._messages, [], 0
        return messages

"""What a broker says when it cannot do as asked (AMQP 0-9-1 specification §1.2)."""

from __future__ import annotations

from enum import IntEnum


class Reply(IntEnum):
    """Reply codes; those from 500 on, and of CONNECTION below, end the connection, others the channel."""

    SUCCESS = 200
    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    CONNECTION_FORCED = 320
    INVALID_PATH = 402
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540


_OF_CONNECTION = frozenset({Reply.CONNECTION_FORCED, Reply.INVALID_PATH})


class Fault(Exception):
    """What was asked cannot be done; told to who asked, in the words of RabbitMQ where programs look for them."""

    def __init__(self, reply: Reply, text: str) -> None:
        super().__init__(f"{reply.name} - {text}")
        self.reply = reply

    @property
    def ends_connection(self) -> bool:
        """Or its channel only."""
        return self.reply >= Reply.FRAME_ERROR or self.reply in _OF_CONNECTION

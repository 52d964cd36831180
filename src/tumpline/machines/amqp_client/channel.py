"""One channel of a client: what was asked there and not answered yet, and what is being received."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Final

from tumpline.errors import LocalProtocolError
from tumpline.machines.amqp_client.content import Content
from tumpline.machines.amqp_client.events import Delivery
from tumpline.wire.amqp import Method
from tumpline.wire.amqp import methods as m

REQUESTS_MOST: Final = 4096  # without an answer

ANSWERS: Final[dict[type[Any], tuple[type[Any], ...]]] = {
    m.ChannelOpen: (m.ChannelOpenOk,),
    m.ChannelClose: (m.ChannelCloseOk,),
    m.ExchangeDeclare: (m.ExchangeDeclareOk,),
    m.ExchangeDelete: (m.ExchangeDeleteOk,),
    m.ExchangeBind: (m.ExchangeBindOk,),
    m.QueueDeclare: (m.QueueDeclareOk,),
    m.QueueBind: (m.QueueBindOk,),
    m.QueueUnbind: (m.QueueUnbindOk,),
    m.QueuePurge: (m.QueuePurgeOk,),
    m.QueueDelete: (m.QueueDeleteOk,),
    m.BasicQos: (m.BasicQosOk,),
    m.BasicConsume: (m.BasicConsumeOk,),
    m.BasicCancel: (m.BasicCancelOk,),
    m.BasicGet: (m.BasicGetOk, m.BasicGetEmpty),
    m.BasicRecover: (m.BasicRecoverOk,),
    m.ConfirmSelect: (m.ConfirmSelectOk,),
}


class ChannelState(Enum):
    """What may be said on it."""

    OPENING = "open-ok"
    OPEN = "open"
    CLOSING = "close-ok"


class Channel:
    """The broker answers the requests of one channel in their order."""

    __slots__ = ("awaited", "batches", "confirms", "content", "number", "published", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = ChannelState.OPENING
        self.awaited: deque[tuple[type[Any], ...]] = deque([(m.ChannelOpenOk,)])
        self.content = Content()
        self.batches: dict[str, list[Delivery]] = {}  # of what is being received now, by consumer
        self.confirms = False
        self.published = 0  # since they are confirmed

    def check_open(self) -> None:
        """Raises: LocalProtocolError."""
        if self.state is not ChannelState.OPEN:
            raise LocalProtocolError(f"AMQP: channel {self.number} is not open")

    def check_room(self) -> None:
        """For one more request. Raises: LocalProtocolError."""
        self.check_open()
        if len(self.awaited) >= REQUESTS_MOST:
            raise LocalProtocolError(f"AMQP: {REQUESTS_MOST} requests wait on channel {self.number}")

    def ask(self, method: Method) -> None:
        """Note that it is to be answered."""
        self.awaited.append(ANSWERS[type(method)])
        if isinstance(method, m.ConfirmSelect):
            self.confirms = True
        elif isinstance(method, m.ChannelClose):
            self.state = ChannelState.CLOSING

    def is_answer(self, method: Method) -> bool:
        """Whether this is what the oldest request waits for; it then waits no more."""
        if not self.awaited or not isinstance(method, self.awaited[0]):
            return False
        self.awaited.popleft()
        if isinstance(method, m.ChannelOpenOk):
            self.state = ChannelState.OPEN
        return True

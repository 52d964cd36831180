"""Methods of AMQP 0-9-1 (specification §1, with RabbitMQ's extensions): what a broker and its clients tell each other.

One class is one method; its fields are the arguments, in the order and of the types of the specification. Bits that follow
each other share an octet (§4.2.5.2).
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Annotated, Any, Final, NamedTuple, get_args, get_type_hints

from tumpline.errors import MalformedError
from tumpline.wire.amqp.values import Reader, encode_long_octets, encode_short_text, encode_table

Octet = Annotated[int, "B"]
Short = Annotated[int, "H"]
Long = Annotated[int, "I"]
LongLong = Annotated[int, "Q"]
Bit = Annotated[bool, "bit"]
ShortText = Annotated[str, "short"]
LongOctets = Annotated[bytes, "long"]
Table = Annotated[dict[str, Any], "table"]


Method = tuple[Any, ...]  # one of the classes below


class ConnectionStart(NamedTuple):
    version_major: Octet = 0
    version_minor: Octet = 9
    server_properties: Table = {}
    mechanisms: LongOctets = b"PLAIN"
    locales: LongOctets = b"en_US"


class ConnectionStartOk(NamedTuple):
    client_properties: Table = {}
    mechanism: ShortText = "PLAIN"
    response: LongOctets = b""
    locale: ShortText = "en_US"


class ConnectionTune(NamedTuple):
    channel_most: Short = 0
    frame_octets_most: Long = 0
    heartbeat_s: Short = 0


class ConnectionTuneOk(NamedTuple):
    channel_most: Short = 0
    frame_octets_most: Long = 0
    heartbeat_s: Short = 0


class ConnectionOpen(NamedTuple):
    virtual_host: ShortText = "/"
    reserved_1: ShortText = ""
    reserved_2: Bit = False


class ConnectionOpenOk(NamedTuple):
    reserved_1: ShortText = ""


class ConnectionClose(NamedTuple):
    reply_code: Short = 200
    reply_text: ShortText = ""
    class_id: Short = 0
    method_id: Short = 0


class ConnectionCloseOk(NamedTuple):
    pass


class ConnectionBlocked(NamedTuple):
    """RabbitMQ: short of memory or disk, it does not read what is published."""

    reason: ShortText = ""


class ConnectionUnblocked(NamedTuple):
    pass


class ChannelOpen(NamedTuple):
    reserved_1: ShortText = ""


class ChannelOpenOk(NamedTuple):
    reserved_1: LongOctets = b""


class ChannelFlow(NamedTuple):
    active: Bit = True


class ChannelFlowOk(NamedTuple):
    active: Bit = True


class ChannelClose(NamedTuple):
    reply_code: Short = 200
    reply_text: ShortText = ""
    class_id: Short = 0
    method_id: Short = 0


class ChannelCloseOk(NamedTuple):
    pass


class ExchangeDeclare(NamedTuple):
    reserved_1: Short = 0
    exchange: ShortText = ""
    type: ShortText = "direct"
    passive: Bit = False
    durable: Bit = False
    auto_delete: Bit = False
    internal: Bit = False
    no_wait: Bit = False
    arguments: Table = {}


class ExchangeDeclareOk(NamedTuple):
    pass


class ExchangeDelete(NamedTuple):
    reserved_1: Short = 0
    exchange: ShortText = ""
    if_unused: Bit = False
    no_wait: Bit = False


class ExchangeDeleteOk(NamedTuple):
    pass


class ExchangeBind(NamedTuple):  # RabbitMQ's extension: an exchange takes what another one has
    reserved_1: Short = 0
    destination: ShortText = ""
    source: ShortText = ""
    routing_key: ShortText = ""
    no_wait: Bit = False
    arguments: Table = {}


class ExchangeBindOk(NamedTuple):
    pass


class QueueDeclare(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    passive: Bit = False
    durable: Bit = False
    exclusive: Bit = False
    auto_delete: Bit = False
    no_wait: Bit = False
    arguments: Table = {}


class QueueDeclareOk(NamedTuple):
    queue: ShortText = ""
    message_count: Long = 0
    consumer_count: Long = 0


class QueueBind(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    exchange: ShortText = ""
    routing_key: ShortText = ""
    no_wait: Bit = False
    arguments: Table = {}


class QueueBindOk(NamedTuple):
    pass


class QueuePurge(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    no_wait: Bit = False


class QueuePurgeOk(NamedTuple):
    message_count: Long = 0


class QueueDelete(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    if_unused: Bit = False
    if_empty: Bit = False
    no_wait: Bit = False


class QueueDeleteOk(NamedTuple):
    message_count: Long = 0


class QueueUnbind(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    exchange: ShortText = ""
    routing_key: ShortText = ""
    arguments: Table = {}


class QueueUnbindOk(NamedTuple):
    pass


class BasicQos(NamedTuple):
    prefetch_octets: Long = 0
    prefetch_count: Short = 0
    of_channel: Bit = False


class BasicQosOk(NamedTuple):
    pass


class BasicConsume(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    consumer_tag: ShortText = ""
    no_local: Bit = False
    no_ack: Bit = False
    exclusive: Bit = False
    no_wait: Bit = False
    arguments: Table = {}


class BasicConsumeOk(NamedTuple):
    consumer_tag: ShortText = ""


class BasicCancel(NamedTuple):
    """Also said by RabbitMQ, where a queue is gone."""

    consumer_tag: ShortText = ""
    no_wait: Bit = False


class BasicCancelOk(NamedTuple):
    consumer_tag: ShortText = ""


class BasicPublish(NamedTuple):
    """A content header and bodies follow."""

    reserved_1: Short = 0
    exchange: ShortText = ""
    routing_key: ShortText = ""
    mandatory: Bit = False
    immediate: Bit = False


class BasicReturn(NamedTuple):
    """A content header and bodies follow."""

    reply_code: Short = 0
    reply_text: ShortText = ""
    exchange: ShortText = ""
    routing_key: ShortText = ""


class BasicDeliver(NamedTuple):
    """A content header and bodies follow."""

    consumer_tag: ShortText = ""
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortText = ""
    routing_key: ShortText = ""


class BasicGet(NamedTuple):
    reserved_1: Short = 0
    queue: ShortText = ""
    no_ack: Bit = False


class BasicGetOk(NamedTuple):
    """A content header and bodies follow."""

    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortText = ""
    routing_key: ShortText = ""
    message_count: Long = 0


class BasicGetEmpty(NamedTuple):
    reserved_1: ShortText = ""


class BasicAck(NamedTuple):
    delivery_tag: LongLong = 0
    multiple: Bit = False


class BasicReject(NamedTuple):
    delivery_tag: LongLong = 0
    requeue: Bit = True


class BasicRecover(NamedTuple):
    requeue: Bit = False


class BasicRecoverOk(NamedTuple):
    pass


class BasicNack(NamedTuple):
    delivery_tag: LongLong = 0
    multiple: Bit = False
    requeue: Bit = True


class ConfirmSelect(NamedTuple):
    no_wait: Bit = False


class ConfirmSelectOk(NamedTuple):
    pass


_CLASSES: Final[dict[tuple[int, int], type[Any]]] = {
    (10, 10): ConnectionStart,
    (10, 11): ConnectionStartOk,
    (10, 30): ConnectionTune,
    (10, 31): ConnectionTuneOk,
    (10, 40): ConnectionOpen,
    (10, 41): ConnectionOpenOk,
    (10, 50): ConnectionClose,
    (10, 51): ConnectionCloseOk,
    (10, 60): ConnectionBlocked,
    (10, 61): ConnectionUnblocked,
    (20, 10): ChannelOpen,
    (20, 11): ChannelOpenOk,
    (20, 20): ChannelFlow,
    (20, 21): ChannelFlowOk,
    (20, 40): ChannelClose,
    (20, 41): ChannelCloseOk,
    (40, 10): ExchangeDeclare,
    (40, 11): ExchangeDeclareOk,
    (40, 20): ExchangeDelete,
    (40, 21): ExchangeDeleteOk,
    (40, 30): ExchangeBind,
    (40, 31): ExchangeBindOk,
    (50, 10): QueueDeclare,
    (50, 11): QueueDeclareOk,
    (50, 20): QueueBind,
    (50, 21): QueueBindOk,
    (50, 30): QueuePurge,
    (50, 31): QueuePurgeOk,
    (50, 40): QueueDelete,
    (50, 41): QueueDeleteOk,
    (50, 50): QueueUnbind,
    (50, 51): QueueUnbindOk,
    (60, 10): BasicQos,
    (60, 11): BasicQosOk,
    (60, 20): BasicConsume,
    (60, 21): BasicConsumeOk,
    (60, 30): BasicCancel,
    (60, 31): BasicCancelOk,
    (60, 40): BasicPublish,
    (60, 50): BasicReturn,
    (60, 60): BasicDeliver,
    (60, 70): BasicGet,
    (60, 71): BasicGetOk,
    (60, 72): BasicGetEmpty,
    (60, 80): BasicAck,
    (60, 90): BasicReject,
    (60, 110): BasicRecover,
    (60, 111): BasicRecoverOk,
    (60, 120): BasicNack,
    (85, 10): ConfirmSelect,
    (85, 11): ConfirmSelectOk,
}
_KEY: Final = Struct(">HH")
_NUMBERS: Final = {code: Struct(">" + code) for code in "BHIQ"}


def _types_of(method: type[Any]) -> tuple[str, ...]:
    hints = get_type_hints(method, include_extras=True)
    return tuple(get_args(hints[name])[1] for name in method._fields)


_TYPES: Final = {method: _types_of(method) for method in _CLASSES.values()}
_KEYS: Final = {method: _KEY.pack(*key) for key, method in _CLASSES.items()}
KEYS: Final = {method: key for key, method in _CLASSES.items()}  # class and method number, as a close names them


def encode_method(method: Method) -> bytes:
    """The payload of a method frame. Raises: ValueError."""
    out = bytearray(_KEYS[type(method)])
    bit = 0  # of the octet at the end, where bits go
    for kind, value in zip(_TYPES[type(method)], method, strict=True):
        if kind != "bit":
            bit = 0
            out += _write(kind, value)
            continue
        if not bit:
            out.append(0)
            bit = 1
        out[-1] |= bit if value else 0
        bit <<= 1
    return bytes(out)


def _write(kind: str, value: Any) -> bytes:
    match kind:
        case "short":
            return encode_short_text(value)
        case "long":
            return encode_long_octets(value)
        case "table":
            return encode_table(value)
    try:
        return _NUMBERS[kind].pack(value)
    except StructError as error:
        raise ValueError(f"AMQP: {value} is out of range") from error


def decode_method_untrusted(payload: bytes) -> Method:
    """What a method frame says. Raises: MalformedError, for methods that are not known too."""
    reader = Reader(payload)
    key = reader.number(_NUMBERS["H"]), reader.number(_NUMBERS["H"])
    method = _CLASSES.get(key)
    if method is None:
        raise MalformedError(f"AMQP: no method {key[0]}.{key[1]} is known")
    values: list[Any] = []
    octet, bit = 0, 0
    for kind in _TYPES[method]:
        if kind != "bit":
            bit = 0
            values.append(_read(kind, reader))
            continue
        if not bit:
            octet, bit = reader.octets(1)[0], 1
        values.append(bool(octet & bit))
        bit <<= 1
    if not reader.is_at_end:
        raise MalformedError(f"AMQP: octets behind the arguments of {method.__name__}")
    decoded: Method = method(*values)
    return decoded


def _read(kind: str, reader: Reader) -> Any:
    match kind:
        case "short":
            return reader.short_text()
        case "long":
            return reader.long_octets()
        case "table":
            return reader.table()
    return reader.number(_NUMBERS[kind])

"""A client of AMQP 0-9-1 brokers (RabbitMQ): connections, channels, and a connection that is kept up."""

from tumpline.drivers.amqp.channel import AmqpChannel, DeclaredQueue, DeliveryHandler
from tumpline.drivers.amqp.connection import AmqpConnection
from tumpline.drivers.amqp.errors import AmqpError
from tumpline.drivers.amqp.kept import KeptConnection
from tumpline.drivers.amqp.url import AmqpUrl
from tumpline.machines.amqp_client import Delivery, ReturnedMessage
from tumpline.wire.amqp import Properties

__all__ = [
    "AmqpChannel",
    "AmqpConnection",
    "AmqpError",
    "AmqpUrl",
    "DeclaredQueue",
    "Delivery",
    "DeliveryHandler",
    "KeptConnection",
    "Properties",
    "ReturnedMessage",
]

"""A broker for newcomers, without I/O: the subset of AMQP 0-9-1 that a packet overlay needs. No replacement for RabbitMQ."""

from tumpline.machines.amqp_broker.broker import Broker, BrokerConfig
from tumpline.machines.amqp_broker.connection import Connection

__all__ = ["Broker", "BrokerConfig", "Connection"]

"""`tumpline broker`: the embedded AMQP broker, for newcomers and demonstrations."""

from __future__ import annotations

import asyncio
import signal

from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output


async def broker(*, listen: str = "127.0.0.1:5672", common: Common = DEFAULT) -> int:
    """Host a broker until it is stopped (Ctrl-C, SIGTERM). It keeps nothing, and is no replacement for RabbitMQ.

    Parameters
    ----------
    listen
        Where: whoever reaches this address may come in as guest.
    """
    from tumpline.drivers.amqp_broker import DEFAULT_PORT, BrokerServer
    from tumpline.drivers.dial import parse_address
    from tumpline.machines.amqp_broker import BrokerConfig
    from tumpline.ui.cli.detach import told_ready

    where, stopped = parse_address(listen, DEFAULT_PORT), asyncio.Event()
    server = BrokerServer(BrokerConfig())
    await server.start(where)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    line = f"the broker is up: amqp://guest:guest@{where._replace(port=server.port)}/"
    told_ready(line)
    Output(common).event({"event": "ready", "port": server.port}, line)
    await stopped.wait()
    await server.stop()
    return 0

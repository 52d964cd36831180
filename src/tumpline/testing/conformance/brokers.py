"""What every broker must hold, as clients see it. What is written here is what RabbitMQ does.

for kind in KINDS: for check in CHECKS: await check(ground of that kind)
"""

from __future__ import annotations

from typing import Final

from tumpline.testing.conformance import _brokers_consuming, _brokers_exchanges, _brokers_publishing, _brokers_queues
from tumpline.testing.conformance._brokers_ground import Check, Ground
from tumpline.testing.conformance._brokers_publishing import check_blocked

__all__ = ["CHECKS", "Check", "Ground", "check_blocked"]

CHECKS: Final[list[Check]] = [
    *_brokers_exchanges.CHECKS,
    *_brokers_queues.CHECKS,
    *_brokers_consuming.CHECKS,
    *_brokers_publishing.CHECKS,
]

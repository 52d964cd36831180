"""A service that notes every ADU once for each time it was delivered, in the same transaction as the bundle's identity.

`python -m tumpline.testing.ledger up --config ...` is `tumpline up` with this service, as `[services.ledger]`. Its ADUs
are made by `payload`; `read_ledger` reads what it noted from the store of an agent that has ended.
"""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tumpline.drivers.stores import sqlite
from tumpline.machines.effects import Delivery, Outcome
from tumpline.machines.storage import GetState, Results
from tumpline.node.registry import load_registry
from tumpline.node.services import _numbered
from tumpline.node.services._api import ServiceContext, ServiceSpec

NAME = "ledger"
DAMAGED = "damaged"  # the key of everything that is not as it was sent
_RUN = b"ledger--"


def payload(number: int, octets: int) -> bytes:
    """ADU `number`."""
    return _numbered.make(_RUN, number, octets)


class LedgerConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing to configure."""


class Ledger:
    """The service. `counts` is what is committed and what will be."""

    name = NAME

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        self._counts = {key: int(value) for key, value in (await ctx.get_state()).items()}

    async def stop(self) -> None:
        """Nothing is held."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        self._ctx.done([(delivery.seq, self._noted(delivery)) for delivery in deliveries])

    def _noted(self, delivery: Delivery) -> Outcome:
        found = _numbered.parse(self._ctx.pieces(delivery.payload))
        key = DAMAGED if found is None or found[0] != _RUN else str(found[1])
        self._counts[key] = self._counts.get(key, 0) + 1
        return Outcome([(key, b"%d" % self._counts[key])])

    def describe(self) -> dict[str, Any]:
        return {"noted": sum(self._counts.values())}


SPEC = ServiceSpec(NAME, "notes every delivery", LedgerConfig, lambda _config: Ledger(), demux=NAME)


async def read_ledger(state_dir: Path) -> dict[str, int]:
    """How often each number was delivered (and DAMAGED, if anything was)."""
    store = sqlite.SPEC.open(sqlite.SPEC.config(), state_dir / "store")
    store.open()
    answer: asyncio.Future[Results | None] = asyncio.get_running_loop().create_future()
    store.submit([GetState(NAME)], lambda results, _error: answer.set_result(results))
    results = await answer
    await store.close()
    assert results is not None, "the ledger cannot be read"
    return {key: int(value) for key, value in results[0].items()}


if __name__ == "__main__":
    load_registry().services.parts[NAME] = SPEC
    runpy.run_module("tumpline", run_name="__main__")

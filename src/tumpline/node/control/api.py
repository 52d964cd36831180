"""What control asks of the running agent. `tumpline.node.runtime` implements it; tests give a small twin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tumpline.drivers.links._api import Sink
from tumpline.drivers.stores._api import PayloadWriter
from tumpline.errors import TumplineError
from tumpline.machines.contract import Payload, StoredBundle
from tumpline.machines.effects import Adu, Arrival, Notice
from tumpline.node.services._api import Service


class NotFoundError(TumplineError):
    """The agent has nothing of that name."""


class Agent(Protocol):
    """The running agent. All calls on the event loop's thread. EIDs, patterns and times come as the text a person
    wrote; text that cannot be understood raises MalformedError or ConfigError with a sentence that says what to write.
    """

    # ---- see ---------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All that `tumpline status` and its kin show, as JSON values: `name`, `node_id`, `aliases`, `version`, `pid`,
        `uptime_s`, `config` (path or null), `state_dir`, `control` (where control listens), `store` {kind, bundles,
        octets, quota_octets, failure (why something is not kept yet, or null)}, `counters`, `peers` [{id, link, address,
        state, security, authenticated, queue, ...}], `links` [{name, kind, ...}], `routes` [{to, via, priority, name}],
        `contacts` [{peer, start, duration, rate, link, state}], `services` {name: describe()}."""

    def subscribe(self, callback: Callable[[Notice], None]) -> Callable[[], None]:
        """Call back for each notice from now on; returns the function that ends it. The callback does not block."""

    def service(self, name: str) -> Service:
        """A service in use. Raises: NotFoundError that says how to configure it."""

    # ---- steer (each takes effect at once; `save`: it also outlives a restart) ---------------------------------------

    def add_route(self, to: str, via: str, priority: int = 10, save: bool = False) -> None:
        """Bundles for EIDs that match the pattern `to` go to the neighbour `via`. Replaces an equal one."""

    def remove_route(self, to: str, via: str, save: bool = False) -> bool:
        """Whether there was one."""

    def add_contact(
        self,
        peer: str,
        start: str,
        duration: str,
        rate: str | None = None,
        link: str | None = None,
        save: bool = False,
    ) -> None:
        """A window in which the peer can be reached; values as in the configuration ("+30s", "10m", "128 kbit/s")."""

    def remove_contact(self, peer: str, start: str | None = None, save: bool = False) -> bool:
        """Remove the peer's contacts (only the one with that `start`, if given). Whether there were any."""

    async def add_link(self, config: dict[str, Any], save: bool = False) -> str:
        """Open and start a link from what would stand in `[[links]]`; returns its name. Raises: ConfigError and what
        the link's start raises (port in use ...)."""

    async def remove_link(self, name: str, save: bool = False) -> bool:
        """Stop a link gracefully. Whether there was one."""

    # ---- the store ---------------------------------------------------------------------------------------------------

    async def list_bundles(self, after: int, limit: int) -> list[StoredBundle]:
        """A page of what is held, by `seq`. Payload handles are not retained for the caller."""

    async def get_bundle(self, bundle: str) -> StoredBundle | None:
        """One held bundle, by its `seq` in decimal or its identity as `str(BundleId)`. A FileRange payload's handle is
        retained once for the caller, who releases it."""

    async def remove_bundle(self, bundle: str) -> bool:
        """Forget a bundle (named as in `get_bundle`) without forwarding it. Whether it was there."""

    def reserve(self, octets: int) -> Sink:
        """Room for a large bundle that is about to be imported. Raises: RefusedError (quota), StorageError."""

    async def import_bundle(self, arrival: Arrival) -> str:
        """Take an encoded bundle as if a link had received it (from a Sink's `finish`, or whole in `data` when small);
        returns its identity when it is stored durably. Raises: MalformedError, RefusedError (quota, duplicate)."""

    def read_payload(self, payload: Payload, offset: int, length: int) -> bytes:
        """As `ServiceContext.read_payload`."""

    # ---- applications ------------------------------------------------------------------------------------------------

    def writer(self) -> PayloadWriter:
        """As `ServiceContext.writer`."""

    def send(self, adu: Adu) -> asyncio.Future[str]:
        """As `ServiceContext.send`."""

    def send_many(self, adus: Sequence[Adu]) -> asyncio.Future[list[str]]:
        """As `ServiceContext.send_many`."""

    async def room(self, adus: Sequence[Adu], most_s: float) -> int:
        """As `ServiceContext.room`."""

    # ---- end ---------------------------------------------------------------------------------------------------------

    def stop(self, graceful: bool = True) -> None:
        """Begin to stop and return at once; whoever runs the agent awaits its end. Idempotent."""

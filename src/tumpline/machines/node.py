"""All of a node's decisions: the same machine under the runtime and in simulation.

Facts come in by its methods, each with the time it was told at; `effects()` gives what is to be done about them. The
procedures are in `tumpline.machines.bpa`; this module only joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tumpline.machines.bpa.accept import Reception
from tumpline.machines.bpa.config import NodeConfig, ReportPolicy
from tumpline.machines.bpa.core import Core
from tumpline.machines.bpa.deletion import Deletion, Expiry
from tumpline.machines.bpa.deliver import Deliverer
from tumpline.machines.bpa.forward import Forwarding
from tumpline.machines.bpa.fragments import Fragmentation
from tumpline.machines.bpa.originate import Origination
from tumpline.machines.bpa.queues import Consumer, Queue, Queues
from tumpline.machines.bpa.reassembly import Reassembly
from tumpline.machines.bpa.reports import Handler, Reports
from tumpline.machines.bpa.rewrite import Rewriter
from tumpline.machines.contract import Payload
from tumpline.machines.effects import Adu, Arrival, Effect, Outcome, PathInfo, RefuseReason
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.machines.routing._api import Strategy
from tumpline.machines.routing.static import StaticRouting
from tumpline.machines.storage import Recovered, Results
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern

__all__ = ["NodeConfig", "NodeMachine", "ReportPolicy"]


class NodeMachine:
    """One node. Give it its clock, routes, contacts, peers and services (before or after `start`), then facts.

    `random` gives numbers in [0, 1). After each call take `effects()` and arrange for `handle_timeout` at `next_timeout()`.
    """

    def __init__(self, config: NodeConfig, random: Callable[[], float], routing: Strategy | None = None) -> None:
        self._core = core = Core(config, random)
        routing = routing or StaticRouting()
        core.names.reception = routing.reception
        rewriter = Rewriter(config.node_id if config.previous_node else None)
        self._reports = Reports(core)
        self._queues = Queues(core, self._find)
        self._origination = Origination(core, self._queues)
        self._deliverer = Deliverer(core, self._queues, self._origination, self._reports)
        self._deletion = Deletion(core, self._queues, self._reports)
        self._expiry = Expiry(core, self._queues, self._deletion)
        self._fragmentation = Fragmentation(core, self._queues, rewriter)
        self._reassembly = Reassembly(core, self._queues)
        self._forwarding = Forwarding(
            core,
            self._queues,
            self._reports,
            self._deletion,
            self._fragmentation,
            rewriter,
            routing,
        )
        self._reception = Reception(core, self._queues, self._reports)
        self._join_up()

    def _join_up(self) -> None:
        """What happens in one procedure concerns another."""
        self._queues.on_room = self._deliverer.retry_stalled
        self._deletion.on_deleted = self._reassembly.gone
        self._deliverer.on_identities = self._expiry.identity_kept
        self._origination.on_earliest = self._expiry.at
        self._reception.on_earliest = self._expiry.at
        self._reception.fragment_queue = self._reassembly.queue_for
        self._reception.is_whole = self._reassembly.is_finished
        self._reception.on_fragments = self._reassembly.stored

    def _find(self, queue: Queue) -> list[Consumer]:
        """Who can take the bundles of this queue now, best first."""
        return self._deliverer.find(queue) if queue.own else self._forwarding.find(queue)

    @property
    def config(self) -> NodeConfig:
        """What it was made with."""
        return self._core.config

    # ---- out ----------------------------------------------------------------------------------------------------------

    def effects(self) -> list[Effect]:
        """What is to be done, in order; each is given once."""
        core = self._core
        effects, core.effects = core.effects, []
        return effects

    def next_timeout(self) -> float | None:
        """When `handle_timeout` wants to be called."""
        return self._core.timers.next()

    def handle_timeout(self, now: float) -> None:
        """Act on every deadline that has come."""
        self._core.timers.fire(now)
        self._flush(now)

    def _flush(self, now: float) -> None:
        """Send the status reports that were made meanwhile."""
        if self._reports.enabled and (adus := self._reports.take()):
            self._origination.originate(adus, now)

    # ---- the node itself ------------------------------------------------------------------------------------------------

    def set_clock(self, dtn_ms: int | None, now: float) -> None:
        """The DTN time at `now`, or None: the time of day is not known."""
        if self._core.clock.set(dtn_ms, now) and self._core.started:
            self._expiry.clock_changed()
            self._forwarding.sync(now)

    def start(self, recovered: Recovered, now: float) -> None:
        """The store is open: take up its bundles, and begin to hold sessions with peers."""
        core = self._core
        core.last_seq = recovered.last_seq
        core.quota.held += recovered.octets
        core.identities.counts.update(recovered.remembered)
        core.started = True
        for name, (bundles, last) in recovered.queues.items():
            queue = self._queues.recovered(name, bundles, last)
            if queue.reassembles:
                self._reassembly.recovered(queue)
        self._expiry.start(recovered.next_expiry_ms, now)
        self._forwarding.start(now)
        self._deliverer.start()

    # ---- paths and bundles that come over them ----------------------------------------------------------------------

    def path_up(self, info: PathInfo, now: float) -> None:
        """A session is established, or its facts have changed."""
        self._forwarding.path_up(info, now)

    def path_down(self, path: int, reason: str, now: float) -> None:  # noqa: ARG002
        """The session has ended; what was under way had its acked, refused or lost before."""
        self._forwarding.path_down(path)

    def may_receive(self, octets: int) -> RefuseReason | None:
        """Room for a large bundle that begins to arrive: reserved, or why not. The reservation ends with `received` (of an
        Arrival whose payload is not None; the octets must be those of head, payload and tail) or `release`."""
        return None if self._core.quota.reserve(octets) else RefuseReason.NO_RESOURCES

    def release(self, octets: int) -> None:
        """The large bundle will not come."""
        self._core.quota.release(octets)

    def received(self, path: int, arrivals: Sequence[Arrival], now: float) -> None:
        """Bundles came whole. Each transfer is answered by Acknowledge or Refuse."""
        self._reception.received(path, self._forwarding.previous(path), arrivals, now)
        self._flush(now)

    def acked(self, path: int, seqs: Sequence[int], now: float) -> None:
        """The peer has taken these."""
        self._forwarding.acked(path, seqs, now)
        self._flush(now)

    def refused(self, path: int, seq: int, reason: RefuseReason, now: float) -> None:
        """The peer refused this one."""
        self._forwarding.refused(path, seq, reason, now)
        self._flush(now)

    def lost(self, path: int, seqs: Sequence[int], now: float) -> None:
        """Whether these came is unknown."""
        self._forwarding.lost(path, seqs, now)

    # ---- local services ---------------------------------------------------------------------------------------------

    def register(self, service: str, demux: str, now: float, *, confirms: bool = False) -> None:  # noqa: ARG002
        """ADUs for this demux, below each of the node's IDs, are handed to the service; `confirms`: it is told which of its
        answers are kept. Raises: LocalProtocolError."""
        self._deliverer.register(service, demux, confirms=confirms)

    def unregister(self, service: str, now: float, demux: str | None = None) -> None:  # noqa: ARG002
        """The service (or one demux of it) is gone: its bundles wait."""
        self._deliverer.unregister(service, demux)

    def register_admin(self, kind: type | int, handler: Handler) -> None:
        """`handler(AdminRecord, now)` is called for each administrative record of this kind that came for the node: a class
        that wire.admin decodes to, or the type code of one that it does not know."""
        self._deliverer.records.register(kind, handler)

    def register_records(self, kind: type | int, service: str) -> None:
        """As `register_admin`, for a service: it is handed each such record by Administer."""
        self._deliverer.records.register_service(kind, service)

    def originate(self, adus: Sequence[Adu], now: float) -> None:
        """Send ADUs. One with a token is answered by AduStored or AduRefused."""
        self._origination.originate(adus, now)

    def fits(self, adus: Sequence[Adu]) -> int:
        """How many of these, from the first on, would find room now. After a refusal for want of it, ask this."""
        return self._origination.fits(adus)

    def is_own(self, eid: Eid) -> bool:
        """Whether it is an endpoint of this node."""
        return self._core.names.is_own(eid)

    def delivered(self, service: str, outcomes: Sequence[tuple[int, Outcome]], now: float) -> None:
        """The service is done with these bundles; what it wants kept is committed with them."""
        consumer = self._deliverer.services.get(service)
        if consumer is not None:
            self._deliverer.delivered(consumer, outcomes, now)
        self._flush(now)

    def delivery_failed(self, service: str, seq: int, retry_s: float, now: float) -> None:
        """The service could not take this one; it wants it again after `retry_s` seconds."""
        self._deliverer.delivery_failed(service, seq, retry_s, now)

    # ---- completions ------------------------------------------------------------------------------------------------

    def store_done(self, token: int, results: Results, now: float) -> None:
        """The transaction is durable."""
        self._core.store_done(token, results, now)
        self._flush(now)

    def store_failed(self, token: int, text: str, now: float) -> None:
        """Nothing of the transaction was kept."""
        self._core.store_failed(token, text, now)

    def split_done(self, seq: int, crcs: list[int], now: float) -> None:
        """The payload CRCs that a Split asked for."""
        if seq < 0:
            self._origination.split_done(seq, crcs, now)
        else:
            self._fragmentation.split_done(seq, crcs)

    def join_done(self, token: int, payload: Payload | None, now: float) -> None:
        """The payload that a Join asked for; None: it could not be made."""
        self._reassembly.join_done(token, payload, now)

    # ---- plans --------------------------------------------------------------------------------------------------------

    def add_route(self, route: Route, now: float) -> None:  # noqa: ARG002
        """Bundles to the pattern may go that way from now on."""
        self._forwarding.add_route(route)

    def remove_route(self, pattern: EidPattern, via: Eid, now: float) -> bool:  # noqa: ARG002
        """They may not any more. Returns whether there was such a route."""
        return self._forwarding.remove_route(pattern, via)

    def add_peer(self, peer: Peer, now: float) -> None:
        """A neighbour's address: a session is held with it from now on, or within its contacts."""
        self._forwarding.add_peer(peer, now)

    def remove_peer(self, peer: Peer, now: float) -> bool:
        """No session is held with that address any more. Returns whether there was such a peer."""
        return self._forwarding.remove_peer(peer, now)

    def remove_link(self, link: str, now: float) -> None:
        """A link is taken away: nothing is dialled over it any more (its paths go down by themselves)."""
        self._forwarding.remove_link(link, now)

    def add_contact(self, contact: Contact, now: float) -> None:
        """The peer is reachable only inside its windows from now on. Raises: ConfigError (a cron expression)."""
        self._forwarding.add_contact(contact, now)

    def remove_contact(self, contact: Contact, now: float) -> bool:
        """The contact is over. Returns whether there was such a contact."""
        return self._forwarding.remove_contact(contact, now)

    def remove(self, seq: int, now: float) -> None:
        """The operator deletes a bundle (RFC 9171 §5.12); Notice `bundles_deleted` tells when."""
        self._deletion.cancel(seq, now)

    # ---- for people ---------------------------------------------------------------------------------------------------

    @property
    def held_octets(self) -> int:
        """Of all bundles in the store, or on their way into it."""
        return self._core.quota.held

    def snapshot(self, now: float) -> dict[str, Any]:
        """How things stand, in plain values."""
        core = self._core
        return {
            "node_id": str(core.names.primary),
            "aliases": sorted(str(alias) for alias in core.names.all if alias != core.names.primary),
            "counters": dict(core.counters),
            "store": {
                "bundles": self._queues.bundles,
                "octets": core.quota.held,
                "reserved": core.quota.reserved,
                "quota": core.quota.limit,
                "failure": core.failure,
                "identities": sum(core.identities.counts.values()),
            },
            "services": self._deliverer.snapshot(),
            "queues": self._queues.snapshot(),
            **self._forwarding.snapshot(now),
        }

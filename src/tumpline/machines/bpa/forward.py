"""Bundle forwarding (RFC 9171 §5.4): who the neighbours are, which of them leads where, and what became of each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tumpline.machines.bpa.contacts import Contacts
from tumpline.machines.bpa.core import Core
from tumpline.machines.bpa.deletion import Deletion
from tumpline.machines.bpa.fragments import Fragmentation
from tumpline.machines.bpa.neighbours import Neighbour, Path
from tumpline.machines.bpa.queues import Consumer, Entry, Queue, Queues
from tumpline.machines.bpa.reports import FORWARDED, Reports
from tumpline.machines.bpa.rewrite import Rewriter, decode_stored
from tumpline.machines.effects import Disconnect, PathInfo, RefuseReason
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.machines.routing._api import Strategy
from tumpline.wire.bundle7 import BundleHead, ReasonCode
from tumpline.wire.eid import Eid
from tumpline.wire.eid_pattern import EidPattern


class Forwarding:
    """Neighbours and routes."""

    def __init__(
        self,
        core: Core,
        queues: Queues,
        reports: Reports,
        deletion: Deletion,
        fragmentation: Fragmentation,
        rewriter: Rewriter,
        routing: Strategy,
    ) -> None:
        self._core = core
        self._queues = queues
        self._reports = reports
        self._routing = routing
        self._rewriter = rewriter
        self.neighbours: dict[Eid, Neighbour] = {}  # by node ID and by alias
        self.paths: dict[int, Path] = {}
        self.contacts = Contacts(core)
        self._fragmentation = fragmentation
        self._deletion = deletion

    # ---- who leads where --------------------------------------------------------------------------------------------

    def find(self, queue: Queue) -> list[Consumer]:
        """Neighbours that are up and lead to the queue's destination, best first."""
        live: list[Consumer] = []
        for hop in self._hops(queue):
            neighbour = self.neighbours.get(hop)
            if neighbour is not None and neighbour.is_up and neighbour not in live:
                live.append(neighbour)
        return live

    def _hops(self, queue: Queue) -> list[Eid]:
        """Node IDs that lead to the queue's destination, best first: above all a neighbour that is the destination."""
        if queue.hops is None:
            hops = dict.fromkeys([queue.destination.node, *self._routing.next_hops(queue.destination)])
            self._queues.set_hops(queue, [hop for hop in hops if hop not in self._core.names.all])
        assert queue.hops is not None
        return queue.hops

    def add_route(self, route: Route) -> None:
        self._routing.add(route)
        self._evaluate(routes_changed=True)

    def remove_route(self, pattern: EidPattern, via: Eid) -> bool:
        was_there = self._routing.remove(pattern, via)
        self._evaluate(routes_changed=True)
        return was_there

    def _evaluate(self, *, routes_changed: bool = False) -> None:
        self._queues.evaluate_all(dict.fromkeys(self.neighbours.values()), routes_changed=routes_changed)

    def _evaluate_of(self, neighbour: Neighbour) -> None:
        """One of very many, as a rule: only its own queues are looked at."""
        self._queues.evaluate_of(neighbour, neighbour.names)

    # ---- neighbours, their addresses and contacts -------------------------------------------------------------------

    def start(self, now: float) -> None:
        self.sync(now)

    def add_peer(self, peer: Peer, now: float) -> None:
        self.contacts.add_peer(peer)
        if peer.id is not None:
            neighbour = self._neighbour(peer.id.node)
            for alias in peer.aliases:
                self.neighbours[alias.node] = neighbour
                neighbour.names.add(alias.node)
        self.sync(now)

    def remove_peer(self, peer: Peer, now: float) -> bool:
        was_there = self.contacts.remove_peer(peer)
        self.sync(now)
        return was_there

    def remove_link(self, link: str, now: float) -> None:
        self.contacts.remove_link(link)
        self.sync(now)

    def add_contact(self, contact: Contact, now: float) -> None:
        self.contacts.add(contact)
        self.sync(now)

    def remove_contact(self, contact: Contact, now: float) -> bool:
        was_there = self.contacts.remove(contact)
        self.sync(now)
        return was_there

    def _neighbour(self, eid: Eid) -> Neighbour:
        neighbour = self.neighbours.get(eid)
        if neighbour is None:
            neighbour = Neighbour(eid, self._core, self._queues, self._rewriter, self._too_long)
            self.neighbours[eid] = neighbour
        return neighbour

    def sync(self, now: float) -> None:
        """Bring dialling and paths in line with the contact plan; at each change of it, and when windows open or close."""
        if not self._core.started:
            return
        self.contacts.dial(now)
        changed = False
        for path in self.paths.values():
            changed |= self._reach(path, now)
        when = self.contacts.next_change(now)
        if when is None:
            self._core.timers.cancel("contacts")
        else:
            # Half a millisecond late: the scale counts whole milliseconds, and must have reached this one.
            self._core.timers.set("contacts", max(when + 0.0005, now), self.sync)
        if changed:
            self._evaluate()

    def _reach(self, path: Path, now: float) -> bool:
        """Apply the contact plan to one path. Returns whether that changed whether it can be used."""
        neighbour = path.neighbour
        if neighbour is None or path.ending:
            return False
        reach = self.contacts.reach(neighbour.eid, path.info.link, now)
        was_usable = path.is_usable
        if reach != path.reach:
            path.set_reach(reach, self._core.clock.monotonic(reach.end_ms), now)
            self._queues.forgive(neighbour)
        if not reach.is_open:
            path.ending = True
            reason = "contact ended" if was_usable else "outside of its contacts"
            self._core.effects.append(Disconnect(path.info.link, None, path.info.path, reason))
        return path.is_usable != was_usable or reach.is_open

    # ---- paths --------------------------------------------------------------------------------------------------------

    def path_up(self, info: PathInfo, now: float) -> None:
        """An unauthenticated claim makes no route: what comes over such a path is taken, nothing is sent there."""
        peer = info.peer if info.peer is not None else self.contacts.peer_at(info.link, info.address)
        previous = "" if peer is None else str(peer.node)
        neighbour = None
        if peer is not None and info.authenticated and "bundle" in info.kinds:
            neighbour = self._neighbour(peer.node)
            previous = neighbour.name
        path = Path(info, neighbour, previous, self._core.config.retry_s_min)
        known = self.paths.get(info.path)
        if known is not None:
            self._leave(known)
            path.in_flight, path.octets = known.in_flight, known.octets
        self.paths[info.path] = path
        if neighbour is not None:
            # The one that takes most first, so that nothing is cut or passed over needlessly; of equals the newest.
            neighbour.paths.insert(0, path)
            neighbour.paths.sort(key=lambda each: -each.info.mru_octets)
            self._queues.forgive(neighbour)
        self._reach(path, now)
        for each in dict.fromkeys((neighbour, None if known is None else known.neighbour)):
            if each is not None:
                self._evaluate_of(each)

    def path_down(self, number: int) -> None:
        path = self.paths.pop(number, None)
        if path is None:
            return
        self._leave(path)
        self._core.timers.cancel(("pace", number))
        self._core.timers.cancel(("path", number))
        self._queues.give_back(path.in_flight.values())  # a link reports these as lost before; none should be left
        if path.neighbour is not None:
            self._evaluate_of(path.neighbour)

    def _leave(self, path: Path) -> None:
        if path.neighbour is not None:
            path.neighbour.paths.remove(path)

    def previous(self, number: int) -> str:
        """Whom bundles that come over this path come from."""
        path = self.paths.get(number)
        return "" if path is None else path.previous

    # ---- what became of units -----------------------------------------------------------------------------------------

    def acked(self, number: int, seqs: Sequence[int], now: float) -> None:
        """RFC 9171 §5.4 Step 5: forwarded, so there is no reason left to keep them."""
        path = self.paths.get(number)
        if path is None:
            return
        held, in_flight = self._queues.held, path.in_flight
        done: list[Entry] = []
        for seq in seqs:
            entry = in_flight.pop(seq, None)
            if entry is not None:
                path.octets -= entry[3]
                if held.get(seq) is entry:  # else it expired or was removed on the way
                    done.append(entry)
        path.retry_s = self._core.config.retry_s_min
        self._core.counters["bundles_forwarded"] += len(done)
        if self._reports.enabled:
            self._report(done, now)
        if self._core.config.trace_bundles:
            for entry in done:
                self._core.notice("bundle_forwarded", seq=entry[0].seq, path=number, to=entry[0].destination)
        self._queues.remove(done)
        if path.neighbour is not None:
            path.neighbour.pump(now)

    def _report(self, entries: list[Entry], now: float) -> None:
        for bundle, head, _, _ in entries:
            primary = (head or decode_stored(bundle.head)).primary
            self._reports.tell(FORWARDED, ReasonCode.NO_INFORMATION, primary, bundle.payload.length, now)

    def refused(self, number: int, seq: int, reason: RefuseReason, now: float) -> None:
        """The peer does not take it: now, or ever."""
        if reason is RefuseReason.COMPLETED:
            self.acked(number, [seq], now)
            return
        path = self.paths.get(number)
        entry = None if path is None else path.in_flight.pop(seq, None)
        if path is None or entry is None:
            return
        path.octets -= entry[3]
        self._core.counters["forwards_refused"] += 1
        if reason is RefuseReason.NOT_ACCEPTABLE and path.neighbour is not None:
            self._reject(entry, path.neighbour, now)
            return
        self._back_off(path, [entry], now)
        if path.neighbour is not None:
            path.neighbour.pushed_back.setdefault(entry[2])
            self._queues.scout(path.neighbour)

    def lost(self, number: int, seqs: Sequence[int], now: float) -> None:
        """Send them again, in order, when the path is back."""
        path = self.paths.get(number)
        if path is None:
            return
        entries = [entry for seq in seqs if (entry := path.in_flight.pop(seq, None)) is not None]
        path.octets -= sum(entry[3] for entry in entries)
        self._core.counters["forwards_lost"] += len(entries)
        self._back_off(path, entries, now)

    def _back_off(self, path: Path, entries: list[Entry], now: float) -> None:
        """Pause the path; its bundles go back in order."""
        path.pause(now, self._core.config.retry_s_max)
        neighbour = path.neighbour
        if neighbour is not None:
            self._queues.unload(neighbour)
            self._core.timers.set(("path", path.info.path), path.resume_at, neighbour.pump)
        self._queues.give_back([entry for entry in entries if self._queues.held.get(entry[0].seq) is entry])
        # A better neighbour may have come up since these were handed to this one: it does not know of them yet.
        for consumer in {entry[2].consumer: None for entry in entries}:
            if consumer is not None and consumer is not neighbour:
                consumer.pump(now)

    def _reject(self, entry: Entry, neighbour: Neighbour, now: float) -> None:
        """This neighbour will never take this bundle: another one may, even one that is down now."""
        bundle, _, queue, _ = entry
        if self._queues.held.get(bundle.seq) is not entry:
            return
        self._queues.reject(entry, neighbour, for_ever=True)
        hops = {self.neighbours[hop].name if hop in self.neighbours else str(hop) for hop in self._hops(queue)}
        if hops <= self._queues.never_again(bundle.seq) | {bundle.previous}:
            self._deletion.delete([entry], ReasonCode.NO_ROUTE, now)
        for consumer in queue.live:
            consumer.pump(now)

    def _too_long(self, neighbour: Neighbour, entry: Entry, head: BundleHead, room: int, most: int, now: float) -> None:
        """A bundle does not fit: cut it, or let another neighbour have it, or keep it."""
        if self._fragmentation.cut(entry, head, room, most):
            return
        self._core.counters["bundles_too_long"] += 1
        self._queues.reject(entry, neighbour)
        for consumer in entry[2].live:
            if consumer is not neighbour:
                consumer.pump(now)

    # ---- for people -------------------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "routes": [
                {"to": str(route.pattern), "via": str(route.via), "priority": route.priority, "name": route.name}
                for route in self._routing.routes()
            ],
            "contacts": self.contacts.snapshot(now),
            "neighbours": [
                {
                    "id": neighbour.name,
                    "up": neighbour.is_up,
                    "paths": [path_snapshot(path, now) for path in neighbour.paths],
                }
                for neighbour in dict.fromkeys(self.neighbours.values())
            ],
        }


def path_snapshot(path: Path, now: float) -> dict[str, Any]:
    info = path.info
    return {
        "path": info.path,
        "link": info.link,
        "address": info.address,
        "security": info.security,
        "outbound": info.outbound,
        "authenticated": info.authenticated,
        "mru_octets": info.mru_octets,
        "in_flight": len(path.in_flight),
        "paused_s": max(0.0, path.resume_at - now),
    }

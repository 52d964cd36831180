"""Bundle forwarding (RFC 9171 §5.4): who the neighbours are, which of them leads where, and what became of each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tumpline.machines.bpa.core import Core
from tumpline.machines.bpa.neighbours import Neighbour, Path
from tumpline.machines.bpa.queues import Consumer, Entry, Queue, Queues
from tumpline.machines.bpa.reports import DELETED, DELETION_REASONS, FORWARDED, Reports
from tumpline.machines.bpa.rewrite import Rewriter, decode_stored
from tumpline.machines.effects import Connect, PathInfo, RefuseReason
from tumpline.machines.plan import Peer, Route
from tumpline.machines.routing._api import Strategy
from tumpline.wire.bundle7 import ReasonCode
from tumpline.wire.eid import Eid


class Forwarding:
    """Neighbours and routes."""

    def __init__(self, core: Core, queues: Queues, reports: Reports, routing: Strategy) -> None:
        self._core = core
        self._queues = queues
        self._reports = reports
        self._routing = routing
        self._rewriter = Rewriter(core.names.primary if core.config.previous_node else None)
        self.neighbours: dict[Eid, Neighbour] = {}  # by node ID and by alias
        self.paths: dict[int, Path] = {}
        self.peers: list[Peer] = []

    # ---- who leads where --------------------------------------------------------------------------------------------

    def find(self, queue: Queue) -> list[Consumer]:
        """Neighbours that are up and lead to the queue's destination, best first."""
        hops = queue.hops
        if hops is None:
            # A neighbour that is the destination itself is always the best next hop.
            hops = [queue.destination.node, *self._routing.next_hops(queue.destination)]
            queue.hops = hops = [hop for hop in hops if hop not in self._core.names.all]
        live: list[Consumer] = []
        for hop in hops:
            neighbour = self.neighbours.get(hop)
            if neighbour is not None and neighbour.is_up and neighbour not in live:
                live.append(neighbour)
        return live

    def add_route(self, route: Route) -> None:
        self._routing.add(route)
        self._evaluate(routes_changed=True)

    def remove_route(self, route: Route) -> bool:
        was_there = self._routing.remove(route)
        self._evaluate(routes_changed=True)
        return was_there

    def _evaluate(self, *, routes_changed: bool = False) -> None:
        self._queues.evaluate_all(dict.fromkeys(self.neighbours.values()), routes_changed=routes_changed)

    # ---- neighbours and paths ---------------------------------------------------------------------------------------

    def start(self, _: float) -> None:
        for peer in self.peers:
            self._core.effects.append(Connect(peer.link, peer.address, peer.id))

    def add_peer(self, peer: Peer, _: float) -> None:
        self.peers.append(peer)
        if peer.id is not None:
            neighbour = self._neighbour(peer.id.node)
            for alias in peer.aliases:
                self.neighbours[alias.node] = neighbour
        if self._core.started:
            self._core.effects.append(Connect(peer.link, peer.address, peer.id))

    def _neighbour(self, eid: Eid) -> Neighbour:
        neighbour = self.neighbours.get(eid)
        if neighbour is None:
            neighbour = self.neighbours[eid] = Neighbour(eid, self._core, self._queues, self._rewriter)
        return neighbour

    def path_up(self, info: PathInfo) -> None:
        """An unauthenticated claim makes no route: what comes over such a path is taken, nothing is sent there."""
        known = self.paths.get(info.path)
        neighbour = None
        if info.authenticated and info.peer is not None and "bundle" in info.kinds:
            neighbour = self._neighbour(info.peer.node)
        path = Path(info, neighbour, self._core.config.retry_s_min)
        if known is not None:
            self._leave(known)
            path.in_flight, path.octets = known.in_flight, known.octets
        self.paths[info.path] = path
        if neighbour is not None:
            neighbour.paths.insert(0, path)
            self._queues.forgive(neighbour)
        self._evaluate()

    def path_down(self, number: int) -> None:
        path = self.paths.pop(number, None)
        if path is None:
            return
        self._leave(path)
        self._queues.give_back(path.in_flight.values())  # a link reports these as lost before; none should be left
        self._evaluate()

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
        else:
            self._back_off(path, [entry], now)

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

    def _reject(self, entry: Entry, neighbour: Neighbour, now: float) -> None:
        """This neighbour will never take this bundle: another one may, even one that is down now."""
        bundle, _, queue, _ = entry
        if self._queues.held.get(bundle.seq) is not entry:
            return
        self._queues.reject(entry, neighbour)
        rejected = self._queues.rejections(bundle.seq)
        hops = {self.neighbours[hop].name if hop in self.neighbours else str(hop) for hop in queue.hops or ()}
        if hops <= rejected | {bundle.previous}:
            self.delete([entry], ReasonCode.NO_ROUTE, now)
        for consumer in queue.live:
            consumer.pump(now)

    def delete(self, entries: list[Entry], reason: int, now: float) -> None:
        """Bundle deletion (RFC 9171 §5.10)."""
        name = DELETION_REASONS[reason][0]
        self._core.counters[f"deleted_{name}"] += len(entries)
        for bundle, head, _, _ in entries:
            primary = (head or decode_stored(bundle.head)).primary
            self._reports.tell(DELETED, reason, primary, bundle.payload.length, now)
        self._queues.remove(entries)

    # ---- for people -------------------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> dict[str, Any]:
        return {
            "routes": [
                {"to": str(route.pattern), "via": str(route.via), "priority": route.priority, "name": route.name}
                for route in self._routing.routes()
            ],
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

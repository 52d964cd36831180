"""A node of the simulated world: the machine that the runtime drives, a store that forgets what it had not synced."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tumpline.drivers.payload import read_range, release
from tumpline.machines import effects as fx
from tumpline.machines.contract import Octets, Payload
from tumpline.machines.node import NodeConfig, NodeMachine
from tumpline.machines.plan import Contact, Peer, Route
from tumpline.machines.storage import PutState, Results
from tumpline.testing.lossy_store import LossyStore
from tumpline.testing.world.checks import Sent
from tumpline.testing.world.wire import End, Wire
from tumpline.wire.bundle7 import payload_crc
from tumpline.wire.eid import Eid

if TYPE_CHECKING:
    from tumpline.testing.world.simulation import World

INBOX = "inbox"  # the service of every simulated node: it keeps a record for each ADU that came
IPN_INBOX = "42"  # its service number where the node ID is of the ipn scheme
REDIAL_S = 1.0


class SimNode:
    """One node. `machine_type` and `store` may be replaced by faulty ones: a checker that finds nothing proves nothing."""

    machine_type: type[NodeMachine] = NodeMachine

    def __init__(self, world: World, name: str, config: NodeConfig, *, sync_s: float = 0.005) -> None:
        self.world = world
        self.name = name
        self.config = config
        self.quota_octets = config.quota_octets
        self.routes: list[Route] = []
        self.peers: list[Peer] = []
        self.contacts: list[Contact] = []
        self.wires: dict[str, Wire] = {}
        self.is_up = False
        self.life = 0  # counts starts: what belongs to an earlier life is ignored
        self.store = LossyStore(world.after, sync_s)
        self.machine: NodeMachine
        self._chance = world.chance(f"node {name}")
        self._delivered: set[str] = set()
        self._marks: dict[int, tuple[str, Sent]] = {}
        self._ends: dict[int, End] = {}
        self._wanted: dict[str, Eid | None] = {}
        self._dialled: dict[str, End] = {}
        self._last_path = 0
        self._last_token = 0
        self._deadline: float | None = None
        self._turning = False
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            fx.Transact: self._transact,
            fx.Acknowledge: lambda e: self._with_end(e.path, lambda end: end.acknowledge(e.transfers)),
            fx.Refuse: lambda e: self._with_end(e.path, lambda end: end.refuse(e.transfer, e.reason)),
            fx.Forward: self._forward,
            fx.Deliver: self._deliver,
            fx.Connect: self._connect,
            fx.Disconnect: self._disconnect,
            fx.Split: self._split,
            fx.Join: self._join,
            fx.Notice: lambda e: world.tell(name, name, f"{e.name} {e.fields}"),
            fx.AduStored: self._adu_stored,
            fx.AduRefused: self._adu_refused,
        }
        world.nodes[name] = self

    # ---- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again after a crash, with what the store still has."""
        self.life += 1
        self.is_up = True
        self._ends, self._wanted, self._dialled, self._marks = {}, {}, {}, {}
        self._deadline = None
        recovered = self.store.reopen()
        self._delivered = set(self.store.state(INBOX))
        self.machine = self.machine_type(self.config, self._chance.random)
        now = self.world.now
        self.machine.set_clock(self.world.dtn_ms(), now)
        self.machine.start(recovered, now)
        for route in self.routes:
            self.machine.add_route(route, now)
        for contact in self.contacts:
            self.machine.add_contact(contact, now)
        for peer in self.peers:
            self.machine.add_peer(peer, now)
        self.machine.register(INBOX, self.inbox_demux, now)
        self.world.tell(self.name, self.name, "started")
        self.turn()

    def crash(self) -> None:
        """Power off: memory is gone, and of the store all that was not synced."""
        self.world.tell(self.name, self.name, "crashed")
        self.is_up = False
        for end in list(self._ends.values()):
            end.connection.reset("the node crashed")
        self.store.crash(self._chance)

    @property
    def inbox_demux(self) -> str:
        """The demux of the inbox, as the node's scheme writes it."""
        return IPN_INBOX if self.config.node_id.scheme == 2 else INBOX

    @property
    def held_octets(self) -> int:
        """What the store holds."""
        return self.store.octets

    def next_timeout(self) -> float | None:
        return self.machine.next_timeout()

    # ---- applications -------------------------------------------------------------------------------------------------

    def send(self, mark: str, to: SimNode, octets: int = 100, lifetime_s: float = 86_400.0) -> None:
        """An application asks for an ADU with this mark to be sent to the inbox of a node."""
        self._last_token += 1
        payload = mark.encode() + b"\n" + bytes(max(0, octets - len(mark) - 1))
        sent = Sent(self.name, to.name, self.world.now + lifetime_s)
        self._marks[self._last_token] = (mark, sent)
        adu = fx.Adu(
            to.config.node_id.with_demux(to.inbox_demux),
            Octets(payload),
            lifetime_ms=int(lifetime_s * 1000),
            token=self._last_token,
        )
        self.machine.originate([adu], self.world.now)
        self.turn()

    def has_delivered(self, mark: str) -> bool:
        """Whether the inbox durably holds it (a node that is down answers by its disk)."""
        return mark in self._delivered if self.is_up else mark in self.store.state(INBOX)

    def _adu_stored(self, effect: fx.AduStored) -> None:
        mark, sent = self._marks.pop(effect.token)
        self.world.tell(self.name, self.name, f"stored {mark}")
        self.world.promises.promise(mark, sent)

    def _adu_refused(self, effect: fx.AduRefused) -> None:
        mark, _ = self._marks.pop(effect.token)
        self.world.tell(self.name, self.name, f"would not take {mark}: {effect.reason}")

    def _deliver(self, effect: fx.Deliver) -> None:
        outcomes = []
        for delivery in effect.deliveries:
            mark = self.octets_of(delivery.payload).split(b"\n", 1)[0].decode()
            outcomes.append((delivery.seq, fx.Outcome([(mark, b"1")])))
        self.machine.delivered(effect.service, outcomes, self.world.now)

    # ---- the turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Perform effects until none is left, then set one timer."""
        if self._turning or not self.is_up:
            return
        self._turning = True
        try:
            while effects := self.machine.effects():
                for effect in effects:
                    self._performers[type(effect)](effect)
        finally:
            self._turning = False
        deadline = self.machine.next_timeout()
        if deadline is not None and deadline != self._deadline:
            life = self.life
            self.world.at(deadline, lambda: self._expire(deadline, life))
        self._deadline = deadline

    def _expire(self, deadline: float, life: int) -> None:
        if self.is_up and life == self.life and deadline == self._deadline:
            self._deadline = None
            self.machine.handle_timeout(self.world.now)
            self.turn()

    def _transact(self, effect: fx.Transact) -> None:
        life = self.life

        def done(results: Results | None, error: Exception | None) -> None:
            if life == self.life and self.is_up:
                self._transacted(effect, results, error)

        self.store.submit(effect.operations, done)

    def _transacted(self, effect: fx.Transact, results: Results | None, error: Exception | None) -> None:
        if results is None:
            self.machine.store_failed(effect.token, str(error), self.world.now)
        else:
            for operation in effect.operations:
                if isinstance(operation, PutState) and operation.service == INBOX and operation.value is not None:
                    self.world.tell(self.name, self.name, f"committed {operation.key}")
                    self.world.promises.commit(self.name, operation.key, operation.key in self._delivered)
                    self._delivered.add(operation.key)
            self.machine.store_done(effect.token, results, self.world.now)
        self.turn()

    # ---- links --------------------------------------------------------------------------------------------------------

    def new_path(self, end: End) -> int:
        self._last_path += 1
        self._ends[self._last_path] = end
        return self._last_path

    def receive(self, path: int, arrivals: list[fx.Arrival]) -> None:
        """Bundles came whole over a path."""
        self.world.tell(self._ends[path].peer_name, self.name, f"{len(arrivals)} bundles")
        self.machine.received(path, arrivals, self.world.now)

    def end_over(self, end: End) -> None:
        """A connection is over; if it was wanted, it is dialled again."""
        self._ends.pop(end.path, None)
        if self._dialled.get(end.peer_name) is end:
            del self._dialled[end.peer_name]
            self._redial(end.peer_name)

    def _with_end(self, path: int, what: Callable[[End], None]) -> None:
        if (end := self._ends.get(path)) is not None:
            what(end)

    def _forward(self, effect: fx.Forward) -> None:
        end = self._ends.get(effect.path)
        if end is not None and not end.is_over:
            end.offer(effect.units)
        else:
            for unit in effect.units:
                release(unit.payload)
            self.machine.lost(effect.path, [unit.seq for unit in effect.units], self.world.now)

    def _connect(self, effect: fx.Connect) -> None:
        self._wanted[effect.address] = effect.peer
        if effect.address not in self._dialled:
            self._dial(effect.address)

    def _dial(self, address: str) -> None:
        if address not in self._wanted or address in self._dialled or not self.is_up:
            return
        connection = self.wires[address].connect(self, self._wanted[address])
        if connection is None:
            self._redial(address)
        else:
            self._dialled[address] = connection.ends[0]

    def _redial(self, address: str) -> None:
        life = self.life
        delay_s = REDIAL_S * (1 + self._chance.random())
        self.world.after(delay_s, lambda: self._dial(address) if life == self.life else None)

    def _disconnect(self, effect: fx.Disconnect) -> None:
        if effect.address is not None:
            self._wanted.pop(effect.address, None)
        if effect.path is not None:
            self._with_end(effect.path, lambda end: end.terminate(effect.reason))

    # ---- payloads -----------------------------------------------------------------------------------------------------

    def octets_of(self, payload: Payload) -> bytes:
        """A payload whole, wherever the store put it."""
        return read_range(payload, 0, payload.length)

    def _split(self, effect: fx.Split) -> None:
        data = self.octets_of(effect.payload)
        crcs = [payload_crc(effect.crc_type, prefix, data[at : at + n]) for at, n, prefix in effect.pieces]
        self.machine.split_done(effect.seq, crcs, self.world.now)

    def _join(self, effect: fx.Join) -> None:
        joined = b"".join(self.octets_of(payload)[at : at + n] for payload, at, n in effect.ranges)
        self.machine.join_done(effect.token, Octets(joined), self.world.now)

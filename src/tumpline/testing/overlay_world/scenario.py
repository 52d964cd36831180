"""A session with members that come and go, and what must hold in it all the time and at the end.

*Nothing twice*: no packet is written into a port twice. *Nothing astray*: what is for one goes to nobody who knows that it is
another's. *Nothing stale*: who is gone is forgotten after three intervals, who started anew is known anew. *Nothing leaks*:
what is kept is bounded by who is there. When the trouble ends, everybody reaches everybody with whom it has a format.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from tumpline.machines.overlay import MemberConfig
from tumpline.machines.overlay.member import Member
from tumpline.testing.overlay_exchange import claim, ipv6
from tumpline.testing.overlay_world.line import LineSpec, SimBroker
from tumpline.testing.overlay_world.older import SimOlder
from tumpline.testing.overlay_world.site import SimSite
from tumpline.testing.world import World
from tumpline.wire.overlay import Format
from tumpline.wire.packet_json import Generation

GIVEN: Final = bytes(range(32))
SPOKEN: Final = (tuple(Format),) * 5 + ((Format.BINARY,), (Format.V1,), (Format.V0,), (Format.BINARY, Format.V1))
LOOK_S: Final = 1.0  # how often the directories are compared with what is true
# Three intervals of ten seconds, and the way of the last announcement.
SILENT_S: Final = 30.0 + 8.0
# A redial after the broker noticed a dead line (2 heartbeats of 10 s), at most.
PEACE_S: Final = 75.0
SENDING_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ChurnShape:
    """How large and how hostile; drawn from the seed, or told."""

    sites: int = 24
    trouble_s: float = 120.0
    faults_per_s: float = 0.5
    is_given: bool = True
    broker_deaths: int = 1
    older: int = 2  # agents that announce nothing and read JSON

    @classmethod
    def draw(cls, chance: random.Random) -> ChurnShape:
        return cls(
            sites=chance.randint(3, 7),
            trouble_s=chance.choice([40.0, 90.0]),
            faults_per_s=chance.choice([0.05, 0.3]),
            is_given=chance.random() < 0.5,
            broker_deaths=chance.choice([0, 0, 1]),
            older=chance.choice([0, 1, 2]),
        )


class Churn:
    """`Churn(seed).run()` raises BrokenPromiseError if something does not hold."""

    def __init__(self, seed: int, shape: ChurnShape | None = None) -> None:
        self.world = World(seed)
        self._chance = self.world.chance("churn")
        self.shape = shape or ChurnShape.draw(self._chance)
        self.broker = SimBroker(self.world)
        self.sites = [self._site(number) for number in range(1, self.shape.sites + 1)]
        self.older = [self._older(number) for number in range(1, self.shape.older + 1)]
        self.everybody: list[SimSite | SimOlder] = [*self.sites, *self.older]
        self.sent = 0
        self.delivered: dict[tuple[str, int], float] = {}
        self._looked_at = dict.fromkeys((each.name for each in self.everybody), 0)  # arrivals that were looked at

    def run(self) -> World:
        """The whole life of it."""
        self._schedule()
        self.world.run(self.shape.trouble_s)
        self._make_peace()
        self.world.run(self.world.now + PEACE_S)
        self._check_all_know_all()
        self._check_all_reach_all()
        self._check_nothing_is_left()
        return self.world

    # ---- the session -------------------------------------------------------------------------------------------------

    def _site(self, number: int) -> SimSite:
        chance = self._chance
        config = MemberConfig(
            f"s{number}",
            bytes(8),
            chance.randbytes(32),
            given_key=GIVEN if self.shape.is_given else None,
            addresses=(claim(self._address(number)),),
            formats=chance.choice(SPOKEN),
        )
        return SimSite(self.world, self.broker, config, self._line())

    def _older(self, number: int) -> SimOlder:
        generation = self._chance.choice(list(Generation))
        return SimOlder(self.world, self.broker, f"old{number}", self._line(), generation, f"{0xF00 + number:x}")

    def _line(self) -> LineSpec:
        chance = self._chance
        return LineSpec(chance.choice([0.001, 0.02, 0.3]), chance.choice([0.0, 0.1]), chance.choice([500, 1 << 16]))

    @staticmethod
    def _address(number: int, generation: int = 0) -> str:
        return f"bbbb::{generation:x}:{number:x}/64"

    def _schedule(self) -> None:
        world, chance, until = self.world, self._chance, self.shape.trouble_s
        for each in self.everybody:
            world.at(chance.random() * 10.0, each.start)
            self._send_from(each)
        for _ in range(int(self.shape.faults_per_s * until)):
            world.at(chance.uniform(5.0, until), self._fault)
        for _ in range(self.shape.broker_deaths):
            world.at(chance.uniform(15.0, until), lambda: self.broker.restart(chance.uniform(0.5, 8.0)))
        for number in range(int((until + PEACE_S) / LOOK_S)):
            world.at(number * LOOK_S, self._look)

    def _fault(self) -> None:
        chance = self._chance
        site = chance.choice(self.everybody)
        if not site.is_running:
            if chance.random() < 0.2:  # else it stays away for longer
                site.start()
            return
        end = chance.choice([site.stop, site.crash, site.crash, site.vanish, None, None, None])
        if end is not None:
            end()
            self.world.after(chance.choice([0.1, 3.0, 60.0]), site.start)
        elif chance.random() < 0.3 and isinstance(site, SimSite):
            site.set_addresses((claim(self._address(int(site.name[1:]), chance.randint(0, 3))),))
        elif site.line is not None:
            site.line.reset() if chance.random() < 0.5 else site.line.stall(chance.uniform(0.1, 6.0))

    def _make_peace(self) -> None:
        for each in self.everybody:
            each.start()

    # ---- packets -----------------------------------------------------------------------------------------------------

    def _send_from(self, site: SimSite | SimOlder) -> None:
        if self.world.now > self.shape.trouble_s:
            return
        others = [
            self._packet(site, self._chance.choice(self.everybody)) for _ in range(self._chance.choice([1, 1, 5]))
        ]
        site.send(*others, *([self._packet(site, None)] if self._chance.random() < 0.2 else []))
        self.world.after(self._chance.expovariate(1 / SENDING_S), lambda: self._send_from(site))

    def _packet(self, site: SimSite | SimOlder, to: SimSite | SimOlder | None) -> bytes:
        self.sent += 1
        source = self._text(site)
        return ipv6(source, "ff02::1" if to is None else self._text(to), self.sent.to_bytes(8, "big"))

    @staticmethod
    def _text(site: SimSite | SimOlder) -> str:
        if isinstance(site, SimOlder):
            return site.address
        return ":".join(site.config.addresses[0].address.hex(":", 2).split(":"))

    # ---- what must hold all the time ---------------------------------------------------------------------------------

    def _look(self) -> None:
        for site in self.everybody:
            for arrived in site.arrived[self._looked_at[site.name] :]:
                number = int.from_bytes(arrived.packet[40:48], "big")
                if (site.name, number) in self.delivered:
                    raise self.world.broken(f"packet {number} was delivered twice at {site.name}")
                self.delivered[site.name, number] = arrived.at
            self._looked_at[site.name] = len(site.arrived)
            if isinstance(site, SimSite) and site.is_joined and site.member is not None:
                self._check_directory(site, site.member)

    def _check_directory(self, site: SimSite, member: Member) -> None:
        now, known = self.world.now, {other.name: other for other in self.everybody}
        for peer in member._directory.peers.values():
            other = known[peer.name]
            if peer.hello is None or isinstance(other, SimOlder):
                if peer.hello is not None or (isinstance(other, SimSite) and other.config.formats == (Format.BINARY,)):
                    raise self.world.broken(f"{site.name} takes {peer.name} for an older agent")
                continue
            is_gone = not other.is_joined
            if is_gone and now - other.gone_at > SILENT_S:
                raise self.world.broken(f"{site.name} still knows {peer.name}, gone for {now - other.gone_at:.1f} s")
            is_another = peer.hello.instance != other.config.instance
            if (
                is_another
                and other.joined_at is not None
                and now - max(other.joined_at, site.joined_at or 0) > SILENT_S
            ):
                raise self.world.broken(f"{site.name} still knows {peer.name} as it was before its last start")

    # ---- what must hold at the end -----------------------------------------------------------------------------------

    def _check_all_know_all(self) -> None:
        for site in self.sites:
            if not site.is_joined or site.member is None:
                raise self.world.broken(f"{site.name} has not joined")
            found = {
                peer.name: peer.hello.addresses
                for peer in site.member._directory.peers.values()
                if peer.hello is not None
            }
            wanted = {other.name: other.config.addresses for other in self.sites if other is not site}
            if found != wanted:
                raise self.world.broken(f"{site.name} knows {sorted(found)}, there are {sorted(wanted)}")

    def _check_all_reach_all(self) -> None:
        for older in self.older:
            older.send(self._packet(older, None))  # who has said nothing since one joined is not known to that one
        self.world.run(self.world.now + 5.0)
        marks = {each.name: len(each.arrived) for each in self.everybody}
        wanted: dict[str, list[bytes]] = {each.name: [] for each in self.everybody}
        for one, other in permutations(self.everybody, 2):
            if _formats(one) & _formats(other) and isinstance(one, SimSite) | isinstance(other, SimSite):
                wanted[other.name].append(self._packet(one, other))
                one.send(wanted[other.name][-1])
        self.world.run(self.world.now + 5.0)
        for each in self.everybody:
            found = [arrived.packet for arrived in each.arrived[marks[each.name] :]]
            if sorted(found) != sorted(wanted[each.name]):
                raise self.world.broken(f"{each.name} has {len(found)} of {len(wanted[each.name])} packets")

    def _check_nothing_is_left(self) -> None:
        last, *others = self.sites
        for each in (*others, *self.older):
            each.stop()
        self.world.run(self.world.now + 310.0)
        assert last.member is not None
        sizes = sizes_of(last.member)
        if any(sizes.values()):
            raise self.world.broken(f"{last.name} alone still holds {sizes}")
        queues = self.broker.queues
        if list(queues) != [f"tumpline.member.{last.name}"] or len(self.broker.machine.connections) != 1:
            raise self.world.broken(
                f"the broker still has {queues} and {len(self.broker.machine.connections)} connections"
            )


def _formats(each: SimSite | SimOlder) -> set[Format]:
    if isinstance(each, SimSite):
        return set(each.config.formats)
    return {Format.V1 if each.generation is Generation.V1 else Format.V0}


def sizes_of(member: Member) -> dict[str, int]:
    """What a member keeps of others; who is retired is bounded and stays."""
    directory, book, incoming, outgoing = member._directory, member._book, member._incoming, member._outgoing
    return {
        "peers": len(directory.peers),
        "older": len(directory.older),
        "routers": len(directory.routers),
        "claims": len(book._claims) - len(member.config.addresses),
        "learned": len(book._learned),
        "copies": len(incoming.copies),
        "sources": len(incoming._sources),
        "routes": len(outgoing._routes) + len(outgoing._by_peer),
    }

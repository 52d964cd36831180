"""Who takes part in a session, and who owns which address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from tumpline.machines.packet_router.keys import FORM_OF, Form
from tumpline.machines.packets import PacketKind
from tumpline.wire.overlay import Claim, Format, Hello
from tumpline.wire.packet_json import Generation

AGENTS_MOST: Final = 4096  # an event of interoperability tests has tens; a stranger who invents names fills no memory
LEARNED_MOST: Final = 16_384  # addresses that nobody claimed, of all agents
CLAIMS_MOST: Final = 256  # of one agent
LEARNED_S: Final = 300.0  # without a packet from it: as long as bridges remember (IEEE 802.1D §7.9.2)
_GENERATIONS: Final = {Format.V1: Generation.V1, Format.V0: Generation.V0}  # the better one first
SILENT_S: Final = (
    3600.0  # an older agent that was not heard for so long is gone; most are found out when a message returns
)
REFRESH_S: Final = 30.0  # how exactly that is kept


@dataclass(slots=True, eq=False)
class Agent:
    """One that takes part: an older agent, or a member."""

    name: str
    heard_s: float
    is_fixed: bool = False  # of the topology: it is never forgotten
    is_assumed: bool = False  # nobody has heard how it writes: it has packets in the form in which they came
    is_member: bool = False  # announces itself: comes and goes by that, not by silence
    has_binary: bool = False
    kinds: set[PacketKind] = field(default_factory=set)
    targets: dict[PacketKind, str | None] = field(
        default_factory=dict
    )  # routing key of its packets; None: binary alone
    generation: Generation | None = Generation.V1  # in which it is sent packets
    claims: tuple[Claim, ...] = ()
    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    dropped: int = 0

    def form(self, kind: PacketKind) -> Form | None:
        """In which it is to have packets of that kind."""
        return None if self.generation is None else FORM_OF[kind, self.generation]

    def speaks(self, generation: Generation | None) -> None:
        """Packets for it are written so from now on."""
        self.generation, self.is_assumed = generation, False
        forms = {kind: self.form(kind) for kind in PacketKind}
        self.targets = {kind: form and form.to_key(self.name) for kind, form in forms.items()}


class Rank(IntEnum):
    """Whom to believe of an address: what is claimed counts more than what was seen."""

    LEARNED = 0
    STARTED = 1  # an older agent said with which addresses it started
    CLAIMED = 2  # a member's announcement


@dataclass(slots=True)
class Route:
    """Who has an address, and why we think so."""

    agent: Agent
    rank: Rank
    seen_s: float


class Directory:
    """Agents by name, routes by address. Bounded whatever strangers say."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.routes: dict[bytes, Route] = {}
        self.changed: set[str] = set()  # older agents that came, or were heard to write otherwise than before
        self.version = 0  # counts agents that came or went
        self.refused = 0  # agents and addresses for which there was no room
        self._networks: list[tuple[Claim, Agent, Rank]] = []  # longest first

    def __iter__(self) -> Iterator[Agent]:
        return iter(self.agents.values())

    def heard(self, name: str, form: Form, now: float) -> Agent | None:
        """An agent sent something in that form; None if there is no room for one more."""
        agent = self.agents.get(name) or self._add(name, now)
        if agent is None:
            return None
        agent.heard_s = now
        if agent.is_member:
            return agent
        if agent.is_assumed or agent.generation is not form.generation:
            agent.speaks(form.generation)
            self.changed.add(name)
        if form.kind not in agent.kinds:
            agent.kinds.add(form.kind)
            self.changed.add(name)
        return agent

    def is_there(self, name: str, now: float) -> Agent | None:
        """Somebody of that name was heard of; None if there is no room for one more."""
        agent = self.agents.get(name) or self._add(name, now)
        if agent is not None:
            agent.heard_s = now
        return agent

    def fix(self, name: str, claims: tuple[Claim, ...], now: float) -> None:
        """The topology names it: it is there whatever anybody says."""
        agent = self.is_there(name, now)
        assert agent is not None
        agent.is_fixed = agent.is_assumed = True
        agent.kinds = set(PacketKind)
        self._own(agent, claims, Rank.STARTED, now)

    def announced(self, hello: Hello, now: float) -> Agent | None:
        """A member said who it is, and all it has now."""
        agent = self.is_there(hello.name, now)
        if agent is None:
            return None
        agent.is_member, agent.has_binary = True, Format.BINARY in hello.formats
        agent.kinds = {PacketKind(kind) for kind in hello.kinds}
        spoken = [generation for one, generation in _GENERATIONS.items() if one in hello.formats]
        agent.speaks(next(iter(spoken), None))
        self._own(agent, hello.addresses, Rank.CLAIMED, now)
        return agent

    def started(self, name: str, claims: Iterable[Claim], form: Form, now: float) -> Agent | None:
        """An older agent opened its port, with these addresses."""
        agent = self.heard(name, form, now)
        if agent is not None and not agent.is_member:
            self._own(agent, tuple(claims), Rank.STARTED, now)
        return agent

    def told(self, address: bytes, agent: Agent, rank: Rank, now: float) -> None:
        """Another router knows whose it is."""
        known = self.routes.get(address)
        if known is None and len(self.routes) < LEARNED_MOST:
            self.routes[address] = Route(agent, rank, now)
        elif known is not None and rank >= known.rank:
            known.agent, known.rank, known.seen_s = agent, rank, now

    def learn(self, address: bytes, agent: Agent, now: float) -> bool:
        """A packet with this source came from there. Returns: whether that is news."""
        known = self.routes.get(address)
        if known is not None and known.agent is agent:
            is_news = known.rank is Rank.LEARNED and now - known.seen_s > REFRESH_S
            if is_news:
                known.seen_s = now
            return is_news
        if known is not None and known.rank is not Rank.LEARNED:
            return False  # a packet that is passed on for somebody else, or lies
        if known is None and len(self.routes) >= LEARNED_MOST:
            self.refused += 1
            return False
        self.routes[address] = Route(agent, Rank.LEARNED, now)
        return True

    def owner(self, address: bytes) -> Agent | None:
        """Whose it is, by the longest claim."""
        route = self.routes.get(address)
        if route is not None:
            return route.agent
        return next((agent for claim, agent, _ in self._networks if _covers(claim, address)), None)

    def forget(self, name: str) -> bool:
        """It has gone; its addresses go with it."""
        agent = self.agents.get(name)
        if agent is None:
            return False
        if agent.is_fixed:
            agent.is_member, agent.has_binary, agent.is_assumed = False, False, True
            return False
        del self.agents[name]
        self.version += 1
        self.routes = {address: route for address, route in self.routes.items() if route.agent is not agent}
        self._networks = [each for each in self._networks if each[1] is not agent]
        return True

    def expire(self, now: float) -> None:
        """Forget what was learned and has not been seen for long, and older agents that say nothing at all."""
        silent = [each.name for each in self if not each.is_member and now - each.heard_s > SILENT_S]
        for name in silent:
            self.forget(name)
        old = [
            address
            for address, route in self.routes.items()
            if route.rank is Rank.LEARNED and now - route.seen_s > LEARNED_S
        ]
        for address in old:
            del self.routes[address]

    def _add(self, name: str, now: float) -> Agent | None:
        if len(self.agents) >= AGENTS_MOST:
            self.refused += 1
            return None
        self.version += 1
        agent = self.agents[name] = Agent(name, now)
        agent.speaks(Generation.V1)
        return agent

    def _own(self, agent: Agent, claims: tuple[Claim, ...], rank: Rank, now: float) -> None:
        """These and no others are what it claims; nobody takes another's address by a claim of lower rank."""
        claims = claims[:CLAIMS_MOST]
        if claims == agent.claims:
            return
        agent.claims = claims
        self.routes = {
            address: route
            for address, route in self.routes.items()
            if route.agent is not agent or route.rank is Rank.LEARNED
        }
        self._networks = [each for each in self._networks if each[1] is not agent]
        for claim in claims:
            if claim.network_bits < 8 * len(claim.address):
                self._networks.append((claim, agent, rank))
            elif (known := self.routes.get(claim.address)) is None or known.rank <= rank:
                self.routes[claim.address] = Route(agent, rank, now)
        self._networks.sort(key=lambda each: (each[0].prefix_bits, each[2]), reverse=True)


def _covers(claim: Claim, address: bytes) -> bool:
    """Whether the address lies in a network."""
    low = 8 * len(claim.address) - claim.prefix_bits
    same_kind = len(address) == len(claim.address)
    return same_kind and int.from_bytes(address) >> low == int.from_bytes(claim.address) >> low

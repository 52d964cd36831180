"""The other routers of the session: who is there, who passes on which share, and which addresses they have learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tumpline.machines.overlay import MemberConfig, Publish
from tumpline.machines.packet_router.directory import Agent, Directory, Rank
from tumpline.machines.packet_router.keys import FORM_OF
from tumpline.machines.packet_router.outputs import JSON, Disagreed, Output
from tumpline.machines.packet_router.shares import Message, Shares
from tumpline.machines.packets import PacketKind
from tumpline.wire.agent_keys import is_agent_name
from tumpline.wire.packet_json import Generation
from tumpline.wire.router_talk import LEARNED_MOST, Learned, Older, Said, Talk, decode_talk_untrusted

INTERVAL_S: Final = 5.0  # between two `here`
SILENCE_S: Final = 3 * INTERVAL_S  # after which a router is taken for gone
ROUTERS_MOST: Final = 64


@dataclass(slots=True)
class _Fellow:
    instance: str
    heard_s: float


class Fellows:
    """Talks to the others; their shares are `Shares`'."""

    def __init__(
        self, config: MemberConfig, plan: str, shares: Shares, directory: Directory, outputs: list[Output]
    ) -> None:
        self._name, self._instance = config.name, config.instance.hex()
        self._plan = plan
        self._shares = shares
        self._directory = directory
        self._outputs = outputs
        self._fellows: dict[str, _Fellow] = {}
        self._say_at: float | None = None
        self._joined_at = 0.0

    def joined(self, now: float) -> None:
        """Ask who is there."""
        self.say(Said.WHO)
        self._say_at, self._joined_at = now + INTERVAL_S, now

    def left(self) -> None:
        """Nobody can be heard."""
        self._fellows.clear()
        self._say_at = None

    def say(
        self, said: Said, share: str = "", learned: tuple[Learned, ...] = (), agents: tuple[Older, ...] = ()
    ) -> None:
        """To all others; they hear it behind all packets that were passed on before."""
        talk = Talk(said, self._name, self._instance, self._plan, self._shares.subscriptions(), share, learned, agents)
        self._outputs.append(Publish(f"tumpline.router.{self._name}", (talk.encode(),), JSON))

    def tell_learned(self, learned: Sequence[Learned], names: Iterable[str]) -> None:
        """What packets showed: the others see other sources' packets, and need it for theirs."""
        if not self._fellows:
            return
        found = map(self._directory.agents.get, names)
        agents = [_older(agent, agent.generation) for agent in found if agent and agent.generation]
        for at in range(0, max(len(learned), len(agents)), LEARNED_MOST):
            end = at + LEARNED_MOST
            self.say(Said.LEARNED, learned=tuple(learned[at:end]), agents=tuple(agents[at:end]))

    def heard(self, message: Message, now: float) -> Sequence[Message]:
        """One of them says something. Returns: packets that may be passed on now. Raises: MalformedError."""
        talk = decode_talk_untrusted(message.body)
        router = message.routing_key.rpartition(".")[2]
        if talk.router != router or talk.instance == self._instance or not is_agent_name(router):
            return ()
        if talk.said is Said.LEAVING:
            return self.gone(router, now)
        released = self._is_there(router, talk, now)
        if talk.said is Said.WHO:
            self._answer()
        elif talk.said is Said.FED:
            self._shares.router_fed(router, talk.share)
        elif talk.said is Said.RELEASED:
            released = [*released, *self._shares.router_released(router, talk.share, now)]
        self._learn(talk, now)
        return released

    def gone(self, router: str, now: float) -> Sequence[Message]:
        """It said so, said nothing for long, or nobody has its name. Returns: packets that may be passed on now."""
        if self._fellows.pop(router, None) is None:
            return ()
        return self._shares.router_gone(router, now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        times = [fellow.heard_s + SILENCE_S for fellow in self._fellows.values()]
        return min([*times, *([] if self._say_at is None else [self._say_at])], default=None)

    def handle_timeout(self, now: float) -> Sequence[Message]:
        """Say that we are here; notice who is not. Returns: packets that may be passed on now."""
        if self._say_at is not None and self._say_at <= now:
            self._say_at = now + INTERVAL_S
            self.say(Said.HERE)
        released: list[Message] = []
        for name in [name for name, fellow in self._fellows.items() if fellow.heard_s + SILENCE_S <= now]:
            released += self.gone(name, now)
        return released

    def _is_there(self, router: str, talk: Talk, now: float) -> Sequence[Message]:
        known = self._fellows.get(router)
        if known is None and len(self._fellows) >= ROUTERS_MOST:
            return ()
        released: Sequence[Message] = ()
        if known is not None and known.instance != talk.instance:
            released = self.gone(router, now)  # it was started anew: what the earlier one held, it holds no more
        if talk.plan != self._plan and (known is None or known.instance != talk.instance):
            self._outputs.append(Disagreed(router, talk.plan, self._plan, now - self._joined_at < INTERVAL_S))
        self._fellows[router] = _Fellow(talk.instance, now)
        self._shares.router_heard(router, talk.shares, now)
        return released

    def _answer(self) -> None:
        """To one that has just come: who we are, what we pass on, what we have learned."""
        self.say(Said.HERE)
        for share in self._shares.fed():
            self.say(Said.FED, share)
        self.tell_learned(list(self._known()), [each.name for each in self._directory if not each.is_member])

    def _known(self) -> Iterator[Learned]:
        """What members announce, everybody hears from them."""
        for address, route in self._directory.routes.items():
            if route.rank is not Rank.CLAIMED:
                yield Learned(address, route.agent.name, route.rank is Rank.STARTED)

    def _learn(self, talk: Talk, now: float) -> None:
        directory = self._directory
        for older in talk.agents:
            for kind in older.kinds if is_agent_name(older.name) else ():
                directory.heard(older.name, FORM_OF[PacketKind(kind), older.generation], now)
        for address, name, is_claimed in talk.learned:
            agent = directory.is_there(name, now) if is_agent_name(name) else None
            if agent is not None:
                directory.told(address, agent, Rank.STARTED if is_claimed else Rank.LEARNED, now)
        directory.changed.clear()  # whoever told it has told it to all


def _older(agent: Agent, generation: Generation) -> Older:
    return Older(agent.name, generation, tuple(int(kind) for kind in agent.kinds))

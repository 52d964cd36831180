"""What packet routers of one session say to each other under `tumpline.router.ID`: JSON, so that people can read along."""

from __future__ import annotations

from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, NamedTuple

import msgspec

from tumpline.errors import MalformedError
from tumpline.wire.packet_json import Generation

VERSION: Final = 1
TALK_OCTETS_MOST: Final = 256 << 10
SHARES_MOST: Final = 4096
LEARNED_MOST: Final = 1024  # addresses in one message; more take several


class Said(Enum):
    """What a router says; every message also has its subscriptions."""

    HERE = "here"
    WHO = "who"  # here, and everybody else shall say so too
    FED = "fed"  # it passes on the share
    RELEASED = "released"  # it has passed on all it ever will of the share
    LEARNED = "learned"  # agents and addresses, by packets that came to it
    LEAVING = "leaving"


class Learned(NamedTuple):
    """An address (4 or 16 octets), and the agent from which packets of it came, or that said it has it."""

    address: bytes
    agent: str
    is_claimed: bool = False


class Older(NamedTuple):
    """An older agent: in which form it has its packets."""

    name: str
    generation: Generation
    kinds: tuple[int, ...]


class Talk(NamedTuple):
    """One message. `instance` is new at each start of a router: one that names ours is our own."""

    said: Said
    router: str
    instance: str
    plan: str = ""  # how the work is divided: the same for all
    shares: tuple[str, ...] = ()  # it is subscribed to
    share: str = ""  # that is spoken of
    learned: tuple[Learned, ...] = ()
    agents: tuple[Older, ...] = ()

    def encode(self) -> bytes:
        """The body."""
        learned = [(str(ip_address(each.address)), each.agent, each.is_claimed) for each in self.learned]
        agents = [(each.name, each.generation.value, list(each.kinds)) for each in self.agents]
        said = self.said.value
        return msgspec.json.encode(
            _Body(VERSION, said, self.router, self.instance, self.plan, list(self.shares), self.share, learned, agents)
        )


_Text = Annotated[str, msgspec.Meta(max_length=128)]
_Kinds = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=1)]], msgspec.Meta(max_length=2)]


class _Body(msgspec.Struct):
    version: int
    said: _Text
    router: _Text
    instance: _Text
    plan: _Text = ""
    shares: Annotated[list[_Text], msgspec.Meta(max_length=SHARES_MOST)] = []
    share: _Text = ""
    learned: Annotated[list[tuple[_Text, _Text, bool]], msgspec.Meta(max_length=LEARNED_MOST)] = []
    agents: Annotated[list[tuple[_Text, int, _Kinds]], msgspec.Meta(max_length=LEARNED_MOST)] = []


_DECODER: Final = msgspec.json.Decoder(_Body)


def decode_talk_untrusted(body: bytes | memoryview) -> Talk:
    """One message. Raises: MalformedError."""
    if len(body) > TALK_OCTETS_MOST:
        raise MalformedError(f"router: a message of {len(body)} octets, at most {TALK_OCTETS_MOST} make sense")
    try:
        decoded = _DECODER.decode(body)
        if decoded.version != VERSION:
            raise MalformedError(f"router: a message of version {decoded.version}; this is version {VERSION}")
        learned = tuple(Learned(_address_of(address), agent, claimed) for address, agent, claimed in decoded.learned)
        agents = tuple(Older(name, Generation(number), tuple(kinds)) for name, number, kinds in decoded.agents)
        said = Said(decoded.said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise MalformedError(f"router: a message of another router: {error}") from error
    return Talk(
        said, decoded.router, decoded.instance, decoded.plan, tuple(decoded.shares), decoded.share, learned, agents
    )


def _address_of(text: str) -> bytes:
    """Without a zone: that means something on one machine only."""
    try:
        return IPv4Address(text).packed
    except AddressValueError:
        return IPv6Address(text.partition("%")[0]).packed

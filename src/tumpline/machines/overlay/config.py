"""How a member of a packet overlay is set up."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from tumpline.errors import ConfigError
from tumpline.machines.packets import PacketKind
from tumpline.wire.overlay import ADDRESSES_MOST, INSTANCE_OCTETS, KEY_OCTETS, Claim, Format, Role, name_problem

ALL_FORMATS: Final = tuple(Format)


class Via(Enum):
    """How packets in our own format go."""

    AUTO = "auto"  # straight to the member they are for
    DIRECT = "direct"
    ROUTER = "router"  # through the router, so that it sees (and impairs) them; none there: nowhere


class MemberConfig(NamedTuple):
    """Chance and the time of the start come from the caller: `instance` and `started_ms` are to be new at each start."""

    name: str
    instance: bytes  # random octets
    identity: bytes  # random octets, or those that were kept from an earlier start; secret
    started_ms: int = 0  # since 1970
    given_key: bytes | None = None  # of all members; without it each pair agrees on a key by their identities
    pins: Mapping[str, bytes] = {}  # name of a member -> public identity that it must have
    kinds: tuple[PacketKind, ...] = (PacketKind.IP,)  # of packets; none: it takes bundles only
    formats: tuple[Format, ...] = ALL_FORMATS
    addresses: tuple[Claim, ...] = ()
    node_id: str = ""
    via: Via = Via.AUTO
    interval_s: int = 10
    role: Role = Role.MEMBER
    is_translator: bool = False  # a router to which packets are sealed (`ToPort` says whose), to be written as JSON

    def __repr__(self) -> str:  # secrets are in no log and no traceback
        return f"MemberConfig({self.name!r})"

    def check(self) -> MemberConfig:
        """Itself. Raises: ConfigError."""
        problems = [f"name: {problem}"] if (problem := name_problem(self.name)) else []
        if len(self.instance) != INSTANCE_OCTETS or len(self.identity) != KEY_OCTETS:
            problems.append(f"identity: needs {KEY_OCTETS} octets, and the instance {INSTANCE_OCTETS}")
        if self.given_key is not None and len(self.given_key) != KEY_OCTETS:
            problems.append(
                f"key: a key has {KEY_OCTETS} octets, not {len(self.given_key)}; make one: openssl rand -hex 32"
            )
        problems += [
            f"peer {name}: an identity has {KEY_OCTETS} octets, not {len(key)}; see `tumpline tunnel status` there"
            for name, key in self.pins.items()
            if len(key) != KEY_OCTETS
        ]
        if not self.formats:
            problems.append("format: write auto, binary, v1 or v0")
        if len(self.addresses) > ADDRESSES_MOST:
            problems.append(f"addresses: {len(self.addresses)} are too many; at most {ADDRESSES_MOST}")
        if problems:
            raise ConfigError(problems)
        return self

"""Configuration of the amqp link."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec

from tumpline.drivers.ports import serial, tun
from tumpline.drivers.ports._api import port_problems
from tumpline.drivers.ports.serial import SerialConfig
from tumpline.drivers.ports.tun import TunConfig
from tumpline.wire.overlay import name_problem

Octets = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class AmqpConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A session of the packet overlay (an exchange of an AMQP broker) as a link: every member that is a node is a neighbour."""

    member: str
    """Our name in the session; nobody else may have it. One word: no dot, no blank, at most 64 octets."""
    url: str = ""
    """The broker, such as "amqps://user:password@host/vhost". Default: the environment's AMQP_URL."""
    exchange: str = "amq.topic"
    """The topic exchange whose members meet."""
    key: str = ""
    """File with the key of all members: 32 octets (as they are, hexadecimal or Base64), or a passphrase. Without it each pair
    agrees on one by their identities."""
    identity: str = ""
    """File with the identity that lasts over restarts; made if it is not there. Default: a new one at each start."""
    pins: dict[str, str] = msgspec.field(default_factory=dict)
    """Identities that members must have, by name. Once there are some, only those count as proved."""
    discover: bool = True
    """Have a session with every member that is a node. Otherwise: with those that `connect` names, and those that ask."""
    connect: str | list[str] = msgspec.field(default_factory=list)
    """Members to have a session with."""
    transfer_mru: Octets = 1 << 40
    """Longest bundle to take, in octets."""
    max_unanswered: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 32_768
    """Received bundles of one member that may wait for the store; it sends no more then."""
    max_unanswered_octets: Octets = 32 << 20
    """The same in octets of bundles held in memory."""
    tun: TunConfig | None = None
    """A TUN device in the same session, so that IP packets travel beside the bundles."""
    serial: SerialConfig | None = None
    """A radio probe in the same session."""

    def __post_init__(self) -> None:
        problems = []
        if (problem := name_problem(self.member)) is not None:
            problems.append(f"member: {problem}")
        if not self.url and "AMQP_URL" not in os.environ:
            problems.append('url: where is the broker? write such as "amqp://user:password@host/" (or set AMQP_URL)')
        if self.tun is not None:
            problems += port_problems(tun.SPEC, self.tun)
        if self.serial is not None:
            problems += port_problems(serial.SPEC, self.serial)
        if problems:
            raise ValueError("; ".join(problems))  # msgspec adds where it stands

    @property
    def wanted(self) -> list[str]:
        return [self.connect] if isinstance(self.connect, str) else self.connect

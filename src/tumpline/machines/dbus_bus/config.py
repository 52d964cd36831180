"""What a bus is told, and what it may cost."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.wire.dbus import MESSAGE_OCTETS_MOST

ROOT: Final = 0
GREETING_OCTETS_MOST: Final = 4096  # a Hello; who has not said it yet, may be anybody


class Credentials(NamedTuple):
    """Who is at the other end, as the kernel says."""

    uid: int
    pid: int
    gids: tuple[int, ...] = ()


class BusConfig(NamedTuple):
    """Bounds are for each client where nothing else is said; one that passes them hears LimitsExceeded, or is let go."""

    guid: str  # of this bus, new with each start: 32 hexadecimal digits
    host: Credentials  # who runs it
    uids: frozenset[int] = frozenset()  # who may use it beside the host's own user and root
    machine_id: str = ""
    clients_most: int = 512  # in all: each costs a descriptor and some KiB
    joining_most: int = 64  # not yet greeted; when one more comes, the oldest of them is let go
    joining_s: float = 30.0  # what the reference implementation waits for authentication
    names_most: int = 512
    rules_most: int = 512  # of 1024 octets at most
    replies_most: int = 16_384  # calls that wait for their answers
    message_octets_most: int = MESSAGE_OCTETS_MOST
    outgoing_octets_most: int = MESSAGE_OCTETS_MOST  # waiting for a client that does not read; one message always fits
    outgoing_fds_most: int = 128  # waiting likewise; those of one message always fit
    held_octets_most: int = 4 * MESSAGE_OCTETS_MOST  # for and of all clients together: in queues, in parts of messages

    def admits(self, uid: int) -> bool:
        """Whether a user may use this bus."""
        return uid in (self.host.uid, ROOT) or uid in self.uids

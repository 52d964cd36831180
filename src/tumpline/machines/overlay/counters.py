"""What a member counts, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Packets count as the port gives and takes them: a super-packet is one."""

    packets_out: int = 0  # of the port
    octets_out: int = 0
    packets_in: int = 0  # for the port
    octets_in: int = 0
    messages_out: int = 0  # with packets
    messages_in: int = 0
    flooded: int = 0  # packets for all
    nowhere: int = 0  # packets for a member that does not understand us, or for nobody
    returned: int = 0  # messages that no queue took
    hairpins: int = 0  # packets that came out of the overlay and are not flooded back into it
    copies: int = 0  # packets that came by another way already
    for_others: int = 0  # packets heard because nobody routes, that belong to another member
    malformed: int = 0  # messages, and super-packets of the port that cannot be taken apart
    broken_seals: int = 0
    replays: int = 0
    strangers: int = 0  # sealed messages of members that did not announce themselves, or of an earlier start

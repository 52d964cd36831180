"""A UDPCL conversation fed by a stranger: datagrams in a row, each behind two octets of length."""

from __future__ import annotations

from random import Random

from fuzz.harness import Target
from fuzz.targets import udpcl
from tumpline.machines.udpcl.conversation import CONTROL_MOST, Conversation, ConversationConfig, DtlsUse
from tumpline.machines.udpcl.reassembly import Limits, Reassembly
from tumpline.wire.eid import Eid

_LIMITS = Limits(octets=1 << 16, peer_octets=1 << 15, timeout_s=5.0)
_STEPS_MOST = 400  # of timers: probes and answers to the end of every wait


def seeds() -> list[bytes]:
    """Those of datagrams, alone and in conversations."""
    single = [len(each).to_bytes(2, "big") + each for each in udpcl.seeds()]
    return [*single, b"".join(single), b"".join(reversed(single)) * 2]


def run(data: bytes) -> bool:
    """It stays within its bounds, comes to rest, and sends a stranger no more than came."""
    reassembly = Reassembly(_LIMITS)
    config = ConversationConfig(node_id=Eid.parse("dtn://here/"), dtls=DtlsUse.OPTIONAL)
    machine = Conversation(config, reassembly, "stranger", Random(0).random, 0.0)
    now = 0.0
    for number, datagram in enumerate(_split(data)):
        now += 0.01
        machine.receive([datagram], now, mark=number & 3)
        _check(machine, reassembly, now)
    for _ in range(_STEPS_MOST):
        times = [at for at in (machine.next_timeout(), reassembly.next_timeout()) if at is not None]
        if not times:
            break
        now = max(now, min(times))
        machine.handle_timeout(now)
        reassembly.handle_timeout(now)
        _check(machine, reassembly, now)
    assert reassembly.held_octets == 0, "incomplete transfers were kept"
    return machine.counts.garbage == 0


def _check(machine: Conversation, reassembly: Reassembly, now: float) -> None:
    batches = machine.poll(now)
    assert sum(len(batch.datagrams) for batch in batches) <= CONTROL_MOST, "too many answers at once"
    assert machine.counts.octets_sent <= machine.counts.octets_received, "more was answered than came"
    assert reassembly.held_octets <= _LIMITS.peer_octets, "too much is held"
    assert not batches or machine.next_timeout() is None or machine.poll(now) == [], "it never comes to rest"
    machine.events.clear()


def _split(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return found


TARGET = Target("udpcl_conversation", "UDPCL conversations", seeds, run, peak_base=1 << 20, peak_factor=24)

"""What people are told of UDPCL conversations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tumpline.drivers.links._udpcl_talk import Talk


def describe_talk(talk: Talk) -> dict[str, Any]:
    """Snapshot of one conversation."""
    machine = talk.machine
    path_mtu, congestion = machine.sizing.path_mtu, machine.congestion
    return {
        "address": talk.address,
        "local": talk.socket.address,
        "peer": str(machine.node_id) if machine.node_id is not None else "",
        "state": machine.state.value,
        "version": 2 if machine.speaks_version2 else 1,
        "datagram_octets": machine.sizing.datagram_octets,
        "path_mtu": "not sought" if path_mtu is None else path_mtu.phase.value,
        "black_holes": 0 if path_mtu is None else path_mtu.black_holes,
        "said_unreachable": talk.unreachable,
        "rate_bit_s": round(congestion.rate_octets_s * 8),
        "back_offs": congestion.backoffs,
        "counted_lost": congestion.lost,
        "counted_marked": congestion.marked,
        "marks_received": machine.feedback.counts._asdict(),
        **asdict(machine.counts),
    }

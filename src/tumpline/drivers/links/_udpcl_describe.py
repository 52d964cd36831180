"""What people are told of UDPCL conversations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tumpline.drivers.dtls.probe import probe
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
        "security": security_of(talk),
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


def security_of(talk: Talk) -> str:
    """For people: "DTLSv1.2", "none"."""
    return talk.channel.security or "none" if talk.channel is not None else "none"


def describe_tls(mode: str) -> dict[str, str]:
    """What a link does about DTLS, and what its library can."""
    return {"tls": mode} if mode == "off" else {"tls": mode, "dtls": str(probe())}

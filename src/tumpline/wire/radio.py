"""What a radio knows of a frame beside its octets: how strong it came, on which channel.

A record of a packet batch has ten octets for it, in the place where an IP packet says how it is to be segmented: so the facts
cross the overlay with the frame. All zero (`packets.NO_OFFLOAD`): nothing is known.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

# Which facts there are, RSS in dBm, LQI, channel, its page, the FCS as it came, reserved.
_FACTS: Final = Struct("<BbBHB2s2x")


class _Known(IntFlag):
    RSS = 1
    LQI = 2
    CHANNEL = 4
    FCS = 8


class RadioFacts(NamedTuple):
    """None is not known."""

    rss_dbm: int | None = None  # -128 to 127
    lqi: int | None = None  # 0 to 255; of TI radios 0 to 127
    channel: int | None = None  # 11 to 26 in the band of 2.4 GHz (page 0)
    page: int = 0
    fcs: bytes | None = None  # two octets, as they stood behind the frame


NOTHING_KNOWN: Final = RadioFacts()
_NOTHING: Final = bytes(_FACTS.size)


def encode_facts(facts: RadioFacts) -> bytes:
    """Ten octets."""
    rss, lqi, channel, page, fcs = facts
    known = (
        (rss is not None and _Known.RSS)
        | (lqi is not None and _Known.LQI)
        | (channel is not None and _Known.CHANNEL)
        | (fcs is not None and _Known.FCS)
    )
    return _FACTS.pack(known, rss or 0, lqi or 0, channel or 0, page, fcs or b"") if known else _NOTHING


def decode_facts_untrusted(octets: bytes | memoryview) -> RadioFacts:
    """Whatever stands in ten octets. Never raises: what they could not mean is not known."""
    known, rss, lqi, channel, page, fcs = _FACTS.unpack(octets)
    if not known:
        return NOTHING_KNOWN
    return RadioFacts(
        rss if known & _Known.RSS else None,
        lqi if known & _Known.LQI else None,
        channel if known & _Known.CHANNEL else None,
        page if known & _Known.CHANNEL else 0,
        fcs if known & _Known.FCS else None,
    )

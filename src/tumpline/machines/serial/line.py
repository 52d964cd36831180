"""What stands between a serial line and the overlay: which frames cross, in which form.

Two probes may hear the same air, such as a sniffer beside an active probe. Then what one of them heard comes back to the other
over the session, which must not send it into this air once more: the first would hear it again, and so on for ever. So a frame
that was in the air a moment ago, as we heard it or sent it, is not sent; and what we sent is not passed on when we hear it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from tumpline.machines.packets import OFFLOAD_OCTETS, PacketBatch, PacketKind, batch_of_records
from tumpline.machines.serial._api import Dialect, SerialConfig, Trailer
from tumpline.machines.serial._recent import Recent
from tumpline.wire.dot15d4 import FCS_OCTETS, FrameType, fcs, has_valid_fcs
from tumpline.wire.radio import RadioFacts, encode_facts

FRAME_OCTETS_LEAST: Final = 3  # an acknowledgement without its FCS is the shortest frame there is
# So many frames do not end in what looks like their FCS by chance: of one, it is 1 in 65,536.
FRAMES_TO_TELL: Final = 3
# In place of the FCS: RSSI in dBm, then one bit that the FCS was right, and the LQI (TI CC2420 data sheet, section 16.1).
_FCS_WAS_RIGHT: Final = 0x80


@dataclass(slots=True)
class Counters:
    """Of frames; each frame is counted once."""

    packets_out: int = 0  # of the line, to the overlay
    octets_out: int = 0
    packets_in: int = 0  # to the line, from the overlay
    octets_in: int = 0
    dropped: int = 0  # the probe only listens, or the line takes no more
    bad_fcs: int = 0  # came altered
    malformed: int = 0  # too short or too long for a frame
    acknowledgements: int = 0  # which the probe itself answers with, in time: they do not cross
    ends_in_fcs: int = 0  # although the probe is said to take it away
    echoes: int = 0  # were in this air a moment ago, whether we heard or sent them


class SerialLine:
    """A machine: octets of the line in, frames out, and the other way round."""

    def __init__(self, config: SerialConfig, dialect: Dialect) -> None:
        self.counts = Counters()
        self._config = config
        self._dialect = dialect
        self._heard, self._sent = Recent(), Recent()
        self.can_send = dialect.can_send and not config.is_passive

    def opened(self, now: float) -> None:
        """The line is there (again)."""
        self._dialect.opened(now)

    def receive(self, data: bytes, now: float) -> PacketBatch | None:
        """Frames that these octets complete, without their FCS and with what is known of them."""
        records = [record for frame in self._dialect.receive(data, now) if (record := self._accept(frame, now))]
        return batch_of_records(PacketKind.FRAME, records) if records else None

    def send(self, batch: PacketBatch, now: float) -> None:
        """Frames of the overlay, to be transmitted. What the probe cannot send is counted."""
        if not self.can_send:
            self.counts.dropped += batch.count
            return
        frames = list(self._to_probe(batch, now))
        lost = self._dialect.send(frames, now)
        taken = frames[: len(frames) - lost]
        self.counts.packets_in += len(taken)
        self.counts.octets_in += sum(map(len, taken))
        self.counts.dropped += lost

    def writes(self) -> list[bytes]:
        """What is to be put on the line now, each whole."""
        return self._dialect.writes()

    def overflowed(self) -> None:
        """The line did not take one of them."""
        self.counts.packets_in -= 1
        self.counts.dropped += 1

    def next_timeout(self) -> float | None:
        """See contract.Machine."""
        return self._dialect.next_timeout()

    def handle_timeout(self, now: float) -> None:
        """See contract.Machine."""
        self._dialect.handle_timeout(now)

    def snapshot(self) -> dict[str, Any]:
        """For people."""
        return asdict(self.counts) | self._dialect.snapshot()

    @property
    def problem(self) -> str:
        """What its user should mend; or nothing."""
        if self.counts.ends_in_fcs < FRAMES_TO_TELL:
            return ""
        return "frames end with their FCS, and distant radios send it as part of them: write --trailer fcs"

    # ---- from the probe ---------------------------------------------------------------------------------------------

    def _accept(self, frame: bytes, now: float) -> tuple[bytes, bytes] | None:
        """(what is known of it, the frame without its FCS), unless it is not to cross."""
        facts = RadioFacts(channel=self._dialect.channel)
        trailer_octets = 0 if self._config.trailer is Trailer.NONE else FCS_OCTETS
        if not FRAME_OCTETS_LEAST <= len(frame) - trailer_octets <= self._config.octets_most - FCS_OCTETS:
            self.counts.malformed += 1
            return None
        if trailer_octets:
            stripped = self._without_trailer(frame, facts)
            if stripped is None:
                self.counts.bad_fcs += 1
                return None
            frame, facts = stripped
        elif has_valid_fcs(frame):
            self.counts.ends_in_fcs += 1
        if self._is_for_the_radio_alone(frame):
            self.counts.acknowledgements += 1
            return None
        if self.can_send:
            if self._sent.has(frame, now):
                self.counts.echoes += 1
                return None
            self._heard.add(frame, now)
        self.counts.packets_out += 1
        self.counts.octets_out += len(frame)
        return encode_facts(facts), frame

    def _without_trailer(self, frame: bytes, facts: RadioFacts) -> tuple[bytes, RadioFacts] | None:
        """None: the FCS is wrong."""
        if self._config.trailer is Trailer.FCS:
            if not has_valid_fcs(frame):
                return None
            return frame[:-FCS_OCTETS], facts._replace(fcs=frame[-FCS_OCTETS:])
        rss, quality = frame[-2], frame[-1]
        if not quality & _FCS_WAS_RIGHT:
            return None
        rss_dbm = rss - 256 if rss > 127 else rss
        return frame[:-FCS_OCTETS], facts._replace(rss_dbm=rss_dbm, lqi=quality & ~_FCS_WAS_RIGHT & 0xFF)

    def _is_for_the_radio_alone(self, frame: bytes) -> bool:
        """Acknowledgements answer within 0.2 ms: that of a distant radio would come late, and for another frame."""
        return self.can_send and frame[0] & 7 == FrameType.ACK

    # ---- to the probe -----------------------------------------------------------------------------------------------

    def _to_probe(self, batch: PacketBatch, now: float) -> Iterable[bytes]:
        for _, packet in batch.records():
            frame = bytes(packet)
            if not FRAME_OCTETS_LEAST <= len(frame) <= self._config.octets_most - FCS_OCTETS:
                self.counts.malformed += 1
            elif self._is_for_the_radio_alone(frame):
                self.counts.acknowledgements += 1
            elif self._heard.has(frame, now) or self._sent.has(frame, now):
                self.counts.echoes += 1
            else:
                self._sent.add(frame, now)
                yield frame + fcs(frame) if self._config.trailer is Trailer.FCS else frame


assert len(encode_facts(RadioFacts())) == OFFLOAD_OCTETS  # a record has just so much room for them

"""A radio probe's serial line: any octets, in each dialect (the first octet chooses)."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.machines.packets import batch_untrusted
from tumpline.machines.serial._api import SerialConfig, Trailer
from tumpline.machines.serial.dialects import DIALECTS
from tumpline.machines.serial.line import SerialLine
from tumpline.wire.dot15d4 import FRAME_OCTETS_MOST, fcs
from tumpline.wire.slip import encode_slip

_FRAME = bytes.fromhex("418807cdabffff0100") + b"payload"
_CHOICES = [(spec, trailer) for spec in DIALECTS.values() for trailer in Trailer]


def seeds() -> list[bytes]:
    """Frames, reports, values, text, messages of each version."""
    slip = b"".join(map(encode_slip, (_FRAME, _FRAME + fcs(_FRAME), _FRAME + b"\xb0\xe4", b"\x02\x00\x07")))
    said = (b"!R\x01\x02\x04", b"!V\x00\x01\x00\x1a", b"!M" + bytes(8), b"\rradio: on\n", b"EUnknown command")
    radio = slip + b"".join(map(encode_slip, said))
    body = _FRAME + b"\xb0\xe4"
    heads = (b"\xc1\x1f\xfe\x72\x01\x00", b"\xc1\x1f\xfe\x72\x02\x00\x00", b"Snif")
    sensniff = (
        b"on\r\n"
        + b"".join(head + bytes([len(body)]) + body for head in heads)
        + b"\xc1\x1f\xfe\x72\x02\x01\x00\x01\x1a"
    )
    octets = {"slip": slip, "slip-radio": radio, "sensniff": sensniff}
    return [bytes([number]) + octets[spec.name] for number, (spec, _) in enumerate(_CHOICES)]


def run(data: bytes) -> bool:
    """What comes out are frames, however long ago the line was opened; what is to be written stays little."""
    if not data:
        return False
    spec, trailer = _CHOICES[data[0] % len(_CHOICES)]
    config = SerialConfig(trailer)
    line = SerialLine(config, spec.open(config))
    line.opened(0.0)
    batch = line.receive(data[1:], 1.0)
    for now in (1.0, 2.0, 9.0):
        assert sum(map(len, line.writes())) < 1000, "octets that nobody asked for"
        line.handle_timeout(now)
    line.snapshot()
    if batch is None:
        return False
    assert batch_untrusted(batch.kind, batch.octets).count == batch.count == line.counts.packets_out, "not counted"
    assert all(3 <= len(record.packet) <= FRAME_OCTETS_MOST for record in batch.records()), "no frame"
    return True


# As of `slip`; each frame is a value more on its way into the batch.
TARGET = Target("serial", "lines of radio probes, three dialects", seeds, run, peak_base=96 << 10, peak_factor=192)

"""The dialects by name."""

from __future__ import annotations

from typing import Final

from tumpline.machines.serial import sensniff, slip, slip_radio
from tumpline.machines.serial._api import DialectSpec

DIALECTS: Final[dict[str, DialectSpec]] = {spec.name: spec for spec in (slip.SPEC, slip_radio.SPEC, sensniff.SPEC)}

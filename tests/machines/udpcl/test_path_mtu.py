"""The path MTU is found, found again when it changes, and nobody who lies makes it longer than what was probed."""

from __future__ import annotations

from random import Random

import pytest

from tumpline.machines.udpcl.path_mtu import PathMtu, Phase, Timing
from tumpline.wire.udpcl import Confirmation, decode_datagram_untrusted

NONCE = 7
RTT_S = 0.05


class Path:
    """A path that eats what is too long, and a peer that confirms the rest in its own way, in virtual time."""

    def __init__(self, octets: int, *, loss: float = 0.0, seed: int = 0, way: str = "rule", told: bool = False) -> None:
        self.octets = octets
        self.now = 0.0
        self.probes = 0
        self.machine = PathMtu(NONCE, self.now)
        self._loss, self._chance, self._way, self._told = loss, Random(seed), way, told

    def until(self, end: float) -> None:
        while self.machine.next_timeout() <= end:
            self.now = max(self.now, self.machine.next_timeout())
            probe = self.machine.handle_timeout(self.now)
            if probe is not None:
                self.probes += 1
                self._carry(probe)
        self.now = end

    def _carry(self, data: bytes) -> None:
        if len(data) > self.octets:
            if self._told:
                self.machine.message_too_long(len(data), self.now)
            return
        if self._chance.random() < self._loss:
            return
        probe = decode_datagram_untrusted(data).maps[0].probe
        assert probe is not None
        numbers = (probe.sequence, 0 if self._way == "rule" else 1)
        self.now += RTT_S
        self.machine.confirmed(Confirmation(probe.nonce, numbers), self.now)


def is_found(path: Path) -> bool:
    found = path.machine.datagram_octets
    return path.machine.phase is Phase.COMPLETE and path.octets - path.machine.timing.step_octets < found <= path.octets


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("way", ["rule", "counts"])
@pytest.mark.parametrize("octets", [1200, 1232, 1472, 4000, 8952])
def test_it_is_found(octets: int, way: str, told: bool) -> None:
    path = Path(octets, way=way, told=told)
    path.until(120.0)
    assert is_found(path), (path.machine.phase, path.machine.datagram_octets)
    assert path.probes < 60


@pytest.mark.parametrize("told", [False, True])
def test_a_path_that_shrinks_is_a_black_hole_and_one_that_grows_is_found_later(told: bool) -> None:
    path = Path(8000, told=told)
    path.until(100.0)
    assert is_found(path)
    path.octets = 1400
    path.until(300.0)
    assert is_found(path)
    assert path.machine.black_holes == 1
    path.octets = 3000
    path.until(300.0 + 600.0 + 100.0)
    assert is_found(path)


@pytest.mark.parametrize("seed", range(10))
def test_a_lossy_path_never_gives_too_long_a_size(seed: int) -> None:
    path = Path(1472, loss=0.2, seed=seed)
    path.until(3000.0)
    assert 1200 <= path.machine.datagram_octets <= 1472


def test_a_peer_that_does_not_confirm_is_sent_the_base_size() -> None:
    path = Path(0)
    path.until(300.0)
    assert path.machine.phase is Phase.ERROR
    assert path.machine.datagram_octets == Timing().base_octets
    path.octets = 1472
    path.until(500.0)
    assert is_found(path)


def test_what_was_not_sent_is_not_confirmed() -> None:
    machine = PathMtu(NONCE, 0.0)
    assert machine.handle_timeout(0.0) is not None
    for confirmation in (Confirmation(8, (0, 0)), Confirmation(NONCE, (0, 2**60)), Confirmation(NONCE, (5, 0))):
        machine.confirmed(confirmation, 0.1)
        assert machine.phase is Phase.BASE
    machine.confirmed(Confirmation(NONCE, (0, 0)), 0.1)
    assert machine.phase is Phase.SEARCHING

"""Sessions of members that come and go: nothing twice, nothing astray, nothing stale, nothing left."""

from __future__ import annotations

import pytest

from tumpline.machines.overlay import Member
from tumpline.machines.overlay.addresses import AddressBook
from tumpline.machines.overlay.copies import Copies
from tumpline.machines.overlay.directory import Directory
from tumpline.machines.overlay.incoming import Incoming
from tumpline.machines.overlay.sealing import Opener
from tumpline.testing.overlay_world import Churn, ChurnShape
from tumpline.testing.world import BrokenPromiseError

SEEDS = 16
SLICES = 4
TOWN = ChurnShape(sites=24, trouble_s=20.0, faults_per_s=0.5, is_given=True, broker_deaths=1)
CITY = ChurnShape(sites=24, trouble_s=1200.0, faults_per_s=0.5, is_given=False, broker_deaths=8)


@pytest.mark.parametrize("part", range(SLICES))
def test_sessions_drawn_from_seeds(part: int) -> None:
    delivered = 0
    for seed in range(part, SEEDS, SLICES):
        churn = Churn(seed)
        churn.run()
        delivered += len(churn.delivered)
    assert delivered > 500


def test_a_seed_repeats_itself() -> None:
    assert Churn(7).run().digest == Churn(7).run().digest != Churn(8).run().digest


def test_two_dozen_members_come_and_go() -> None:
    churn = Churn(1, TOWN)
    churn.run()
    assert len(churn.delivered) > 2000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2))
def test_two_dozen_members_come_and_go_for_twenty_minutes(seed: int) -> None:
    Churn(seed, CITY).run()


# ---- planted defects: a check that cannot fail proves nothing --------------------------------------------------------


VILLAGE = ChurnShape(sites=7, trouble_s=60.0, faults_per_s=0.3, broker_deaths=0)


def first_broken_promise(seeds: int = 4) -> str:
    for seed in range(seeds):
        try:
            Churn(seed, VILLAGE).run()
        except BrokenPromiseError as error:
            return str(error)
    return "none"


def test_copies_that_are_delivered_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Copies, "is_new", lambda *_: True)
    monkeypatch.setattr(Incoming, "_comes_better", lambda *_: False)
    assert "delivered twice" in first_broken_promise()


def test_members_that_are_never_forgotten_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(directory: Directory, now: float) -> None:
        directory._look_at = None

    monkeypatch.setattr(Directory, "handle_timeout", never)
    monkeypatch.setattr(Member, "returned", lambda *_: None)
    churn = Churn(0, ChurnShape(sites=3, trouble_s=80.0, faults_per_s=0.0, broker_deaths=0, older=0))
    churn.world.at(20.0, churn.sites[0].crash)
    with pytest.raises(BrokenPromiseError, match="still knows s1"):
        churn.run()


def test_addresses_that_stay_behind_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AddressBook, "forget", lambda *_: None)
    assert "still holds" in first_broken_promise(1)


def test_seals_that_never_open_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seal = Opener.open
    monkeypatch.setattr(Opener, "open", lambda self, head, body, _: seal(self, head, body, b""))
    assert "packets" in first_broken_promise(1)

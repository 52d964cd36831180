"""Every registered store passes the suite of stores; so does the simulated one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumpline.drivers.stores._api import StoreSpec
from tumpline.testing.conformance.stores import StoreConformance, registered_stores
from tumpline.testing.lossy_store import LossyStore


@pytest.fixture(params=registered_stores(), ids=lambda spec: spec.scheme)
def store_spec(request: pytest.FixtureRequest) -> StoreSpec:
    spec: StoreSpec = request.param
    return spec


class TestStores(StoreConformance):
    pass


class TestLossyStore(StoreConformance):
    """Its disk is kept by the test, as World keeps it."""

    @pytest.fixture
    def open_store(self) -> Any:
        def at_once(_delay_s: float, action: Callable[[], None]) -> None:
            action()

        disk = LossyStore(at_once, 0.005)
        return lambda _directory: disk


def test_every_store_is_registered_once() -> None:
    schemes = [spec.scheme for spec in registered_stores()]
    assert {"memory", "sqlite"} <= set(schemes)
    assert len(schemes) == len(set(schemes))


def test_opening_touches_nothing_outside_the_directory(store_spec: StoreSpec, tmp_path: Path) -> None:
    store_spec.open(store_spec.config(), tmp_path / "store").open()
    assert {path.name for path in tmp_path.iterdir()} <= {"store"}

"""Every kind of bus gives the same answers."""

from pathlib import Path

import pytest

from tumpline.testing.conformance.buses import CHECKS, KINDS, Check, run


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KINDS)
async def test_bus_conforms(kind: str, check: Check, tmp_path: Path) -> None:
    await run(check, kind, tmp_path)

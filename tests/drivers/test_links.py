"""Every registered bundle link passes the conformance suite."""

import pytest

from tumpline.testing.conformance.links import CHECKS, Check, registered, run

SPECS = registered()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("scheme", SPECS)
async def test_link_conforms(scheme: str, check: Check) -> None:
    await run(check, SPECS[scheme])


def test_links_are_found() -> None:
    assert {"memory", "tcpcl4"} <= set(SPECS)

"""Every registered bundle link passes the conformance suite."""

import pytest

from tumpline.testing.conformance.links import Check, checks_of, registered, run

SPECS = registered()


@pytest.mark.parametrize(
    ("scheme", "check"),
    [
        pytest.param(scheme, check, id=f"{scheme}-{check.__name__}")
        for scheme, spec in SPECS.items()
        for check in checks_of(spec)
    ],
)
async def test_link_conforms(scheme: str, check: Check) -> None:
    await run(check, SPECS[scheme])


def test_links_are_found() -> None:
    assert {"memory", "tcpcl4", "udpcl"} <= set(SPECS)

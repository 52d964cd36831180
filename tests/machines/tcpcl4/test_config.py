"""What a session cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from tumpline.errors import LocalProtocolError
from tumpline.machines.tcpcl4.config import SessionConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_id": "nonsense"},
        {"node_id": "dtn://node/service"},
        {"keepalive_s": -1},
        {"keepalive_s": 0x10000},
        {"segment_mru": 0},
        {"segment_mru": 1 << 64},
        {"transfer_mru": -1},
        {"transfer_mru": 1 << 64},
        {"require_tls": True},
    ],
)
def test_values_that_fit_no_session(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        SessionConfig(**wrong)


def test_whether_tls_is_offered() -> None:
    offers = {
        (can, require): SessionConfig(can_tls=can, require_tls=require).offers_tls
        for can, require in [(False, None), (False, False), (True, None), (True, False), (True, True)]
    }
    assert [pair for pair, offered in offers.items() if offered] == [(True, None), (True, True)]

"""The examples in docs/overlay-wire.md are what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

from tumpline.machines.overlay import MemberConfig
from tumpline.machines.overlay.sealing import Secrets
from tumpline.testing.overlay_exchange import claim
from tumpline.wire.overlay import FLOODED, Hello, Kind, encode_signed_hello

PAGE = Path(__file__).parents[3] / "docs" / "overlay-wire.md"


def member(name: str, number: int, given: bytes | None) -> tuple[Secrets, Hello]:
    claims = (claim(f"bbbb::{number}/64"),)
    secrets = Secrets(MemberConfig(name, bytes([number] * 8), bytes([number] * 32), given_key=given))
    return secrets, Hello(
        name,
        bytes([number] * 8),
        1,
        secrets.mode,
        secrets.key,
        started_ms=1000 * number,
        agreement_key=secrets.agreement_public,
        addresses=claims,
    )


def examples(given: bytes | None) -> list[bytes]:
    (a, hello_a), (_, hello_b) = member("a", 1, given), member("b", 2, given)
    sealed = a.keys_with(hello_b).sealer.seal(Kind.IP, b"packets", b"packet.b.a")
    found = [encode_signed_hello(hello_a.encode(), a.prove(hello_a.encode())), b"".join(sealed)]
    flood = a.flood_sealer()
    return found if flood is None else [*found, b"".join(flood.seal(Kind.IP | FLOODED, b"packets", b"flood.a"))]


def test_the_examples_are_what_the_code_makes() -> None:
    page = re.findall(r"```hex\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [bytes.fromhex(each) for each in page] == examples(bytes(range(32))) + examples(None)

"""`tumpline acme`: what it asks, what it shows, how it ends."""

import json
from typing import Any

import pytest

ARGUMENTS = ("--id-chal", "dDtaviYTPUWFS3NK37YWfQ", "--token-chal", "tPUZNY4ONIk6LxErRFEjVw", "--thumbprint", "LPJNul")
SENT = {"event": "sent", "bundle": "dtn://ca/ 1 2", "token_bundle": "p3yR", "interval_s": 10.0}
VERDICT = {"event": "verdict", "node": "dtn://rover/", "id_chal": "dDta", "token_bundle": "p3yR", "signed": False}
VALID = VERDICT | {"valid": True, "why": "the response proves it", "exit_code": 0}
WRONG = VERDICT | {"valid": False, "why": "the digest is another", "exit_code": 5}
LATE = VERDICT | {"valid": False, "why": "no valid response came in time", "exit_code": 3}


def test_expect_and_expect_stop(agent: Any, tumpline: Any) -> None:
    agent.answers["POST /v1/acme/expect"] = {"ok": True}
    said = tumpline("acme", "expect", *ARGUMENTS)
    assert (said.code, said.out) == (0, "challenges with id-chal dDtaviYTPUWFS3NK37YWfQ are answered\n")
    asked = json.loads(agent.asked[-1].body)
    assert asked == {
        "id_chal": "dDtaviYTPUWFS3NK37YWfQ",
        "source": "",
        "token_chal": "tPUZNY4ONIk6LxErRFEjVw",
        "thumbprint": "LPJNul",
    }
    agent.answers["DELETE /v1/acme/expect"] = {"removed": True}
    assert tumpline("acme", "expect-stop", "--source", "dtn://ca/", "--json").value == {"removed": True}
    agent.answers["DELETE /v1/acme/expect"] = {"removed": False}
    said = tumpline("acme", "expect-stop", "--id-chal", "x")
    assert said.code == 1
    assert "challenges with id-chal x are not expected" in said.err


@pytest.mark.parametrize(
    ("verdict", "code", "line"),
    [
        (VALID, 0, "dtn://rover/ is valid: the response proves it (not signed)"),
        (WRONG, 5, "dtn://rover/ is NOT valid: the digest is another (not signed)"),
        (LATE, 3, "dtn://rover/ is NOT valid: no valid response came in time (not signed)"),
    ],
)
def test_challenge(agent: Any, tumpline: Any, verdict: dict[str, Any], code: int, line: str) -> None:
    agent.answers["POST /v1/acme/challenge"] = [SENT, verdict]
    agent.answers["GET /v1/links"] = {"links": []}
    said = tumpline("acme", "challenge", "dtn://rover/", *ARGUMENTS, "--rtt", "5m")
    assert said.code == code
    assert said.out.splitlines() == ["challenge dtn://ca/ 1 2 is on its way; the response may take 10 s", line]
    asked = json.loads(next(each for each in agent.asked if each.path == "/v1/acme/challenge").body)
    assert (asked["node"], asked["rtt_s"], asked["token_bundle"]) == ("dtn://rover/", 300.0, "")
    said = tumpline("acme", "challenge", "dtn://rover/", *ARGUMENTS, "--json")
    assert [json.loads(each) for each in said.out.splitlines()] == [SENT, verdict]


def test_ls(agent: Any, tumpline: Any) -> None:
    agent.answers["GET /v1/acme"] = {
        "expected": ["dDta"], "outstanding": [{"node": "dtn://rover/", "id_chal": "xyz"}],
        "answered": 1, "ignored": 2, "valid": 3, "invalid": 4,
    }  # fmt: skip
    assert tumpline("acme", "ls").out.splitlines() == [
        "expected     dDta",
        "outstanding  dtn://rover/ xyz",
        "1 answered, 2 ignored, 3 valid, 4 invalid",
    ]

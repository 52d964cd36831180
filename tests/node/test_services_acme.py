"""The ACME service: two nodes validate an ID, and whatever is wrong with an exchange ends in "not valid"."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tumpline.errors import MalformedError, NoRoomError, RefusedError
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Adu
from tumpline.node.services import acme
from tumpline.node.services.acme import Acme, AcmeConfig, AcmeExpect, AcmeExpectStop, AcmeRequest, AcmeSent, AcmeVerdict
from tumpline.testing.services import MemoryNode, read_payload
from tumpline.wire.acme import SHA_256, AcmeRecord, Digest, decode_acme_untrusted, digest_of, token_from_text
from tumpline.wire.admin import UnknownRecord, decode_admin_untrusted, encode_admin
from tumpline.wire.eid import Eid

ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE = "dDtaviYTPUWFS3NK37YWfQ", "tPUZNY4ONIk6LxErRFEjVw", "p3yRYFU4KxwQaHQjJ2RdiQ"
THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
OTHER = "A" * 22
SERVER, CLIENT = "dtn://acme-server/", "dtn://acme-client/"
SOON_S = 1.0  # the shortest interval there is


class Pair:
    """A node next to an ACME server, and one that is to be certified."""

    def __init__(self, directory: Path) -> None:
        self.network: dict[Eid, MemoryNode] = {}
        self.nodes = [MemoryNode(name, directory / name[6:-1], self.network) for name in (SERVER, CLIENT)]

    async def start(self, server: AcmeConfig | None = None, client: AcmeConfig | None = None) -> None:
        self.services = [Acme(server or AcmeConfig()), Acme(client or AcmeConfig())]
        for node, service in zip(self.nodes, self.services, strict=True):
            await node.add(acme.SPEC, service)

    @property
    def server(self) -> Acme:
        return self.services[0]

    @property
    def client(self) -> Acme:
        return self.services[1]

    async def ask(self, **facts: Any) -> AcmeVerdict:
        *_, last = [event async for event in self.server.run(asked(**facts))]
        assert isinstance(last, AcmeVerdict)
        return last

    def notices(self, index: int, name: str) -> list[dict[str, Any]]:
        return [fields for each, fields in self.nodes[index].notices if each == name]


def asked(**facts: Any) -> AcmeRequest:
    facts = {"node": CLIENT, "id_chal": ID_CHAL, "token_chal": TOKEN_CHAL, "thumbprint": THUMBPRINT} | facts
    return AcmeRequest(**facts)


def expected(**facts: Any) -> AcmeExpect:
    return AcmeExpect(**({"id_chal": ID_CHAL, "token_chal": TOKEN_CHAL, "thumbprint": THUMBPRINT} | facts))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for node in made.nodes:
        await node.stop()


def sent(node: MemoryNode) -> tuple[Adu, int, AcmeRecord]:
    adu = node.sent[-1]
    record = decode_admin_untrusted(read_payload(adu.payload, 0, 1000))
    return adu, record.code, decode_acme_untrusted(record.content)


async def test_an_expected_challenge_ends_in_valid(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected())
    verdict = await pair.ask(token_bundle=TOKEN_BUNDLE)
    assert verdict == AcmeVerdict(
        CLIENT, ID_CHAL, TOKEN_BUNDLE, valid=True, why="the response proves it", signed=False, exit_code=0
    )
    assert pair.notices(0, "acme_validated") == [
        {"node": CLIENT, "id_chal": ID_CHAL, "token_bundle": TOKEN_BUNDLE, "valid": True, "signed": False,
         "why": "the response proves it"}
    ]  # fmt: skip
    assert pair.notices(1, "acme_challenge_answered")[0]["to"] == SERVER
    assert pair.client.describe() == {
        "expected": [ID_CHAL], "outstanding": [], "answered": 1, "ignored": 0, "valid": 0, "invalid": 0
    }  # fmt: skip
    assert (pair.server.describe()["valid"], pair.server.describe()["outstanding"]) == (1, [])


async def test_the_bundles_are_as_rfc_9891_has_them(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected())
    await pair.ask(token_bundle=TOKEN_BUNDLE, rtt_s=15)
    challenge, code, record = sent(pair.nodes[0])
    assert (challenge.admin, challenge.wants_ack, challenge.lifetime_ms, code) == (True, True, 30_000, 255)
    assert (record.digest, record.algorithms) == (None, (SHA_256,))
    response, code, record = sent(pair.nodes[1])
    assert (response.admin, response.wants_ack, response.source_node, code) == (True, False, Eid.parse(CLIENT), 255)
    assert response.destination == Eid.parse(SERVER)
    assert 0 < response.lifetime_ms < 30_000, "what is left of the challenge's time"
    assert record.digest == Digest(
        SHA_256, bytes.fromhex("99520e24441989ef17a5833a30c55241488d3c7eb85119e133d9e22795c7adec")
    )


async def test_the_events_of_one_challenge(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected())
    first, last = [event async for event in pair.server.run(asked())]
    assert isinstance(first, AcmeSent)
    assert isinstance(last, AcmeVerdict)
    assert first.interval_s == 10.0
    assert first.token_bundle == last.token_bundle != TOKEN_BUNDLE, "a fresh secret"
    assert len(token_from_text(first.token_bundle, "token")) == 16


@pytest.mark.parametrize(
    ("client", "server"),
    [(expected(thumbprint="A" * 43), {}), (expected(token_chal=OTHER), {}), (expected(), {"thumbprint": "A" * 43})],
    ids=["thumbprint", "token-chal", "asked with another"],
)
async def test_another_secret_is_a_wrong_response(pair: Pair, client: AcmeExpect, server: dict[str, str]) -> None:
    await pair.start()
    pair.client.expect(client)
    verdict = await pair.ask(**server)
    assert (verdict.valid, verdict.exit_code) == (False, RefusedError.exit_code)
    assert "not that of this account's key" in verdict.why


async def test_who_does_not_expect_it_says_nothing(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected(id_chal=OTHER))
    verdict = await pair.ask(rtt_s=0)
    assert (verdict.valid, verdict.exit_code) == (False, 3)
    assert pair.notices(1, "acme_record_ignored")[0]["why"] == "its id-chal is not expected here"
    assert not pair.nodes[1].sent


async def test_what_is_expected_no_more_is_not_answered(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected())
    assert pair.client.stop_expecting(AcmeExpectStop(id_chal=ID_CHAL))
    assert not pair.client.stop_expecting(AcmeExpectStop(id_chal=ID_CHAL))
    assert not (await pair.ask(rtt_s=0)).valid


async def answered_by(pair: Pair, source: str, record: AcmeRecord, code: int = 255) -> AcmeVerdict:
    """The verdict when somebody else answers."""
    _, verdict = await pair.server.challenge(asked(token_bundle=TOKEN_BUNDLE, rtt_s=0))
    payload = Octets(encode_admin(UnknownRecord(code, record.encode_content())))
    pair.nodes[0].arrive(Eid.parse(source), Adu(Eid.parse(SERVER), payload, lifetime_ms=60_000, admin=True))
    return acme.told(await verdict)


RIGHT = AcmeRecord(
    token_from_text(ID_CHAL, ""),
    token_from_text(TOKEN_BUNDLE, ""),
    Digest(SHA_256, digest_of(f"{TOKEN_BUNDLE}{TOKEN_CHAL}.{THUMBPRINT}", SHA_256)),
)


@pytest.mark.parametrize(
    ("source", "record", "why"),
    [
        ("dtn://other/", RIGHT, "it does not come from the node that was challenged"),
        (
            CLIENT,
            RIGHT._replace(token_bundle=b"x" * 16),
            "no challenge of that id-chal and token-bundle is outstanding",
        ),
    ],
    ids=["another source", "an altered token"],
)
async def test_what_anybody_could_send_leaves_it_unanswered(
    pair: Pair, source: str, record: AcmeRecord, why: str
) -> None:
    await pair.start()
    verdict = await answered_by(pair, source, record)
    assert (verdict.valid, verdict.exit_code) == (False, 3)
    assert pair.notices(0, "acme_record_ignored")[0]["why"] == why


async def test_the_same_from_the_right_node_is_valid(pair: Pair) -> None:
    """So that the tests above fail for their reason and no other."""
    await pair.start()
    assert (await answered_by(pair, CLIENT, RIGHT)).valid


async def test_malformed_records_are_told_and_dropped(pair: Pair) -> None:
    await pair.start()
    payload = Octets(encode_admin(UnknownRecord(255, b"\xa0")))
    pair.nodes[0].arrive(Eid.parse(CLIENT), Adu(Eid.parse(SERVER), payload, admin=True))
    while not pair.notices(0, "acme_record_ignored"):
        await asyncio.sleep(0)
    assert "has an id-chal" in pair.notices(0, "acme_record_ignored")[0]["why"]


@pytest.mark.parametrize("code", [65536, 65535])
async def test_older_record_types_where_configured(pair: Pair, code: int) -> None:
    older = AcmeConfig(record_types=(255, code), send_type=code)
    await pair.start(older, AcmeConfig(record_types=(255, code)))
    pair.client.expect(expected())
    assert (await pair.ask()).valid
    assert [sent(node)[1] for node in pair.nodes] == [code, code], "the answer has the type of its challenge"


async def test_older_record_types_are_not_taken_unless_configured(pair: Pair) -> None:
    await pair.start(AcmeConfig(record_types=(255, 65536), send_type=65536))
    pair.client.expect(expected())
    assert not (await pair.ask(rtt_s=0)).valid


async def test_bare_digests_where_configured(pair: Pair) -> None:
    bare = AcmeConfig(bare_digests=True)
    await pair.start(bare, bare)
    pair.client.expect(expected())
    assert (await pair.ask()).valid
    assert sent(pair.nodes[0])[2].algorithms == ()
    digest = sent(pair.nodes[1])[2].digest
    assert digest is not None
    assert digest.algorithm is None


async def test_expecting_whatever_a_node_asks(pair: Pair) -> None:
    await pair.start()
    pair.client.expect(expected(id_chal="", source=SERVER))
    assert (await pair.ask()).valid
    assert pair.client.describe()["expected"] == [SERVER]


async def test_what_cannot_be_sent_has_no_verdict(pair: Pair) -> None:
    await pair.start()
    pair.nodes[0].full = "full"
    with pytest.raises(NoRoomError):
        await pair.server.challenge(asked(token_bundle=TOKEN_BUNDLE))
    assert not pair.server.describe()["outstanding"]
    pair.nodes[0].full = None
    pair.client.expect(expected())
    assert (await pair.ask(token_bundle=TOKEN_BUNDLE)).valid


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"id_chal": "short"}, "id_chal: write base64url"),
        ({"token_chal": "x="}, "token_chal: write base64url"),
        ({"token_bundle": "x="}, "token_bundle: write base64url"),
        ({"thumbprint": ""}, "thumbprint: write base64url"),
        ({"node": "dtn://node/service"}, "is no node ID"),
        ({"rtt_s": -1}, "rtt_s: write seconds"),
        ({"source": "nobody"}, "no endpoint ID"),
    ],
)
async def test_requests_that_make_no_sense(pair: Pair, facts: dict[str, Any], why: str) -> None:
    await pair.start()
    with pytest.raises(MalformedError, match=why):
        await pair.server.challenge(asked(**facts))
    assert not pair.nodes[0].sent


async def test_either_an_id_chal_or_a_source_is_expected(pair: Pair) -> None:
    await pair.start()
    for facts in ({"id_chal": ""}, {"source": SERVER}):
        with pytest.raises(MalformedError, match="either id_chal or source"):
            pair.client.expect(expected(**facts))


def test_configurations_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="interval_s: longer"):
        AcmeConfig(interval_s=61)
    with pytest.raises(ValueError, match="send_type: answers of type 65536 are not taken"):
        AcmeConfig(send_type=65536)


async def test_an_interval_stays_within_its_bounds(pair: Pair) -> None:
    await pair.start(AcmeConfig(interval_s_max=20))
    pair.client.expect(expected())
    for rtt_s, interval_s in ((0.0, SOON_S), (5.0, 10.0), (1e6, 20.0)):
        first, verdict = await pair.server.challenge(asked(rtt_s=rtt_s))
        assert first.interval_s == interval_s
        assert (await verdict).valid

"""RFC 9891 §3: who answers challenges, and who judges the answers; and one whole node that is challenged."""

from itertools import count

import pytest

from tumpline.errors import MalformedError, RefusedError
from tumpline.machines.acme import (
    MAX_ANSWERS,
    MAX_EXPECTED,
    MAX_OUTSTANDING,
    MAX_TARGETS,
    Challenge,
    Challenger,
    Ignored,
    Question,
    Responder,
)
from tumpline.machines.contract import Octets
from tumpline.machines.effects import Administer, Adu
from tumpline.testing.lone_node import LoneNode, bundle, whole
from tumpline.wire.acme import (
    RECORD_TYPE,
    SHA_256,
    SHA_384,
    AcmeRecord,
    Digest,
    decode_acme_untrusted,
    digest_of,
    key_authorization,
)
from tumpline.wire.admin import UnknownRecord, encode_admin
from tumpline.wire.bundle7 import STRICT, BundleFlags
from tumpline.wire.eid import Eid

SERVER, CLIENT, OTHER = map(Eid.parse, ("dtn://acme-server/", "dtn://acme-client/", "dtn://other/"))
ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT = b"i" * 16, b"c" * 16, b"b" * 16, b"t" * 32
AUTHORIZATION = key_authorization(TOKEN_BUNDLE, TOKEN_CHAL, THUMBPRINT)
QUESTION = Question(CLIENT, ID_CHAL, TOKEN_CHAL, TOKEN_BUNDLE, THUMBPRINT)
CHALLENGE = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, None, (SHA_256,))
RESPONSE = AcmeRecord(ID_CHAL, TOKEN_BUNDLE, Digest(SHA_256, digest_of(AUTHORIZATION, SHA_256)))


def came(record: AcmeRecord = CHALLENGE, source: Eid = SERVER, created_ms: int = 1, left_ms: int = 60_000) -> Challenge:
    return Challenge(source, created_ms, 0, left_ms, record)


def responder(**settings: bool) -> Responder:
    made = Responder(**settings)
    made.expect(ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    return made


def challenger(question: Question = QUESTION, now: float = 0.0) -> Challenger:
    made = Challenger(per_s=1.0, burst=8)
    made.ask(question, now)
    return made


# ---- who answers -----------------------------------------------------------------------------------------------------


def test_an_expected_challenge_is_answered() -> None:
    assert responder().challenged(came()) == RESPONSE


def test_each_challenge_is_answered_once_and_several_may_come() -> None:
    """Another source or another time is another challenge, of the same id-chal."""
    made = responder()
    assert made.challenged(came()) == RESPONSE
    assert made.challenged(came()) is Ignored.ANSWERED
    assert isinstance(made.challenged(came(created_ms=2)), AcmeRecord)
    assert isinstance(made.challenged(came(source=OTHER)), AcmeRecord)


def test_only_while_expected() -> None:
    made = Responder()
    assert made.challenged(came()) is Ignored.UNEXPECTED
    made.expect(ID_CHAL, TOKEN_CHAL, THUMBPRINT)
    assert made.challenged(came()) == RESPONSE
    assert made.stop_expecting(ID_CHAL)
    assert not made.stop_expecting(ID_CHAL)
    assert made.challenged(came(created_ms=2)) is Ignored.UNEXPECTED
    assert not made.expected


def test_the_first_hash_that_both_know() -> None:
    answer = responder().challenged(came(CHALLENGE._replace(algorithms=("shake", -1000, SHA_384, SHA_256))))
    assert isinstance(answer, AcmeRecord)
    assert answer.digest == Digest(SHA_384, digest_of(AUTHORIZATION, SHA_384))
    assert responder().challenged(came(CHALLENGE._replace(algorithms=("shake", 7)))) is Ignored.NO_ALGORITHM


def test_bare_digests_only_where_configured() -> None:
    bare = CHALLENGE._replace(algorithms=())
    assert responder().challenged(came(bare)) is Ignored.NO_ALGORITHM
    answer = responder(bare_digests=True).challenged(came(bare))
    assert isinstance(answer, AcmeRecord)
    assert answer.digest == Digest(None, digest_of(AUTHORIZATION, SHA_256))


def test_a_challenge_after_its_time_or_with_a_digest_is_ignored() -> None:
    assert responder().challenged(came(left_ms=0)) is Ignored.EXPIRED
    assert responder().challenged(came(RESPONSE._replace(algorithms=(SHA_256,)))) is Ignored.NOT_A_CHALLENGE


def test_expecting_by_source_instead_of_id_chal() -> None:
    made = Responder()
    made.expect(SERVER, TOKEN_CHAL, THUMBPRINT)
    assert made.challenged(came()) == RESPONSE
    assert made.challenged(came(source=OTHER)) is Ignored.UNEXPECTED
    assert made.stop_expecting(SERVER)


def test_what_the_responder_holds_is_bounded() -> None:
    made = responder()
    for number in range(MAX_ANSWERS):
        assert isinstance(made.challenged(came(created_ms=number)), AcmeRecord)
    assert made.challenged(came(created_ms=MAX_ANSWERS)) is Ignored.TOO_MANY
    for number in range(MAX_EXPECTED - 1):
        made.expect(number.to_bytes(16), TOKEN_CHAL, THUMBPRINT)
    with pytest.raises(RefusedError, match="1024 challenges are expected already"):
        made.expect(b"n" * 16, TOKEN_CHAL, THUMBPRINT)
    made.expect(ID_CHAL, TOKEN_CHAL, THUMBPRINT)  # one that is there is replaced, and begins anew
    assert made.challenged(came()) == RESPONSE


# ---- who challenges --------------------------------------------------------------------------------------------------


def test_the_right_response_is_valid() -> None:
    made = Challenger(per_s=1.0, burst=1)
    assert made.ask(QUESTION, 0.0) == CHALLENGE
    assert made.outstanding == [(CLIENT, ID_CHAL)]
    assert made.answered(CLIENT, RESPONSE, 9.9) is None
    (verdict,) = made.verdicts()
    assert verdict[:5] == (CLIENT, ID_CHAL, TOKEN_BUNDLE, True, True)
    assert not made.verdicts()
    assert made.next_timeout() is None
    assert made.answered(CLIENT, RESPONSE, 9.9) is Ignored.NOT_OUTSTANDING


@pytest.mark.parametrize(
    ("digest", "why"),
    [
        (Digest(SHA_256, bytes(32)), "not that of this account's key"),
        (Digest(SHA_384, digest_of(AUTHORIZATION, SHA_384)), "hash -43, which was not offered"),
        (Digest("sha-256", digest_of(AUTHORIZATION, SHA_256)), "hash sha-256, which was not offered"),
        (Digest(None, digest_of(AUTHORIZATION, SHA_256)), "does not say which hash"),
    ],
)
def test_a_wrong_digest_fails_at_once(digest: Digest, why: str) -> None:
    made = challenger()
    assert made.answered(CLIENT, RESPONSE._replace(digest=digest), 1.0) is None
    (verdict,) = made.verdicts()
    assert (verdict.valid, verdict.answered) == (False, True)
    assert why in verdict.why


@pytest.mark.parametrize(
    ("source", "record", "why"),
    [
        (OTHER, RESPONSE, Ignored.OTHER_SOURCE),
        (CLIENT, RESPONSE._replace(token_bundle=b"x" * 16), Ignored.NOT_OUTSTANDING),
        (CLIENT, RESPONSE._replace(id_chal=b"x" * 16), Ignored.NOT_OUTSTANDING),
        (CLIENT, CHALLENGE, Ignored.NOT_A_RESPONSE),
    ],
)
def test_what_anybody_could_send_decides_nothing(source: Eid, record: AcmeRecord, why: Ignored) -> None:
    made = challenger()
    assert made.answered(source, record, 1.0) is why
    assert not made.verdicts()
    made.handle_timeout(9.9)
    assert not made.verdicts()
    assert made.next_timeout() == 10.0
    made.handle_timeout(10.0)
    (verdict,) = made.verdicts()
    assert (verdict.valid, verdict.answered) == (False, False)


def test_a_right_response_after_the_window_is_too_late() -> None:
    made = challenger()
    assert made.answered(CLIENT, RESPONSE, 10.0) is Ignored.EXPIRED
    (verdict,) = made.verdicts()
    assert not verdict.valid


def test_several_perspectives_have_verdicts_of_their_own() -> None:
    made = challenger()
    second = QUESTION._replace(token_bundle=b"2" * 16)
    made.ask(second, 1.0)
    assert made.answered(CLIENT, RESPONSE, 2.0) is None
    made.handle_timeout(11.0)
    assert [(each.token_bundle, each.valid) for each in made.verdicts()] == [(TOKEN_BUNDLE, True), (b"2" * 16, False)]


def test_a_bare_digest_is_right_where_no_hash_was_offered() -> None:
    made = challenger(QUESTION._replace(algorithms=()))
    digest = Digest(None, digest_of(AUTHORIZATION, SHA_256))
    assert made.answered(CLIENT, RESPONSE._replace(digest=digest), 1.0) is None
    assert made.verdicts()[0].valid


def test_challenges_are_not_sent_to_anybody_at_any_rate() -> None:
    made = Challenger(per_s=0.5, burst=2)
    tokens = (number.to_bytes(16) for number in count())
    for _ in range(2):
        made.ask(QUESTION._replace(token_bundle=next(tokens)), 0.0)
    with pytest.raises(RefusedError, match=r"was challenged 2 times just now: wait 2 s"):
        made.ask(QUESTION._replace(token_bundle=next(tokens)), 1.0)
    made.ask(QUESTION._replace(node=OTHER, token_bundle=next(tokens)), 1.0)
    made.ask(QUESTION._replace(token_bundle=next(tokens)), 3.0)


def test_what_the_challenger_holds_is_bounded() -> None:
    made = Challenger(per_s=1e-9, burst=MAX_OUTSTANDING)
    for number in range(MAX_OUTSTANDING):
        made.ask(QUESTION._replace(token_bundle=number.to_bytes(16)), 0.0)
    with pytest.raises(RefusedError, match="1024 challenges are outstanding"):
        made.ask(QUESTION, 0.0)
    made = Challenger(per_s=1e-9, burst=1)
    for number in range(MAX_TARGETS):
        made.ask(QUESTION._replace(node=Eid.parse(f"ipn:{number + 1}.0"), token_bundle=number.to_bytes(16)), 0.0)
        made.cancel(number.to_bytes(16))
    with pytest.raises(RefusedError, match="was challenged 1 times"):
        made.ask(QUESTION, 0.0)


def test_a_token_is_taken_once_and_a_node_has_a_node_id() -> None:
    made = challenger()
    with pytest.raises(RefusedError, match="take a fresh one"):
        made.ask(QUESTION, 0.0)
    made.cancel(TOKEN_BUNDLE)
    made.ask(QUESTION, 0.0)
    for wrong in ("dtn://node/service", "dtn:none", "ipn:!.0"):
        with pytest.raises(MalformedError, match="is no node ID"):
            made.ask(QUESTION._replace(node=Eid.parse(wrong), token_bundle=b"y" * 16), 0.0)


# ---- a whole node ----------------------------------------------------------------------------------------------------


def challenged(node: LoneNode, **facts: object) -> list[Administer]:
    node.machine.register_records(RECORD_TYPE, "acme")
    payload = encode_admin(UnknownRecord(RECORD_TYPE, CHALLENGE.encode_content()))
    node.path_up(1, "dtn://acme-server/")
    node.receive(1, bundle("dtn://acme-server/", "dtn://acme-client/", payload, **facts))  # type: ignore[arg-type]
    return node.took(Administer)


def test_a_record_is_handed_to_its_service_with_what_its_bundle_said() -> None:
    node = LoneNode("dtn://acme-client/").start()
    (effect,) = challenged(node, flags=BundleFlags.ADMIN | BundleFlags.ACK_REQUESTED)
    assert effect.service == "acme"
    record = effect.record
    assert (record.source, record.destination, record.wants_ack) == (SERVER, CLIENT, True)
    assert record.expires_ms > record.created_ms
    assert decode_acme_untrusted(record.record.content) == CHALLENGE
    assert not node.store.bundles


def test_a_record_without_the_flag_is_a_response() -> None:
    (effect,) = challenged(LoneNode("dtn://acme-client/").start(), flags=BundleFlags.ADMIN)
    assert not effect.record.wants_ack


def test_a_record_comes_once_though_its_bundle_comes_twice() -> None:
    node = LoneNode("dtn://acme-client/").start()
    assert len(challenged(node, flags=BundleFlags.ADMIN)) == 1
    assert not challenged(node, flags=BundleFlags.ADMIN)


def test_flags_and_source_of_what_a_node_sends() -> None:
    node = LoneNode("dtn://acme-server/", aliases=(Eid.parse("ipn:12.0"),)).start().path_up(1, "dtn://acme-client/")
    adu = Adu(CLIENT, Octets(b"\x82\x18\xff\xa0"), admin=True, wants_ack=True, lifetime_ms=60_000)
    node.machine.originate([adu, adu._replace(wants_ack=False, source_node=Eid.parse("ipn:12.0"))], node.now)
    node.settle()
    challenge, response = (whole(unit).primary for unit in node.forwarded(1))
    assert (challenge.flags, challenge.source, challenge.lifetime_ms) == (0x22, SERVER, 60_000)
    assert (response.flags, response.source) == (0x02, Eid.parse("ipn:12.0"))
    node.machine.originate([adu._replace(source_node=OTHER, token=1)], node.now)
    assert [type(effect).__name__ for effect in node.machine.effects()] == ["AduRefused"]


def test_challenges_of_the_older_agent_ask_for_a_deletion_report() -> None:
    """RFC 9171 §4.2.3 forbids that for administrative records: such a bundle is taken where the rule is switched off."""
    flags = BundleFlags.ADMIN | BundleFlags.ACK_REQUESTED | BundleFlags.REPORT_DELETION
    assert not challenged(LoneNode("dtn://acme-client/").start(), flags=flags)
    node = LoneNode("dtn://acme-client/", strictness=STRICT._replace(check_flags=False)).start()
    (effect,) = challenged(node, flags=flags)
    assert effect.record.wants_ack

"""Both sides of the validation of node IDs (RFC 9891 §3): who answers challenges, and who judges the answers.

A node that is to be certified answers challenges that it expects, each once (`Responder`). A node next to an ACME server
challenges, and says of each challenge whether the answer proved that the node ID's owner holds the account (`Challenger`).
Neither signs: who forges bundles on the way between them is seen by an integrity block only.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from hmac import compare_digest
from typing import Final, NamedTuple

from tumpline.errors import MalformedError, RefusedError
from tumpline.machines.bucket import Bucket
from tumpline.wire.acme import (
    ALGORITHMS,
    SHA_256,
    AcmeRecord,
    Algorithm,
    Digest,
    digest_of,
    key_authorization,
    token_to_text,
)
from tumpline.wire.eid import Eid

MAX_EXPECTED: Final = 1024  # each is given by the node's own user, and forgotten by `stop_expecting` only
MAX_ANSWERS: Final = (
    64  # challenges answered for one id-chal: a server has a few perspectives and tries again a few times
)
MAX_OUTSTANDING: Final = 1024  # challenges that wait for their answers; each for a minute or so
MAX_TARGETS: Final = 1024  # node IDs whose rate is remembered

# RFC 9891 §3: twice the round trip, and not below a second; a minute at most where all is on Earth.
MIN_INTERVAL_S: Final = 1.0

Key = bytes | Eid  # id-chal; or the challenging node, for programs that know no id-chal


# ---- who answers -----------------------------------------------------------------------------------------------------


class Ignored(Enum):
    """Why a record is left without an answer, or does not count as one."""

    UNEXPECTED = "its id-chal is not expected here"
    EXPIRED = "it came after its time"
    NO_ALGORITHM = "none of its hash algorithms is known here"
    ANSWERED = "it was answered before"
    TOO_MANY = f"its id-chal was answered {MAX_ANSWERS} times"
    NOT_A_CHALLENGE = "it asks for an answer, and has a digest itself"
    NOT_A_RESPONSE = "it has no digest"
    NOT_OUTSTANDING = "no challenge of that id-chal and token-bundle is outstanding"
    OTHER_SOURCE = "it does not come from the node that was challenged"


class Challenge(NamedTuple):
    """A challenge bundle that came. `left_ms`: milliseconds of its lifetime that are left."""

    source: Eid
    created_ms: int
    sequence: int
    left_ms: int
    record: AcmeRecord


class _Expected:
    """What the user's ACME client told about one challenge object."""

    __slots__ = ("answered", "thumbprint", "token_chal")

    def __init__(self, token_chal: bytes, thumbprint: bytes) -> None:
        self.token_chal = token_chal
        self.thumbprint = thumbprint
        self.answered: set[tuple[Eid, int, int]] = set()


class Responder:
    """Answers the challenges that its user expects. `bare_digests`: also those of agents that know no algorithms."""

    def __init__(self, *, bare_digests: bool = False) -> None:
        self._bare_digests = bare_digests
        self._expected: dict[Key, _Expected] = {}

    @property
    def expected(self) -> list[Key]:
        return list(self._expected)

    def expect(self, key: Key, token_chal: bytes, thumbprint: bytes) -> None:
        """From now on challenges with this id-chal are answered. Replaces an equal one. Raises: RefusedError."""
        if key not in self._expected and len(self._expected) >= MAX_EXPECTED:
            raise RefusedError(
                f"{MAX_EXPECTED} challenges are expected already: end some with `tumpline acme expect-stop`"
            )
        self._expected[key] = _Expected(token_chal, thumbprint)

    def stop_expecting(self, key: Key) -> bool:
        """Whether it was expected."""
        return self._expected.pop(key, None) is not None

    def challenged(self, challenge: Challenge) -> AcmeRecord | Ignored:
        """The answer to a challenge, which is to live for `left_ms`; or why there is none."""
        record = challenge.record
        expected = self._expected.get(record.id_chal) or self._expected.get(challenge.source)
        if expected is None:
            return Ignored.UNEXPECTED
        if record.digest is not None:
            return Ignored.NOT_A_CHALLENGE
        if challenge.left_ms <= 0:  # RFC 9891 §3.3: within creation time and lifetime
            return Ignored.EXPIRED
        algorithm = self._choose(record.algorithms)
        if algorithm is None:
            return Ignored.NO_ALGORITHM
        if (again := self._note(expected, challenge)) is not None:
            return again
        authorization = key_authorization(record.token_bundle, expected.token_chal, expected.thumbprint)
        shown = algorithm if record.algorithms else None
        return AcmeRecord(record.id_chal, record.token_bundle, Digest(shown, digest_of(authorization, algorithm)))

    def _choose(self, offered: Sequence[Algorithm]) -> Algorithm | None:
        """RFC 9891 §3: the first that both know."""
        if not offered:
            return SHA_256 if self._bare_digests else None
        return next((algorithm for algorithm in offered if algorithm in ALGORITHMS), None)

    def _note(self, expected: _Expected, challenge: Challenge) -> Ignored | None:
        """Several challenges of one id-chal are in order, from different sources or at different times; each counts once."""
        which = challenge.source, challenge.created_ms, challenge.sequence
        if which in expected.answered:
            return Ignored.ANSWERED
        if len(expected.answered) >= MAX_ANSWERS:
            return Ignored.TOO_MANY
        expected.answered.add(which)
        return None


# ---- who challenges --------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """How one challenge (one perspective) ended; of several, whoever asked decides."""

    node: Eid
    id_chal: bytes
    token_bundle: bytes
    valid: bool
    answered: bool  # there was a response, right or wrong
    why: str


class Question(NamedTuple):
    """What is to be found out: does `node` belong to the holder of the account's key?"""

    node: Eid
    id_chal: bytes
    token_chal: bytes
    token_bundle: bytes
    thumbprint: bytes
    algorithms: tuple[Algorithm, ...] = (SHA_256,)  # preferred first; none: the peer knows bare digests only
    interval_s: float = 10.0  # within which the answer counts


class _Outstanding(NamedTuple):
    node: Eid
    id_chal: bytes
    authorization: str
    algorithms: tuple[Algorithm, ...]
    deadline: float


class Challenger:
    """Sends challenges and judges what comes. A challenge is known by its token-bundle, which no other has."""

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._outstanding: dict[bytes, _Outstanding] = {}
        self._rates: dict[Eid, Bucket] = {}
        self._verdicts: list[Verdict] = []

    @property
    def outstanding(self) -> list[tuple[Eid, bytes]]:
        """Node and id-chal of each challenge without an answer."""
        return [(each.node, each.id_chal) for each in self._outstanding.values()]

    def ask(self, question: Question, now: float) -> AcmeRecord:
        """The record of the challenge to send now. Raises: MalformedError, RefusedError (too many, too often)."""
        token = question.token_bundle
        if not question.node.is_administrative or question.node.is_local:
            raise MalformedError(f"{question.node} is no node ID: write dtn://NAME/ or ipn:NODE.0")
        if token in self._outstanding:
            raise RefusedError(f"a challenge with token-bundle {token_to_text(token)} is outstanding: take a fresh one")
        if len(self._outstanding) >= MAX_OUTSTANDING:
            raise RefusedError(f"{MAX_OUTSTANDING} challenges are outstanding: wait until some are over")
        if not self._may_ask(question.node, now):
            raise RefusedError(
                f"{question.node} was challenged {self._burst} times just now: wait {1 / self._per_s:g} s"
            )
        authorization = key_authorization(token, question.token_chal, question.thumbprint)
        self._outstanding[token] = _Outstanding(
            question.node, question.id_chal, authorization, question.algorithms, now + question.interval_s
        )
        return AcmeRecord(question.id_chal, token, None, question.algorithms)

    def cancel(self, token_bundle: bytes) -> None:
        """The challenge could not be sent: it gets no verdict."""
        self._outstanding.pop(token_bundle, None)

    def answered(self, source: Eid, record: AcmeRecord, now: float) -> Ignored | None:
        """A response came. None: it led to a verdict."""
        asked = self._outstanding.get(record.token_bundle)
        if asked is None or asked.id_chal != record.id_chal:
            return Ignored.NOT_OUTSTANDING
        if asked.node != source:  # RFC 9891 §3.4; anybody can send such ones, so they decide nothing
            return Ignored.OTHER_SOURCE
        if record.digest is None:
            return Ignored.NOT_A_RESPONSE
        if now >= asked.deadline:  # RFC 9891 §3.4: the window of the challenge, whatever the response's lifetime
            self.handle_timeout(now)
            return Ignored.EXPIRED
        wrong = _fault(asked, record.digest)
        self._end(record.token_bundle, valid=wrong is None, answered=True, why=wrong or "the response proves it")
        return None

    def next_timeout(self) -> float | None:
        """When the next window closes."""
        return min((asked.deadline for asked in self._outstanding.values()), default=None)

    def handle_timeout(self, now: float) -> None:
        """Windows that are over without an answer."""
        for token, asked in list(self._outstanding.items()):
            if asked.deadline <= now:
                self._end(token, valid=False, why="no valid response came in time")

    def verdicts(self) -> list[Verdict]:
        """Those since the last call."""
        verdicts, self._verdicts = self._verdicts, []
        return verdicts

    def _end(self, token: bytes, *, valid: bool, answered: bool = False, why: str) -> None:
        asked = self._outstanding.pop(token)
        self._verdicts.append(Verdict(asked.node, asked.id_chal, token, valid, answered, why))

    def _may_ask(self, node: Eid, now: float) -> bool:
        """RFC 9891 §6: challenges make others send bundles, so they are not sent to anybody at any rate."""
        rate = self._rates.get(node)
        if rate is None:
            if len(self._rates) >= MAX_TARGETS:
                self._rates = {each: bucket for each, bucket in self._rates.items() if not bucket.is_full(now)}
            if len(self._rates) >= MAX_TARGETS:
                return False
            rate = self._rates[node] = Bucket(self._burst, self._burst, self._per_s, now)
        return rate.take(now)


def _fault(asked: _Outstanding, digest: Digest) -> str | None:
    """What is wrong with a digest, if something is."""
    algorithm = digest.algorithm
    if algorithm is None and asked.algorithms:
        return "the response does not say which hash made its digest"
    if algorithm is not None and algorithm not in asked.algorithms:
        return f"the response uses hash {algorithm}, which was not offered"
    expected = digest_of(asked.authorization, SHA_256 if algorithm is None else algorithm)
    if not compare_digest(digest.octets, expected):
        return "the digest is not that of this account's key and these tokens"
    return None

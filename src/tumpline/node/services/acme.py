"""Validation of node IDs for ACME (RFC 9891): answers the challenges that its user expects, and challenges others.

Neither expectations nor challenges outlive the agent: both hold what only the account's owner shall know, and an ACME
server asks again. Bundles are not signed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tumpline.errors import MalformedError, NoAnswerError, RefusedError, TumplineError
from tumpline.machines.acme import MIN_INTERVAL_S, Challenge, Challenger, Ignored, Key, Question, Responder, Verdict
from tumpline.machines.contract import Octets
from tumpline.node.services._api import NOTHING, AdminRecord, Adu, Delivery, ServiceContext, ServiceSpec
from tumpline.wire.acme import (
    MIN_TOKEN_OCTETS,
    RECORD_TYPE,
    SHA_256,
    AcmeRecord,
    decode_acme_untrusted,
    token_from_text,
    token_to_text,
)
from tumpline.wire.admin import UnknownRecord, encode_admin
from tumpline.wire.eid import Eid

MAX_RTT_S = 30 * 86_400.0  # what is longer is a mistake of units

RecordType = Annotated[int, Meta(ge=2, le=(1 << 32) - 1)]  # 1 is the status report


class AcmeConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Validation of node IDs (RFC 9891). Works without a section; these keys are for peers from before the RFC."""

    record_types: tuple[RecordType, ...] = (RECORD_TYPE,)
    """Types of administrative records that are taken for this exchange; answers have the type of their challenge. Add
    65536 (or 65535) for agents that were written before RFC 9891 assigned 255."""
    send_type: RecordType = RECORD_TYPE
    """The type of challenges from here."""
    bare_digests: bool = False
    """Answer challenges without hash algorithms, and send such ones: agents of 2021 and 2022 know SHA-256 only."""
    interval_s: Annotated[float, Meta(ge=MIN_INTERVAL_S, le=86_400)] = 10.0
    """How long a challenge waits for its response unless it is told a round trip."""
    interval_s_max: Annotated[float, Meta(ge=MIN_INTERVAL_S, le=30 * 86_400)] = 60.0
    """The longest such time. RFC 9891 recommends a minute where all nodes are on Earth."""
    challenges_per_s: Annotated[float, Meta(gt=0, le=1000)] = 0.2
    """Challenges a second to one node, on average."""
    challenges_burst: Annotated[int, Meta(ge=1, le=1000)] = 8
    """Challenges to one node at once."""

    def __post_init__(self) -> None:
        if self.interval_s > self.interval_s_max:
            raise ValueError("interval_s: longer than interval_s_max; write a shorter one")
        if self.send_type not in self.record_types:
            raise ValueError(f"send_type: answers of type {self.send_type} are not taken; add it to record_types")


class AcmeExpect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A challenge that an ACME client was told of. Tokens and thumbprint in base64url without padding."""

    id_chal: str = ""
    """From the challenge object."""
    source: str = ""
    """Instead of `id_chal`: the node that challenges, whatever id-chal it uses."""
    token_chal: str
    """From the challenge object."""
    thumbprint: str
    """Of the account's key (RFC 7638, SHA-256)."""


class AcmeExpectStop(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to answer no more."""

    id_chal: str = ""
    source: str = ""


class AcmeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whom to challenge, and with what."""

    node: str
    """The node ID under test."""
    id_chal: str
    token_chal: str
    thumbprint: str
    token_bundle: str = ""
    """Made afresh if it is not given."""
    rtt_s: float | None = None
    """Round trip that the client expects: the response may take twice as long."""
    source: str = ""
    """Which of this node's IDs challenges. Default: its primary one."""


class AcmeSent(msgspec.Struct, tag="sent", tag_field="event"):
    """The challenge is on its way."""

    bundle: str
    token_bundle: str
    interval_s: float


class AcmeVerdict(msgspec.Struct, tag="verdict", tag_field="event"):
    """The last event."""

    node: str
    id_chal: str
    token_bundle: str
    valid: bool
    why: str
    signed: bool
    """Whether integrity blocks vouched for the bundles. They are not made yet."""
    exit_code: int
    """0: valid; 3: no response in time; 5: a wrong one."""


AcmeEvent = AcmeSent | AcmeVerdict


class Acme:
    """Both sides of the exchange, for this node."""

    name = "acme"

    def __init__(self, config: AcmeConfig) -> None:
        self._config = config
        self._responder = Responder(bare_digests=config.bare_digests)
        self._challenger = Challenger(per_s=config.challenges_per_s, burst=config.challenges_burst)
        self._waiting: dict[bytes, asyncio.Future[Verdict]] = {}  # by token-bundle
        self._timer: asyncio.TimerHandle | None = None
        self.counters = {"answered": 0, "ignored": 0, "valid": 0, "invalid": 0}

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        for code in self._config.record_types:
            ctx.register_records(code)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            future.cancel()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """It has no endpoint: records come by `administer`."""
        self._ctx.done([(delivery.seq, NOTHING) for delivery in deliveries])

    # ---- who is challenged --------------------------------------------------------------------------------------------

    def expect(self, request: AcmeExpect) -> None:
        """Answer such challenges from now on. Raises: MalformedError, RefusedError (too many)."""
        token_chal = token_from_text(request.token_chal, "token_chal")
        thumbprint = token_from_text(request.thumbprint, "thumbprint")
        self._responder.expect(_key(request), token_chal, thumbprint)

    def stop_expecting(self, request: AcmeExpectStop) -> bool:
        """Whether they were expected. Raises: MalformedError."""
        return self._responder.stop_expecting(_key(request))

    # ---- records that come --------------------------------------------------------------------------------------------

    def administer(self, record: AdminRecord) -> None:
        came = record.record
        assert isinstance(came, UnknownRecord), "records of these types are decoded here"
        try:
            content = decode_acme_untrusted(came.content)
        except MalformedError as error:
            self._ignore(record.source, str(error))
            return
        # RFC 9891 §3: the flag tells challenges from responses.
        if record.wants_ack:
            self._challenged(record, came.code, content)
        elif (why := self._challenger.answered(record.source, content, self._ctx.now())) is not None:
            self._ignore(record.source, why.value, content)
        self._turn()

    def _challenged(self, came: AdminRecord, code: int, content: AcmeRecord) -> None:
        left_ms = came.expires_ms - self._ctx.dtn_ms()
        challenge = Challenge(came.source, came.created_ms, came.sequence, left_ms, content)
        answer = self._responder.challenged(challenge)
        if isinstance(answer, Ignored):
            self._ignore(came.source, answer.value, content)
        else:
            work = self._answer(came.source, _adu(came.source, came.destination, code, answer, left_ms), content)
            self._ctx.spawn(work, f"answer to {came.source}")

    async def _answer(self, to: Eid, adu: Adu, challenge: AcmeRecord) -> None:
        try:
            bundle = await self._ctx.send(adu)
        except TumplineError as error:
            self._ctx.notice("acme_answer_failed", to=str(to), error=str(error))
            return
        self.counters["answered"] += 1
        id_chal = token_to_text(challenge.id_chal)
        self._ctx.notice("acme_challenge_answered", to=str(to), id_chal=id_chal, bundle=bundle, signed=False)

    def _ignore(self, source: Eid, why: str, content: AcmeRecord | None = None) -> None:
        self.counters["ignored"] += 1
        id_chal = "" if content is None else token_to_text(content.id_chal)
        self._ctx.notice("acme_record_ignored", source=str(source), id_chal=id_chal, why=why)

    # ---- who challenges -----------------------------------------------------------------------------------------------

    async def run(self, request: AcmeRequest) -> AsyncGenerator[AcmeEvent, None]:
        """Challenge a node and wait for the verdict. It comes, as a notice too, though nobody reads it.

        Raises: MalformedError, RefusedError (too many, too often, no such source), StorageError."""
        sent, verdict = await self.challenge(request)
        yield sent
        yield told(await asyncio.shield(verdict))

    async def challenge(self, request: AcmeRequest) -> tuple[AcmeSent, asyncio.Future[Verdict]]:
        """Send a challenge; the future gives its verdict. Raises: as `run`."""
        question = self._question(request)
        source = Eid.parse(request.source) if request.source else self._ctx.node_id
        record = self._challenger.ask(question, self._ctx.now())
        token = question.token_bundle
        verdict = self._waiting[token] = asyncio.get_running_loop().create_future()
        self._turn()  # the window is open, whether or not the store is slow
        adu = _adu(question.node, source, self._config.send_type, record, round(question.interval_s * 1000))
        try:
            bundle = await self._ctx.send(adu._replace(wants_ack=True))
        except BaseException:
            self._challenger.cancel(token)
            self._waiting.pop(token, None)
            raise
        return AcmeSent(bundle, token_to_text(token), question.interval_s), verdict

    def _question(self, request: AcmeRequest) -> Question:
        given = request.token_bundle
        return Question(
            Eid.parse(request.node),
            token_from_text(request.id_chal, "id_chal"),
            token_from_text(request.token_chal, "token_chal"),
            token_from_text(given, "token_bundle") if given else secrets.token_bytes(MIN_TOKEN_OCTETS),
            token_from_text(request.thumbprint, "thumbprint"),
            () if self._config.bare_digests else (SHA_256,),
            self._interval_s(request.rtt_s),
        )

    def _interval_s(self, rtt_s: float | None) -> float:
        """RFC 9891 §3: twice the round trip, within bounds."""
        if rtt_s is None:
            return self._config.interval_s
        if not 0 <= rtt_s <= MAX_RTT_S:
            raise MalformedError(f"rtt_s: write seconds, 0 to {MAX_RTT_S:.0f}")
        return min(max(2 * rtt_s, MIN_INTERVAL_S), self._config.interval_s_max)

    # ---- verdicts -----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Tell verdicts, and wait for the next window to close."""
        for verdict in self._challenger.verdicts():
            self._tell(verdict)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._challenger.next_timeout()
        wait = None if deadline is None else max(0.0, deadline - self._ctx.now())
        self._timer = None if wait is None else self._ctx.call_later(wait, self._expire)

    def _expire(self) -> None:
        self._challenger.handle_timeout(self._ctx.now())
        self._turn()

    def _tell(self, verdict: Verdict) -> None:
        self.counters["valid" if verdict.valid else "invalid"] += 1
        fields = msgspec.structs.asdict(told(verdict))
        del fields["exit_code"]
        self._ctx.notice("acme_validated", **fields)
        future = self._waiting.pop(verdict.token_bundle, None)
        if future is not None and not future.done():
            future.set_result(verdict)

    def describe(self) -> dict[str, Any]:
        return {
            "expected": [str(key) if isinstance(key, Eid) else token_to_text(key) for key in self._responder.expected],
            "outstanding": [
                {"node": str(node), "id_chal": token_to_text(id_chal)} for node, id_chal in self._challenger.outstanding
            ],
            **self.counters,
        }


def _adu(to: Eid, source: Eid, code: int, record: AcmeRecord, lifetime_ms: int) -> Adu:
    payload = Octets(encode_admin(UnknownRecord(code, record.encode_content())))
    return Adu(to, payload, lifetime_ms=lifetime_ms, admin=True, source_node=source)


def _key(request: AcmeExpect | AcmeExpectStop) -> Key:
    if bool(request.id_chal) == bool(request.source):
        raise MalformedError("write either id_chal or source")
    return token_from_text(request.id_chal, "id_chal") if request.id_chal else Eid.parse(request.source)


def told(verdict: Verdict) -> AcmeVerdict:
    """A verdict, as clients read it."""
    code = 0 if verdict.valid else RefusedError.exit_code if verdict.answered else NoAnswerError.exit_code
    id_chal, token = token_to_text(verdict.id_chal), token_to_text(verdict.token_bundle)
    return AcmeVerdict(str(verdict.node), id_chal, token, verdict.valid, verdict.why, signed=False, exit_code=code)


SPEC = ServiceSpec(
    name="acme",
    summary="validation of node IDs for ACME (RFC 9891)",
    config=AcmeConfig,
    open=Acme,
    always=True,
)

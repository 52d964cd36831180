"""What the NATs and firewalls between us and a STUN server do to UDP (RFC 5780), found out without I/O.

Every test has a socket of its own: what one test leaves in a NAT may spoil another (RFC 5780 §4.5). Requests are repeated as
RFC 8489 §6.2.1 says, but no test lasts longer than `Timing.test_s`, so all of them together are over in a known time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire.stun import (
    Attr,
    ChangeRequest,
    Kind,
    Message,
    Method,
    TransportAddress,
    decode_stun_untrusted,
    encode_stun,
    is_stun,
)


class Dependence(Enum):
    """What a mapping or a filter depends on (RFC 4787 §4.1, §5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS = "address-dependent"
    ADDRESS_AND_PORT = "address-and-port-dependent"


class Ports(Enum):
    """How a NAT chooses outside ports (RFC 4787 §4.2.1; "sequential" is what makes them guessable)."""

    PRESERVED = "preserved"
    SEQUENTIAL = "sequential"
    RANDOM = "random"


class NatBehavior(NamedTuple):
    """What was found; None where the tests could not tell."""

    blocked: bool  # nothing came back at all: UDP is blocked, or the server does not answer
    local: TransportAddress
    mapped: TransportAddress | None = None
    natted: bool | None = None
    mapping: Dependence | None = None
    filtering: Dependence | None = None
    hairpin: bool | None = None
    ports: Ports | None = None
    port_step: int | None = None  # if sequential: the outside port of a new mapping minus that of the one before
    alg: bool | None = None  # something on the way rewrites addresses inside of messages (RFC 5780 §3.6)
    rtt_s: float | None = None
    problem: str = ""  # why something could not be told


class Datagram(NamedTuple):
    """To be sent from the socket of this number."""

    socket: int
    destination: TransportAddress
    data: bytes


class Timing(NamedTuple):
    """Seconds."""

    rto_s: float = 0.5  # RFC 8489 §6.2.1: RECOMMENDED before anything is known of the round trip
    rto_least_s: float = 0.1  # a measured round trip may be far shorter; a busy host still needs its time
    test_s: float = 2.5  # and no test goes on for longer: Rc = 7 would be 39.5 s for each answer that a filter eats
    requests: int = 4  # Rc
    last_wait: int = 4  # Rm
    pace_s: float = 0.1  # RFC 5780 §5: no more than ten new transactions per second


DEFAULT_TIMING: Final = Timing()


# RFC 5780 §4.5. The same instant's three PORTS sockets show what the outside ports of new mappings have in common.
MAPPING, FILTER_BOTH, FILTER_PORT, HAIRPIN = range(4)
PORTS: Final = (4, 5, 6)
SOCKETS: Final = 7
SEQUENTIAL_STEP_MOST: Final = 16  # other hosts behind the same NAT take ports in between


class _Test(NamedTuple):
    """One transaction: from which socket, to whom, and from where its answer must come."""

    name: str
    socket: int
    destination: TransportAddress
    origin: TransportAddress
    change: ChangeRequest | None = None


class _Transaction:
    __slots__ = ("deadline", "end", "request", "rto_s", "sent", "started", "test")

    def __init__(self, test: _Test, request: bytes, now: float, timing: Timing, rto_s: float) -> None:
        self.test = test
        self.request = request
        self.started = now
        self.rto_s = rto_s
        self.sent = 0
        self.end = now + timing.test_s
        self.deadline = now


class _Answer(NamedTuple):
    mapped: TransportAddress | None
    other: TransportAddress | None = None
    plain: TransportAddress | None = None  # MAPPED-ADDRESS
    problem: str = ""


class NatBehaviorMachine:
    """Asks one server. The driver opens `SOCKETS` sockets first, and says which local addresses they have.

    `new_transaction` gives 12 fresh octets of chance. `result` is None until all is over.
    """

    def __init__(
        self,
        server: TransportAddress,
        local: Sequence[TransportAddress],
        new_transaction: Callable[[], bytes],
        now: float,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        assert len(local) == SOCKETS, f"{len(local)} sockets instead of {SOCKETS}"
        self.result: NatBehavior | None = None
        self._server = server
        self._local = local
        self._new_transaction = new_transaction
        self._timing = timing
        self._rto_s = timing.rto_s
        self._rtt_s: float | None = None
        self._waiting = [_Test("I", MAPPING, server, server)]
        self._next_start = now
        self._open: dict[bytes, _Transaction] = {}
        self._answers: dict[str, _Answer | None] = {}
        self._outbox: list[Datagram] = []
        self._start(now)

    # ---- what a driver calls ----

    def datagrams_to_send(self) -> list[Datagram]:
        """Everything to be sent since the last call."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_timeout(self) -> float | None:
        """The time at which `handle_timeout` wants to be called, or None when all is over."""
        deadlines = [transaction.deadline for transaction in self._open.values()]
        if self._waiting:
            deadlines.append(self._next_start)
        return min(deadlines, default=None)

    def handle_timeout(self, now: float) -> None:
        """Act on every deadline that is not after `now`."""
        for identity, transaction in list(self._open.items()):
            if transaction.deadline <= now:
                self._repeat(identity, transaction, now)
        self._start(now)

    def receive_datagram(self, socket: int, data: bytes, source: TransportAddress, now: float) -> None:
        """Something came to a socket. What is no answer to an open request is ignored (RFC 8489 §6.3)."""
        transaction = self._open.get(data[8:20]) if is_stun(data) else None
        if transaction is None:
            return
        try:
            message = decode_stun_untrusted(data)
        except MalformedError:
            return
        test = transaction.test
        if test.socket == HAIRPIN:
            # RFC 5780 §3.4: the NAT hairpins if our own request comes back, to the socket whose mapping it was sent to.
            if message.kind == Kind.REQUEST and socket == MAPPING:
                self._close(message.transaction, _Answer(source), now)
        elif message.kind in (Kind.SUCCESS, Kind.ERROR) and socket == test.socket:
            self._measure(transaction, now)
            self._close(message.transaction, _read_answer(message, test, source), now)

    # ---- transactions ----

    def _start(self, now: float) -> None:
        while self._waiting and self._next_start <= now:
            test = self._waiting.pop(0)
            attributes = () if test.change is None else ((int(Attr.CHANGE_REQUEST), test.change),)
            identity = self._new_transaction()
            request = encode_stun(Message(Kind.REQUEST, Method.BINDING, identity, attributes))
            transaction = self._open[identity] = _Transaction(test, request, now, self._timing, self._rto_s)
            self._repeat(identity, transaction, now)
            self._next_start = now + self._timing.pace_s

    def _repeat(self, identity: bytes, transaction: _Transaction, now: float) -> None:
        """RFC 8489 §6.2.1: Rc requests, each interval twice the one before, then Rm times the first one."""
        if transaction.sent == self._timing.requests or now >= transaction.end:
            self._close(identity, None, now)
            return
        wait_s = transaction.rto_s * 2**transaction.sent
        transaction.sent += 1
        if transaction.sent == self._timing.requests:
            wait_s = transaction.rto_s * self._timing.last_wait
        transaction.deadline = min(now + wait_s, transaction.end)
        test = transaction.test
        self._outbox.append(Datagram(test.socket, test.destination, transaction.request))

    def _measure(self, transaction: _Transaction, now: float) -> None:
        # Karn's algorithm (RFC 8489 §6.2.1): a repeated request tells nothing of the round trip. RFC 6298 §2.2: the first
        # sample R gives SRTT + 4 * RTTVAR = R + 4 * R / 2. More would not be worth keeping: all is over in seconds.
        if transaction.sent == 1 and self._rtt_s is None:
            self._rtt_s = now - transaction.started
            self._rto_s = max(self._timing.rto_least_s, 3 * self._rtt_s)

    def _close(self, identity: bytes, answer: _Answer | None, now: float) -> None:
        test = self._open.pop(identity).test
        self._answers[test.name] = answer
        if test.name == "I":
            self._plan(answer, now)
        if not self._open and not self._waiting:
            self.result = self._conclude()

    def _plan(self, first: _Answer | None, now: float) -> None:
        """Everything that follows test I. Filters come first: they are what has to be waited for."""
        if first is None or first.mapped is None:
            return
        server, other = self._server, self._second_address(first)
        if other is not None:
            cross = TransportAddress(other.host, server.port)
            self._waiting += [
                _Test("both", FILTER_BOTH, server, other, ChangeRequest(True, True)),
                _Test(
                    "port", FILTER_PORT, server, TransportAddress(server.host, other.port), ChangeRequest(False, True)
                ),
                _Test("II", MAPPING, cross, cross),
                _Test("III", MAPPING, other, other),
            ]
        self._waiting += [_Test(f"ports {socket}", socket, server, server) for socket in PORTS]
        if first.mapped != self._local[MAPPING]:
            self._waiting.append(_Test("hairpin", HAIRPIN, first.mapped, first.mapped))
        self._start(now)

    # ---- conclusions ----

    def _conclude(self) -> NatBehavior:
        first = self._answers["I"]
        local = self._local[MAPPING]
        if first is None:
            return NatBehavior(
                True, local, problem=f"{self._server} does not answer: UDP is blocked, or nobody is there"
            )
        if first.mapped is None:
            return NatBehavior(False, local, problem=first.problem)
        ports, step = self._ports()
        return NatBehavior(
            blocked=False,
            local=local,
            mapped=first.mapped,
            natted=first.mapped != local,
            mapping=self._mapping(first.mapped),
            filtering=self._filtering(),
            hairpin=self._answers["hairpin"] is not None if "hairpin" in self._answers else None,
            ports=ports,
            port_step=step,
            alg=None if first.plain is None else first.plain != first.mapped,
            rtt_s=self._rtt_s,
            problem=self._problem(first),
        )

    def _mapping(self, first: TransportAddress) -> Dependence | None:
        """RFC 5780 §4.3."""
        if first == self._local[MAPPING]:
            return Dependence.ENDPOINT_INDEPENDENT
        second, third = self._mapped("II"), self._mapped("III")
        if second == first:
            return Dependence.ENDPOINT_INDEPENDENT
        if second is None or third is None:
            return None
        return Dependence.ADDRESS if third == second else Dependence.ADDRESS_AND_PORT

    def _filtering(self) -> Dependence | None:
        """RFC 5780 §4.4. No answer means "filtered" only if the server can be trusted to have sent one."""
        if "both" not in self._answers:
            return None
        both, port = self._answers["both"], self._answers["port"]
        if (both and both.problem) or (port and port.problem):
            return None
        if not both and not self._second_answers():
            return None
        if both:
            return Dependence.ENDPOINT_INDEPENDENT
        return Dependence.ADDRESS if port else Dependence.ADDRESS_AND_PORT

    def _ports(self) -> tuple[Ports | None, int | None]:
        mapped = [self._mapped(f"ports {socket}") for socket in PORTS]
        outside = [address.port for address in mapped if address is not None]
        if len(outside) < len(PORTS):
            return None, None
        if outside == [self._local[socket].port for socket in PORTS]:
            return Ports.PRESERVED, None
        steps = {after - before for before, after in pairwise(outside)}
        step = steps.pop()
        if not steps and 0 < abs(step) <= SEQUENTIAL_STEP_MOST:
            return Ports.SEQUENTIAL, step
        return Ports.RANDOM, None

    def _mapped(self, name: str) -> TransportAddress | None:
        answer = self._answers.get(name)
        return None if answer is None else answer.mapped

    def _second_address(self, first: _Answer) -> TransportAddress | None:
        """The server's, if it is of use: RFC 5780 §6 wants both address and port to be others."""
        other = first.other
        return other if other and other.host != self._server.host and other.port != self._server.port else None

    def _second_answers(self) -> bool:
        return any(self._answers.get(name) is not None for name in ("II", "III"))

    def _problem(self, first: _Answer) -> str:
        other = self._second_address(first)
        if other is None:
            return f"{self._server} has no second address (RFC 5780 OTHER-ADDRESS): mapping and filtering stay unknown"
        if not self._second_answers():
            return f"{self._server} has a second address, but {other} does not answer"
        return next((answer.problem for answer in self._answers.values() if answer and answer.problem), "")


def _read_answer(message: Message, test: _Test, source: TransportAddress) -> _Answer:
    plain = message.get(Attr.MAPPED_ADDRESS)
    mapped = message.get(Attr.XOR_MAPPED_ADDRESS) or plain
    if message.kind == Kind.ERROR:
        error = message.get(Attr.ERROR_CODE)
        told = f"{error.code} {error.reason}".strip() if error else "an error without a code"
        return _Answer(None, problem=f"{test.destination} answers {told}")
    if message.not_understood:
        # RFC 8489 §6.3.3: such a response is discarded, the transaction has failed.
        return _Answer(None, problem=f"{test.destination} answers what cannot be understood here")
    if mapped is None:
        return _Answer(None, problem=f"{test.destination} does not tell our address")
    problem = "" if source == test.origin else f"{test.destination} answered from {source}, {test.origin} was asked for"
    return _Answer(mapped, message.get(Attr.OTHER_ADDRESS), plain, problem)

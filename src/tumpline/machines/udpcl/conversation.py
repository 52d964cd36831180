"""One conversation of UDPCL: a local socket and a remote address (draft-ietf-dtn-udpcl version 2; RFC 7122 is version 1).

The owner feeds `receive` with datagrams and gets bundles; `offer`s bundles and sends what `poll` gives, until
`next_timeout`. UDPCL acknowledges nothing: a bundle has ended when its last datagram was handed out (`Batch.tokens`).

The seam of DTLS. `StartDtls` says that a handshake begins, `dtls_begun` that the peer has begun one. From then on the owner
passes datagrams of the peer through a secured channel: records go there, and what comes out of it is given to
`receive(..., is_secured=True)`; what `poll` gives goes into it. Meanwhile nothing is polled. `dtls_done` opens the
conversation again, for good without plain text; `dtls_failed` ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.machines.udpcl.confirming import Confirming
from tumpline.machines.udpcl.congestion import Congestion, Pace
from tumpline.machines.udpcl.events import (
    DtlsDone,
    DtlsFailed,
    DtlsUnanswered,
    Event,
    PathMtuShrank,
    PeerListening,
    PeerNamed,
    PeerSilent,
    SpokeVersion2,
    StartDtls,
)
from tumpline.machines.udpcl.feedback import ECT_1, NOT_ECT, Feedback, Spacing
from tumpline.machines.udpcl.listening import PeerPresence, Repeating
from tumpline.machines.udpcl.outbox import Outbox
from tumpline.machines.udpcl.reassembly import Reassembly
from tumpline.machines.udpcl.sizing import Sizing
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import (
    KEEPALIVE,
    Extensions,
    Kind,
    decode_datagram_untrusted,
    encode_extensions,
    kind_of,
    segment_in,
    wholes_in,
)

# Given at once: one batch must not overrun a receiver whose buffer is the system's own.
POLL_OCTETS: Final = 128 << 10
DTLS_S: Final = 30.0  # for a handshake with all its repetitions, whatever its driver does
CONTROL_MOST: Final = 64  # control items that wait; of more the newest is dropped: all are told again
SUPPORTED: Final = (1, 7)  # an integer range: keys 1 to 8
_DTLS_INITIATION: Final = encode_extensions(Extensions(dtls=True))
DTLS_OCTETS: Final = 64  # a record's head, nonce and tag, whatever the cipher


class DtlsUse(Enum):
    """What a conversation makes of DTLS."""

    OFF = "off"
    OPTIONAL = "optional"  # we begin with it, and go on plainly if nobody answers; others may do as they like
    REQUIRED = "required"  # we begin with it; plain text of others is dropped


class State(Enum):
    """Of a conversation."""

    PLAIN = "plain"
    SECURING = "securing"  # a handshake is under way: nothing else is sent
    SECURED = "secured"
    FAILED = "failed"


class ConversationConfig(NamedTuple):
    """What all conversations of an endpoint are told."""

    node_id: Eid | None = None
    version: int = 2  # 1: no extension map is sent until the peer has sent one (RFC 7122)
    datagram_octets: int = 1200  # until a longer size was found
    datagram_octets_most: int = 65_507
    discovers_path_mtu: bool = True
    listen_s: float = 30.0  # interval of our Sender Listen to a kept peer; 0: none
    keepalive_s: float = 15.0  # RFC 7122 §3.4; 0: none
    pace: Pace = Pace()
    marks_ecn: bool = True
    tells_ecn: bool = True
    feedback: Spacing = Spacing()
    dtls: DtlsUse = DtlsUse.OFF


@dataclass(slots=True)
class Counters:
    """Datagrams and bundles of one conversation, or of all that are over."""

    datagrams_received: int = 0
    octets_received: int = 0
    bundles_received: int = 0
    datagrams_sent: int = 0
    octets_sent: int = 0
    bundles_sent: int = 0
    garbage: int = 0  # datagrams that follow no rule
    bundles6: int = 0  # bundles of version 6: dropped
    plain_refused: int = 0  # plain text where there should be none, and records where there is no session
    unanswered: int = 0  # answers that would have been longer than what came


class Batch(NamedTuple):
    """Datagrams to be sent now, in order, with one mark. `tokens`: bundles whose last datagram is among them. `plain`: what
    a secured channel made the datagrams of, one record of each."""

    datagrams: list[bytes]
    mark: int
    tokens: list[int]
    plain: Sequence[bytes] = ()


class Conversation:
    """`is_wanted`: somebody here chose the peer's address, so it is answered without measure. `is_kept`: and a relation is
    kept up with it (Sender Listen, keepalives, path MTU), whether or not bundles go."""

    def __init__(
        self,
        config: ConversationConfig,
        reassembly: Reassembly,
        peer: Hashable,
        chance: Callable[[], float],
        now: float,
    ) -> None:
        self.config = config
        self.state = State.PLAIN
        self.node_id: Eid | None = None  # as the peer told it
        self.certificate: bytes | None = None  # of the peer, DER, once secured
        self.failure = ""
        self.is_wanted = False
        self.is_kept = False
        self.speaks_version2 = False  # the peer has sent an extension map
        self.events: list[Event] = []
        self.counts = Counters()
        self.outbox = Outbox()
        self.last_heard_at = now
        self.last_used_at = now
        self.congestion = Congestion(config.pace, now)
        self.feedback = Feedback(config.feedback)
        self.sizing = Sizing(config.datagram_octets, config.datagram_octets_most, chance)
        self._reassembly = reassembly
        self.transfers_of: Hashable = peer  # whose transfers are put together, for the reassembly
        self._confirming = Confirming()
        self._presence = PeerPresence()
        self._control: list[bytes] = []
        self._dtls_until = 0.0
        self._doubts = 0  # of the congestion controller, as looked into
        self._listen = Repeating(0, now)
        self._keepalive = Repeating(0, now)

    # ---- what the owner wants ----------------------------------------------------------------------------------------

    def want(self, now: float, *, keep: bool = False, listen_s: float | None = None) -> None:
        """We chose to speak with this address; `keep` a relation with it, and tell every `listen_s` that we listen (by
        default as configured; from now on)."""
        begins = not self.is_wanted
        self.is_wanted = True
        if keep and (not self.is_kept or listen_s is not None):
            self.is_kept = True
            interval_s = self.config.listen_s if listen_s is None else listen_s
            self._listen = Repeating(interval_s, now)
            self._keepalive = Repeating(self.config.keepalive_s, now + self.config.keepalive_s)
            self._begin_path_mtu(now)
        # Draft: DTLS Initiation is the first message to a unicast peer when DTLS is enabled.
        if begins and self.config.dtls is not DtlsUse.OFF and self.state is State.PLAIN:
            self.start_dtls(now)

    def offer(self, token: int, bundle: bytes, now: float) -> None:
        """Send this bundle after the others; `token` comes back in a batch. Whoever sends bundles there has chosen to."""
        self.is_wanted = True
        self.outbox.offer(token, bundle)
        self.last_used_at = now

    def announce(self, listen_ms: int) -> None:
        """Send one Sender Listen now ("polling")."""
        self._tell(self._advertisement(listen_ms))

    def search_path_mtu(self, now: float, steps: int | None = None) -> None:
        """Find out now how long datagrams may be; `PathMtuFound` tells. `steps`: how finely the sizes are divided."""
        self.sizing.search(now, steps)

    @property
    def may_tell(self) -> bool:
        """Whether the peer may be sent extension maps. RFC 7122 knows none: the peer would take them for garbage."""
        return self.config.version == 2 or self.speaks_version2

    @property
    def bundle_octets_most(self) -> int | None:
        """The longest bundle that can be sent, None if any can. RFC 7122 §3.2: one that fits a datagram."""
        return None if self.may_tell else self.sizing.datagram_octets

    @property
    def is_idle(self) -> bool:
        """Nothing waits to be sent."""
        return not (self.outbox or self._control)

    @property
    def listens_until(self) -> float | None:
        """Until when the peer said that it takes datagrams."""
        return self._presence.until

    # ---- DTLS --------------------------------------------------------------------------------------------------------

    def start_dtls(self, now: float) -> None:
        """We are the client: DTLS Initiation goes first, the handshake follows (draft: it is not repeated)."""
        self._control = [_DTLS_INITIATION]
        self._securing(now)
        self.events.append(StartDtls())

    def dtls_begun(self, now: float) -> None:
        """The peer is the client, and has brought its cookie: a handshake goes on."""
        if self.state is State.PLAIN:
            self._control.clear()
            self._securing(now)

    def dtls_done(
        self,
        certificate: bytes | None,
        now: float,
        overhead_octets: int = DTLS_OCTETS,
        *,
        is_renewed: bool = False,
        names_itself: bool = True,
    ) -> None:
        """The handshake has ended well. `overhead_octets`: how much longer a record is than what it carries. `is_renewed`:
        the peer has restarted, and remembers nothing. `names_itself`: our certificate does not say alone who we are."""
        self.state = State.SECURED
        self.certificate = certificate
        self.sizing.overhead_octets = overhead_octets
        self.is_wanted = True  # the cookie has proved the address
        self.node_id = None  # what was said before was said plainly, or by whoever was there before
        if is_renewed:
            self._reassembly.forget_peer(self.transfers_of)
            self.transfers_of = (self.transfers_of, now)  # its numbers begin again, and mean other transfers
            self.feedback = Feedback(self.config.feedback)
            self.congestion = Congestion(self.config.pace, now)
        self.outbox.shorten(self.sizing.datagram_octets)
        self._tell_name(names_itself)
        self.events.append(DtlsDone(is_renewed))

    def _tell_name(self, names_itself: bool) -> None:
        """Draft: the node ID is required before transfers once DTLS is set up, unless the certificate names exactly one."""
        self._tell(Extensions(support=SUPPORTED, node_id=self.config.node_id if names_itself else None))

    def dtls_unanswered(self) -> None:
        """Nobody has answered our handshake: plainly then."""
        assert self.config.dtls is DtlsUse.OPTIONAL, "DTLS may be done without"
        self.state = State.PLAIN
        self.events.append(DtlsUnanswered())

    def dtls_failed(self, text: str) -> None:
        """The handshake failed, or the peer ended the session: nothing is sent in this conversation any more."""
        self.state = State.FAILED
        self.failure = text
        self._control.clear()
        self.events.append(DtlsFailed(text))

    def _securing(self, now: float) -> None:
        self.state = State.SECURING
        self._dtls_until = now + DTLS_S

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def receive(
        self,
        datagrams: Sequence[bytes],
        now: float,
        *,
        mark: int = NOT_ECT,
        is_multicast: bool = False,
        is_secured: bool = False,
    ) -> list[bytes]:
        """The bundles that these datagrams make whole. `mark`: the ECN bits that all of them came with."""
        counts = self.counts
        counts.datagrams_received += len(datagrams)
        self.last_heard_at = now
        if mark and not is_multicast and self.config.tells_ecn:
            self.feedback.count(mark, len(datagrams), now)
        is_plain_allowed = self.state is State.PLAIN and self.config.dtls is not DtlsUse.REQUIRED
        bundles: list[bytes] = []
        for data in datagrams:
            counts.octets_received += len(data)
            kind = kind_of(data[0]) if data else None
            if kind is Kind.DTLS:
                counts.plain_refused += 1  # RFC 6347 §4.1.2.7: a record without a session; ClientHellos never come here
            elif kind is Kind.PADDING:
                pass  # a keepalive; it means nothing more than that somebody is there
            elif not (is_secured or is_plain_allowed) and data != _DTLS_INITIATION:
                counts.plain_refused += 1
            elif kind is Kind.BUNDLE7:
                bundles.append(data)
            elif kind is Kind.EXTENSIONS:
                self._extensions(data, bundles, now, is_multicast, is_secured)
            elif kind is Kind.BUNDLE6:
                counts.bundles6 += 1
            else:
                counts.garbage += 1
        counts.bundles_received += len(bundles)
        return bundles

    def _extensions(self, data: bytes, bundles: list[bytes], now: float, is_multicast: bool, is_secured: bool) -> None:
        if (segment := segment_in(data)) is not None:
            self._showed_version2(now)
            whole = self._reassembly.receive(self.transfers_of, segment, now)
            bundles += [] if whole is None else [whole]
            return
        wholes, after = wholes_in(data)
        try:
            maps = _maps_behind(data, after)
        except MalformedError:
            self.counts.garbage += 1
            return
        self._showed_version2(now)
        if wholes:
            bundles += self._reassembly.receive_whole(self.transfers_of, wholes, now)
        for each in maps:
            if each.transfer is not None:
                bundle = self._reassembly.receive(self.transfers_of, each.transfer, now)
                if bundle is not None:
                    bundles.append(bundle)
            if each != Extensions(transfer=each.transfer):
                self._items(each, now, is_multicast, is_secured)

    def _showed_version2(self, now: float) -> None:
        if not self.speaks_version2:
            self.speaks_version2 = True
            self.events.append(SpokeVersion2())
            self._begin_path_mtu(now)

    def _items(self, told: Extensions, now: float, is_multicast: bool, is_secured: bool) -> None:
        """Everything but transfers."""
        if told.dtls and self.state is State.PLAIN and self.config.dtls is not DtlsUse.OFF:
            return  # the ClientHello that follows begins the handshake
        if told.node_id is not None and told.node_id != self.node_id:
            self.node_id = told.node_id
            self.events.append(PeerNamed(told.node_id, is_secured))
        if told.listen_ms is not None:
            self._presence.heard(told.listen_ms, now)
            self.events.append(PeerListening(told.listen_ms, self.node_id))
            if not is_multicast and not self.is_kept:
                self._tell(Extensions(support=SUPPORTED, node_id=self.config.node_id))
        if told.probe is not None and not is_multicast:
            self._confirming.receive(told.probe, now)
        if told.confirmation is not None:
            self.sizing.confirmed(told.confirmation, now)
            self._told_of_sizing()
        if told.ecn_counts is not None and not is_multicast:
            self.congestion.answered(told.ecn_counts, now)
        if told.unknown and not is_multicast:
            self._tell(Extensions(support=SUPPORTED))

    # ---- sending -----------------------------------------------------------------------------------------------------

    def poll(self, now: float) -> list[Batch]:
        """What may be sent now; [] when there is nothing before `next_timeout`."""
        batches: list[Batch] = []
        if self._control and self.state is not State.FAILED:
            control = self._answers()
            if control:
                batches.append(Batch(control, NOT_ECT, []))
        if self.outbox and self.state in (State.PLAIN, State.SECURED):
            allowed = self.congestion.allowance(now)
            if self.congestion.doubts > self._doubts:
                self._doubts = self.congestion.doubts
                self.sizing.suspect(now)
            if allowed > 0 and self.congestion.ready_at(self.sizing.datagram_octets) <= now:
                batches.append(self._data(min(allowed, POLL_OCTETS), now))
        for batch in batches:
            self.counts.datagrams_sent += len(batch.datagrams)
            self.counts.octets_sent += sum(map(len, batch.datagrams))
            self._keepalive.postpone(now)
        return batches

    def _answers(self) -> list[bytes]:
        """Control items that wait; to an address that nobody has proved no more octets than came from it."""
        control, self._control = self._control, []
        if self.is_wanted:
            return control
        room = self.counts.octets_received - self.counts.octets_sent
        sent: list[bytes] = []
        for each in control:
            room -= len(each)
            if room < 0:
                self.counts.unanswered += 1
            else:
                sent.append(each)
        return sent

    def _data(self, most_octets: int, now: float) -> Batch:
        """Datagrams of bundles: one at least, and about as many octets as are allowed."""
        datagrams, tokens = self.outbox.take(most_octets, self.sizing.datagram_octets, joins=self.speaks_version2)
        self.counts.bundles_sent += len(tokens)
        mark = ECT_1 if self.config.marks_ecn else NOT_ECT
        self.congestion.sent(sum(map(len, datagrams)), len(datagrams), bool(mark), now)
        return Batch(datagrams, mark, tokens)

    def message_too_long(self, datagrams: Sequence[bytes], octets: int, now: float) -> list[bytes]:
        """The system says that a datagram of `octets` does not pass. What is to be sent in the place of `datagrams`: the
        same bundles in shorter ones; probes are not sent again."""
        self.sizing.message_too_long(octets, now)
        self._told_of_sizing()
        return self.outbox.cut_again(datagrams, min(self.sizing.datagram_octets, octets - 1))

    def path_too_long(self, octets: int, now: float) -> None:
        """A router says so, of a datagram that went. Whoever can read our datagrams could say it: it makes no size shorter
        than the base (RFC 8899 §4.6.1), and what is longer is tried again."""
        if octets > self.config.datagram_octets:
            self.sizing.message_too_long(octets, now)
            self._told_of_sizing()

    def _tell(self, extensions: Extensions) -> None:
        if self.may_tell and extensions != Extensions() and len(self._control) < CONTROL_MOST:
            self._control.append(encode_extensions(extensions))

    def _advertisement(self, listen_ms: int) -> Extensions:
        return Extensions(support=SUPPORTED, listen_ms=listen_ms, node_id=self.config.node_id)

    # ---- time --------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` (and then `poll`) wants to be called."""
        if self.state is State.SECURING:
            return self._dtls_until
        if self.state is State.FAILED:
            return None
        times = [
            self._confirming.next_timeout(),
            self.feedback.next_timeout(),
            self._listen.due_at,
            self._keepalive.due_at,
            self._presence.until,
            self.sizing.next_timeout() if self.may_tell else None,
            self.congestion.ready_at(self.sizing.datagram_octets) if self.outbox else None,
        ]
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Act on what is due; `poll` gives what is to be sent because of it."""
        if self.state is State.SECURING and now >= self._dtls_until:
            self.dtls_failed(f"the handshake was not over within {DTLS_S:.0f} s")
        if self.state not in (State.PLAIN, State.SECURED):
            return
        for confirmation in self._confirming.handle_timeout(now):
            self._tell(Extensions(confirmation=confirmation))
        counts = self.feedback.due(now)
        if counts is not None:
            self._tell(Extensions(ecn_counts=counts))
        if self._listen.is_due(now):
            self.announce(int(self.config.listen_s * 1000))
        if self._presence.is_over(now):
            self.events.append(PeerSilent())
        self._probe(now)
        if self._keepalive.is_due(now) and not self._control:
            self._control.append(KEEPALIVE)

    # ---- path MTU ----------------------------------------------------------------------------------------------------

    def _begin_path_mtu(self, now: float) -> None:
        """By itself only to a peer that can answer and with which a relation is kept."""
        is_wanted = self.is_kept and self.speaks_version2 and self.config.discovers_path_mtu
        if is_wanted and self.sizing.path_mtu is None:
            self.sizing.search(now)

    def _probe(self, now: float) -> None:
        if self.may_tell and (probe := self.sizing.probe(now)) is not None:
            self._control.append(probe)
        self._told_of_sizing()

    def _told_of_sizing(self) -> None:
        for event in self.sizing.events:
            self.events.append(event)
            if isinstance(event, PathMtuShrank):
                self.congestion.path_failed()
        self.sizing.events.clear()


def _maps_behind(data: bytes, after: int) -> tuple[Extensions, ...]:
    """The maps of a datagram behind the octets that were read already. Raises: MalformedError."""
    if after == len(data):
        return ()
    if not after:
        return decode_datagram_untrusted(data).maps
    decoded = decode_datagram_untrusted(data[after:])
    is_alone = any(each.probe or each.dtls for each in decoded.maps)  # what shares no datagram with others
    if is_alone or decoded.kind not in (Kind.EXTENSIONS, Kind.PADDING, Kind.KEEPALIVE):
        raise MalformedError("UDPCL: what follows the transfers does not belong behind them")
    return decoded.maps

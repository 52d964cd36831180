"""What members of a packet overlay say to each other on a topic exchange: routing keys, announcements, heads of sealed messages.

All keys of our own begin `tumpline.` and have no word that older agents or their tools bind. Versions stand in the bodies:

    tumpline.hello.NAME        an announcement (CBOR, signed)      tumpline.who             everybody, announce yourselves
    tumpline.packet.DST.SRC    packets for one member (sealed)     tumpline.flood.SRC       packets for all (sealed)
    tumpline.via.DST.SRC       the same, by way of the router      tumpline.bundle.DST.SRC  a piece of a bundle (sealed)
    tumpline.router.ID         between routers
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum, StrEnum
from struct import Struct
from typing import Any, Final, NamedTuple

import cbor2

from tumpline.errors import MalformedError
from tumpline.wire.cbor import scan_item

VERSION: Final = 1
NAME_OCTETS_MOST: Final = 64  # so that every key stays far below AMQP's 255
INSTANCE_OCTETS: Final = 8
KEY_OCTETS: Final = 32
TAG_OCTETS: Final = 16
COUNTER_MOST: Final = (1 << 64) - 1
# Whoever announces may do so every second to every hour; what is said less often is not presence.
INTERVAL_S_LEAST, INTERVAL_S_MOST = 1, 3600
ADDRESSES_MOST: Final = 64
NODE_ID_OCTETS_MOST: Final = 1024
HELLO_OCTETS_MOST: Final = 8192
WHO: Final = "tumpline.who"

_NAME_UNFIT: Final = re.compile(r"[.*#\s\x00-\x1f\x7f-\x9f]")
_NAMES_TAKEN: Final = frozenset({"fromAgent", "toAgent", "tumpline"})


def name_problem(name: str) -> str | None:
    """Why this cannot be a member's name, None if it can: it is to be one word of a routing key."""
    if not name:
        return "a name has at least one character"
    try:
        octets = len(name.encode())
    except UnicodeEncodeError:
        return "a name is text"
    if octets > NAME_OCTETS_MOST:
        return f"a name has at most {NAME_OCTETS_MOST} octets, not {octets}"
    unfit = _NAME_UNFIT.search(name)
    if unfit is not None:
        return f"{unfit.group()!r} cannot stand in a name, which is one word of a routing key"
    return f"{name!r} means something else in routing keys" if name in _NAMES_TAKEN else None


class Purpose(StrEnum):
    """The second word of a routing key of ours."""

    HELLO = "hello"
    WHO = "who"
    PACKET = "packet"
    FLOOD = "flood"
    VIA = "via"
    BUNDLE = "bundle"
    ROUTER = "router"


_TO_ONE: Final = frozenset({Purpose.PACKET, Purpose.VIA, Purpose.BUNDLE})
_PURPOSES: Final = {str(purpose): purpose for purpose in Purpose}


class OverlayKey(NamedTuple):
    """A routing key of ours, taken apart; for a router `source` is its identity."""

    purpose: Purpose
    destination: str  # "" where all are meant
    source: str  # "" for `who`

    def __str__(self) -> str:
        words = ("tumpline", str(self.purpose), self.destination, self.source)
        return ".".join(word for word in words if word)

    @property
    def associated(self) -> bytes:
        """What the seal of a message covers of its key: the same before and behind a router."""
        purpose = Purpose.PACKET if self.purpose is Purpose.VIA else self.purpose
        return str(self._replace(purpose=purpose)).removeprefix("tumpline.").encode()


def decode_key_untrusted(routing_key: str) -> OverlayKey:
    """Take a key apart that begins `tumpline.`. Raises: MalformedError."""
    _, _, rest = routing_key.partition(".")
    word, *names = rest.split(".")
    purpose = _PURPOSES.get(word)
    if purpose is None or not routing_key.startswith("tumpline."):
        raise MalformedError(f"overlay: a routing key {routing_key[:80]!r}")
    wanted = 2 if purpose in _TO_ONE else 0 if purpose is Purpose.WHO else 1
    if len(names) != wanted or any(name_problem(name) for name in names):
        raise MalformedError(f"overlay: a routing key {routing_key[:80]!r} of other words than {purpose} has")
    destination, source = ("", "", *names)[-2:]
    return OverlayKey(purpose, destination, source)


# ---- sealed messages -------------------------------------------------------------------------------------------------


class Mode(IntEnum):
    """Where the key of a seal comes from."""

    GIVEN = 1  # all members were given one
    IDENTITIES = 2  # each pair agrees on its own


class Kind(IntEnum):
    """What is sealed: the first two are packets.PacketKind."""

    IP = 0
    FRAME = 1
    BUNDLE = 2


# Flag in the octet of the kind: it was sent to all, and may come by another way as well.
FLOODED: Final = 0x80
SEALED_HEAD: Final = Struct(f">BBB{INSTANCE_OCTETS}sQ")
SEALED_HEAD_OCTETS: Final = SEALED_HEAD.size
SEAL_OCTETS: Final = SEALED_HEAD_OCTETS + TAG_OCTETS
_MODE_MOST, _KIND_MOST = int(max(Mode)), int(max(Kind))


class SealedHead(NamedTuple):
    """In the clear before what is sealed, and covered by the seal. No counter comes twice under one key."""

    mode: int
    kind: int
    is_flooded: bool
    instance: bytes  # of the sender: new at each of its starts
    counter: int

    def encode(self) -> bytes:
        """As it stands before the ciphertext."""
        kind = self.kind | FLOODED if self.is_flooded else self.kind
        return SEALED_HEAD.pack(VERSION, self.mode, kind, self.instance, self.counter)


def decode_sealed_head_untrusted(body: bytes | memoryview) -> SealedHead:
    """The head of a whole message. Raises: MalformedError."""
    if len(body) < SEAL_OCTETS:
        raise MalformedError(f"overlay: a sealed message of {len(body)} octets")
    version, mode, kind, instance, counter = SEALED_HEAD.unpack_from(body)
    if version != VERSION:
        raise MalformedError(f"overlay: a sealed message of version {version}; this is version {VERSION}")
    if not 1 <= mode <= _MODE_MOST or kind & ~FLOODED > _KIND_MOST:
        raise MalformedError(f"overlay: a sealed message of mode {mode} and kind {kind}")
    return SealedHead(mode, kind & ~FLOODED, kind >= FLOODED, instance, counter)


def nonce_of(counter: int) -> bytes:
    """Of AES-GCM: four zero octets and the counter."""
    return counter.to_bytes(12, "big")


# ---- announcements ---------------------------------------------------------------------------------------------------


class Role(Enum):
    """What announces itself."""

    MEMBER = "member"
    ROUTER = "router"


class Format(Enum):
    """How packets are written for a member: ours, and the two of older agents."""

    BINARY = "binary"
    V1 = "v1"
    V0 = "v0"


class Claim(NamedTuple):
    """An address of a member's interface with its prefix length; without host bits: the whole network lies behind it."""

    address: bytes  # 4 or 16 octets
    prefix_bits: int

    @property
    def network_bits(self) -> int:
        """How many leading bits belong to the member."""
        bits = len(self.address) * 8
        host = (1 << (bits - self.prefix_bits)) - 1
        return bits if int.from_bytes(self.address, "big") & host else self.prefix_bits


class Hello(NamedTuple):
    """An announcement. `sequence` grows with each of one instance, `started_ms` (since 1970) from start to start."""

    name: str
    instance: bytes
    sequence: int
    mode: Mode
    key: bytes  # the given key's identifier, or the identity that signs
    role: Role = Role.MEMBER
    started_ms: int = 0
    interval_s: int = 10
    agreement_key: bytes = b""  # X25519, under identities
    addresses: tuple[Claim, ...] = ()
    kinds: tuple[int, ...] = (int(Kind.IP),)
    formats: tuple[Format, ...] = (Format.BINARY,)
    node_id: str = ""  # of the DTN node that takes bundles there
    is_leaving: bool = False
    is_translator: bool = False  # a router that opens what is sealed for it, and writes it for those who read only JSON

    def encode(self) -> bytes:
        """The map that is signed."""
        fields = self._asdict() | {
            "version": VERSION,
            "mode": int(self.mode),
            "role": self.role.value,
            "addresses": [list(claim) for claim in self.addresses],
            "kinds": list(self.kinds),
            "formats": [one.value for one in self.formats],
        }
        return cbor2.dumps(fields, canonical=True)


class SignedHello(NamedTuple):
    """An announcement as it came: `signed` are the octets that `proof` (an HMAC or a signature) is about."""

    hello: Hello
    signed: bytes
    proof: bytes


def encode_signed_hello(signed: bytes, proof: bytes) -> bytes:
    """The body of an announcement: a CBOR sequence (RFC 8742) of a map and its proof."""
    return signed + cbor2.dumps(proof)


def decode_hello_untrusted(body: bytes | memoryview) -> SignedHello:
    """An announcement whose proof nobody has looked at yet. Raises: MalformedError."""
    if len(body) > HELLO_OCTETS_MOST:
        raise MalformedError(f"overlay: an announcement of {len(body)} octets, at most {HELLO_OCTETS_MOST} make sense")
    octets = bytes(body)
    end = scan_item(octets, 0, depth=4)
    if scan_item(octets, end, depth=1) != len(octets):
        raise MalformedError("overlay: an announcement with octets behind its proof")
    try:
        fields, proof = cbor2.loads(octets[:end]), cbor2.loads(octets[end:])
    except (cbor2.CBORError, ValueError, ArithmeticError, TypeError) as error:
        raise MalformedError(f"overlay: an announcement: {error}") from error
    if not isinstance(fields, dict) or not isinstance(proof, bytes) or fields.get("version") != VERSION:
        raise MalformedError(f"overlay: an announcement of another version than {VERSION}, or none")
    return SignedHello(_hello_of(_Fields(fields)), octets[:end], proof)


class _Fields:
    """Fields of a map from a stranger, each of the type and within the bounds that it must have."""

    def __init__(self, fields: dict[Any, Any]) -> None:
        self._fields = fields

    def number(self, name: str, least: int, most: int) -> int:
        value = self._fields.get(name)
        if type(value) is not int or not least <= value <= most:
            raise MalformedError(f"overlay: an announcement whose {name} is no number of {least} to {most}")
        return value

    def octets(self, name: str, *lengths: int) -> bytes:
        value = self._fields.get(name)
        if type(value) is not bytes or len(value) not in lengths:
            raise MalformedError(f"overlay: an announcement whose {name} is not of {lengths} octets")
        return value

    def text(self, name: str, octets_most: int) -> str:
        value = self._fields.get(name)
        if type(value) is not str or len(value.encode()) > octets_most:
            raise MalformedError(f"overlay: an announcement whose {name} is no text of {octets_most} octets at most")
        return value

    def many(self, name: str, most: int) -> list[Any]:
        value = self._fields.get(name)
        if type(value) is not list or len(value) > most:
            raise MalformedError(f"overlay: an announcement whose {name} is no list of {most} at most")
        return value

    def flag(self, name: str) -> bool:
        value = self._fields.get(name)
        if type(value) is not bool:
            raise MalformedError(f"overlay: an announcement whose {name} is neither true nor false")
        return value


def _hello_of(fields: _Fields) -> Hello:
    name = fields.text("name", NAME_OCTETS_MOST)
    problem = name_problem(name)
    if problem:
        raise MalformedError(f"overlay: an announcement: {problem}")
    mode = Mode(fields.number("mode", Mode.GIVEN, Mode.IDENTITIES))
    return Hello(
        name,
        fields.octets("instance", INSTANCE_OCTETS),
        fields.number("sequence", 0, COUNTER_MOST),
        mode,
        fields.octets("key", KEY_OCTETS if mode is Mode.IDENTITIES else INSTANCE_OCTETS),
        Role.ROUTER if fields.text("role", 16) == Role.ROUTER.value else Role.MEMBER,
        fields.number("started_ms", 0, COUNTER_MOST),
        fields.number("interval_s", INTERVAL_S_LEAST, INTERVAL_S_MOST),
        fields.octets("agreement_key", KEY_OCTETS if mode is Mode.IDENTITIES else 0),
        tuple(_claim_of(item) for item in fields.many("addresses", ADDRESSES_MOST)),
        tuple(sorted({int(kind) for kind in fields.many("kinds", 8) if kind in (Kind.IP, Kind.FRAME)})),
        tuple(one for one in Format if one.value in fields.many("formats", 8)),
        fields.text("node_id", NODE_ID_OCTETS_MOST),
        fields.flag("is_leaving"),
        fields.flag("is_translator"),
    )


def _claim_of(item: Any) -> Claim:
    match item:
        case [bytes(address), int(bits)] if len(address) in (4, 16) and 0 <= bits <= len(address) * 8:
            return Claim(address, bits)
    raise MalformedError("overlay: an announcement with an address that is none")

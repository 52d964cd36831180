"""Endpoint identifiers: `dtn` (RFC 9171 §4.2.5.1.1), `ipn` (RFC 9758), and others kept as they came.

An Eid compares by its decoded value, and keeps the octets it was decoded from: a node never transcodes an EID in transit
(RFC 9758 §6.1 allows two encodings of one ipn EID).
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from tumpline.errors import MalformedError
from tumpline.wire import cbor

DTN: Final = 1
IPN: Final = 2

# The longest SSP in use is a DNS name (253 octets) and a path; what is longer is an attempt to fill tables.
MAX_EID_OCTETS: Final = 1024
_MAX_TEXT: Final = 2 * MAX_EID_OCTETS + 5  # "cbor:" and hex
_MAX_SSP: Final = MAX_EID_OCTETS - 5  # of dtn: array head, scheme, text head
_MAX_CACHED: Final = 4096  # decoded EIDs kept: 4096 * about 300 octets

# RFC 3986 reg-name (RFC 9171's node-name), never empty here: a node without a name cannot be told from another.
# Possessive: nothing here can match in two ways, and places to come back to would take 150 octets for each character.
_DTN_SSP = re.compile(r"//(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++/[\x21-\x7e]*+")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_LOCAL_NODE: Final = 0xFFFFFFFF  # RFC 9758: FQNN (0, 2^32-1), written "!"

IpnSsp = tuple[int, int, int]


class Eid:
    """An endpoint identifier; immutable, hashable, equal by decoded value.

    `ssp` is "//node/demux" or "none" for dtn, (allocator, node, service) for ipn, and for any other scheme the CBOR octets
    of the scheme-specific part. `encoded` is the CBOR encoding: as received where it was, else `canonical`.
    """

    __slots__ = (
        "_hash",
        "_node",
        "_text",
        "canonical",
        "demux",
        "encoded",
        "is_local",
        "is_null",
        "is_plain",
        "is_singleton",
        "scheme",
        "ssp",
    )

    scheme: int
    ssp: str | IpnSsp | bytes
    encoded: bytes
    canonical: bytes
    is_null: bool  # dtn:none, ipn:0.0; ipn:0.N is treated as null too (RFC 9758 §3.4)
    is_local: bool  # RFC 9758 LocalNode (ipn:!.N): never leaves the node
    is_singleton: bool  # has one member at most: not null and, in dtn, no demux that starts with a tilde
    is_plain: bool  # none of the exceptions: a singleton, and not local
    demux: str  # "" for an administrative endpoint; an ipn service as decimal number

    def __init__(self, scheme: int, ssp: str | IpnSsp | bytes, encoded: bytes | None = None) -> None:
        put = object.__setattr__
        put(self, "scheme", scheme)
        put(self, "ssp", ssp)
        put(self, "_hash", hash((scheme, ssp)))
        put(self, "_text", None)
        put(self, "_node", None)
        canonical = _encode(scheme, ssp)
        put(self, "canonical", canonical)
        put(self, "encoded", canonical if encoded is None else encoded)
        demux = _demux(ssp)
        null = ssp == "none" or ssp[:2] == (0, 0)
        local = ssp[:2] == (0, _LOCAL_NODE)
        singleton = not null and not (scheme == DTN and demux.startswith("~"))
        put(self, "demux", demux)
        put(self, "is_null", null)
        put(self, "is_local", local)
        put(self, "is_singleton", singleton)
        put(self, "is_plain", singleton and not local)

    @classmethod
    def parse(cls, text: str) -> Eid:
        """The EID that `text` writes. Raises MalformedError with a sentence that says what to write instead."""
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()  # RFC 3986 §3.1: schemes are case-insensitive
        if not colon or not text.isascii() or len(text) > _MAX_TEXT:
            raise MalformedError(f"{text[:80]!r} is no endpoint ID: write dtn://node/service or ipn:node.service")
        if scheme == "dtn":
            return cls(DTN, _check_dtn(rest))
        if scheme == "ipn":
            return cls(IPN, _parse_ipn(rest))
        if scheme == "cbor":
            return _parse_opaque(rest)
        raise MalformedError(f"{scheme!r} is no scheme of endpoint IDs known here: write dtn://... or ipn:...")

    def __str__(self) -> str:
        text: str | None = self._text  # type: ignore[attr-defined]
        if text is None:
            text = _text(self.ssp, self.canonical)
            object.__setattr__(self, "_text", text)
        return text

    def __repr__(self) -> str:
        return f"Eid({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Eid) and self.ssp == other.ssp and self.scheme == other.scheme

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an Eid does not change")

    def __reduce__(self) -> tuple[type[Eid], tuple[int, str | IpnSsp | bytes, bytes]]:
        return Eid, (self.scheme, self.ssp, self.encoded)

    @property
    def node(self) -> Eid:
        """The node ID: the administrative endpoint of the node named here. The null endpoint is its own."""
        node: Eid | None = self._node  # type: ignore[attr-defined]
        if node is None:
            if self.is_null or self.is_administrative:
                return self
            node = self.with_demux("")
            object.__setattr__(self, "_node", node)  # asked for with each bundle
        return node

    @property
    def is_administrative(self) -> bool:
        """Whether it may be a node's administrative endpoint (RFC 9171 §4.2.5.1.1-2)."""
        return not self.demux and not self.is_null and self.scheme in (DTN, IPN)

    def with_demux(self, demux: str) -> Eid:
        """The endpoint of the same node with this demux (for ipn a decimal service number; "" is administrative)."""
        if self.is_null or self.scheme not in (DTN, IPN):
            raise MalformedError(f"{self} names no node, so it has no services")
        if isinstance(self.ssp, tuple):
            return Eid(IPN, (self.ssp[0], self.ssp[1], _number(demux or "0", 64, "service")))
        node = str(self.ssp)[2:].partition("/")[0]
        return Eid(DTN, _check_dtn(f"//{node}/{demux}"))

    def two_element(self) -> Eid:
        """The same EID encoded as peers that know only RFC 9171 read it: [allocator << 32 | node, service]."""
        if not isinstance(self.ssp, tuple):
            return self
        allocator, node, service = self.ssp
        pair = cbor.encode_uint(allocator << 32 | node) + cbor.encode_uint(service)
        return Eid(IPN, self.ssp, b"\x82\x02\x82" + pair)


# ---- text ------------------------------------------------------------------------------------------------------------


def _check_dtn(ssp: str) -> str:
    if ssp == "none":
        return ssp
    if len(ssp) > _MAX_SSP or not _DTN_SSP.fullmatch(ssp):
        hint = f"; write dtn:{ssp}/" if _DTN_SSP.fullmatch(ssp + "/") else " or dtn:none"
        raise MalformedError(f"dtn:{ssp[:80]} is not of the form dtn://node/demux{hint} (RFC 9171 §4.2.5.1.1)")
    return ssp


def _number(text: str, bits: int, what: str) -> int:
    if not _NUMBER.fullmatch(text) or len(text) > 20 or int(text) >> bits:
        raise MalformedError(f"ipn {what} {text[:40]!r} is not a decimal number below 2^{bits} without leading zeros")
    return int(text)


def _parse_ipn(ssp: str) -> IpnSsp:
    """RFC 9758: `ipn:[allocator.]node.service`, or `ipn:!.service` for the local node."""
    parts = ssp.split(".")
    if len(parts) not in (2, 3) or ("!" in parts and (len(parts) != 2 or parts[0] != "!")):
        raise MalformedError(f"ipn:{ssp[:80]} is not of the form ipn:node.service or ipn:allocator.node.service")
    service = _number(parts[-1], 64, "service")
    if parts[0] == "!":
        return 0, _LOCAL_NODE, service
    allocator = _number(parts[0], 32, "allocator") if len(parts) == 3 else 0
    return allocator, _number(parts[-2], 32, "node"), service


def _parse_opaque(digits: str) -> Eid:
    """`cbor:HEX`, our own way to write an EID of an unknown scheme: the hex of its encoding."""
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise MalformedError(f"cbor:{digits[:80]} is not followed by hexadecimal digits") from None
    eid, end = decode_eid_untrusted(data, 0)
    if end != len(data):
        raise MalformedError(f"cbor:{digits[:80]} goes on behind the endpoint ID")
    return eid


def _text(ssp: str | IpnSsp | bytes, canonical: bytes) -> str:
    if isinstance(ssp, str):
        return f"dtn:{ssp}"
    if isinstance(ssp, bytes):
        return f"cbor:{canonical.hex()}"
    allocator, node, service = ssp
    if allocator:
        return f"ipn:{allocator}.{node}.{service}"
    return f"ipn:{'!' if node == _LOCAL_NODE else node}.{service}"


def _demux(ssp: str | IpnSsp | bytes) -> str:
    if isinstance(ssp, str):
        return ssp[2:].partition("/")[2]
    if isinstance(ssp, bytes):
        return ""
    return str(ssp[2]) if ssp[2] else ""


# ---- octets ----------------------------------------------------------------------------------------------------------


def _encode(scheme: int, ssp: str | IpnSsp | bytes) -> bytes:
    if isinstance(ssp, str):
        # RFC 9171 §4.2.5.1.1: "none" is the integer zero, all else a text string.
        return b"\x82\x01\x00" if ssp == "none" else b"\x82\x01" + cbor.encode_head(3, len(ssp)) + ssp.encode("ascii")
    if isinstance(ssp, bytes):
        return b"\x82" + cbor.encode_uint(scheme) + ssp
    # RFC 9758 §6.1: the default allocator is left out, others are an element of their own.
    numbers = ssp if ssp[0] else ssp[1:]
    return b"\x82\x02" + cbor.encode_head(4, len(numbers)) + b"".join(map(cbor.encode_uint, numbers))


_cache: dict[bytes, Eid] = {}


def decode_eid_untrusted(
    data: bytes, offset: int = 0, *, shortest: bool = True, definite: bool = True
) -> tuple[Eid, int]:
    """The EID at `offset` and the offset behind it. Raises MalformedError (TruncatedError where octets are missing).

    `shortest` and `definite` ask for the deterministic encoding that RFC 9171 §4.1 demands.
    """
    end = cbor.scan_item(data, offset, shortest=shortest, definite=definite)
    if end - offset > MAX_EID_OCTETS:
        raise MalformedError(f"the endpoint ID at {offset} has more than {MAX_EID_OCTETS} octets")
    octets = bytes(data[offset:end])
    if not (shortest and definite):
        return _decode(cbor.Cursor(octets, shortest=shortest, definite=definite)), end
    return CACHE.get(octets) or remember_eid(octets), end


CACHE: dict[bytes, Eid] = {}  # by deterministic encoding; read on the hot path of bundle7, written only here


def remember_eid(octets: bytes) -> Eid:
    """Decode a whole EID in its deterministic encoding, and keep it in the cache."""
    cbor.scan_item(octets, 0)
    eid = _decode(cbor.Cursor(octets))
    if len(CACHE) >= _MAX_CACHED:
        CACHE.clear()  # costs a new start every 4096 strangers, and bounds the memory they take
    CACHE[octets] = eid
    return eid


def _decode(cursor: cbor.Cursor) -> Eid:
    octets = cursor.data
    count = cursor.array("endpoint ID")
    scheme = cursor.uint("URI scheme")
    ssp: str | IpnSsp | bytes
    if scheme == DTN:
        ssp = _decode_dtn(cursor)
    elif scheme == IPN:
        ssp = _decode_ipn(cursor)
    else:
        ssp = cursor.item()
    cursor.leave("endpoint ID", count, 2)
    cursor.end("the endpoint ID")
    return Eid(scheme, ssp, octets)


def _decode_dtn(cursor: cbor.Cursor) -> str:
    if cursor.peek() >> 5 == 0:
        if cursor.uint("dtn SSP") == 0:
            return "none"
        raise MalformedError("the SSP of a dtn endpoint ID is neither a text string nor zero (RFC 9171 §4.2.5.1.1)")
    text = cursor.octets("dtn SSP", cursor.string_head("dtn SSP", 3)).decode("utf-8")
    if text == "none":
        raise MalformedError("dtn:none is encoded as the integer zero (RFC 9171 §4.2.5.1.1)")
    return _check_dtn(text)


def _decode_ipn(cursor: cbor.Cursor) -> IpnSsp:
    count = cursor.array("SSP of an ipn endpoint ID")
    numbers: list[int] = []
    while len(numbers) < 4 and (not cursor.at_break() if count == cbor.INDEFINITE else len(numbers) < count):
        numbers.append(cursor.uint("part of an ipn endpoint ID"))
    if len(numbers) not in (2, 3):
        raise MalformedError("the SSP of an ipn endpoint ID has two or three numbers (RFC 9758 §6.1)")
    cursor.leave("SSP of an ipn endpoint ID", count, len(numbers))
    if len(numbers) == 2:
        return numbers[0] >> 32, numbers[0] & 0xFFFFFFFF, numbers[1]
    if numbers[0] >> 32 or numbers[1] >> 32:
        raise MalformedError("the allocator and the node of an ipn endpoint ID are below 2^32 (RFC 9758 §6.1.2)")
    return numbers[0], numbers[1], numbers[2]


NULL: Final = Eid.parse("dtn:none")

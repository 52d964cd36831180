"""codec: encode and decode a bundle of two blocks with a payload of 100 octets, CRC32C on both."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tumpline.bench.framework.api import BenchSpec, Effort, Figure, throughput
from tumpline.bench.framework.measure import alternate, rate_per_s
from tumpline.bench.limits import codec as limit
from tumpline.errors import MalformedError
from tumpline.wire.bundle7 import Bundle, CrcType, PrimaryBlock, decode_bundle_untrusted, encode_bundle
from tumpline.wire.eid import NULL, Eid

BUNDLES = 100_000
_DESTINATION, _SOURCE = "//rover/sink", "//ground/source"
_CREATED_MS = 850_000_000_000
_LIFETIME_MS = 86_400_000
_LIMIT_IS = "straight-line code for this one shape of bundle, only the CRCs checked"


def run(effort: Effort) -> Mapping[str, Figure]:
    """The two figures of this bench."""
    count = effort.scaled(BUNDLES)
    payloads = [index.to_bytes(100, "big") for index in range(count)]
    bundles = _bundles(payloads)
    encoded = [encode_bundle(bundle) for bundle in bundles]
    start = limit.prefix(_DESTINATION, _SOURCE)
    _check_same(encoded[-1], start, payloads[-1])
    encode = alternate(
        partial(rate_per_s, partial(_encode, bundles)),
        partial(rate_per_s, partial(_encode_plain, start, payloads)),
        effort.runs,
    )
    decode = alternate(
        partial(rate_per_s, partial(_decode, encoded, payloads)),
        partial(rate_per_s, partial(_decode_plain, encoded, len(start), payloads)),
        effort.runs,
    )
    return {
        "encode_per_s": throughput(encode.ours, "bundles/s", encode.limit, _LIMIT_IS),
        "decode_per_s": throughput(decode.ours, "bundles/s", decode.limit, _LIMIT_IS),
    }


def _bundles(payloads: list[bytes]) -> list[Bundle]:
    destination, source = Eid.parse(f"dtn:{_DESTINATION}"), Eid.parse(f"dtn:{_SOURCE}")
    crc = CrcType.CRC32C
    return [
        Bundle(
            PrimaryBlock(0, crc, destination, source, NULL, _CREATED_MS, index, _LIFETIME_MS, None, None),
            (),
            payload,
            0,
            crc,
        )
        for index, payload in enumerate(payloads)
    ]


def _check_same(ours: bytes, start: bytes, payload: bytes) -> None:
    created_ms, sequence, shown = limit.decode(ours, len(start))
    # + 2**16: the plain encoder always writes five octets, which is the shortest form (RFC 9171 §4.1) only from there on.
    plain = decode_bundle_untrusted(limit.encode(start, created_ms, sequence + 2**16, payload))
    if shown != payload or plain.payload != payload or str(plain.primary.source) != f"dtn:{_SOURCE}":
        raise MalformedError("the two codecs do not understand each other: the figures would compare unlike work")


def _encode(bundles: list[Bundle]) -> int:
    octets = 0
    for bundle in bundles:
        octets += len(encode_bundle(bundle))
    assert octets > 150 * len(bundles)
    return len(bundles)


def _encode_plain(start: bytes, payloads: list[bytes]) -> int:
    octets, encode = 0, limit.encode
    for index, payload in enumerate(payloads):
        octets += len(encode(start, _CREATED_MS, index, payload))
    assert octets > 150 * len(payloads)
    return len(payloads)


def _decode(encoded: list[bytes], payloads: list[bytes]) -> int:
    for data, payload in zip(encoded, payloads, strict=True):
        if decode_bundle_untrusted(data).payload != payload:
            raise MalformedError("a payload changed on its way through the codec")
    return len(encoded)


def _decode_plain(encoded: list[bytes], start_octets: int, payloads: list[bytes]) -> int:
    decode = limit.decode
    for data, payload in zip(encoded, payloads, strict=True):
        if decode(data, start_octets)[2] != payload:
            raise MalformedError("a payload changed on its way through the plain codec")
    return len(encoded)


SPEC = BenchSpec("codec", "encode and decode a 100-octet bundle of two blocks", ("encode_per_s", "decode_per_s"), run)

"""UDPCL datagrams of both versions: any datagram at the port of bundles."""

from __future__ import annotations

from fuzz import corpus
from fuzz.harness import Target
from tumpline.wire.eid import Eid
from tumpline.wire.udpcl import (
    KEEPALIVE,
    Confirmation,
    EcnCounts,
    Extensions,
    Kind,
    Probe,
    Transfer,
    decode_datagram_untrusted,
    encode_datagram,
    encode_extensions,
    segment_in,
    wholes_in,
)
from tumpline.wire.udpcl_range import certain


def seeds() -> list[bytes]:
    """Bundles bare and in transfers, whole and in segments; every other item; records of DTLS."""
    bundle = corpus.arrivals()[0]
    half = len(bundle) // 2
    transfers = (
        Transfer(0, bundle),
        Transfer(1, bundle[:half], len(bundle), 0),
        Transfer(1, bundle[half:], len(bundle), half),
    )
    maps = [encode_extensions(Extensions(transfer=transfer)) for transfer in transfers]
    answer = Extensions(confirmation=Confirmation(123, (2, 0, 0, 2)), ecn_counts=EcnCounts(0, 17, 1))
    advertisement = Extensions(support=(1, 7), listen_ms=10_000, node_id=Eid.parse("ipn:1.0"))
    return [
        bundle,
        *maps,
        b"".join(maps) + bytes(9),
        encode_extensions(answer),
        encode_extensions(advertisement) + encode_extensions(answer),
        encode_extensions(Extensions(probe=Probe(123, 4, 2000))) + bytes(55),
        encode_extensions(Extensions(dtls=True)),
        bytes.fromhex("16fefd00000000000000000001aa"),
        KEEPALIVE,
        b"\x06\x81",
        bytes.fromhex("bf1803193a98200139ffff80ff")[:9] + b"\xff",
    ]


def run(data: bytes) -> bool:
    """A datagram that is sent again says the same, in no more octets; and confirms nothing that nobody asked."""
    datagram = decode_datagram_untrusted(data)
    if datagram.kind is not Kind.EXTENSIONS:
        return True
    segment = segment_in(data)
    assert segment is None or datagram.maps == (Extensions(transfer=segment),), "the short way reads something else"
    wholes, after = wholes_in(data)
    first = [Extensions(transfer=Transfer(number, octets)) for number, octets in wholes]
    assert list(datagram.maps[: len(first)]) == first, "the short way reads something else"
    assert after <= len(data) - datagram.padding_octets
    maps = tuple(each._replace(unknown=(), dropped=()) for each in datagram.maps)
    known = datagram._replace(maps=tuple(each for each in maps if each != Extensions()))
    if known.maps:
        again = encode_datagram(known)
        assert len(again) <= len(data), "octets that were not there"
        assert decode_datagram_untrusted(again) == known, "it says something else"
    for extensions in datagram.maps:
        if extensions.confirmation is not None:
            assert certain(extensions.confirmation.numbers, range(5)) <= set(range(5)), "confirmed what was not sent"
    return True


# Each of at most 256 maps is a tuple of ten fields, 150 octets, and copied here twice; of a datagram of three octets a map
# that is a factor of 150. A number of a range takes up to 40 octets.
TARGET = Target("udpcl", "UDPCL datagrams", seeds, run, peak_base=512 << 10, peak_factor=16)

"""ACME validation of node IDs over bundles (RFC 9891): its administrative record, and what its digest is made of.

The same record goes both ways. A challenge names the hash algorithms that its server takes; a response brings the digest
of the Key Authorization. Texts are base64url without padding, as ACME has them in JSON (RFC 8555 §6.1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, NamedTuple

from tumpline.errors import MalformedError
from tumpline.wire import cbor

RECORD_TYPE: Final = 255  # RFC 9891 §7.3
OLDER_RECORD_TYPES: Final = (65536, 65535)  # of programs written before the type was assigned

# RFC 9891 §3: tokens have at least 128 bits of chance. What is much longer is no token.
MIN_TOKEN_OCTETS: Final = 16
MAX_TOKEN_OCTETS: Final = 128
MAX_ALGORITHMS: Final = 16  # COSE registers six hashes
MAX_ALGORITHM_NAME: Final = 64
MAX_DIGEST_OCTETS: Final = 64  # SHA-512

Algorithm = int | str
SHA_256: Final = -16  # mandatory (RFC 9891 §3)
SHA_384: Final = -43
SHA_512: Final = -44
_HASHES: Final = {SHA_256: hashlib.sha256, SHA_384: hashlib.sha384, SHA_512: hashlib.sha512}  # RFC 9054 §2.1
ALGORITHMS: Final[tuple[Algorithm, ...]] = tuple(_HASHES)

_ID_CHAL, _TOKEN_BUNDLE, _DIGEST, _ALGORITHMS = 1, 2, 3, 4
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_MAX_TEXT = (MAX_TOKEN_OCTETS * 4 + 2) // 3


class Digest(NamedTuple):
    """The digest of a Key Authorization, and what made it. `algorithm` None: the bare octets that agents of 2021 sent."""

    algorithm: Algorithm | None
    octets: bytes


class AcmeRecord(NamedTuple):
    """The content of the record. `digest` is in responses only, `algorithms` (preferred first) in challenges only."""

    id_chal: bytes
    token_bundle: bytes
    digest: Digest | None = None
    algorithms: tuple[Algorithm, ...] = ()

    def encode_content(self) -> bytes:
        """As deterministic CBOR (RFC 8949 §4.2.1)."""
        pairs = [b"\x01" + cbor.encode_bytes(self.id_chal), b"\x02" + cbor.encode_bytes(self.token_bundle)]
        if self.digest is not None:
            pairs.append(b"\x03" + _encode_digest(self.digest))
        if self.algorithms:
            pairs.append(b"\x04" + cbor.encode_head(4, len(self.algorithms)))
            pairs[-1] += b"".join(map(_encode_algorithm, self.algorithms))
        return cbor.encode_head(5, len(pairs)) + b"".join(pairs)


def decode_acme_untrusted(content: bytes) -> AcmeRecord:
    """The content of a record. Raises MalformedError for all but what RFC 9891 §3 has, and bare digests."""
    cursor = cbor.Cursor(content)
    id_chal = token_bundle = digest = None
    algorithms: tuple[Algorithm, ...] = ()
    last = 0
    for _ in range(cursor.map("ACME record")):
        key = cursor.uint("key of an ACME record")
        if key <= last:
            raise MalformedError(f"key {key} of an ACME record is doubled or not in order (RFC 8949 §4.2.1)")
        last = key
        if key == _ID_CHAL:
            id_chal = _decode_token(cursor, "id-chal")
        elif key == _TOKEN_BUNDLE:
            token_bundle = _decode_token(cursor, "token-bundle")
        elif key == _DIGEST:
            digest = _decode_digest(cursor)
        elif key == _ALGORITHMS:
            algorithms = _decode_algorithms(cursor)
        else:
            raise MalformedError(f"key {key} is none of an ACME record (RFC 9891 §3)")
    cursor.end("the ACME record")
    if id_chal is None or token_bundle is None:
        raise MalformedError("an ACME record has an id-chal and a token-bundle (RFC 9891 §3)")
    return AcmeRecord(id_chal, token_bundle, digest, algorithms)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _encode_algorithm(algorithm: Algorithm) -> bytes:
    if isinstance(algorithm, int):
        return cbor.encode_uint(algorithm)
    text = algorithm.encode()
    return cbor.encode_head(3, len(text)) + text


def _encode_digest(digest: Digest) -> bytes:
    octets = cbor.encode_bytes(digest.octets)
    return octets if digest.algorithm is None else b"\x82" + _encode_algorithm(digest.algorithm) + octets


def _decode_token(cursor: cbor.Cursor, what: str) -> bytes:
    length = cursor.string_head(what)
    if not MIN_TOKEN_OCTETS <= length <= MAX_TOKEN_OCTETS:
        raise MalformedError(f"{what} has {length} octets: {MIN_TOKEN_OCTETS} to {MAX_TOKEN_OCTETS} are allowed")
    return cursor.octets(what, length)


def _decode_digest(cursor: cbor.Cursor) -> Digest:
    if cursor.peek() >> 5 != 4:
        return Digest(None, _decode_digest_octets(cursor))
    count = cursor.array("key authorization digest")
    digest = Digest(_decode_algorithm(cursor), _decode_digest_octets(cursor))
    cursor.leave("key authorization digest", count, 2)
    return digest


def _decode_digest_octets(cursor: cbor.Cursor) -> bytes:
    length = cursor.string_head("digest")
    if length > MAX_DIGEST_OCTETS:
        raise MalformedError(f"a digest of {length} octets: none has more than {MAX_DIGEST_OCTETS}")
    return cursor.octets("digest", length)


def _decode_algorithms(cursor: cbor.Cursor) -> tuple[Algorithm, ...]:
    count = cursor.array("hash algorithms")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise MalformedError(f"{count} hash algorithms: 1 to {MAX_ALGORITHMS} are allowed")
    return tuple(_decode_algorithm(cursor) for _ in range(count))


def _decode_algorithm(cursor: cbor.Cursor) -> Algorithm:
    major = cursor.peek() >> 5
    if major == 3:
        length = cursor.string_head("hash algorithm", 3)
        if length > MAX_ALGORITHM_NAME:
            raise MalformedError(f"the name of a hash algorithm has {length} octets")
        try:
            return cursor.octets("hash algorithm", length).decode()
        except UnicodeDecodeError:
            raise MalformedError("the name of a hash algorithm is not UTF-8") from None
    if major == 1:
        _, value, cursor.offset = cbor.read_head(cursor.data, cursor.offset)
        return -1 - value
    return cursor.uint("hash algorithm")


# ---- texts and digests -----------------------------------------------------------------------------------------------


def token_from_text(text: str, what: str) -> bytes:
    """The octets of a token or thumbprint that is written in base64url. Raises MalformedError that names `what`."""
    wrong = f"{what}: write base64url text without '=', of {MIN_TOKEN_OCTETS} to {MAX_TOKEN_OCTETS} octets"
    if len(text) > _MAX_TEXT or not _BASE64URL.fullmatch(text):
        raise MalformedError(wrong)
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise MalformedError(wrong) from None
    if not MIN_TOKEN_OCTETS <= len(octets) <= MAX_TOKEN_OCTETS or token_to_text(octets) != text:
        raise MalformedError(wrong)
    return octets


def token_to_text(octets: bytes) -> str:
    """In base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def key_authorization(token_bundle: bytes, token_chal: bytes, thumbprint: bytes) -> str:
    """RFC 9891 §3: both tokens, a dot, and the thumbprint of the account's key (RFC 7638)."""
    return f"{token_to_text(token_bundle)}{token_to_text(token_chal)}.{token_to_text(thumbprint)}"


def digest_of(authorization: str, algorithm: Algorithm) -> bytes:
    """The digest of a Key Authorization, by one of ALGORITHMS."""
    assert isinstance(algorithm, int), "no hash is known by a name"
    return _HASHES[algorithm](authorization.encode()).digest()

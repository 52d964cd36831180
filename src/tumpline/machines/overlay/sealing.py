"""Seals: AES-256-GCM under keys that each sender has to itself, by HKDF-SHA256 (RFC 5869) from a given key or from identities.

A key is bound to who sends and to who receives, by name and by *instance* (random, new at each start): what was said to a
member before it started anew cannot be said to it again. Only what goes to all is bound to the sender alone.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tumpline.errors import MalformedError
from tumpline.machines.overlay.config import MemberConfig
from tumpline.machines.overlay.replay import ReplayWindow
from tumpline.wire.overlay import (
    COUNTER_MOST,
    INSTANCE_OCTETS,
    KEY_OCTETS,
    SEALED_HEAD,
    SEALED_HEAD_OCTETS,
    VERSION,
    Hello,
    Mode,
    SealedHead,
    SignedHello,
    nonce_of,
)

_INFO: Final = b"tumpline overlay 1"
Sealed = tuple[bytes, bytes]  # head, and ciphertext with its tag: as they were made, so that nobody copies them


class BrokenSealError(MalformedError):
    """Somebody altered this, or its key is not ours."""


class ReplayError(MalformedError):
    """This has come already, or so much later than what was sent after it that it counts as come."""


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869 §2) for one block of output: 32 octets."""
    extracted = hmac.digest(salt or bytes(KEY_OCTETS), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _worded(*words: bytes) -> bytes:
    return b"".join(len(word).to_bytes(1, "big") + word for word in words)


class Counter:
    """Of all that an instance seals, whatever the key: none comes twice, though a key may be made again."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0


class Sealer:
    """One direction of one key."""

    __slots__ = ("_aead", "_counter", "_instance", "_mode")

    def __init__(self, key: bytes, mode: Mode, instance: bytes, counter: Counter) -> None:
        self._aead = AESGCM(key)
        self._mode = mode
        self._instance = instance
        self._counter = counter

    def seal(self, kind: int, octets: bytes | memoryview, associated: bytes) -> Sealed:
        """The body of a message. `associated` is OverlayKey.associated of its routing key; `kind` may have FLOODED."""
        self._counter.last = counter = self._counter.last + 1
        assert counter <= COUNTER_MOST
        head = SEALED_HEAD.pack(VERSION, self._mode, kind, self._instance, counter)
        return head, self._aead.encrypt(nonce_of(counter), octets, head + associated)


class Opener:
    """The other end of a `Sealer`: what is sound is taken once."""

    __slots__ = ("_aead", "_window")

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._window = ReplayWindow()

    def open(self, head: SealedHead, body: bytes | memoryview, associated: bytes) -> memoryview:
        """What was sealed, in octets of its own. Raises: BrokenSealError, ReplayError."""
        if not self._window.may_take(head.counter):
            raise ReplayError(f"overlay: message {head.counter} came already")
        sealed, bound = memoryview(body)[SEALED_HEAD_OCTETS:], bytes(body[:SEALED_HEAD_OCTETS]) + associated
        try:
            opened = self._aead.decrypt(nonce_of(head.counter), sealed, bound)
        except InvalidTag:
            raise BrokenSealError(f"overlay: the seal of message {head.counter} is broken") from None
        self._window.take(head.counter)
        return memoryview(opened)


class PairKeys(NamedTuple):
    """Between us and one instance of one member."""

    sealer: Sealer
    opener: Opener
    flood_opener: Opener | None  # for what it sends to all


class Secrets:
    """What a member knows that others must not: it signs announcements, and agrees on keys."""

    def __init__(self, config: MemberConfig) -> None:
        self._name, self._instance = config.name.encode(), config.instance
        self._counter = Counter()
        self._given = config.given_key
        self.mode = Mode.IDENTITIES if config.given_key is None else Mode.GIVEN
        self._signer = Ed25519PrivateKey.from_private_bytes(hkdf(config.identity, b"", _INFO + b" sign"))
        self._agreement = X25519PrivateKey.from_private_bytes(hkdf(config.identity, b"", _INFO + b" agree"))
        self._hello_key = hkdf(config.given_key or b"", b"", _INFO + b" hello")
        self.public = self._signer.public_key().public_bytes_raw()
        self.agreement_public = b"" if config.given_key else self._agreement.public_key().public_bytes_raw()

    @property
    def key(self) -> bytes:
        """What an announcement names: the given key's identifier, or the identity."""
        return self.public if self._given is None else sha256(_INFO + self._given).digest()[:INSTANCE_OCTETS]

    def prove(self, signed: bytes) -> bytes:
        """Of an announcement of ours."""
        if self._given is None:
            return self._signer.sign(_INFO + b" hello" + signed)
        return hmac.digest(self._hello_key, signed, "sha256")

    def is_proven(self, said: SignedHello) -> bool:
        """Whether somebody with our given key, or with the identity that it names, has said it."""
        if said.hello.mode is not self.mode:
            return False
        if self._given is not None:
            proof = hmac.digest(self._hello_key, said.signed, "sha256")
            return said.hello.key == self.key and hmac.compare_digest(proof, said.proof)
        try:
            Ed25519PublicKey.from_public_bytes(said.hello.key).verify(said.proof, _INFO + b" hello" + said.signed)
        except (InvalidSignature, ValueError):
            return False
        return True

    def keys_with(self, peer: Hello) -> PairKeys:
        """With a member whose announcement is proven. Raises: MalformedError."""
        shared = self._given if self._given is not None else self._agree(peer)
        name = peer.name.encode()
        towards = hkdf(shared, self._instance, _INFO + b" packets" + _worded(self._name, name, peer.instance))
        from_it = hkdf(shared, peer.instance, _INFO + b" packets" + _worded(name, self._name, self._instance))
        flood = None if self._given is None else Opener(self._flood_key(name, peer.instance))
        return PairKeys(self._sealer(towards), Opener(from_it), flood)

    def flood_sealer(self) -> Sealer | None:
        """For what goes to all; under identities each member is sent its own."""
        return None if self._given is None else self._sealer(self._flood_key(self._name, self._instance))

    def _sealer(self, key: bytes) -> Sealer:
        return Sealer(key, self.mode, self._instance, self._counter)

    def _flood_key(self, name: bytes, instance: bytes) -> bytes:
        assert self._given is not None
        return hkdf(self._given, instance, _INFO + b" packets" + _worded(name, b"", b""))

    def _agree(self, peer: Hello) -> bytes:
        try:
            return self._agreement.exchange(X25519PublicKey.from_public_bytes(peer.agreement_key))
        except ValueError:  # RFC 7748 §6.1: of low order, so that everybody would know the result
            raise MalformedError(f"overlay: {peer.name} announces a key that agrees on nothing") from None

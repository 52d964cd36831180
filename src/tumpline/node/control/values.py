"""Requests and responses of control, as JSON values: what OpenAPI shows and what the client sends."""

from __future__ import annotations

import msgspec

from tumpline.machines.contract import StoredBundle
from tumpline.wire.bundle7 import bundle_id, decode_head_untrusted


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Unknown fields are mistakes."""


class Nothing(_Request):
    """A request without parameters."""


class RouteAdd(_Request):
    """A route: bundles for `to` go to the neighbour `via`."""

    to: str
    """EID pattern, such as dtn://rover/**"""
    via: str
    """Node ID of a neighbour."""
    priority: int = 10
    """Among equally specific routes the lowest is taken first."""
    save: bool = False
    """Keep the change over restarts."""


class RouteRemove(_Request):
    """Which route to remove."""

    to: str
    via: str
    save: bool = False


class ContactAdd(_Request):
    """A window in which a neighbour can be reached; values as in the configuration."""

    peer: str
    start: str = "+0s"
    """"+30s" from now, an RFC 3339 time, or cron."""
    duration: str = "10m"
    rate: str | None = None
    link: str | None = None
    save: bool = False


class ContactRemove(_Request):
    """Which contacts to remove: all of the peer's, or the one with that start."""

    peer: str
    start: str | None = None
    save: bool = False


class LinkRemove(_Request):
    """Which link to stop, by its name."""

    name: str
    save: bool = False


class BundlePage(_Request):
    """Which part of the store to list."""

    after: int = 0
    """Bundles with a higher `seq` than this."""
    limit: int = 100
    """At most this many (1 to 1000)."""


class BundleName(_Request):
    """A held bundle."""

    id: str
    """Its `seq`, or its identity as `id` in listings."""


class Down(_Request):
    """How to stop."""

    graceful: bool = True
    """Let transfers under way end first."""


class SinkRequest(_Request):
    """What to do with the sink's counters."""

    reset: bool = False
    """Begin to count anew after this answer."""


class AduSend(_Request):
    """One ADU; the body of the request is its payload."""

    to: str
    source: str = ""
    """Demux below the node ID to send from; "" is the node itself."""
    lifetime_s: float = 86_400.0
    report_to: str | None = None
    wait_s: float | None = None
    """How long to wait for room when the quota of the store is reached; by default as long as the client does."""


class EndpointName(_Request):
    """An endpoint of this node."""

    demux: str


class EventFilter(_Request):
    """Which events to tell."""

    names: str = ""
    """Comma-separated event names; empty: all of them."""


class Ok(msgspec.Struct):
    """It is done."""

    ok: bool = True


class Removed(msgspec.Struct):
    """Whether there was something to remove."""

    removed: bool


class Named(msgspec.Struct):
    """What was made."""

    name: str


class BundleStored(msgspec.Struct):
    """Identity of a bundle that is stored now."""

    bundle: str


class Problem(msgspec.Struct):
    """The body of every error."""

    error: str
    """A sentence for the person who asked."""
    exit_code: int


class BundleInfo(msgspec.Struct):
    """A held bundle, as people want to see it. Times are DTN times (milliseconds since 2000)."""

    seq: int
    id: str
    source: str
    destination: str
    created_ms: int
    sequence: int
    lifetime_ms: int
    expires_ms: int
    received_ms: int
    previous: str
    """Node ID of the neighbour it came from, "" if it was created here."""
    octets: int
    payload_octets: int
    fragment_offset: int | None
    total_adu_octets: int | None


class Bundles(msgspec.Struct):
    """A page of bundles."""

    bundles: list[BundleInfo]
    next_after: int | None
    """`after` for the next page, null if this is the last."""


def bundle_info(bundle: StoredBundle) -> BundleInfo:
    """What a stored bundle says of itself. Raises: MalformedError if the store is damaged."""
    head = decode_head_untrusted(bundle.head, bundle.length)
    assert head is not None, "a stored head is whole"
    primary = head.primary
    return BundleInfo(
        seq=bundle.seq,
        id=str(bundle_id(primary, bundle.payload.length)),
        source=str(primary.source),
        destination=str(primary.destination),
        created_ms=primary.created_ms,
        sequence=primary.sequence,
        lifetime_ms=primary.lifetime_ms,
        expires_ms=bundle.expires_ms,
        received_ms=bundle.received_ms,
        previous=bundle.previous,
        octets=bundle.length,
        payload_octets=bundle.payload.length,
        fragment_offset=primary.fragment_offset,
        total_adu_octets=primary.total_adu_length,
    )

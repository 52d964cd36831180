"""What a UDPCL agent tells: frozen, in the past tense. Transfers are known by decimal numbers, one series for both ways."""

from __future__ import annotations

from typing import NamedTuple


class Where(NamedTuple):
    """One end of a conversation."""

    address: str
    port: int


class PollingReceived(NamedTuple):
    """A node says that it takes datagrams where this one came from (Sender Listen). Nothing has proved who it is."""

    dtn_ms: int
    interval_ms: int
    node_id: str  # "" if it did not say
    source: Where


class BundleReceived(NamedTuple):
    """A bundle came whole and waits to be taken."""

    transfer: str
    octets: int
    source: Where
    local: Where


class BundleSendStarted(NamedTuple):
    """Its datagrams begin to leave."""

    transfer: str
    octets: int


class BundleSendFinished(NamedTuple):
    """They have left ("success": whether they came nobody knows), or will not: why."""

    transfer: str
    octets: int
    result: str


class PathMtuSearched(NamedTuple):
    """A search that somebody asked for has ended. `datagram_octets` of UDP payload pass; 0: the peer confirmed nothing."""

    asked: Where  # as it was asked for
    datagram_octets: int


AgentEvent = PollingReceived | BundleReceived | BundleSendStarted | BundleSendFinished | PathMtuSearched

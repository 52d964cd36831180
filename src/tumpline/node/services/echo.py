"""Sends every ADU back to its source, once: the reply and the identity of the request are committed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tumpline.errors import StorageError
from tumpline.machines.contract import Octets, Payload
from tumpline.machines.effects import Adu, Delivery, Outcome
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec
from tumpline.node.services._payload import copy_payload
from tumpline.wire.eid import IPN, Eid

DEMUX = "echo"
IPN_SERVICE = 7  # the number that bping users know, after the echo port (RFC 862)
RETRY_S = 30.0  # when there is no room for the copy of a large payload


class EchoConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The echo service has nothing to configure."""


class Echo:
    """The echo service. `replies` and `ignored` count since the start."""

    name = "echo"

    def __init__(self) -> None:
        self.replies = 0
        self.ignored = 0

    async def start(self, ctx: ServiceContext) -> None:
        self._ctx = ctx
        self._own_demux = ctx.demux_for(self.name)

    async def stop(self) -> None:
        """Nothing is held: replies under way are tasks of the node."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        answers: list[tuple[int, Outcome]] = []
        for delivery in deliveries:
            if not answerable(delivery):
                self.ignored += 1
                answers.append((delivery.seq, NOTHING))
            elif isinstance(delivery.payload, Octets):
                answers.append((delivery.seq, self._outcome(delivery, delivery.payload)))
            else:
                self._ctx.spawn(self._reply_large(delivery), f"echo {delivery.seq}")
        if answers:
            self._ctx.done(answers)

    async def _reply_large(self, delivery: Delivery) -> None:
        try:
            payload = await copy_payload(self._ctx, delivery.payload)
        except StorageError as error:
            self._ctx.notice("echo_failed", source=str(delivery.source), error=str(error))
            self._ctx.failed(delivery.seq, RETRY_S)
        else:
            self._ctx.done([(delivery.seq, self._outcome(delivery, payload))])

    def _outcome(self, delivery: Delivery, payload: Payload) -> Outcome:
        self.replies += 1
        # The reply comes from the endpoint that was asked, unless that is in the other scheme than our node ID.
        same = delivery.destination.scheme == self._ctx.node_id.scheme
        demux = delivery.destination.demux if same else self._own_demux
        reply = Adu(delivery.source, payload, source_demux=demux, lifetime_ms=delivery.lifetime_ms)
        return Outcome([], [reply])

    def describe(self) -> dict[str, Any]:
        return {"replies": self.replies, "ignored": self.ignored}


def answerable(delivery: Delivery) -> bool:
    """Whether a reply can come to an end: to no null source, and to no other echo service, which would answer it."""
    return not (delivery.admin or delivery.source.is_null or is_echo(delivery.source))


def is_echo(eid: Eid) -> bool:
    """Whether the endpoint is some node's echo service, as far as its name tells."""
    return eid.demux == (str(IPN_SERVICE) if eid.scheme == IPN else DEMUX)


SPEC = ServiceSpec(
    name="echo",
    summary="sends every ADU back to its source",
    config=EchoConfig,
    open=lambda _config: Echo(),
    demux=DEMUX,
    ipn_service=IPN_SERVICE,
    always=True,
)

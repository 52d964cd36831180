"""Endpoints of control clients: active registrations (RFC 9171 §3.2) that last as long as the client stays.

An ADU stays stored until its client says that it is done with it; when the client goes first, the ADU waits for the next
registration of the same demux.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from tumpline.errors import MalformedError, RefusedError
from tumpline.machines.effects import Delivery
from tumpline.node.services._api import NOTHING, ServiceContext, ServiceSpec

MAX_ENDPOINTS = 1024  # at a time; each holds a connection
MAX_DEMUX_LENGTH = 255
CONFIRM_S = 5.0  # what is not kept by then is in trouble (a full disk): its client hears of it


class EndpointsConfig(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Clients' endpoints have nothing to configure."""


class Receiver(Protocol):
    """The client behind an endpoint."""

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """ADUs came, in order. Each is to be answered by `Registration.done`. Does not block."""

    def confirmed(self, seqs: Sequence[int]) -> None:
        """The node has forgotten these, durably. Does not block."""

    def unconfirmed(self, seqs: Sequence[int]) -> None:
        """What was said of these is not kept after CONFIRM_S. Should it be later, `confirmed` tells."""


class Registration:
    """One endpoint in use. `out` are the ADUs that its client has and has not answered."""

    def __init__(self, endpoints: Endpoints, demux: str, receiver: Receiver) -> None:
        self._endpoints = endpoints
        self.demux = demux
        self.receiver = receiver
        self.eid = str(endpoints.ctx.node_id.with_demux(demux))
        self.out: dict[int, Delivery] = {}
        self._last = 0  # highest number it was ever handed
        self._said: dict[int, float] = {}  # done, not confirmed, and when it shall be told so
        self._late: set[int] = set()  # was told so
        self._timer: asyncio.TimerHandle | None = None

    def take(self, delivery: Delivery) -> None:
        """An ADU is about to be handed to the client."""
        self.out[delivery.seq] = delivery
        self._last = max(self._last, delivery.seq)

    def read(self, delivery: Delivery) -> bytes:
        """The payload, whole. Raises: StorageError."""
        return self._endpoints.ctx.read_payload(delivery.payload, 0, delivery.payload.length)

    def done(self, seqs: Sequence[int]) -> None:
        """The client is done with these; the node forgets them. The client may say it twice.

        Raises: MalformedError (numbers that it never was handed)."""
        if unknown := [seq for seq in seqs if seq > self._last]:
            raise MalformedError(f"done {unknown[0]}: no ADU of that number came to this endpoint")
        settled = [seq for seq in seqs if seq not in self.out and seq not in self._said and seq not in self._late]
        known = [seq for seq in seqs if self.out.pop(seq, None) is not None]
        if known:
            self._said.update(dict.fromkeys(known, self._endpoints.ctx.now() + CONFIRM_S))
            self._wait()
            self._endpoints.committing(known, self)
        if settled:
            self.receiver.confirmed(settled)  # said before, and kept

    def committed(self, seqs: list[int]) -> None:
        for seq in seqs:
            self._said.pop(seq, None)
            self._late.discard(seq)
        self.receiver.confirmed(seqs)

    def _wait(self) -> None:
        if self._timer is None and self._said:
            due_s = next(iter(self._said.values())) - self._endpoints.ctx.now()
            self._timer = self._endpoints.ctx.call_later(max(0.0, due_s), self._tell_late)

    def _tell_late(self) -> None:
        self._timer = None
        now = self._endpoints.ctx.now()
        if late := [seq for seq, due in self._said.items() if due <= now]:
            for seq in late:
                del self._said[seq]
            self._late.update(late)
            self.receiver.unconfirmed(late)
        self._wait()

    def stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """The client is gone. What it had not answered waits for the next one. Idempotent."""
        self._endpoints.close(self)


class Endpoints:
    """All endpoints of control clients."""

    name = "endpoints"

    def __init__(self) -> None:
        self._open: dict[str, Registration] = {}
        self._committing: dict[int, Registration] = {}  # deliveries that clients have done with: bounded by the window

    async def start(self, ctx: ServiceContext) -> None:
        self.ctx = ctx

    async def stop(self) -> None:
        for registration in list(self._open.values()):
            registration.close()

    def open(self, demux: str, receiver: Receiver) -> Registration:
        """Register an endpoint. Raises: RefusedError (somebody has it), MalformedError (no demux of this node)."""
        if not 0 < len(demux) <= MAX_DEMUX_LENGTH:
            raise MalformedError(f"a demux has 1 to {MAX_DEMUX_LENGTH} characters")
        if demux in self._open:
            raise RefusedError(f"another client has the endpoint {demux}")
        if len(self._open) >= MAX_ENDPOINTS:
            raise RefusedError(f"{MAX_ENDPOINTS} endpoints are open already")
        registration = Registration(self, demux, receiver)
        self._open[demux] = registration
        try:
            self.ctx.register(demux)
        except RefusedError:
            del self._open[demux]
            raise
        return registration

    def committing(self, seqs: list[int], registration: Registration) -> None:
        """A client is done with these."""
        self._committing.update(dict.fromkeys(seqs, registration))
        self.ctx.done([(seq, NOTHING) for seq in seqs])

    def committed(self, seqs: Sequence[int]) -> None:
        for_each: dict[Registration, list[int]] = {}
        for seq in seqs:
            registration = self._committing.pop(seq, None)
            if registration is not None:
                for_each.setdefault(registration, []).append(seq)
        for registration, batch in for_each.items():
            registration.committed(batch)

    def close(self, registration: Registration) -> None:
        registration.stop_waiting()
        if self._open.get(registration.demux) is not registration:
            return
        del self._open[registration.demux]
        # First nobody is there, then the ADUs are put back: they shall not be handed over again at once.
        self.ctx.unregister(registration.demux)
        for seq in registration.out:
            self.ctx.failed(seq, 0.0)
        registration.out.clear()

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        for_each: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            demux = delivery.destination.demux
            registration = self._open.get(demux)
            if registration is None:
                self.ctx.failed(delivery.seq, 0.0)  # its client went away in this turn of the loop
            else:
                registration.take(delivery)
                for_each.setdefault(demux, []).append(delivery)
        for demux, batch in for_each.items():
            self._open[demux].receiver.deliver(batch)

    def describe(self) -> dict[str, Any]:
        return {"open": {demux: len(registration.out) for demux, registration in self._open.items()}}


SPEC = ServiceSpec(
    name="endpoints",
    summary="endpoints of control clients",
    config=EndpointsConfig,
    open=lambda _config: Endpoints(),
    always=True,
)

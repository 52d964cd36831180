"""How a packet is written for whom it is for, after what befalls it on its way."""

from __future__ import annotations

from tumpline.machines.overlay import MemberConfig, Publish
from tumpline.machines.overlay.older_packets import OlderPackets
from tumpline.machines.packet_router.bridge import Bridge
from tumpline.machines.packet_router.counters import Counters
from tumpline.machines.packet_router.directory import Agent, Directory
from tumpline.machines.packet_router.impaired import Impairments, Way
from tumpline.machines.packet_router.keys import Form
from tumpline.machines.packet_router.outputs import JSON, SEALED, Output
from tumpline.wire.agent_keys import Direction
from tumpline.wire.amqp.content import Properties
from tumpline.wire.packet_json import Generation, Kind, check_packet_untrusted, decode_packet_untrusted

_SNIFFED, _INJECT = (f'"_type": "{kind.value}"'.encode() for kind in (Kind.SNIFFED, Kind.INJECT))


class Writing:
    """Messages come out; `impairments` are between agents, by name."""

    def __init__(
        self,
        config: MemberConfig,
        directory: Directory,
        impairments: Impairments,
        bridge: Bridge,
        counters: Counters,
        outputs: list[Output],
    ) -> None:
        self.impairments = impairments
        self._directory = directory
        self._bridge = bridge
        self._counters = counters
        self._outputs = outputs
        self._older = OlderPackets(config, counters)

    def message(self, source: str, target: Agent, form: Form, body: bytes, now: float) -> None:
        """An older agent's message; in its own form it goes as it is. Raises: MalformedError."""
        written = form if target.is_assumed else target.form(form.kind)
        impairment = self.impairments.between(source, target.name)
        if impairment is not None or written is not form:
            self.packet(source, target, form, decode_packet_untrusted(body)[0].data, now)
            return
        if not target.is_member:
            check_packet_untrusted(body)  # an older agent dies of a number above 255
        if form.generation is Generation.V0:
            body = body.replace(_SNIFFED, _INJECT, 1)  # agents take no other
        self._write(target, form.to_key(target.name) if target.is_assumed else target.targets[form.kind], body, JSON)

    def packet(self, source: str, target: Agent, form: Form, packet: bytes, now: float) -> None:
        """A packet by itself; `form` is taken where nobody knows the target's."""
        impairment = self.impairments.between(source, target.name)
        if impairment is None:
            self._packet(target, form, packet, now)
        else:
            self.impairments.receive(Way(source, target.name, form), impairment, packet, now)

    def sealed(self, source: str, target: Agent, body: bytes, now: float) -> None:
        """A batch that only the target can open."""
        impairment = self.impairments.between(source, target.name)
        if impairment is None:
            self._write(target, f"tumpline.packet.{target.name}.{source}", body, SEALED)
        else:
            self.impairments.receive(Way(source, target.name, None), impairment, body, now)

    def to_router(self, source: str, router: str, body: bytes) -> None:
        """A batch for a router (us, it may be), which is to open it."""
        self._counters.passed += 1
        self._outputs.append(Publish(f"tumpline.packet.{router}.{source}", (body,), SEALED, True))

    def guess(self, key: str, form: Form, packet: bytes, now: float) -> None:
        """For somebody who may be there."""
        self._outputs.append(Publish(key, (self._encoded(form, packet, now),), JSON, True))

    def due(self, now: float) -> None:
        """Impaired packets whose time has come."""
        for way, packet in self.impairments.due(now):
            target = self._directory.agents.get(way.target)
            if target is None:
                self._counters.unreachable += 1
            elif way.form is not None:
                self._packet(target, way.form, packet, now)
            else:
                self._write(target, f"tumpline.packet.{target.name}.{way.source}", packet, SEALED)

    def _packet(self, target: Agent, form: Form, packet: bytes, now: float) -> None:
        written = form if target.is_assumed else target.form(form.kind)
        if written is not None:
            self._write(target, written.to_key(target.name), self._encoded(written, packet, now), JSON)
            return
        sealed = self._bridge.seal(target.name, form.kind, packet, now)
        if sealed is None:
            self._counters.unreachable += 1
            return
        self._count(target, len(packet))
        self._outputs.append(sealed)

    def _encoded(self, form: Form, packet: bytes, now: float) -> bytes:
        return self._older.encode(packet, form.kind, form.generation, Direction.TO_AGENT, now)

    def _write(self, target: Agent, key: str | None, body: bytes, properties: Properties) -> None:
        assert key is not None
        self._count(target, len(body))
        self._outputs.append(Publish(key, (body,), properties, True))

    def _count(self, target: Agent, octets: int) -> None:
        target.packets_out += 1
        target.octets_out += octets
        self._counters.passed += 1

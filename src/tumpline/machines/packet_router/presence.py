"""Members of the session by their announcements, and the router's own: the overlay's, told to the router's directory."""

from __future__ import annotations

from tumpline.machines.overlay import Departure, MemberConfig, Output
from tumpline.machines.overlay.announcer import Announcer
from tumpline.machines.overlay.directory import Directory as Members
from tumpline.machines.overlay.directory import Peer
from tumpline.machines.overlay.sealing import Secrets
from tumpline.machines.packet_router.directory import Directory
from tumpline.machines.packet_router.shares import Message
from tumpline.wire.overlay import WHO, Format, Role, decode_hello_untrusted


class Presence:
    """Who can prove who it is, is a member; routers are no agents."""

    def __init__(self, config: MemberConfig, directory: Directory) -> None:
        self._name = config.name
        self._directory = directory
        self._now = 0.0
        secrets = Secrets(config)
        self.outputs: list[Output] = []
        # Only members that take nothing but sealed batches send us some: as a translator.
        own = config._replace(role=Role.ROUTER, formats=(Format.BINARY,), is_translator=True)
        self.announcer = Announcer(own, secrets, self.outputs)
        self.members = Members(config, secrets, self.announcer, self.outputs, self._changed)

    def heard(self, message: Message, now: float) -> None:
        """An announcement, or somebody asks for them. Raises: MalformedError."""
        self._now = now
        if message.routing_key == WHO:
            if bytes(message.body) != self._name.encode():
                self.announcer.asked(now)
            return
        said = decode_hello_untrusted(message.body)
        if message.routing_key == f"tumpline.hello.{said.hello.name}" and said.hello.name != self._name:
            self.members.heard(said, now)

    def is_router(self, name: str) -> bool:
        """Whether that is one: we, or another one."""
        peer = self.members.peers.get(name)
        return name == self._name or (peer is not None and peer.hello is not None and peer.hello.role is Role.ROUTER)

    def left(self) -> None:
        """Nobody can be heard: members announce themselves again when we are back."""
        self.announcer.stop()
        self.members.clear()

    def returned(self, name: str, now: float) -> bool:
        """A message found no queue of that member's. Returns: whether it was one."""
        peer = self.members.peers.get(name)
        if peer is None:
            return False
        self.members.remove(peer, Departure.RETURNED)
        self.announcer.ask(now)
        return True

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is wanted."""
        times = (self.announcer.next_timeout(), self.members.next_timeout())
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Announce ourselves; members that are silent are gone."""
        self._now = now
        self.announcer.handle_timeout(now)
        self.members.handle_timeout(now)

    def _changed(self, peer: Peer) -> None:
        hello = peer.hello
        if hello is None or self.members.peers.get(peer.name) is not peer:
            self._directory.forget(peer.name)
        elif hello.role is Role.MEMBER:
            self._directory.announced(hello, self._now)

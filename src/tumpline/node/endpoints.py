"""Who has which demux on this node: one service each."""

from __future__ import annotations

from tumpline.errors import RefusedError


class Endpoints:
    """The demuxes in use."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}

    def is_taken(self, demux: str) -> bool:
        """Whether a service has it."""
        return demux in self._holders

    def take(self, demux: str, service: str) -> None:
        """Raises: RefusedError if another service has it."""
        holder = self._holders.setdefault(demux, service)
        if holder != service:
            raise RefusedError(f"the endpoint {demux!r} is taken by the service {holder}")

    def give_back(self, demux: str, service: str) -> bool:
        """Whether the service had it."""
        if self._holders.get(demux) != service:
            return False
        del self._holders[demux]
        return True

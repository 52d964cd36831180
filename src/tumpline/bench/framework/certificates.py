"""A CA and certificates for the agents of one bench, and the same in one file for the plain programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tumpline.node import ca


class Certificates(NamedTuple):
    """One certificate an agent."""

    authority: Path
    issued: dict[str, ca.Issued]

    @classmethod
    def make(cls, directory: Path, names: Sequence[str]) -> Self:
        """Fresh ones for dtn://NAME/ each."""
        authority = ca.init_ca(directory)
        return cls(authority, {name: ca.issue(directory, [f"dtn://{name}/"]) for name in names})

    def config_line(self, name: str) -> str:
        """The `tls` of an agent's link."""
        cert, key = self.issued[name]
        files = f'ca = "{self.authority}", cert = "{cert}", key = "{key}"'
        return f'tls = {{ mode = "required", {files}, authenticate = "node", min_version = "1.3" }}\n'

    def all_in_one(self, name: str) -> Path:
        """Certificate, key and CA in one PEM file."""
        path = self.authority.with_name(f"{name}-all.pem")
        cert, key = self.issued[name]
        assert key is not None
        path.write_bytes(cert.read_bytes() + key.read_bytes() + self.authority.read_bytes())
        return path

"""One agent that carries bundles, IP packets and radio frames over whatever path there is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tumpline.node.client import connect, connect_sync

__all__ = ["__version__", "connect", "connect_sync"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The client is imported when it is asked for: `import tumpline` alone stays cheap."""
    if name in ("connect", "connect_sync"):
        from tumpline.node import client

        return getattr(client, name)
    raise AttributeError(f"module 'tumpline' has no attribute {name!r}")

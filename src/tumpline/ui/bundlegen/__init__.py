"""Random bundles through a real link between two ends in one command: every one must come, octet for octet.

The older demo agent's `bundlegen`, word for word, that checks what it sends (docs/older-agent.md).
"""

from tumpline.ui.bundlegen.command import main, tcpcl, udpcl

__all__ = ["main", "tcpcl", "udpcl"]

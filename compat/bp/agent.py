"""`python3 -m bp.agent`: the same as `bp-agent`."""

from __future__ import annotations

import sys

from tumpline.ui.agents.bp import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

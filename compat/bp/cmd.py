"""`python3 -m bp.cmd`, and `bp.cmd:main` for scripts that start the agent so."""

from __future__ import annotations

import sys

from tumpline.ui.agents.bp import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

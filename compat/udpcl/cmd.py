"""`python3 -m udpcl.cmd`, and `udpcl.cmd:main` for scripts that start the agent so."""

from __future__ import annotations

import sys

from tumpline.ui.agents.udpcl import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

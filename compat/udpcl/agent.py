"""`python3 -m udpcl.agent`: the same as `udpcl-agent`."""

from __future__ import annotations

import sys

from tumpline.ui.agents.udpcl import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

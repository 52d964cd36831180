"""`python3 -m tcpcl.agent`: the same as `tcpcl-agent`."""

from __future__ import annotations

import sys

from tumpline.ui.agents.tcpcl import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

"""`python -m agent connect ...`: the same as `ioppytest-agent connect`."""

from __future__ import annotations

import sys

from tumpline.ui.agents.ioppytest import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

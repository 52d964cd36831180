"""`python agent.py connect ...`: the same as `ioppytest-agent connect`, from this directory, as in 2017."""

from __future__ import annotations

import sys

from tumpline.ui.agents.ioppytest import main

if __name__ == "__main__":
    sys.exit(main())

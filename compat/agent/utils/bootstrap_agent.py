"""`python -m agent.utils.bootstrap_agent NAME PREFIX HOST [-nf]`: ask an agent to open its interface, and wait until it has."""

from __future__ import annotations

import sys

from tumpline.ui.agents.bootstrap import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

"""`python -m agent.utils.packet_dumper`: write what agents publish into capture files."""

from __future__ import annotations

import sys

from tumpline.ui.agents.packet_dumper import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

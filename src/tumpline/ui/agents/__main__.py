"""`python -m tumpline.ui.agents ROLE ...`: the commands where no scripts are installed."""

from __future__ import annotations

import importlib
import sys

from tumpline.ui.agents.arguments import ROLES

if __name__ == "__main__":
    role = sys.argv[1] if len(sys.argv) > 1 else ""
    if role not in ROLES:
        print(f"write one of: {', '.join(ROLES)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(importlib.import_module(f"tumpline.ui.agents.{role}").main(sys.argv[2:]))

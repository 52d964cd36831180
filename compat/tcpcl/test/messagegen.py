"""`python3 -m tcpcl.test.messagegen`: the same as `tcpcl-messagegen`."""

from __future__ import annotations

from tumpline.ui.bundlegen.messages import tcpcl as main

__all__ = ["main"]

if __name__ == "__main__":
    main()

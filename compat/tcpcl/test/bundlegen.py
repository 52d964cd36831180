"""`python3 -m tcpcl.test.bundlegen GENTYPE GENCOUNT`: the same as `tcpcl-bundlegen`."""

from __future__ import annotations

from tumpline.ui.bundlegen import tcpcl as main

__all__ = ["main"]

if __name__ == "__main__":
    main()

"""`python3 -m udpcl.test.bundlegen GENTYPE GENCOUNT`: the same as `udpcl-bundlegen`."""

from __future__ import annotations

from tumpline.ui.bundlegen import udpcl as main

__all__ = ["main"]

if __name__ == "__main__":
    main()

"""Networks of namespaces on one machine, with what real networks do to packets (docs/lab.md).

>>> from tumpline.lab import Lab
"""

from tumpline.lab.api import Lab

__all__ = ["Lab"]

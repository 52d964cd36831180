"""Other names on the PATH: each is one verb."""

from __future__ import annotations

import sys
from typing import NoReturn

from tumpline.ui.cli import main


def bping() -> NoReturn:
    """`tumpline ping`."""
    main(["ping", *sys.argv[1:]])


def bptrace() -> NoReturn:
    """`tumpline trace`."""
    main(["trace", *sys.argv[1:]])


def bpecho() -> NoReturn:
    """`tumpline echo`."""
    main(["echo", *sys.argv[1:]])


def bpsource() -> NoReturn:
    """`tumpline source`."""
    main(["source", *sys.argv[1:]])


def bpsink() -> NoReturn:
    """`tumpline sink`."""
    main(["sink", *sys.argv[1:]])


def bpsendfile() -> NoReturn:
    """`tumpline send`."""
    main(["send", *sys.argv[1:]])


def bprecvfile() -> NoReturn:
    """`tumpline recv`."""
    main(["recv", *sys.argv[1:]])

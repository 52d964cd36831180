"""`tumpline run -- COMMAND`: a command inside the overlay only."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.tunnel_options import PLACE, SESSION, PlaceOptions, SessionOptions

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]


def run(
    *command: Words,
    name: str,
    session: SessionOptions = SESSION,
    place: PlaceOptions = PLACE,
    dump: Path | None = None,
    common: Common = DEFAULT,
) -> int:
    """Run a command that is in a session of the packet overlay, and sees no other network: no root is needed.

    Its exit code is passed on.

    Parameters
    ----------
    command
        What to run, after `--` (default: a shell).
    name
        Who it is in the session: one word, unique there.
    dump
        Write every packet into this pcapng file, for Wireshark.
    """
    from tumpline.node.overlay.apart import serve_apart
    from tumpline.node.overlay.settings import Wish, settings_of
    from tumpline.ui.cli.tunnel_telling import Teller

    wish = Wish(name=name, dump=dump, **asdict(session), **asdict(place))
    teller = Teller(Output(common, out=sys.stderr))  # standard output is the command's
    argv = command or (os.environ.get("SHELL", "/bin/sh"),)
    return asyncio.run(serve_apart(settings_of(wish), argv, tell=teller.tell, ready=teller.ready))

"""The plainest agent that can be started: the libraries it cannot do without, a database, two listening sockets."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import ssl
import sys
from pathlib import Path


def main(directory: Path) -> None:
    """Open everything and say so."""
    database = sqlite3.connect(directory / "plain.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE bundles (seq INTEGER PRIMARY KEY, octets BLOB)")
    ssl.create_default_context()
    with socket.socket(socket.AF_UNIX) as control, socket.create_server(("127.0.0.1", 0)), asyncio.Runner() as runner:
        control.bind(str(directory / "plain.sock"))
        control.listen()
        runner.run(asyncio.sleep(0))
        print("ready", flush=True)
    database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

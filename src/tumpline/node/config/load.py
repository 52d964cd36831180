"""A configuration file, of whichever kind it is: TOML, or the older agent's YAML."""

from __future__ import annotations

import os
from pathlib import Path

from tumpline.errors import ConfigError
from tumpline.node.config.read import loads
from tumpline.node.config.value import Configuration
from tumpline.node.config.yaml import SUFFIXES
from tumpline.node.registry import Registry

# A configuration is written by people: what is larger is some other file.
MAX_OCTETS = 4 << 20


def load(path: Path | str, registry: Registry | None = None) -> Configuration:
    """The configuration in a file. Raises: ConfigError with every mistake in it."""
    file = Path(path)
    if file.suffix in SUFFIXES:
        from tumpline.node.config.older.node import load_node  # what few need is not loaded at every start

        return load_node(file, registry)
    return loads(_text(file), file, registry)


def _text(file: Path) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_OCTETS + 1)
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist; `tumpline config init {file}` writes one") from None
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise ConfigError(f"{file} cannot be read: {words}; name another file with --config") from error
    if len(data) > MAX_OCTETS:
        raise ConfigError(f"{file} is larger than {MAX_OCTETS >> 20} MiB; name a configuration file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: this is not UTF-8 text; save the file as UTF-8") from error

"""The same targets guided by coverage: atheris (libFuzzer), which the extra `tumpline[fuzz]` installs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.harness import Target, checked

MEMORY_MIB = 1024  # of the whole process, atheris included
INPUT_S = 10  # one input that takes longer is a finding


def fuzz_guided(target: Target, seconds: int) -> None:
    """Does not return: libFuzzer ends the process, with an exit code other than 0 after a finding."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("fuzz: atheris is not installed: pip install 'tumpline[fuzz]'")
    with TemporaryDirectory(prefix="tumpline-fuzz-") as corpus:
        for number, seed in enumerate(target.seeds()):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        atheris.instrument_all()
        options = [
            f"-max_total_time={seconds}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-timeout={INPUT_S}",
            "-max_len=262144",
        ]
        atheris.Setup([f"fuzz {target.name}", *options, corpus], lambda data: _one(target, data))
        atheris.Fuzz()


def _one(target: Target, data: bytes) -> None:
    checked(target, target.prepare(data))

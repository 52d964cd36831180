#!/usr/bin/env python3
"""Networks of agents from one YAML file, by the older agent's commands.

    run.py [--log-level L] --config F [--image-no-cache] [--stage-dir D] [--engine] act ACTION...
    run.py ... --config F exec NODE [--] COMMAND...
    run.py --config F delete prep start stop                     (as it was until 2023)

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not ready in time, 4 not started, 130 interrupted;
of `exec`: the command's.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: its own package is found from the directory above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from container.engine import EngineNetwork
from container.namespaces import NamespaceNetwork
from container.network import Options, read_network
from tumpline.errors import ConfigError, TumplineError

LOG = logging.getLogger("run")
_LEVELS = ("debug", "info", "warning", "error", "critical")

ACTIONS = ("pkigen", "build", "create", "start", "ready", "check_sand", "rate_ctrl", "stop", "delete")
OLD_ACTIONS = ("delete", "prep", "start", "stop")
_TELLS_REMARKS = {"create", "prep"}  # once, where the file's meaning is written down


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=given.log_level.upper(), format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        steps = _steps(given.words)
        options = Options(given.stage_dir, given.image_no_cache)
        network = read_network(given.config, options, EngineNetwork if given.engine else NamespaceNetwork)
        for remark in network.lab.remarks if _TELLS_REMARKS & set(steps) else ():
            LOG.warning("%s", remark)
        if given.words[0] == "exec":
            return network.exec(given.words[1], _command(given.words))
        for name in steps:
            LOG.info("%s", name)
            getattr(network, name)()
    except TumplineError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log-level", type=str.lower, choices=_LEVELS, default="info", help="least that is told")
    parser.add_argument("--config", type=Path, required=True, help="the network's YAML file")
    parser.add_argument("--image-no-cache", action="store_true", help="build the image anew (with --engine)")
    parser.add_argument(
        "--stage-dir", type=Path, help="where keys, logs and configurations go (default: workdir beside F)"
    )
    parser.add_argument("--engine", action="store_true", help="run containers by $DOCKER (default: docker)")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="act ACTION... | exec NODE -- COMMAND...")
    return parser


def _steps(words: Sequence[str]) -> list[str]:
    """The verbs, in order. Raises: ConfigError before anything is done."""
    if not words:
        raise ConfigError(
            f"what is to be done? Write act and then any of {', '.join(ACTIONS)}; or exec NODE -- COMMAND"
        )
    if words[0] == "exec":
        if len(words) < 2:
            raise ConfigError("in which node? Write exec NODE -- COMMAND")
        return []
    known, names = (ACTIONS, words[1:]) if words[0] == "act" else (OLD_ACTIONS, words)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        hint = "" if words[0] == "act" else "; the others follow the word act"
        raise ConfigError(f"{unknown[0] if unknown else 'act'}: write one of {', '.join(known)}{hint}")
    return list(names)


def _command(words: Sequence[str]) -> list[str]:
    command = list(words[2:])
    if command[:1] == ["--"]:
        del command[0]
    return command or ["/bin/sh"]


if __name__ == "__main__":
    sys.exit(main())

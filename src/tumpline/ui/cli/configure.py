"""`tumpline config`: write, check and show configurations."""

from __future__ import annotations

from pathlib import Path

from tumpline.errors import ConfigError
from tumpline.ui.cli.agent import default_config_path
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output


def check(*files: Path, common: Common = DEFAULT) -> int:
    """Name every mistake as FILE:LINE: KEY: what is wrong; what to write. Exits 2 if there is any.

    Parameters
    ----------
    files
        Configurations (default: the one that `tumpline up` would take).
    """
    output = Output(common)
    found = [(file, _problems(file)) for file in files or (default_config_path(common.node),)]
    wrong = any(problems for _, problems in found)
    value = {
        "ok": not wrong,
        "files": [{"file": str(file), "ok": not problems, "problems": problems} for file, problems in found],
    }
    output.result(value, [line for file, problems in found for line in problems or [f"{file}: ok"]])
    return ConfigError.exit_code if wrong else 0


def _problems(file: Path) -> list[str]:
    from tumpline.node.config import load

    try:
        load(file)
    except ConfigError as error:
        return error.problems
    return []

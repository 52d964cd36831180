"""`tumpline config`: write, check and show configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tumpline.errors import ConfigError
from tumpline.ui.cli.agent import config_dir, default_config_path
from tumpline.ui.cli.common import DEFAULT, Common, FileOrDash, Flag
from tumpline.ui.cli.output import Output


def check(*files: Path, common: Common = DEFAULT) -> int:
    """Name every mistake as FILE:LINE: KEY: what is wrong; what to write. Exits 2 if there is any.

    Parameters
    ----------
    files
        Configurations (default: the one that `tumpline up` would take).
    """
    output = Output(common)
    found = [(file, *_examined(file)) for file in files or (default_config_path(common.node),)]
    wrong = any(problems for _, problems, _ in found)
    value = {
        "ok": not wrong,
        "files": [
            {"file": str(file), "ok": not problems, "problems": problems, "remarks": remarks}
            for file, problems, remarks in found
        ],
    }
    output.result(value, [line for file, problems, _ in found for line in problems or [f"{file}: ok"]])
    for line in (line for _, _, remarks in found for line in remarks):
        output.note(line)
    return ConfigError.exit_code if wrong else 0


def _examined(file: Path) -> tuple[list[str], list[str]]:
    """Mistakes, and remarks on what is taken otherwise than it is written."""
    from tumpline.node.config import load

    try:
        return [], load(file).remarks
    except ConfigError as error:
        return error.problems, []


def show(file: Path | None = None, /, *, common: Common = DEFAULT) -> int:
    """Show the configuration as it takes effect: defaults filled in, secrets left out.

    Parameters
    ----------
    file
        Configuration (default: the one that `tumpline up` would take).
    """
    from tumpline.node import config

    configuration = config.load(file or default_config_path(common.node))
    Output(common).result(config.effective(configuration), config.show(configuration).rstrip())
    return 0


def init(
    file: FileOrDash | None = None,
    /,
    *,
    node_id: Annotated[str, Parameter(name="--id")] = "dtn://node/",
    listen: str = "127.0.0.1:4556",
    force: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Write a first configuration, in which every key is explained.

    Parameters
    ----------
    file
        Where to, or - for standard output (default: in the configuration directory, named after the node).
    node_id
        The node ID.
    listen
        Where its link listens.
    force
        Replace a file that is there.
    """
    from tumpline.node.config import template

    text = template(node_id, listen)
    output = Output(common)
    if file == "-":
        output.result({"text": text}, text.rstrip())
        return 0
    path = Path(file) if file is not None else config_dir() / f"{_stem(node_id)}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x") as target:
            target.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: choose another name, or --force") from None
    output.result({"file": str(path)}, f"{path} is written; next: tumpline up --config {path}")
    return 0


def _stem(node_id: str) -> str:
    from tumpline.node.ca import file_name

    return file_name(node_id)


def schema(*, common: Common = DEFAULT) -> int:
    """Print the JSON Schema of configurations, for editors."""
    from tumpline.node import config

    value = config.schema()
    Output(common).result(value, json.dumps(value, indent=2))
    return 0

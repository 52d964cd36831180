"""`tumpline lab compose`: the same laboratory for Docker or Podman."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tumpline.errors import ConfigError
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output


def compose(
    target: str,
    /,
    *,
    directory: Annotated[Path | None, Parameter(alias="-o")] = None,
    source: Path | None = None,
    common: Common = DEFAULT,
) -> int:
    """Write a laboratory as containers: a compose file, what their image is built from, keys and configurations.

    Nothing is started. The command that does is printed; DOCKER in the environment says how the engine is called
    ("sudo podman"). Keys that are in the directory already are kept.

    Parameters
    ----------
    target
        Its YAML file, or the name of a ready one (`tumpline lab list`).
    directory
        Where the files go (default: NAME-containers).
    source
        A checkout of tumpline to build the image from (default: the released version).
    """
    from tumpline.lab.read import load
    from tumpline.lab.ready import ready_file
    from tumpline.lab.stage import Stage

    if source is not None and not (source / "pyproject.toml").is_file():
        raise ConfigError(f"{source} is no checkout: it has no pyproject.toml; name the directory that has it")
    lab = load(ready_file(target) or Path(target))
    stage = Stage(directory or Path(f"{lab.name}-containers"), lab)
    output = Output(common)
    for remark in lab.remarks:
        output.note(remark)
    made = stage.complete(source)
    command = f"{os.environ.get('DOCKER', 'docker')} compose -f {stage.compose} up --build --detach"
    value = {"directory": str(stage.directory), "compose": str(stage.compose), "keys_made": made, "command": command}
    output.result(
        value, [f"{stage.directory} has {'keys, ' if made else ''}configurations and the compose file", command]
    )
    return 0

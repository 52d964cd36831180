"""`tumpline completion`: words for the shell."""

from __future__ import annotations

from typing import Literal

from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell, /, *, common: Common = DEFAULT) -> int:
    """Print the completion script of a shell: `source <(tumpline completion bash)`.

    Parameters
    ----------
    shell
        Whose words.
    """
    from tumpline.ui.cli.app import build

    script = build().generate_completion(prog_name="tumpline", shell=shell)
    Output(common).result({"shell": shell, "script": script}, script)
    return 0

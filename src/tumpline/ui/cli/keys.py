"""`tumpline keys`: the identities of a configuration."""

from __future__ import annotations

from pathlib import Path

from tumpline.ui.cli.agent import default_config_path
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output, table


def ls(file: Path | None = None, /, *, common: Common = DEFAULT) -> int:
    """List the certificates and keys that a configuration uses, whom they name and how long they are good.

    Exits 1 if one of them cannot be used.

    Parameters
    ----------
    file
        Configuration (default: the one that `tumpline up` would take).
    """
    from tumpline.node.identities import used_identities

    found = used_identities(file or default_config_path(common.node))
    rows = [
        (
            each.purpose,
            each.used_by,
            " ".join(each.node_ids) or "-",
            each.not_after,
            "no" if each.problems else "yes",
            each.cert,
        )
        for each in found
    ]
    lines = table(("PURPOSE", "LINK", "NODE IDS", "GOOD UNTIL", "USABLE", "CERTIFICATE"), rows)
    problems = [problem for each in found for problem in each.problems]
    Output(common).result({"identities": [each._asdict() for each in found]}, [*lines, *problems])
    return 1 if problems else 0

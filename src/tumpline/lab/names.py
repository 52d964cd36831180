"""Names inside of a laboratory: a hosts file for each node."""

from __future__ import annotations

from collections.abc import Sequence

from tumpline.lab.addresses import Port

_LOCAL = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
"""


def hosts_file(ports: Sequence[Port], reader: str) -> str:
    """What `reader` calls whom. A node on a net of its own goes by its addresses there; another by all it has.

    Names with a dot at their end are there too: a resolver hands them on as they are, and files know no root.
    """
    own = {port.net for port in ports if port.node == reader}
    lines = [_LOCAL]
    for node in dict.fromkeys(port.node for port in ports):
        all_of = [port for port in ports if port.node == node]
        near = [port for port in all_of if port.net in own]
        for port in near or all_of:
            lines += [f"{address} {node} {node}. {node}.local {node}.{port.net}\n" for address in port.addresses]
        for port in all_of if near else []:
            if port not in near:
                lines += [f"{address} {node}.{port.net}\n" for address in port.addresses]
    return "".join(lines)

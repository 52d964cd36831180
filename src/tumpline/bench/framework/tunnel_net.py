"""Two sites and what lies between: network namespaces, joined by veths that carry real packets of 1500 octets.

The middle is the laboratory's switch. RabbitMQ runs there, and a packet router; both sites reach it, and each other through
it. Everything ends with the block.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tumpline.lab.holder import Holder, environment
from tumpline.testing.rabbitmq import PASSWORD, USER

SITES: Final = {"a": "10.99.1", "b": "10.99.2"}  # the first three numbers of each site's net
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
OFFLOADS: Final = ("tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off")


class TunnelNet:
    """A context manager. Raises: TumplineError with the remedy."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.holder: Holder
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            self.holder = Holder.start(self.directory, lasting=False)
            ends.callback(self.holder.stop)
            for site in SITES:
                self._add(site)
            self.holder.run(None, ["sh", "-c", f"echo 1 > {_FORWARDING}"])
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def _add(self, site: str) -> None:
        hosts = self.directory / f"hosts-{site}"
        hosts.touch()
        self.holder.add_node(site, hosts, hosts, forward=False)
        net, here = SITES[site], f"v{site}"
        link = f"link add {here} type veth peer name eth0 netns {self.holder.nodes[site]}\n"
        self.holder.run(None, ["ip", "-batch", "-"], f"{link}address add {net}.1/24 dev {here}\nlink set {here} up\n")
        inside = f"address add {net}.2/24 dev eth0\nlink set eth0 up\nroute add default via {net}.1\n"
        self.holder.run(site, ["ip", "-batch", "-"], inside)
        for node, ifname in ((None, here), (site, "eth0")):
            # Real packets of 1500 octets. Checksums stay where they always are: nobody here looks at them.
            self.holder.run(node, ["ethtool", "-K", ifname, *OFFLOADS])

    def url(self, site: str, vhost: str = "%2F") -> str:
        """Of the broker, as it is seen from a site."""
        return f"amqp://{USER}:{PASSWORD}@{SITES[site]}.1:5672/{vhost}"

    def start(self, node: str | None, argv: Sequence[str], log: Path, **env: str) -> subprocess.Popen[str]:
        """A program in a node (None: in the middle), that ends with the block at the latest."""
        with log.open("a") as output:
            process = subprocess.Popen(
                self.holder.command(node, argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                env=environment() | env,
            )
        self._ends.callback(process.wait)
        self._ends.callback(process.kill)
        return process

"""Files over D-Bus through two real agents: equal to the octet, and no larger in memory than without them."""

from pathlib import Path

import pytest

from tumpline.bench.framework.tcpcl_agents import TcpclAgents, running

MIB = 1 << 20
# Of an agent, with Python and its libraries; an idle one has some 40 MiB.
RSS_MIB_MOST = 80
# What a long file may add: buffers of the link and of the spool, and nothing that grows with the file.
GROWTH_MIB_MOST = 16


def make_file(agents: TcpclAgents, name: str, octets: int) -> Path:
    """Different at each place, so that nothing can be taken for anything else."""
    path = agents.directory / name
    with path.open("wb") as file:
        for index in range(octets // MIB):
            file.write(index.to_bytes(8, "big") * (MIB // 8))
    return path


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "mib",
    [100, pytest.param(1024, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
    ids=lambda mib: f"{mib}MiB",
)
def test_large_files_come_equal_and_leave_memory_flat(tls: bool, mib: int) -> None:
    """Defect 1: there, a full socket buffer ended the session in the middle of 10 MiB."""
    with running(tls) as agents:
        agents.seconds([make_file(agents, "ten", 10 * MIB)])  # compares SHA-256
        before = agents.rss_max_mib()
        agents.seconds([make_file(agents, "large", mib * MIB)])
        agents.seconds([make_file(agents, f"small{index}", MIB) for index in range(20)])
        assert agents.rss_max_mib() < min(RSS_MIB_MOST, before + GROWTH_MIB_MOST)
        assert [path.name for path in agents.directory.iterdir() if path.name.endswith("-came")] == []

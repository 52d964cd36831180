"""Whom the agent cannot reach, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tumpline.ui.cli.output import duration

if TYPE_CHECKING:
    from tumpline.node.client import Client


async def why_waiting(agent: Client) -> list[str]:
    """A line for each address that explains why bundles may wait here."""
    return unreachable((await agent.get("/v1/links"))["links"])


def unreachable(links: list[dict[str, Any]]) -> list[str]:
    """A line for each address that a link tries in vain to reach: why, and when it tries again."""
    found = []
    for link in links:
        for each in link.get("dialling", ()):
            if isinstance(each, dict) and not each["connected"] and each["failures"]:
                where = "" if each["last_failure"].startswith(each["address"]) else f"{each['address']}: "
                again = f"attempt {each['failures'] + 1} in {duration(each['retry_in_s'])}"
                found.append(f"{link['name']}: no session with {where}{each['last_failure']}; {again}")
    return found

"""What `tumpline tunnel status` shows of agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tumpline.ui.cli.output import Output, duration, octets, table


def status_lines(agents: Sequence[Mapping[str, Any]], output: Output) -> list[str]:
    """One agent after the other."""
    lines: list[str] = []
    for agent in agents:
        lines += ["", *_agent(agent, output)] if lines else _agent(agent, output)
    return lines


def _agent(agent: Mapping[str, Any], output: Output) -> list[str]:
    session = agent["session"]
    state = "up" if session["joined"] else "down"
    line = f"{agent['name']}  {session['url']}  {state} {duration(agent['uptime_s'])}  process {agent['pid']}"
    return [output.styled(line, state), *_ports(agent), *_members(agent)]


def _ports(agent: Mapping[str, Any]) -> Iterator[str]:
    for port in agent["ports"]:
        addresses = ", ".join(port.get("addresses", ()))
        yield (
            f"  {port['name']}{f'  {addresses}' if addresses else ''}  out {port['packets_out']} packets / "
            f"{octets(port['octets_out'])}  in {port['packets_in']} packets / {octets(port['octets_in'])}"
        )


def _members(agent: Mapping[str, Any]) -> list[str]:
    rows = [
        (each["name"], each.get("role", "-"), ", ".join(each.get("addresses", ())) or None, each.get("format"))
        for each in agent["member"].get("members", ())
    ]
    return [f"  {line}" for line in table(("MEMBER", "ROLE", "ADDRESSES", "FORMAT"), rows)] if rows else []

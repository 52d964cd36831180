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
    session, member = agent["session"], agent["member"]
    state = "up" if session["joined"] else "down"
    line = f"{agent['name']}  {session['url']}  {state} for {duration(agent['uptime_s'])}  process {agent['pid']}"
    lines = [output.styled(line, state)]
    if not session["joined"] and session["last_loss"]:
        lines.append(f"  not in the session: {session['last_loss']}")
    routers = f"  routers {', '.join(member['routers'])}" if member["routers"] else ""
    lines.append(f"  key {member['identity']}{routers}")
    return [*lines, *_ports(agent["ports"]), *_members(member["members"]), *_noteworthy(agent)]


def _ports(ports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for port in ports:
        addresses = ", ".join(port.get("addresses", ()))
        yield (
            f"  {port['name']}{f'  {addresses}' if addresses else ''}  out {port['packets_out']} packets / "
            f"{octets(port['octets_out'])}  in {port['packets_in']} packets / {octets(port['octets_in'])}"
        )
        if problem := port.get("problem"):
            yield f"    {problem}"


def _members(members: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            each["name"],
            each["role"],
            ", ".join(_addresses(each)) or None,
            ", ".join(each["formats"]),
            each["trust"].replace("_", " "),
            each["identity"] or None,
        )
        for each in members
    ]
    return [f"  {line}" for line in table(_HEADERS, rows)] if rows else ["  nobody else is there"]


def _addresses(member: Mapping[str, Any]) -> Iterator[str]:
    """A network with its length; of a single address that says nothing."""
    for claim in member["claims"]:
        if not claim.startswith("fe80:"):
            yield claim.removesuffix("/128").removesuffix("/32")
    yield from member["learned"]


def _noteworthy(agent: Mapping[str, Any]) -> Iterator[str]:
    """What a person should ask about: nothing of it is usual."""
    counts = {**agent["member"]["counters"], **agent["session"]}
    for port in agent["ports"]:
        for name in ("dropped", "malformed"):
            counts[f"port {name}"] = counts.get(f"port {name}", 0) + port.get(name, 0)
    found = [f"{name.replace('_', ' ')} {counts[name]}" for name in _NOTEWORTHY if counts.get(name)]
    if found:
        yield f"  since start: {', '.join(found)}"


_HEADERS = ("MEMBER", "ROLE", "ADDRESSES", "FORMATS", "TRUST", "KEY")
_NOTEWORTHY = (
    "losses", "pauses", "nowhere", "returned", "malformed", "broken_seals", "replays", "strangers", "port dropped",
    "port malformed",
)  # fmt: skip

"""`tumpline links|routes|contacts ls|add|rm`: every change takes effect at once; --save keeps it over restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumpline.errors import TumplineError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output, table
from tumpline.ui.cli.reach import unreachable


class NothingThereError(TumplineError):
    """There is nothing of that name to remove."""


async def _show(
    what: str,
    columns: tuple[str, ...],
    common: Common,
    below: Callable[[list[dict[str, Any]]], list[str]] = lambda _: [],
) -> int:
    async with connected(common) as agent:
        value = await agent.get(f"/v1/{what}")
    rows = [tuple(_cell(row.get(column)) for column in columns) for row in value[what]]
    lines = table([column.upper() for column in columns], rows) + below(value[what])
    Output(common).result(value, lines)
    return 0


def _cell(value: Any) -> str | None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return str(len(value))
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return None if value in (None, "") else str(value)


async def _add(what: str, value: dict[str, Any], common: Common, told: str) -> int:
    async with connected(common) as agent:
        answer = await agent.post(f"/v1/{what}", {key: item for key, item in value.items() if item is not None})
    Output(common).result(answer, told)
    return 0


async def _remove(what: str, value: dict[str, Any], common: Common, told: str) -> int:
    async with connected(common) as agent:
        answer = await agent.delete(f"/v1/{what}", {key: item for key, item in value.items() if item is not None})
    if not answer["removed"]:
        raise NothingThereError(f"there is no such entry: `tumpline {what} ls` lists those that are")
    Output(common).result(answer, told)
    return 0


async def routes_ls(*, common: Common = DEFAULT) -> int:
    """Show the routes."""
    return await _show("routes", ("to", "via", "priority", "name"), common)


async def routes_add(to: str, via: str, /, *, priority: int = 10, save: Flag = False, common: Common = DEFAULT) -> int:
    """Send bundles for EIDs that match a pattern to a neighbour.

    Parameters
    ----------
    to
        EID pattern, such as dtn://rover/** or ipn:7.*
    via
        Node ID of the neighbour.
    priority
        Among equal patterns the lower number is tried first.
    save
        Keep the route over restarts.
    """
    value = {"to": to, "via": via, "priority": priority, "save": save}
    return await _add("routes", value, common, f"{to} goes by way of {via}")


async def routes_rm(to: str, via: str, /, *, save: Flag = False, common: Common = DEFAULT) -> int:
    """Remove a route.

    Parameters
    ----------
    to
        EID pattern of the route.
    via
        Node ID of its neighbour.
    save
        Also after restarts.
    """
    return await _remove("routes", {"to": to, "via": via, "save": save}, common, f"{to} via {via} is removed")


async def contacts_ls(*, common: Common = DEFAULT) -> int:
    """Show the contact plan."""
    return await _show("contacts", ("peer", "start", "duration", "rate", "link", "state"), common)


async def contacts_add(
    peer: str,
    /,
    *,
    start: str = "+0s",
    duration: str,
    rate: str | None = None,
    link: str | None = None,
    save: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Open a window in which a peer can be reached.

    Parameters
    ----------
    peer
        Node ID of the peer.
    start
        When: +30s from now, an RFC 3339 time, or "cron: ...".
    duration
        How long: 30s, 10m, 2h.
    rate
        How fast, such as "128 kbit/s" (default: not limited).
    link
        Only over this link.
    save
        Keep the contact over restarts.
    """
    value = {"peer": peer, "start": start, "duration": duration, "rate": rate, "link": link, "save": save}
    return await _add("contacts", value, common, f"{peer} can be reached from {start} for {duration}")


async def contacts_rm(peer: str, /, *, start: str | None = None, save: Flag = False, common: Common = DEFAULT) -> int:
    """Remove contacts of a peer.

    Parameters
    ----------
    peer
        Node ID of the peer.
    start
        Only the contact with this start (default: all of the peer's).
    save
        Also after restarts.
    """
    value = {"peer": peer, "start": start, "save": save}
    return await _remove("contacts", value, common, f"contacts with {peer} are removed")


async def links_ls(*, common: Common = DEFAULT) -> int:
    """Show the links, and which addresses cannot be reached."""
    return await _show("links", ("name", "kind", "listening", "tls", "sessions"), common, unreachable)


async def links_add(
    kind: str,
    /,
    *,
    name: str | None = None,
    listen: str | None = None,
    connect: list[str] | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    save: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Open a link while the agent runs.

    Parameters
    ----------
    kind
        Which convergence layer, such as tcpcl4.
    name
        How to call it (default: its kind).
    listen
        Address to listen on, such as [::]:4556.
    connect
        Address to hold a session with; may be given several times.
    ca
        With cert and key: require TLS and prove node IDs against this CA.
    cert
        Certificate of this node (PEM).
    key
        Its private key (PEM).
    save
        Keep the link over restarts.
    """
    value: dict[str, Any] = {"kind": kind, "name": name, "listen": listen, "connect": connect or None}
    if ca is not None:
        value["tls"] = {"mode": "required", "authenticate": "node", **_absolute(ca=ca, cert=cert, key=key)}
    config = {key: item for key, item in value.items() if item is not None}
    return await _add("links", config | {"save": save}, common, f"link {name or kind} is open")


def _absolute(**files: str | None) -> dict[str, str]:
    """The agent's working directory is not ours."""
    return {name: str(Path(file).absolute()) for name, file in files.items() if file is not None}


async def links_rm(name: str, /, *, save: Flag = False, common: Common = DEFAULT) -> int:
    """Stop a link; transfers under way are finished first.

    Parameters
    ----------
    name
        The link, as `links ls` names it.
    save
        Also after restarts.
    """
    return await _remove("links", {"name": name, "save": save}, common, f"link {name} is stopped")

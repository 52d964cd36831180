"""`tumpline lab up|down|list|status|exec|logs|capture`: networks of namespaces on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from tumpline.errors import ConfigError, TumplineError
from tumpline.ui.cli.common import DEFAULT, Common, FileOrDash, Flag, Seconds
from tumpline.ui.cli.output import Output, table

if TYPE_CHECKING:
    from tumpline.lab import Lab
    from tumpline.lab.agents import Running

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
_TAIL_LINES = "20"


def up(target: str, /, *, name: str | None = None, dbus: Flag = False, common: Common = DEFAULT) -> int:
    """Start a laboratory and leave it running.

    Parameters
    ----------
    target
        Its YAML file, or the name of a ready one (`tumpline lab list`).
    name
        Call it so, and not as its file says: several of one file can be up.
    dbus
        Of a network file of the older agent: three agents in each node, steered over a D-Bus of the node's own.
    """
    from tumpline.lab import Lab

    output = Output(common)
    lab = Lab.read(target, name=name, apart=dbus)
    for remark in lab.file.remarks:
        output.note(remark)
    lab.up()
    output.result(_described(lab), [*_node_table(lab), *_how_to_go_on(lab)])
    return 0


def down(
    target: str | None = None, /, *, every: Annotated[Flag, Parameter("--all")] = False, common: Common = DEFAULT
) -> int:
    """End a laboratory: its processes, networks and files are gone.

    Parameters
    ----------
    target
        Its name or its file (default: the only one that is up).
    every
        All of them.
    """
    from tumpline.lab.state import names_up

    names = names_up() if every else [_chosen(target)]
    for name in names:
        _named(name).down()
    Output(common).result({"down": names}, [f"{name} is down" for name in names])
    return 0


def list_(*, common: Common = DEFAULT) -> int:
    """Show the ready laboratories, and those that are up."""
    from tumpline.lab.read import load
    from tumpline.lab.ready import ready_file, ready_names
    from tumpline.lab.state import names_up

    running = {name: "up" if _is_alive(name) else "crashed" for name in names_up()}
    rows = []
    for name in ready_names():
        file = ready_file(name)
        assert file is not None
        lab = load(file)
        rows.append({"name": name, "state": running.pop(name, "-"), "nodes": len(lab.nodes), "summary": lab.summary})
    rows += [{"name": name, "state": state, "nodes": None, "summary": ""} for name, state in running.items()]
    shown = table(("NAME", "STATE", "NODES", "WHAT"), [tuple(row.values()) for row in rows])
    Output(common).result({"laboratories": rows}, shown)
    return 0


def status(target: str | None = None, /, *, common: Common = DEFAULT) -> int:
    """Show the nodes of a laboratory, their addresses, and whether their agents run. Exits 1 if one has died.

    Parameters
    ----------
    target
        Its name or its file (default: the only one that is up).
    """
    lab = _found(target)
    Output(common).result(_described(lab), _node_table(lab))
    return 0 if all(each.alive for each in lab.programs) else 1


def exec_(node: str, /, *command: Words, lab: str | None = None, common: Common = DEFAULT) -> int:
    """Run a command in a node, or a shell; its exit code is passed on.

    Parameters
    ----------
    node
        The node; `switch` stands for the place where the bridges are.
    command
        What to run, after `--` (default: a shell).
    lab
        The laboratory (default: the only one that is up).
    """
    found = _found(lab)
    inside = None if node == "switch" and node not in found.file.nodes else node
    argv = list(command) or [os.environ.get("SHELL", "/bin/sh")]
    if not common.json:
        _become(found, inside, argv)
    done = found.exec(inside, argv, timeout=common.timeout)
    Output(common).result({"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
    return int(done.returncode)


def logs(node: str | None = None, /, *, follow: Flag = False, lab: str | None = None, common: Common = DEFAULT) -> int:
    """Show what agents and other programs have logged.

    Parameters
    ----------
    node
        Of this node only.
    follow
        Go on showing what comes, until the laboratory ends.
    lab
        The laboratory (default: the only one that is up).
    """
    found = _found(lab)
    if node is not None:
        found.check_node(node)
    files = sorted(found.logs.glob("*.log" if node is None else f"{node}[.]*"))
    if follow:
        # The tail of util-linux ends with the process that it is told.
        tail = ["tail", f"--pid={found.holder.pid}", "-n", _TAIL_LINES, "-F", *map(str, files)]
        os.execvp("tail", tail)
    output = Output(common)
    for file in files:
        for line in file.read_text(errors="replace").splitlines():
            output.event({"log": file.stem, "line": line}, f"{file.stem}: {line}")
    return 0


def capture(
    net: str,
    /,
    *,
    write: Annotated[FileOrDash, Parameter(alias="-w")] = "",
    duration: Seconds | None = None,
    lab: str | None = None,
    common: Common = DEFAULT,
) -> int:
    """Record the frames of a net as pcapng, until Ctrl-C: to a file, or to standard output for
    `tumpline lab capture NET | wireshark -k -i -`.

    Parameters
    ----------
    net
        The net, whose bridge is called br-NET.
    write
        The file (`-`, and the default if standard output is no terminal: standard output).
    duration
        Stop by itself after so long.
    lab
        The laboratory (default: the only one that is up).
    """
    from tumpline.lab.capture import capture_command

    found = _found(lab)
    if not write and sys.stdout.isatty():
        raise ConfigError(
            "a capture is not for a terminal; name a file (-w FILE.pcapng), or pipe it to wireshark -k -i -"
        )
    argv = capture_command(found, net, duration)
    if write not in ("", "-"):
        target = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, sys.stdout.fileno())
        Output(common).note(f"capturing {net} of {found.name} to {write}; Ctrl-C ends it")
    _become(found, None, argv)


def impair(
    target: str,
    /,
    *,
    delay: str | None = None,
    jitter: str | None = None,
    loss: str | None = None,
    duplicate: str | None = None,
    reorder: str | None = None,
    corrupt: str | None = None,
    rate: str | None = None,
    queue: str | None = None,
    off: Flag = False,
    lab: str | None = None,
    common: Common = DEFAULT,
) -> int:
    """Change what befalls frames while the laboratory is up; what is not named is as if there were nothing. Only where the
    file has an `impair`, if only {}.

    Parameters
    ----------
    target
        NET for all that is sent to it, or NODE:NET for what one node sends.
    delay
        Of each frame: 20ms.
    jitter
        By how much it varies.
    loss
        Share of frames that are lost: 1% or 0.01.
    duplicate
        Share that comes twice.
    reorder
        Share that overtakes the others.
    corrupt
        Share in which a bit is turned.
    rate
        Most that is carried: 10Mbit/s.
    queue
        What may wait for the rate: 100kB.
    off
        Nothing befalls frames any more.
    lab
        The laboratory (default: the only one that is up).
    """
    named = {"delay": delay, "jitter": jitter, "loss": loss, "duplicate": duplicate, "reorder": reorder}
    named |= {"corrupt": corrupt, "rate": rate, "queue": queue}
    asked = {key: value for key, value in named.items() if value is not None}
    if off == bool(asked):
        raise ConfigError("say what shall befall frames (--delay 20ms --loss 1% ...), or --off for nothing")
    node, _, net = target.rpartition(":")
    _found(lab).impair(net, asked, node or None)
    shown = ", ".join(f"{key} {value}" for key, value in asked.items()) or "nothing befalls frames"
    Output(common).result({"net": net, "node": node or None, "impair": asked}, f"{target}: {shown}")
    return 0


def _become(lab: Lab, node: str | None, argv: list[str]) -> NoReturn:
    """Nothing of ours stands between the terminal and the command: signals, job control and exit code are its own."""
    sys.stdout.flush()
    command = lab.command(node, argv)
    os.execvpe(command[0], command, lab.environment(node))


# ---- which one --------------------------------------------------------------------------------------------------------


def _found(target: str | None) -> Lab:
    """Raises: NotReachableError."""
    lab = _named(_chosen(target))
    if not lab.holder.alive:
        raise TumplineError(f"laboratory {lab.name} has crashed; `tumpline lab down {lab.name}` removes what is left")
    return lab


def _named(name: str) -> Lab:
    from tumpline.lab import Lab

    return Lab.find(name)


def _is_alive(name: str) -> bool:
    return _named(name).holder.alive


def _chosen(target: str | None) -> str:
    """A name, from a name, a file or nothing. Raises: ConfigError, TumplineError."""
    from tumpline.lab.read import load
    from tumpline.lab.state import names_up

    names = names_up()
    if target is not None:
        is_file = target not in names and (target.endswith((".yaml", ".yml")) or "/" in target)
        return load(Path(target)).name if is_file else target
    if not names:
        raise TumplineError(
            "no laboratory is up; start one with `tumpline lab up FILE` (ready ones: `tumpline lab list`)"
        )
    # What has crashed is in nobody's way; alone it is meant, for `down`.
    names = [name for name in names if _is_alive(name)] or names
    if len(names) > 1:
        raise ConfigError(f"several laboratories are up ({', '.join(names)}): name one")
    return names[0]


# ---- what is shown ----------------------------------------------------------------------------------------------------


def _described(lab: Lab) -> dict[str, Any]:
    return {
        "name": lab.name,
        "directory": str(lab.directory),
        "pid": lab.holder.pid,
        "nodes": {node: {"addresses": _addresses(lab, node)} for node in lab.file.nodes},
        "programs": [{**each._asdict(), "alive": each.alive} for each in lab.programs],
    }


def _addresses(lab: Lab, node: str) -> dict[str, list[str]]:
    return {port.net: port.addresses for port in lab.ports if port.node == node}


def _node_table(lab: Lab) -> list[str]:
    rows = []
    for node in lab.file.nodes:
        mine = [each for each in lab.programs if each.node == node]
        places = [f"{net} {' '.join(addresses)}" for net, addresses in _addresses(lab, node).items()]
        rows.append((node, ", ".join(places) or "-", ", ".join(map(_shown, mine)) or "-"))
    return table(("NODE", "ADDRESSES", "RUNS"), rows)


def _shown(program: Running) -> str:
    return f"{program.name} {program.pid}" if program.alive else f"{program.name} ended (see {program.log})"


def _how_to_go_on(lab: Lab) -> Iterator[str]:
    node = next((each.node for each in lab.programs), next(iter(lab.file.nodes)))
    which = f" --lab {lab.name}"
    yield f"logs, keys and captures: {lab.directory}"
    yield f"go on:  tumpline lab exec {node}{which} -- tumpline status     (or any command; none: a shell)"
    if lab.file.nets:
        yield f"        tumpline lab capture {next(iter(lab.file.nets))}{which} | wireshark -k -i -"
    yield f"end it: tumpline lab down {lab.name}"

"""The tree of verbs, and what happens around every one of them: parsing, errors, exit codes."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cyclopts import App, CycloptsError, UnknownCommandError
from cyclopts.config import Env

from tumpline import __version__
from tumpline.errors import ConfigError, TumplineError
from tumpline.ui.cli.common import DEFAULT, Common
from tumpline.ui.cli.output import Output

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_ANSWER = 3
EXIT_INTERRUPTED = 130

_HELP = """One agent that carries bundles over whatever path there is, and keeps them when there is none.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 no answer in time, 4 agent not reachable, 5 refused,
6 stored but not yet delivered, 130 interrupted. Every option is also read from the environment: `--node` from
TUMPLINE_NODE and so on."""

# Options of every verb may also stand before it: these are moved behind it.
_FLAGS = frozenset({"--json", "-q", "--quiet", "-v", "-vv", "--verbose"})
_WITH_VALUE = frozenset({"--node", "--timeout"})


class Verb(NamedTuple):
    """One verb: where its function is, and its line in the help (so that help imports nothing)."""

    name: str
    function: str  # module:function below tumpline.ui.cli
    summary: str


class Family(NamedTuple):
    """Verbs with one first word."""

    name: str
    summary: str
    verbs: tuple[Verb, ...]


TREE: tuple[Verb | Family, ...] = (
    Verb("up", "life:up", "Run the agent of a configuration."),
    Verb("down", "life:down", "Stop an agent gracefully."),
    Verb("status", "see:status", "Show an agent: store, peers, counters."),
    Verb("peers", "see:peers", "Show the neighbours."),
    Family(
        "links",
        "Show, open and stop links.",
        (
            Verb("ls", "steer:links_ls", "Show the links."),
            Verb("add", "steer:links_add", "Open a link while the agent runs."),
            Verb("rm", "steer:links_rm", "Stop a link gracefully."),
        ),
    ),
    Family(
        "routes",
        "Show and change routes.",
        (
            Verb("ls", "steer:routes_ls", "Show the routes."),
            Verb("add", "steer:routes_add", "Add a route."),
            Verb("rm", "steer:routes_rm", "Remove a route."),
        ),
    ),
    Family(
        "contacts",
        "Show and change the contact plan.",
        (
            Verb("ls", "steer:contacts_ls", "Show the contact plan."),
            Verb("add", "steer:contacts_add", "Open a window in which a peer can be reached."),
            Verb("rm", "steer:contacts_rm", "Remove contacts of a peer."),
        ),
    ),
    Verb("ping", "probe:ping", "Send bundles to an echo endpoint and time the answers."),
    Verb("trace", "probe:trace", "Show which nodes a bundle passes."),
    Family(
        "acme",
        "Validate node IDs for ACME (RFC 9891).",
        (
            Verb("expect", "acme:expect", "Answer challenges for this node's ID."),
            Verb("expect-stop", "acme:expect_stop", "Answer these challenges no more."),
            Verb("challenge", "acme:challenge", "Challenge a node and wait for the verdict."),
            Verb("ls", "acme:ls", "Show what is expected and outstanding."),
        ),
    ),
    Verb("echo", "endpoints:echo", "Send back what comes to an endpoint."),
    Verb("source", "endpoints:source", "Send ADUs."),
    Verb("sink", "endpoints:sink", "Show what comes to an endpoint."),
    Verb("send", "files:send", "Send a file."),
    Verb("pipe", "files:pipe", "Send a stream."),
    Verb("recv", "files:recv", "Receive files."),
    Family(
        "bundles",
        "The store, and a decoder for any bundle.",
        (
            Verb("ls", "bundles:ls", "List held bundles."),
            Verb("show", "bundles:show", "Show one held bundle."),
            Verb("rm", "bundles:rm", "Delete a held bundle."),
            Verb("export", "bundles:export", "Write a held bundle to a file."),
            Verb("import", "bundles:import_", "Give the agent a bundle from a file."),
            Verb("decode", "decode:decode", "Decode any bundle, without an agent."),
        ),
    ),
    Family(
        "keys",
        "The identities of a configuration.",
        (Verb("ls", "keys:ls", "List certificates and keys, whom they name, how long they are good."),),
    ),
    Family(
        "cert",
        "A private CA, and certificates with node IDs.",
        (
            Verb("quick", "cert:quick", "Everything for mutual TLS among a few nodes, in one command."),
            Verb("init", "cert:init", "Make a private CA."),
            Verb("issue", "cert:issue", "Issue a certificate for a node ID."),
            Verb("request", "cert:request", "Make a key and a signing request on the node itself."),
            Verb("sign", "cert:sign", "Sign a request."),
            Verb("renew", "cert:renew", "Issue a certificate anew, in its place."),
            Verb("show", "cert:show", "Show what a certificate or a request says."),
        ),
    ),
    Family(
        "config",
        "Write and check configurations.",
        (
            Verb("check", "configure:check", "Every mistake as file:line: message."),
            Verb("show", "configure:show", "The configuration with all defaults."),
            Verb("init", "configure:init", "Write a first configuration."),
            Verb("schema", "configure:schema", "JSON Schema of the configuration."),
        ),
    ),
    Verb("doctor", "doctor:doctor", "What is missing on this machine, and the command that fixes it."),
    Verb("completion", "completion:completion", "Words for the shell."),
    Verb("demo", "demo:demo", "Three agents, a file, a contact that opens late: watch it happen."),
    Family(
        "lab",
        "Networks on this machine, with what real ones do to packets.",
        (
            Verb("up", "lab:up", "Start a laboratory."),
            Verb("down", "lab:down", "End a laboratory."),
            Verb("list", "lab:list_", "Show the ready laboratories, and those that are up."),
            Verb("status", "lab:status", "Show nodes, addresses, agents."),
            Verb("exec", "lab:exec_", "Run a command in a node, or a shell."),
            Verb("logs", "lab:logs", "Show what agents have logged."),
            Verb("compose", "lab_compose:compose", "Write a laboratory as containers: compose file, image, keys."),
            Verb("capture", "lab:capture", "Record the frames of a net for Wireshark."),
            Verb("impair", "lab:impair", "Change what a net does to frames."),
            Verb("test", "lab_trial:run_trials", "Check what laboratories expect."),
        ),
    ),
    Family(
        "tunnel",
        "The packet overlay: IP packets and radio frames between sites, over an AMQP broker.",
        (
            Verb("connect", "tunnel:connect", "Join a session: its members are neighbours of this machine."),
            Verb("status", "tunnel:status", "Show the agents of this machine, their sessions and members."),
            Verb("demo", "tunnel_demo:demo", "Broker, router, two sites, ping and CoAP: watch it happen."),
        ),
    ),
    Verb("broker", "broker:broker", "An AMQP broker for newcomers, no replacement for RabbitMQ."),
    Verb("router", "router:router", "Pass packets on between the agents of an overlay's session."),
    Verb("run", "run:run", "Run a command inside the packet overlay only, without root."),
    Verb("bus", "bus:bus", "Host a D-Bus message bus."),
    Verb("bench", "bench:bench", "Figures beside the plainest program's."),
)


def build() -> App:
    """The whole tree. No verb's module is imported by this."""
    app = _group("tumpline", _HELP, version=__version__, config=Env("TUMPLINE_", command=False))
    for entry in TREE:
        if isinstance(entry, Verb):
            _add(app, entry)
        else:
            family = _group(entry.name, entry.summary, version_flags=())
            for verb in entry.verbs:
                _add(family, verb)
            app.command(family)
    return app


def _group(name: str, summary: str, **settings: Any) -> App:
    return App(name=name, help=summary, help_format="plaintext", suppress_keyboard_interrupt=False, **settings)


def _add(app: App, verb: Verb) -> None:
    app.command(f"tumpline.ui.cli.{verb.function}", name=verb.name, help=verb.summary)


def run(arguments: Sequence[str]) -> int:
    """Run one command. Returns: its exit code; nothing is raised but SystemExit."""
    common = DEFAULT
    try:
        tokens = _common_options_last(list(arguments))
        command, bound, _ = build().parse_args(tokens, exit_on_error=False, print_error=False)
        common = bound.arguments.get("common") or _defaults(command)
        result = command(*bound.args, **bound.kwargs)
        return _finish(result)
    except CycloptsError as error:
        return _usage_error(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our results has gone: nothing more can be said, and Python must not try at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        return _failed(error, common)


def _defaults(command: Any) -> Common:
    parameter = inspect.signature(command).parameters.get("common")
    return parameter.default if parameter is not None and isinstance(parameter.default, Common) else DEFAULT


def _finish(result: Any) -> int:
    if inspect.iscoroutine(result):
        import asyncio

        result = asyncio.run(result)
    return result if isinstance(result, int) else 0


def _common_options_last(tokens: list[str]) -> list[str]:
    moved: list[str] = []
    while tokens:
        name = tokens[0].partition("=")[0]
        if tokens[0] in _FLAGS or (name in _WITH_VALUE and "=" in tokens[0]):
            moved += tokens[:1]
            del tokens[:1]
        elif tokens[0] in _WITH_VALUE and len(tokens) > 1:
            moved += tokens[:2]
            del tokens[:2]
        else:
            break
    return _before_delimiter(tokens, moved) if tokens else moved


def _before_delimiter(tokens: list[str], moved: list[str]) -> list[str]:
    end = tokens.index("--") if "--" in tokens else len(tokens)
    return [*tokens[:end], *moved, *tokens[end:]]


def _usage_error(error: CycloptsError) -> int:
    chain = tuple(error.command_chain or ())
    text = _unknown_verb(chain, error) if isinstance(error, UnknownCommandError) else str(error)
    print(f"tumpline: {text}\nSee: {' '.join(('tumpline', *chain))} --help", file=sys.stderr)
    return EXIT_USAGE


def _unknown_verb(chain: tuple[str, ...], error: UnknownCommandError) -> str:
    """As the parser would say it, which imports every verb only to name them."""
    family = next(
        (entry.verbs for entry in TREE if chain and isinstance(entry, Family) and entry.name == chain[0]), TREE
    )
    names = [entry.name for entry in family]
    word = (error.unused_tokens or ["?"])[0]
    close = difflib.get_close_matches(word, names, n=1)
    hint = f'Did you mean "{close[0]}"?' if close else f"There are: {', '.join(names)}."
    return f'Unknown verb "{word}". {hint}'


def _failed(error: Exception, common: Common) -> int:
    output = Output(common)
    for line in _sentences(error):
        output.error(line)
    if common.verbose > 1:
        output.error("".join(traceback.format_exception(error)).rstrip())
    code = error.exit_code if isinstance(error, TumplineError) else EXIT_FAILED
    if isinstance(error, TimeoutError):
        code = EXIT_NO_ANSWER
    if common.json:
        output.result({"error": str(error) or type(error).__name__, "exit_code": code})
    return code


def _sentences(error: Exception) -> Iterator[str]:
    if isinstance(error, ConfigError) and len(error.problems) > 1:
        yield from error.problems
        yield f"tumpline: {len(error.problems)} mistakes in the configuration"
    elif isinstance(error, TumplineError):
        yield f"tumpline: {error or error.__doc__}"
    elif isinstance(error, TimeoutError):
        yield f"tumpline: {error or 'no answer in time'}"
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        yield f"tumpline: {where}{error.strerror or error}"
    else:
        yield f"tumpline: unexpected {type(error).__name__}: {error} (-vv shows where)"

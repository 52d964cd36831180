"""What `tumpline tunnel connect` says while it runs: a sentence an event, or a JSON object a line."""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import TYPE_CHECKING, Any

from tumpline.machines.overlay import Departure
from tumpline.node.collector import set_aside
from tumpline.ui.cli.detach import told_ready
from tumpline.ui.cli.output import Output

if TYPE_CHECKING:
    from tumpline.node.overlay.agent import OverlayAgent


class Teller:
    """Turns events into lines."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last = ""
        self._joins = 0

    def ready(self, agent: OverlayAgent) -> None:
        """It is up."""
        shown = agent.snapshot()
        port = shown["ports"][0] if shown["ports"] else {}
        where = f"{shown['session']['url']}"
        line = f"{shown['name']} is in the session {where}"
        if not port:
            line += "; waiting until a coordinator says tun.start"
        else:
            addresses = ", ".join(port.get("addresses", ()))
            line += f"; {port['name']}{f' has {addresses}' if addresses else ''}"
        told_ready(line)
        self._output.event({"event": "ready", **shown}, line)
        set_aside()

    def tell(self, event: Any) -> None:
        """Something happened."""
        value, text = sentence_of(event)
        if type(event).__name__ == "SessionJoined":
            self._joins += 1
            text = "in the session again" if self._joins > 1 else ""
        if self._output.json:
            if value["event"] not in _UNTOLD:
                self._output.event(value)
        elif text and text != self._last:
            self._last = text
            self._output.note(text)


def sentence_of(event: Any) -> tuple[dict[str, Any], str]:
    """As an object, and as a sentence ("": nothing that people need to read)."""
    name, fields = type(event).__name__, event._asdict()
    sentence = _SENTENCES.get(name)
    value = {"event": _snake(name), **{key: _plain(each) for key, each in fields.items()}}
    if name == "ControlReceived":  # JSON of older agents
        value["body"] = event.body.decode(errors="replace")
    return value, "" if sentence is None else sentence(fields)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _plain(value: Any) -> Any:
    """As JSON can carry it: enums by their words, octets in hexadecimal."""
    if isinstance(value, bytes | memoryview):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "_asdict"):
        return {key: _plain(each) for key, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _addresses(hello: Any) -> str:
    found = [ipaddress.ip_address(claim.address) for claim in hello.addresses] if hello is not None else []
    texts = [str(address) for address in found if not address.is_link_local]
    return f" with {', '.join(texts)}" if texts else ""


# Once a piece of each bundle: who wants to see those asks the node.
_UNTOLD = frozenset({"bundle_message"})
_SENTENCES = {
    "SessionLost": lambda each: f"the session is lost: {each['reason']}",
    "SessionAway": lambda each: f"not in the session: {each['reason']}; trying again",
    "PortUp": lambda each: f"{each['name']} is there again" if each["facts"].get("unplugged") else "",
    "PortDown": lambda each: f"{each['name']} is gone: {each['reason']}",
    "MemberJoined": lambda each: f"{each['name']} is there{_addresses(each['hello'])}",
    "MemberChanged": lambda each: f"{each['name']} is there{_addresses(each['hello'])}",
    # That we know nobody any more while we are away ourselves is no news of them.
    "MemberLeft": lambda each: (
        "" if each["why"] is Departure.DISCONNECTED else f"{each['name']} left: {each['why'].value}"
    ),
    "OlderRouterSeen": lambda each: f"an older router {'passes on what we say' if each['is_there'] else 'is gone'}",
    "PortFailed": lambda each: f"a coordinator asked in vain: {each['reason']}",
    "Disagreed": lambda each: (
        f"router {each['router']} divides the work otherwise ({each['theirs']}): end one of the two"
    ),
    "AddressConflict": lambda each: (
        f"{each['name']} claims {ipaddress.ip_address(each['address'])}, which {each['owner']} has: "
        "one of the two needs another (--address)"
    ),
    "KeyMismatch": lambda each: f"{each['name']} is not believed: {each['reason']}",
}

"""`tumpline acme ...`: does a node ID belong to the holder of an ACME account? (RFC 9891)"""

from __future__ import annotations

from typing import Any

from tumpline.errors import NoAnswerError
from tumpline.ui.cli.agent import connected
from tumpline.ui.cli.common import DEFAULT, Common, Seconds
from tumpline.ui.cli.output import Output
from tumpline.ui.cli.reach import why_waiting
from tumpline.ui.cli.steer import NothingThereError


async def expect(
    *, id_chal: str = "", source: str = "", token_chal: str, thumbprint: str, common: Common = DEFAULT
) -> int:
    """Answer challenges for this node's ID, until `tumpline acme expect-stop` or the agent's end.

    Parameters
    ----------
    id_chal
        id-chal of the challenge object that the ACME server gave.
    source
        Instead of it: the node that challenges, whatever id-chal it uses.
    token_chal
        token-chal of the same object.
    thumbprint
        Of the account's key (RFC 7638), in base64url. Keep it to yourself.
    """
    asked = {"id_chal": id_chal, "source": source, "token_chal": token_chal, "thumbprint": thumbprint}
    async with connected(common) as agent:
        answer = await agent.post("/v1/acme/expect", asked)
    Output(common).result(answer, f"challenges {_named(id_chal, source)} are answered")
    return 0


async def expect_stop(*, id_chal: str = "", source: str = "", common: Common = DEFAULT) -> int:
    """Answer these challenges no more.

    Parameters
    ----------
    id_chal
        As it was given to `tumpline acme expect`.
    source
        As it was given there.
    """
    async with connected(common) as agent:
        answer = await agent.delete("/v1/acme/expect", {"id_chal": id_chal, "source": source})
    if not answer["removed"]:
        raise NothingThereError(
            f"challenges {_named(id_chal, source)} are not expected: `tumpline acme ls` shows which are"
        )
    Output(common).result(answer, f"challenges {_named(id_chal, source)} are not answered any more")
    return 0


def _named(id_chal: str, source: str) -> str:
    return f"with id-chal {id_chal}" if id_chal else f"from {source}"


async def challenge(
    node: str,
    /,
    *,
    id_chal: str,
    token_chal: str,
    thumbprint: str,
    token_bundle: str = "",
    rtt: Seconds | None = None,
    source: str = "",
    common: Common = DEFAULT,
) -> int:
    """Challenge a node and wait for the verdict. Exits 5 if the response is wrong, 3 if none comes in time. Bundles are not
    signed: whoever stands on their way can forge them.

    Parameters
    ----------
    node
        The node ID under test.
    id_chal
        id-chal of the challenge object.
    token_chal
        token-chal of the same object.
    thumbprint
        Of the account's key (RFC 7638), in base64url.
    token_bundle
        A fresh secret (default: made now).
    rtt
        Round trip that the client expects; the response may take twice as long.
    source
        Which of this node's IDs challenges (default: its primary one).
    """
    output = Output(common)
    asked = {"node": node, "id_chal": id_chal, "token_chal": token_chal, "thumbprint": thumbprint}
    asked |= {"token_bundle": token_bundle, "source": source}
    code = NoAnswerError.exit_code
    async with connected(common) as agent:
        async for event in agent.stream("/v1/acme/challenge", {**asked, "rtt_s": rtt}):
            output.event(event, _lines(event))
            code = event.get("exit_code", code)
        if code == NoAnswerError.exit_code:
            for line in await why_waiting(agent):
                output.error(line)
    return code


def _lines(event: dict[str, Any]) -> str:
    if event["event"] == "sent":
        return f"challenge {event['bundle']} is on its way; the response may take {event['interval_s']:g} s"
    return f"{event['node']} is {'valid' if event['valid'] else 'NOT valid'}: {event['why']} (not signed)"


async def ls(*, common: Common = DEFAULT) -> int:
    """Show which challenges are expected, and which of this node's wait for a response."""
    async with connected(common) as agent:
        value = await agent.get("/v1/acme")
    lines = [f"expected     {key}" for key in value["expected"]]
    lines += [f"outstanding  {each['node']} {each['id_chal']}" for each in value["outstanding"]]
    counts = ("answered", "ignored", "valid", "invalid")
    Output(common).result(value, [*lines, ", ".join(f"{value[name]} {name}" for name in counts)])
    return 0

"""The older demo agent's bundle agent on a bus: /org/ietf/dtn/bp/Agent and /org/ietf/dtn/bp/app/admin, as scripts know them.

Names, signatures and signals are the older agent's; what they do is asked of the running agent through control's own API.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Final

from tumpline.drivers.dbus import BusError, Call, ErrorName, Interface, Method
from tumpline.drivers.tasks import TaskOwner
from tumpline.errors import TumplineError
from tumpline.machines.effects import Notice
from tumpline.node.control.api import Agent
from tumpline.node.control.service import service
from tumpline.node.services.acme import Acme, AcmeExpect, AcmeExpectStop, AcmeRequest
from tumpline.node.services.trace import Trace, TraceDelivered, TraceReport, TraceRequest, check
from tumpline.wire.acme import MIN_TOKEN_OCTETS, token_to_text

AGENT_PATH: Final = "/org/ietf/dtn/bp/Agent"
AGENT: Final = "org.ietf.dtn.bp.Agent"
ADMIN_PATH: Final = "/org/ietf/dtn/bp/app/admin"
ADMIN: Final = "org.ietf.dtn.bp.admin"
PING: Final = "org.tumpline.bp.Ping"  # on the agent's object: what became of `ping`, which the older one only logged

LAYERS: Final = ("tcpcl", "udpcl")
PING_TIMEOUT_S: Final = 60.0

Emit = Callable[..., None]
"""(path, interface, member, *arguments): send a signal, if the bus is there."""


class BpAgent:
    """The object of the agent itself. `bus`: the bus on which convergence-layer agents are looked for."""

    def __init__(self, agent: Agent, emit: Emit, bus: str, tasks: TaskOwner) -> None:
        self._agent = agent
        self._emit = emit
        self._bus = bus
        self._tasks = tasks
        self._numbers = itertools.count(1)

    def interfaces(self) -> tuple[Interface, ...]:
        return (
            Interface(
                AGENT,
                {
                    "shutdown": Method(self.shutdown, gives="b", names=("stopped",)),
                    "stop": Method(self.stop),
                    "cl_attach": Method(self.cl_attach, takes="ss", names=("cltype", "service")),
                    "ping": Method(self.ping, takes="si", names=("eid", "datalen")),
                },
                {},
            ),
            Interface(
                PING,
                {"start": Method(self.start_ping, takes="sid", gives="s", names=("eid", "datalen", "timeout_s", "id"))},
                {"reported": "sssas", "finished": "ssbds"},
            ),
        )

    def shutdown(self, _call: Call) -> bool:
        """Let transfers under way end, then stop. True: there are none."""
        busy = any(peer["in_flight"] for peer in self._agent.snapshot()["peers"])
        self._agent.stop(graceful=True)
        return not busy

    def stop(self, _call: Call) -> None:
        """Stop, whatever is under way; the store keeps what was not acknowledged."""
        self._agent.stop(graceful=False)

    async def cl_attach(self, _call: Call, layer: str, name: str) -> None:
        """Use a convergence-layer agent on this bus as a link. Once it is attached, again changes nothing."""
        if layer not in LAYERS:
            raise BusError(
                ErrorName.NOT_SUPPORTED, f"cltype {layer!r} is not attached here: write {' or '.join(LAYERS)}"
            )
        links = self._agent.snapshot()["links"]
        if any(link.get("kind") == "dbus_cl" and link.get("service") == name for link in links):
            return
        # Whom it lets in is that agent's policy (require_node_authn): its word on who a peer is counts.
        config = {"kind": "dbus_cl", "cl": layer, "service": name, "bus": self._bus, "authenticate": "none"}
        if all(link["name"] != layer for link in links):
            config["name"] = layer  # as routes and peers of the older agent's files call it
        await self._agent.add_link(config)

    def ping(self, _call: Call, eid: str, octets: int) -> None:
        """Send one bundle of random octets that asks every node for reports; signals of PING tell what comes."""
        self._start_ping(eid, octets, PING_TIMEOUT_S)

    def start_ping(self, _call: Call, eid: str, octets: int, timeout_s: float) -> str:
        """The same; its number is in the signals, and it ends after so many seconds."""
        return self._start_ping(eid, octets, timeout_s)

    def _start_ping(self, eid: str, octets: int, timeout_s: float) -> str:
        request = TraceRequest(to=eid, timeout_s=timeout_s, size=octets)
        check(request)
        number = str(next(self._numbers))
        self._tasks.start(self._ping(number, request), f"ping {eid}")
        return number

    async def _ping(self, number: str, request: TraceRequest) -> None:
        after_ms, why = -1.0, "nobody said in time that it arrived"
        try:
            async for event in service(self._agent, "trace", Trace).run(request):
                if isinstance(event, TraceReport):
                    self._emit(AGENT_PATH, PING, "reported", number, request.to, event.node, event.did)
                elif isinstance(event, TraceDelivered):
                    after_ms, why = event.after_ms, ""
        except TumplineError as error:
            why = str(error)
        self._emit(AGENT_PATH, PING, "finished", number, request.to, not why, max(0.0, after_ms), why)


class BpAdmin:
    """The object of node ID validation (RFC 9891). `heard` is to be given every notice of the agent."""

    def __init__(self, agent: Agent, emit: Emit) -> None:
        self._agent = agent
        self._emit = emit

    def interfaces(self) -> tuple[Interface, ...]:
        tokens = ("token_chal", "token_bundle", "key_tp")
        return (
            Interface(
                ADMIN,
                {
                    "start_expect_acme_request": Method(
                        self.start_expect, takes="sss", names=("id_chal", "token_chal", "key_tp")
                    ),
                    "stop_expect_acme_request": Method(self.stop_expect, takes="s", names=("id_chal",)),
                    "send_acme_request": (
                        Method(self.send, takes="sssss", names=("nodeid", "id_chal", *tokens)),
                        Method(self.send_older, takes="ssss", names=("nodeid", *tokens)),
                    ),
                },
                {"got_acme_response": "ssb"},
            ),
        )

    def start_expect(self, _call: Call, who: str, token_chal: str, thumbprint: str) -> None:
        """Answer challenges. The first is an id-chal or, as agents of 2021 have it, the node that challenges."""
        self._acme.expect(AcmeExpect(**_named(who), token_chal=token_chal, thumbprint=thumbprint))

    def stop_expect(self, _call: Call, who: str) -> None:
        """Answer them no more. What was not expected is none of them already."""
        self._acme.stop_expecting(AcmeExpectStop(**_named(who)))

    async def send(
        self, _call: Call, node: str, id_chal: str, token_chal: str, token_bundle: str, thumbprint: str
    ) -> None:
        """Challenge a node; got_acme_response tells how it ended, also when nothing came in time."""
        request = AcmeRequest(
            node=node, id_chal=id_chal, token_chal=token_chal, token_bundle=token_bundle, thumbprint=thumbprint
        )
        await self._acme.challenge(request)

    async def send_older(self, call: Call, node: str, token_chal: str, token_bundle: str, thumbprint: str) -> None:
        """As agents of 2021 have it: they knew no id-chal, so one is made."""
        id_chal = token_to_text(secrets.token_bytes(MIN_TOKEN_OCTETS))
        await self.send(call, node, id_chal, token_chal, token_bundle, thumbprint)

    def heard(self, notice: Notice) -> None:
        """A verdict, whoever asked for it, becomes a signal."""
        if notice.name == "acme_validated":
            fields = notice.fields
            self._emit(ADMIN_PATH, ADMIN, "got_acme_response", fields["node"], fields["id_chal"], fields["valid"])

    @property
    def _acme(self) -> Acme:
        return service(self._agent, "acme", Acme)


def _named(who: str) -> dict[str, str]:
    """An id-chal is base64url, in which there is no colon; every EID has one."""
    return {"source": who} if ":" in who else {"id_chal": who}

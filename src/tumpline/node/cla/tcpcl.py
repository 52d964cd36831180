"""A TCPCLv4 link without a bundle agent: connections, and transfers that people and programs make one by one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tumpline.drivers.dial import ANY_HOST, Address
from tumpline.drivers.links._api import LinkContext, Sink
from tumpline.drivers.links._tcpcl4_connection import Connection
from tumpline.drivers.links.tcpcl4 import Tcpcl4Link
from tumpline.drivers.spool import Room, Spool
from tumpline.errors import TumplineError
from tumpline.machines.effects import Arrival, PathInfo, RefuseReason, Unit
from tumpline.machines.tcpcl4.config import SessionConfig
from tumpline.machines.tcpcl4.events import Event, SessionEnding
from tumpline.node.cla.contact import Contact, Parameters
from tumpline.node.cla.events import AgentEvent, ConnectionClosed, ConnectionOpened, ContactRemoved
from tumpline.node.cla.holdings import CLOSED_MOST, Holdings
from tumpline.node.cla.incoming import Incoming
from tumpline.node.cla.outgoing import Outgoing
from tumpline.node.cla.received import process_umask
from tumpline.node.cla.settings import TcpclAgentSettings
from tumpline.wire.eid import Eid

# Once the last connection of an agent that is to end is closed, what it received can still be taken so long.
LAST_TAKES_S = 5.0

_log = logging.getLogger("tumpline.tcpcl")


class TcpclAgent:
    """`start`, then verbs, until `ended` returns; `close` gives everything back. `tell` hears what happens."""

    def __init__(self, settings: TcpclAgentSettings, tell: Callable[[AgentEvent], None]) -> None:
        """Raises: StorageError (no file can be made where received bundles wait), ConfigError."""
        self.settings = settings
        self.tell = tell
        spool = Spool(settings.spool_directory, settings.spool_octets_most)
        self.holdings = Holdings(spool, Room(settings.memory_octets_most), Room(settings.memory_octets_most))
        self.umask = process_umask()
        self.contacts: dict[int, Contact] = {}  # by number; closed ones while something of them waits to be taken
        self._of_connection: dict[Connection, Contact] = {}
        self._of_path: dict[int, Contact] = {}
        self._next_contact = 0
        self._next_path = 0
        self._is_holding = False
        self._is_ending = False
        self._ended = asyncio.Event()
        self._last_takes: asyncio.TimerHandle | None = None
        self._link = Tcpcl4Link(settings.link, LinkContext("tcpcl", _NOBODY, random.random), self)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and dial as the settings say. Raises: TumplineError with the remedy."""
        await self._link.start(self)

    async def ended(self) -> None:
        """Returns once the agent was stopped, or has shut down."""
        await self._ended.wait()

    async def close(self) -> None:
        """End what is left and give everything back."""
        self._is_ending = True
        await self._link.stop(graceful=False)
        if self._last_takes is not None:
            self._last_takes.cancel()
        for contact in list(self.contacts.values()):
            contact.incoming.discard()
            self._remove(contact)
        self._ended.set()

    # ---- verbs -------------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> list[int]:
        """Numbers of the connections that are there."""
        return [contact.number for contact in self._of_connection.values()]

    @property
    def listening(self) -> list[str]:
        """Where peers reach us."""
        return self._link.listening

    def listen(self, where: Address) -> None:
        """Raises: TumplineError with the remedy (port in use ...)."""
        self._check_not_ending()
        self._link.listen(_anywhere(where))

    def listen_stop(self, where: Address) -> None:
        """Connections stay. Raises: TumplineError (it does not listen there)."""
        self._link.listen_stop(_anywhere(where))

    async def connect(self, where: Address) -> Contact:
        """One connection, tried once: if it ends, who asked for it decides. Raises: DialError, TumplineError."""
        self._check_not_ending()
        return self._of_connection[await self._link.dial(where)]

    def shutdown(self) -> bool:
        """End once every transfer under way is finished. True: that is now."""
        if not self._is_ending:
            self._is_ending = True
            self._link.rest("the agent shuts down")
            for contact in list(self._of_connection.values()):
                contact.terminate(0)
        self._end_if_done()
        return self._ended.is_set()

    def stop(self) -> None:
        """End now, whatever is under way."""
        self._ended.set()

    def _check_not_ending(self) -> None:
        if self._is_ending:
            raise TumplineError("the agent shuts down: it takes and makes no connections any more")

    def _end_if_done(self) -> None:
        if not self._is_ending or self._of_connection:
            return
        if not self.contacts:
            self._ended.set()
        elif self._last_takes is None:
            self._last_takes = asyncio.get_running_loop().call_later(LAST_TAKES_S, self._ended.set)

    # ---- contacts ----------------------------------------------------------------------------------------------------

    def parameters(self, contact: Contact) -> Parameters | None:
        """Of its session; None before it is established."""
        return contact.parameters(self.settings.link.tls.authenticate != "none")

    def terminate(self, contact: Contact, reason: int) -> None:
        """End its session in order; it is not dialled again. `reason`: RFC 9174 Table 16."""
        self._link.forget(contact.connection)
        contact.terminate(reason)

    def close_contact(self, contact: Contact) -> None:
        """End its connection at once; it is not dialled again."""
        self._link.forget(contact.connection)
        contact.close()

    async def pop_file(self, contact: Contact, number: str, path: str) -> None:
        """Take a received bundle as a new file. Raises: UnknownTransferError, OSError: it stays here then."""
        await contact.incoming.pop_file(number, path, 0o666 & ~self.umask)

    def hold(self, holds: bool) -> None:
        """From now on senders hear that a transfer has come when it is answered; or, again, when it has come. What was taken
        without an answer until then is to be sent again."""
        self._is_holding = holds
        if holds:
            return
        for path, contact in self._of_path.items():
            kept, taken = contact.incoming.let_go(keeps_waiting=self.settings.hold_received)
            if kept:
                self._link.acknowledge(path, kept)
            for transfer in taken:
                self._link.refuse(path, transfer, RefuseReason.RETRANSMIT)

    def accept(self, contact: Contact, number: str) -> None:
        """Its sender hears that it has come. Raises: UnknownTransferError (it has its answer)."""
        transfer = contact.incoming.answer(number, drops=True)
        self._link.acknowledge(contact.outgoing.path, [transfer])

    def refuse(self, contact: Contact, number: str, reason: RefuseReason) -> None:
        """Its sender hears that it is not kept. Raises: UnknownTransferError (it has its answer)."""
        transfer = contact.incoming.answer(number, drops=True)
        self._link.refuse(contact.outgoing.path, transfer, reason)

    def offer(self, path: int, unit: Unit) -> None:
        """Send it (for Outgoing)."""
        self._link.offer(path, [unit])

    def _contact(self, connection: Connection) -> Contact:
        number, self._next_contact = self._next_contact, self._next_contact + 1
        outgoing = Outgoing(number, self, self.holdings.queued, self.tell)
        incoming = Incoming(number, self.holdings, self.tell, partial(self._emptied, number))
        return Contact(number, connection, outgoing, incoming, self.tell)

    def _emptied(self, number: int) -> None:
        """Nothing of it waits to be taken."""
        contact = self.contacts.get(number)
        if contact is not None and not contact.is_open:
            self._remove(contact)

    def _remove(self, contact: Contact) -> None:
        if self.contacts.pop(contact.number, None) is not None:
            self.tell(ContactRemoved(contact.number))
            self._end_if_done()

    # ---- SessionObserver ---------------------------------------------------------------------------------------------

    def configure(self, config: SessionConfig) -> SessionConfig:
        """A session is about to be made."""
        return self.settings.of_session(config)

    def opened(self, connection: Connection) -> None:
        """A connection is there."""
        contact = self._of_connection[connection] = self._contact(connection)
        self.contacts[contact.number] = contact
        _log.info("contact %d: connection with %s", contact.number, connection.remote.address)
        self.tell(ConnectionOpened(contact.number))
        contact.began()

    def happened(self, connection: Connection, event: Event) -> None:
        """Its session says this."""
        contact = self._of_connection[connection]
        if isinstance(event, SessionEnding):
            self._link.forget(connection)  # a session that was ended in order is not wanted any more
        contact.happened(event)

    def begun(self, connection: Connection, seq: int) -> None:
        """A transfer of it leaves."""
        self._of_connection[connection].outgoing.begun(seq)

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        contact = self._of_connection.pop(connection)
        contact.closed()
        self.tell(ConnectionClosed(contact.number))
        _log.info("contact %d: closed", contact.number)
        if self.settings.stop_on_close and not self._of_connection:
            self.shutdown()
        if not len(contact.incoming):
            self._remove(contact)
        self._end_if_done()

    # ---- LinkHost ----------------------------------------------------------------------------------------------------

    def new_path(self) -> int:
        """The next number."""
        self._next_path += 1
        return self._next_path

    def path_up(self, info: PathInfo) -> None:
        """A session can carry transfers."""
        contact = self._of_path[info.path] = self._of_connection[self._link.connection(info.path)]
        contact.outgoing.up(info.path)

    def path_down(self, path: int, _reason: str) -> None:
        """Its transfers have ended before."""
        del self._of_path[path]

    def reserve(self, path: int, octets: int) -> Sink | RefuseReason:
        """A large transfer comes."""
        return RefuseReason.NO_RESOURCES if self._is_closed else self._of_path[path].incoming.reserve(octets)

    def received(self, path: int, arrivals: Sequence[Arrival]) -> None:
        """Kept or refused, at once."""
        incoming, kept = self._of_path[path].incoming, []
        for arrival in arrivals:
            if arrival.payload is None and self._is_closed:  # a large one was taken when it began
                reason: RefuseReason | None = RefuseReason.NO_RESOURCES
            else:
                reason = incoming.arrived(arrival)
            if reason is not None:
                self._link.refuse(path, arrival.transfer, reason)
            elif self._is_holding or self.settings.hold_received:
                incoming.hold(arrival.transfer)
            else:
                kept.append(arrival.transfer)
        if kept:
            self._link.acknowledge(path, kept)

    @property
    def _is_closed(self) -> bool:
        """Whether nothing is taken now: nobody answers for it, or what came before waits in too many closed connections."""
        return (self.settings.hold_received and not self._is_holding) or self._is_full

    @property
    def _is_full(self) -> bool:
        """Whether too many closed connections wait for somebody to take what came over them."""
        return len(self.contacts) - len(self._of_connection) >= CLOSED_MOST

    def acked(self, path: int, seqs: Sequence[int]) -> None:
        """The peer has them."""
        for seq in seqs:
            self._of_path[path].outgoing.acked(seq)

    def refused(self, path: int, seq: int, reason: RefuseReason) -> None:
        """The peer does not want it."""
        self._of_path[path].outgoing.refused(seq, reason)

    def lost(self, path: int, seqs: Sequence[int]) -> None:
        """Nobody knows whether the peer has them. Of a path that went down in this turn, `closed` tells."""
        if path in self._of_path:
            for seq in seqs:
                self._of_path[path].outgoing.lost(seq)

    def progress(self, path: int, seq: int, octets: int) -> None:
        """The peer has so much of it."""
        self._of_path[path].outgoing.progressed(seq, octets)

    def notice(self, name: str, **fields: Any) -> None:
        """Into the log."""
        level = logging.WARNING if name in _TROUBLE else logging.INFO
        _log.log(level, "%s: %s", name.replace("_", " "), ", ".join(f"{key} {value}" for key, value in fields.items()))


# Named to the peer by `TcpclAgentSettings.node_id` alone, which may be nobody.
_NOBODY = Eid.parse("dtn:none")
_TROUBLE = frozenset({"connection_failed", "session_failed", "payload_unreadable", "transfer_refused", "task_failed"})


def _anywhere(where: Address) -> Address:
    return where if where.host not in ("", "*") else Address(ANY_HOST, where.port)

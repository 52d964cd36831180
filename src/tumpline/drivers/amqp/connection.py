"""A connection to a broker: a socket and one timer around `tumpline.machines.amqp_client`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Self

from tumpline.drivers.alarm import Alarm
from tumpline.drivers.amqp.channel import AmqpChannel
from tumpline.drivers.amqp.errors import AmqpError, login_error, over
from tumpline.drivers.amqp.url import AmqpUrl
from tumpline.drivers.dial import DialError, dial
from tumpline.drivers.stream import BLOCKED, Stream, new_buffer
from tumpline.drivers.tls import explain
from tumpline.errors import LocalProtocolError
from tumpline.machines.amqp_client import (
    Answered,
    Blocked,
    ChannelEnded,
    ClientConfig,
    ClientConnection,
    Confirmed,
    ConsumerCancelled,
    Delivered,
    Ended,
    Opened,
    Oversized,
    Returned,
    State,
    Unblocked,
)
from tumpline.machines.amqp_client.outbox import Body
from tumpline.wire.amqp import Method, Properties
from tumpline.wire.amqp.methods import ChannelCloseOk

READ_OCTETS: Final = 256 * 1024  # room for one read: what is left over of it is less than a frame, half of this
READS_A_TURN: Final = 4  # then others have theirs
FLUSH_OCTETS: Final = 256 * 1024  # written at once, not at the end of the turn: it stays in the cache
# Unsent in the kernel: what is beyond waits here, where it can be seen (is_congested). More would only be delay.
UNSENT_OCTETS: Final = 512 * 1024
BACKLOG_OCTETS_MOST: Final = 32 << 20  # waiting to be written; what is published beyond is dropped
OPEN_S: Final = 10.0


class AmqpConnection:
    """From `open` to its end, of which `closed` tells. Everything runs on the event loop's thread."""

    def __init__(self, sock: socket.socket, machine: ClientConnection, url: AmqpUrl) -> None:
        """For `open`."""
        self.url = url
        self.on_congested: Callable[[], None] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.blocked = ""  # by the broker: its reason
        self.dropped = 0  # messages for which there was no room
        self._loop = asyncio.get_running_loop()
        self._machine = machine
        self._room = new_buffer(READ_OCTETS)
        self._filled = 0  # octets at its beginning that wait for more
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_OCTETS)
        self._stream = Stream(sock, self._readable, self._writable, new_buffer(READ_OCTETS))
        self._unwritten = 0  # octets given to the stream since it was drained last
        self._was_congested = False
        self._channels: dict[int, AmqpChannel] = {}
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._drained = asyncio.Event()
        self._drained.set()
        self._secured: asyncio.Future[None] | None = None  # while TLS is negotiated
        self._alarm = Alarm(self._expired)
        self._flush_due = False
        self._is_holding = False
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            Opened: self._perform_opened,
            Ended: self._perform_ended,
            Blocked: self._perform_blocked,
            Unblocked: self._perform_unblocked,
            Answered: self._perform_answered,
            ChannelEnded: self._perform_channel_ended,
            ConsumerCancelled: self._perform_cancelled,
            Delivered: self._perform_delivered,
            Oversized: self._perform_oversized,
            Returned: self._perform_returned,
            Confirmed: self._perform_confirmed,
        }

    # ---- beginning and end -------------------------------------------------------------------------------------------

    @classmethod
    async def open(
        cls, url: AmqpUrl, *, name: str, tls: ssl.SSLContext | None = None, timeout_s: float = OPEN_S
    ) -> Self:
        """Connect and log in. `name` is shown to the broker's operator; `tls` in place of what the URL says of it.

        Raises: AmqpError: refused; DialError: not reached; TumplineError: a file of certificates."""
        context = (tls or url.tls_context()) if url.is_tls else None
        loop = asyncio.get_running_loop()
        sock = await dial(url.address, timeout_s)
        config = ClientConfig(url.user, url.password, url.virtual_host, name, url.heartbeat_s, timeout_s)
        connection = cls(sock, ClientConnection(config, loop.time()), url)
        try:
            if context is not None:
                await connection._secure(context, timeout_s)
            connection._begin()
            await connection._opened
        except BaseException:
            connection._give_back("it was not opened")
            raise
        return connection

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened."""
        return self._machine.state is State.OPEN

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the broker says of itself: product, version, capabilities."""
        return self._machine.server_properties

    async def closed(self) -> str:
        """Wait for the end of the connection; says why it came."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Say good-bye: what was published before is still written. Idempotent."""
        self._machine.close(self._loop.time())
        self._turn()
        try:
            await self.closed()
        finally:  # also when whoever waits for this is cancelled
            self._give_back("closed here")

    def abort(self) -> None:
        """End it without a word, as a crash would. Idempotent."""
        self._machine.lost("closed here")
        self._turn()

    async def channel(self) -> AmqpChannel:
        """A new one. Raises: AmqpError."""
        try:
            number = self._machine.open_channel()
        except LocalProtocolError as error:
            raise AmqpError(0, f"{self.url}: {error}") from error
        channel = self._channels[number] = AmqpChannel(self, number, self.url)
        self.flush()
        await channel.opened()
        return channel

    # ---- congestion --------------------------------------------------------------------------------------------------

    @property
    def is_congested(self) -> bool:
        """The broker (or the way to it) takes less than is published: who can wait should."""
        return not self._drained.is_set() or bool(self.blocked)

    async def drained(self) -> None:
        """Wait until all that was published has been given to the kernel. Raises: AmqpError."""
        self._flush_now()
        await self._drained.wait()
        if not self.is_open:
            raise over(self.url, self._ended.result() if self._ended.done() else "it is being closed")

    def _look_at_congestion(self) -> None:
        if self.is_congested is self._was_congested:
            return
        self._was_congested = self.is_congested
        told = self.on_congested if self._was_congested else self.on_drained
        if told is not None:
            told()

    # ---- channel.Wire ------------------------------------------------------------------------------------------------

    def ask(self, channel: int, method: Method) -> None:
        """See `channel.Wire`."""
        self._machine.ask(channel, method)
        self.flush()

    def tell(self, channel: int, method: Method) -> None:
        """See `channel.Wire`."""
        self._machine.tell(channel, method)
        self.flush()

    def publish(
        self, channel: int, exchange: str, routing_key: str, body: Body, properties: Properties | None, mandatory: bool
    ) -> int | None:
        """See `channel.Wire`."""
        machine = self._machine
        if self._unwritten and self._unwritten + machine.octets_to_send > BACKLOG_OCTETS_MOST:
            self.dropped += 1
            return None
        try:
            number = machine.publish(channel, exchange, routing_key, body, properties, mandatory)
        except LocalProtocolError:
            self.dropped += 1
            return None
        if not self._flush_due and not self._is_holding:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)
        elif machine.octets_to_send >= FLUSH_OCTETS:
            self._write()
        return number

    # ---- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._flush_due and not self._is_holding:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)

    def hold(self) -> None:
        """Until `release`, what is published waits: it is written then, at once, and not in the loop's next turn."""
        self._is_holding = True

    def release(self) -> None:
        """See `hold`."""
        self._is_holding = False
        self._write()

    def _flush_now(self) -> None:
        self._flush_due = False
        self._write()

    def _write(self) -> None:
        """Give the kernel what it takes."""
        if self._stream.closed():
            return
        octets = self._machine.octets_to_send
        if octets:
            self._unwritten += octets
            self._stream.queue(self._machine.data_to_send(self._loop.time()))
        try:
            is_drained = self._stream.write()
        except OSError as error:
            self._broken(error)
            return
        self._stream.watch_writes(not is_drained)
        if is_drained:
            self._unwritten = 0
            self._drained.set()
        else:
            self._drained.clear()
        self._look_at_congestion()

    def _writable(self) -> None:
        if self._secured is not None:
            self._shake()
        else:
            self._write()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self._secured is not None:
            self._shake()
            return
        self._is_holding = True
        try:
            for _ in range(READS_A_TURN):
                if not self._read():
                    break
            else:
                if self._stream.holds_octets():  # of which no `readable` will tell
                    self._loop.call_soon(self._readable)
        finally:
            self._is_holding = False
            self._turn()

    def _read(self) -> bool:
        """Whether there may be more."""
        room = self._room
        begin = self._filled
        try:
            count = self._stream.read_into(room[begin:]) if not self._stream.closed() else BLOCKED
        except OSError as error:
            self._broken(error)
            return False
        if count == BLOCKED:
            return False
        if count == 0:
            self._machine.lost("the broker closed it without a word")
            return False
        end = begin + count
        used = self._machine.received(room[:end], self._loop.time())
        try:
            self._perform()
        finally:
            self._filled = end - used
            if self._filled and used:
                room[: self._filled] = room[used:end]
        return end == len(room)

    def _broken(self, error: OSError) -> None:
        self._machine.lost(error.strerror or str(error))
        self._perform()

    # ---- turns -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._stream.watch_reads(True)
        self._turn()

    def _turn(self) -> None:
        """Act on what the machine says, write, and set the timer."""
        self._perform()
        if self._machine.octets_to_send or self._unwritten:  # after most reads there is nothing
            self._write()
        self._alarm.set(self._machine.next_timeout())

    def _perform(self) -> None:
        performers = self._performers
        try:
            while events := self._machine.events():
                for event in events:
                    performers[type(event)](event)
        except Exception as error:  # of a handler: what came behind it is lost, and nobody must wait for it
            self._give_back(f"a handler failed: {error!r}")
            raise

    def _expired(self) -> None:
        self._machine.handle_timeout(self._loop.time())
        self._turn()

    # ---- events ------------------------------------------------------------------------------------------------------

    def _perform_opened(self, _event: Opened) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _perform_ended(self, event: Ended) -> None:
        url = self.url
        if not self._opened.done():
            self._opened.set_exception(login_error(url, url.user, url.virtual_host, event.code, event.text))
        self._write()  # the answer to a close
        self._give_back(event.text, event.code)

    def _perform_blocked(self, event: Blocked) -> None:
        self.blocked = event.reason or "the broker gave no reason"
        self._look_at_congestion()

    def _perform_unblocked(self, _event: Unblocked) -> None:
        self.blocked = ""
        self._look_at_congestion()

    def _perform_answered(self, event: Answered) -> None:
        self._channels[event.channel].answered(event)
        if isinstance(event.method, ChannelCloseOk):
            del self._channels[event.channel]

    def _perform_channel_ended(self, event: ChannelEnded) -> None:
        self._channels.pop(event.channel).refused(event.code, event.text)

    def _perform_cancelled(self, event: ConsumerCancelled) -> None:
        self._channels[event.channel].cancelled(event.consumer_tag)

    def _perform_delivered(self, event: Delivered) -> None:
        self._channels[event.channel].delivered(event.consumer_tag, event.deliveries)

    def _perform_oversized(self, event: Oversized) -> None:
        self._channels[event.channel].passed_over(event)

    def _perform_returned(self, event: Returned) -> None:
        told = self._channels[event.channel].on_return
        if told is not None:
            told(event.message)

    def _perform_confirmed(self, event: Confirmed) -> None:
        self._channels[event.channel].confirmed(event)

    def _give_back(self, reason: str, code: int = 0) -> None:
        """The socket; all who wait are told. Idempotent."""
        self._machine.lost(reason)
        self._alarm.cancel()
        self._stream.close()
        if not self._ended.done():
            self._ended.set_result(reason)
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.end(over(self.url, reason, code))
        self._drained.set()

    # ---- TLS ---------------------------------------------------------------------------------------------------------

    async def _secure(self, context: ssl.SSLContext, timeout_s: float) -> None:
        """Raises: AmqpError, DialError."""
        self._stream.start_tls(context, False, self.url.server_name or self.url.host)
        self._secured = self._loop.create_future()
        self._stream.watch_reads(True)
        self._shake()
        try:
            async with asyncio.timeout(timeout_s):
                await self._secured
        except TimeoutError:
            raise DialError(f"{self.url}: no TLS handshake within {timeout_s:g} s") from None
        except OSError as error:
            raise AmqpError(0, f"{self.url}: {explain(error, self.url.certificate)}") from error
        finally:
            self._secured = None

    def _shake(self) -> None:
        """Go on with the handshake."""
        assert self._secured is not None
        if self._secured.done():
            return
        try:
            if self._stream.handshake():
                self._secured.set_result(None)
        except OSError as error:  # ssl.SSLError is one
            self._secured.set_exception(error)

"""Extensions that a receiver does not know: critical ones it has to refuse (RFC 9174 §4.8, §5.2.5), others to pass over."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from tumpline.drivers.dial import parse_address
from tumpline.errors import NoAnswerError, TumplineError
from tumpline.ui.bundlegen.arguments import Asked
from tumpline.ui.bundlegen.ends import Receiver
from tumpline.ui.bundlegen.exchange import Exchange
from tumpline.ui.bundlegen.ledger import Ledger
from tumpline.ui.bundlegen.links import PAIRS, Security
from tumpline.ui.bundlegen.supply import supply
from tumpline.wire.cbor import encode_bytes

_PRIVATE_ITEM: Final = b"\x20\x67unknown"  # key -1 (UDPCL draft: -1 to -32640 are for private use) and a text
_SAID: Final = "critical session extension"  # why a session is refused


class NotRefusedError(TumplineError):
    """What had to be refused was taken."""


class NotTakenError(TumplineError):
    """What had to be taken was not."""


async def try_critical(asked: Asked, security: Security) -> None:
    """A session and a transfer, each with a critical item of a private type. Raises: NotRefusedError, TumplineError."""
    session = _exchange(asked, security, "critical_session")
    try:
        await session.run(lambda _ledger: None)
    except NoAnswerError:  # the active end may also have had a session for a moment: both its ends speak at once
        if _SAID not in session.receiver.trouble:
            raise  # there is no session for another reason
    if session.receiver.info is not None or _SAID not in session.receiver.trouble:
        raise NotRefusedError("a session with a critical extension of a private type was accepted (RFC 9174 §4.8)")
    transfer = _exchange(asked, security, "critical_transfer")
    await transfer.run(lambda _ledger: None)
    if transfer.ledger.equal or not transfer.sender.refused_count:
        raise NotRefusedError("a transfer with a critical extension of a private type was accepted (RFC 9174 §5.2.5)")


async def try_unknown(asked: Asked, _security: Security) -> None:
    """A datagram with an item of a private key beside a transfer: the bundle is taken, the item passed over (UDPCL draft:
    unknown keys are ignored, the others of the map are not). In the clear. Raises: NotTakenError, TumplineError."""
    changed = asyncio.Event()
    ledger = Ledger()
    receiver = Receiver(ledger, changed.set)
    receiver.link = passive = PAIRS["udpcl"](asked._replace(via=""), Security(None, None), "").passive
    data = next(supply("randcbor", 1, asked.seed))
    ledger.send(data)
    await passive.start(receiver)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            where = parse_address(passive.describe()["listening"][0], asked.port)
            sock.sendto(b"\xa1" + _PRIVATE_ITEM, (where.host, where.port))
            sock.sendto(b"\xa2\x02\x82\x00" + encode_bytes(data) + _PRIVATE_ITEM, (where.host, where.port))
            async with asyncio.timeout(asked.patience_s):
                await changed.wait()
                while not ledger.came:
                    changed.clear()
                    await changed.wait()
    except TimeoutError:
        raise NotTakenError("a transfer beside an item of a private key was dropped with it (UDPCL draft)") from None
    finally:
        await passive.stop()
    if not ledger.is_clean:
        raise NotTakenError("a transfer beside an item of a private key came altered")


TRIALS: Final = {"tcpcl": try_critical, "udpcl": try_unknown}


def _exchange(asked: Asked, security: Security, trial: str) -> Exchange:
    return Exchange(PAIRS[asked.cl](asked, security, trial), supply("fullvalid", 1, asked.seed), asked.patience_s)

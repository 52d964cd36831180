"""What a receiver has to refuse: extensions that it does not know and that say they are critical (RFC 9174 §4.8, §5.2.5)."""

from __future__ import annotations

from typing import Final

from tumpline.errors import NoAnswerError, TumplineError
from tumpline.ui.bundlegen.arguments import Asked
from tumpline.ui.bundlegen.exchange import Exchange
from tumpline.ui.bundlegen.links import PAIRS, Security
from tumpline.ui.bundlegen.supply import supply

_SAID: Final = "critical session extension"  # why a session is refused


class NotRefusedError(TumplineError):
    """What had to be refused was taken."""


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


def _exchange(asked: Asked, security: Security, trial: str) -> Exchange:
    return Exchange(PAIRS[asked.cl](asked, security, trial), supply("fullvalid", 1, asked.seed), asked.patience_s)

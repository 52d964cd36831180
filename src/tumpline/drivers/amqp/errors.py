"""What a broker refuses, in sentences that say how to mend it."""

from __future__ import annotations

from typing import Final

from tumpline.errors import RefusedError, TumplineError

CONNECTION_FORCED: Final = 320
ACCESS_REFUSED: Final = 403
NOT_FOUND: Final = 404
RESOURCE_LOCKED: Final = 405
PRECONDITION_FAILED: Final = 406
NOT_ALLOWED: Final = 530

_REMEDIES: Final = {
    311: "send less in one message",
    320: "its operator closed it, or it ends",
    403: "ask its operator for the permission",
    404: "look at the name, or make it first",
    405: "another connection has it for itself: end that one, or take another name",
    406: "it is there with other settings: delete it, or take another name",
    506: "the broker is short of something: look at its log",
    540: "this broker cannot do that",
}


class AmqpError(TumplineError):
    """The broker refused, or the connection to it is over. `code` is the broker's reply code, 0 where it gave none."""

    def __init__(self, code: int, message: str, text: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.text = text  # the broker's own words
        if code in (ACCESS_REFUSED, NOT_ALLOWED):
            self.exit_code = RefusedError.exit_code


def login_error(where: object, user: str, virtual_host: str, code: int, text: str) -> AmqpError:
    """The broker does not let us in, or the connection ended before it did."""
    if code == ACCESS_REFUSED:
        message = f"{where}: the broker refused the login of user {user}: look at user and password"
        if user == "guest":
            message += " (RabbitMQ takes guest from its own machine only)"
    elif code == NOT_ALLOWED and "not found" in text:
        message = (
            f"{where}: the broker has no virtual host {virtual_host!r}: look at the end of the URL, or make it there:"
            f" rabbitmqctl add_vhost {virtual_host}"
        )
    elif code == NOT_ALLOWED and "refused" in text:
        message = (
            f"{where}: user {user} may not use the virtual host {virtual_host!r}:"
            f" rabbitmqctl set_permissions -p {virtual_host} {user} '.*' '.*' '.*'"
        )
    else:
        message = f"{where}: no AMQP connection: {_words(text)}; look whether a broker (RabbitMQ) listens there"
    return AmqpError(code, message, text)


def refusal(where: object, what: str, code: int, text: str) -> AmqpError:
    """What we asked on a channel was refused."""
    remedy = _REMEDIES.get(code, "look at the log of the broker")
    return AmqpError(code, f"{where}: {what}: {_words(text)}; {remedy}", text)


def over(where: object, reason: str, code: int = 0) -> AmqpError:
    """The connection is over."""
    return AmqpError(code, f"{where}: the connection is over: {_words(reason)}", reason)


def _words(text: str) -> str:
    """Of the broker, in one line."""
    return " ".join(text.split()) or "it gave no reason"

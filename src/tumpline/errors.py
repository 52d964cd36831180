"""Every error that tumpline raises on purpose. The docstring of a class is what its user reads."""

from __future__ import annotations


class TumplineError(Exception):
    """Something tumpline was asked to do cannot be done."""

    exit_code = 1


class MalformedError(TumplineError):
    """Octets from outside do not follow the format they claim."""


class ProtocolError(TumplineError):
    """The rules of a protocol were broken; `reason` is the wire code to send back, where there is one."""

    def __init__(self, message: str, reason: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """We asked a machine for something that its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules of the protocol."""


class ConfigError(TumplineError):
    """The configuration cannot be used; every mistake is listed as `file:line: key: what is wrong; what to write`."""

    exit_code = 2

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))


class StateError(TumplineError):
    """The state directory cannot be used (held by another agent, unreadable, damaged)."""

    exit_code = 2


class StorageError(TumplineError):
    """The store could not do its work: disk full, file system error."""


class NoRoomError(StorageError):
    """The quota of the store is reached: there is room again when bundles have left."""

    def __init__(self, message: str, refused: list[int] | None = None) -> None:
        super().__init__(message)
        self.refused = [0] if refused is None else refused  # which of the ADUs that were given together, by their place


class PayloadGoneError(StorageError):
    """Octets that were stored are not on the disk any more (removed or cut from outside): trying again is of no use."""


class NoAnswerError(TumplineError):
    """Nothing came back in time."""

    exit_code = 3


class NotReachableError(TumplineError):
    """No agent answers on the control socket."""

    exit_code = 4


class RefusedError(TumplineError):
    """A peer or a security policy refused."""

    exit_code = 5

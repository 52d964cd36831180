"""Lines before the messages of D-Bus, by which both ends agree who is who (D-Bus specification, "Authentication Protocol").

The very first octet of a connection is NUL; lines follow, each with CR LF behind it, until BEGIN.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

LINE_OCTETS_MOST: Final = 1024  # the longest real one, `AUTH EXTERNAL` with a user's number, has 60
LINE_END: Final = b"\r\n"
FIRST_OCTET: Final = b"\0"  # "the special credentials-passing nul byte"


class Command(StrEnum):
    """From clients: AUTH to NEGOTIATE_UNIX_FD; from servers: REJECTED to AGREE_UNIX_FD; ERROR and DATA from both."""

    AUTH = "AUTH"
    CANCEL = "CANCEL"
    BEGIN = "BEGIN"
    NEGOTIATE_UNIX_FD = "NEGOTIATE_UNIX_FD"
    DATA = "DATA"
    ERROR = "ERROR"
    REJECTED = "REJECTED"
    OK = "OK"
    AGREE_UNIX_FD = "AGREE_UNIX_FD"
    UNKNOWN = ""  # the other end is to be told ERROR, and may go on


class AuthLine(NamedTuple):
    """One line, without CR LF: a command and what follows it."""

    command: Command
    rest: str = ""


_COMMANDS: Final = {command.value: command for command in Command}
_GUID: Final = re.compile(r"[0-9a-f]{32}")


def decode_auth_line_untrusted(line: bytes | bytearray) -> AuthLine:
    """One line, given without CR LF. Raises: MalformedError."""
    # Authentication Protocol: "only ASCII octets, and no NUL"; a control character is nothing that anybody sends.
    if len(line) > LINE_OCTETS_MOST or not line.isascii() or any(octet < 32 for octet in line):
        raise MalformedError(f"{bytes(line[:40])!r} is no line of D-Bus authentication")
    word, _, rest = line.decode("ascii").partition(" ")
    return AuthLine(_COMMANDS.get(word, Command.UNKNOWN), rest)


def encode_auth_line(command: Command, *words: str) -> bytes:
    """The octets of a line, CR LF included."""
    return " ".join((command.value, *words)).encode("ascii") + LINE_END


def decode_identity_untrusted(text: str) -> str:
    """What the hexadecimal argument of AUTH or DATA says: for EXTERNAL a user's number. Raises: MalformedError."""
    try:
        return bytes.fromhex(text).decode("ascii") if " " not in text else _not_hexadecimal(text)
    except ValueError:
        return _not_hexadecimal(text)


def _not_hexadecimal(text: str) -> str:
    raise MalformedError(f"{text[:40]!r} is no identity in hexadecimal digits")


def encode_identity(text: str) -> str:
    """The hexadecimal digits of an identity."""
    return text.encode("ascii").hex()


def is_guid(text: str) -> bool:
    """Whether a text is a server's or a machine's identity: 32 hexadecimal digits (D-Bus specification, "UUIDs")."""
    return _GUID.fullmatch(text) is not None

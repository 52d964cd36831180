"""D-Bus: any octets on the socket of a bus, as a message with its body, as a match rule, as a line of authentication."""

from __future__ import annotations

from fuzz.harness import Target
from tumpline.wire.dbus import (
    Kind,
    Message,
    Variant,
    arguments_of,
    decode_auth_line_untrusted,
    decode_message_untrusted,
    encode_message,
    encode_values,
    parse_match_untrusted,
)

_BODY = "ybnqiuxtdsoghas(iv)a{sv}aayav"
_VALUES = (
    *(7, True, -2, 2, -3, 3, -4, 4, 0.5, "text", "/a/b", "a{sv}", 0, ["x", "y"], (5, Variant("s", "in"))),
    *({"key": Variant("ai", [1, 2, 3])}, [b"octets", b""], [Variant("v", Variant("y", 1))]),
)
_RULES = ("type='signal',interface='org.example.A',arg0='x'", "path_namespace='/a',arg0namespace=a.b", "arg1path='/a/'")
_LINES = (b"AUTH EXTERNAL 31303030", b"NEGOTIATE_UNIX_FD", b"OK 0123456789abcdef0123456789abcdef")


def seeds() -> list[bytes]:
    """Every type in both byte orders, every kind of message, rules and lines: the first octet tells them apart."""
    call = Message(Kind.CALL, 1, "/a", "org.example.A", "Do", destination=":1.7", flags=1)
    made = [
        call,
        call.with_body(_BODY, *_VALUES),
        call._replace(big_endian=True).with_body(_BODY, *_VALUES),
        Message(Kind.RETURN, 2, reply_serial=1, sender="org.example").with_body("as", ["x"]),
        Message(Kind.ERROR, 3, error_name="org.example.Wrong", reply_serial=1, unix_fds=2).with_body("s", "why"),
        Message(Kind.SIGNAL, 4, "/", "org.example.A", "Done").with_body("x", 1),
    ]
    return [*map(encode_message, made), *(b"m" + rule.encode() for rule in _RULES), *(b"a" + line for line in _LINES)]


def run(data: bytes) -> bool:
    """What is accepted and said again says the same."""
    if data[:1] == b"m":
        rule = parse_match_untrusted(data[1:].decode("latin-1"))
        rule.matches(Message(Kind.SIGNAL, 1, "/", "a.b", "C"), (("s", "x"), ("o", "/a")), ())
    elif data[:1] == b"a":
        decode_auth_line_untrusted(data[1:])
    else:
        message = decode_message_untrusted(data)
        values = message.body_values()
        again = decode_message_untrusted(encode_message(message))
        assert again == message, "it says something else"
        arguments_of(message)
        made = encode_values(values, message.signature, big_endian=message.big_endian)
        assert len(made) <= len(data), "octets that were not there"
    return True


# Four octets of a body make a Variant of a hundred; parsed signatures stay, at most 1024 of them.
TARGET = Target("dbus", "D-Bus messages, match rules, authentication", seeds, run, peak_base=1 << 20, peak_factor=64)

"""D-Bus as octets: messages and their values, names, match rules, addresses, and the lines of authentication."""

from tumpline.wire.dbus.address import ServerAddress, encode_address, parse_addresses
from tumpline.wire.dbus.auth import (
    AuthLine,
    Command,
    decode_auth_line_untrusted,
    decode_identity_untrusted,
    encode_auth_line,
    encode_identity,
    is_guid,
)
from tumpline.wire.dbus.errors import ErrorName
from tumpline.wire.dbus.match import MatchRule, arguments_of, encode_match, parse_match_untrusted
from tumpline.wire.dbus.message import (
    FIRST_OCTETS,
    MESSAGE_OCTETS_MOST,
    Flags,
    Kind,
    Message,
    decode_message_untrusted,
    encode_head,
    encode_message,
    message_octets,
)
from tumpline.wire.dbus.names import (
    is_bus_name,
    is_interface,
    is_member,
    is_namespace,
    is_object_path,
    is_unique_name,
    is_well_known_name,
)
from tumpline.wire.dbus.signature import parse_signature, parse_single
from tumpline.wire.dbus.values import Buffer, Variant, check_values_untrusted, decode_values_untrusted, encode_values

__all__ = [
    "FIRST_OCTETS",
    "MESSAGE_OCTETS_MOST",
    "AuthLine",
    "Buffer",
    "Command",
    "ErrorName",
    "Flags",
    "Kind",
    "MatchRule",
    "Message",
    "ServerAddress",
    "Variant",
    "arguments_of",
    "check_values_untrusted",
    "decode_auth_line_untrusted",
    "decode_identity_untrusted",
    "decode_message_untrusted",
    "decode_values_untrusted",
    "encode_address",
    "encode_auth_line",
    "encode_head",
    "encode_identity",
    "encode_match",
    "encode_message",
    "encode_values",
    "is_bus_name",
    "is_guid",
    "is_interface",
    "is_member",
    "is_namespace",
    "is_object_path",
    "is_unique_name",
    "is_well_known_name",
    "message_octets",
    "parse_addresses",
    "parse_match_untrusted",
    "parse_signature",
    "parse_single",
]

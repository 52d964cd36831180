"""Signatures of D-Bus: a text such as `a{sv}(ii)` <-> the types it names (D-Bus specification, "Type System")."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from tumpline.errors import MalformedError

SIGNATURE_OCTETS_MOST: Final = 255  # D-Bus specification, Valid Signatures
ARRAY_DEPTH_MOST: Final = 32  # ibid.: "maximum depth of container type nesting is 32 array type codes and 32 ..."
STRUCT_DEPTH_MOST: Final = 32
BASIC_CODES: Final = "ybnqiuxtdsogh"

ALIGNMENTS: Final = {
    **dict.fromkeys("ygv", 1),
    **dict.fromkeys("nq", 2),
    **dict.fromkeys("biuhsoa", 4),
    **dict.fromkeys("xtd({", 8),
}


class Type(NamedTuple):
    """One complete type: its code (`(` for a struct, `{` for a dict entry), and what is inside a container."""

    code: str
    inner: tuple[Type, ...] = ()


@lru_cache(maxsize=1024)  # bounded: strangers choose the texts
def parse_signature(text: str) -> tuple[Type, ...]:
    """The complete types that a signature lists. Raises: MalformedError."""
    if len(text) > SIGNATURE_OCTETS_MOST:
        raise MalformedError(f"D-Bus signature of {len(text)} octets, at most {SIGNATURE_OCTETS_MOST} are allowed")
    types: list[Type] = []
    at = 0
    while at < len(text):
        found, at = _complete(text, at, 0, 0)
        types.append(found)
    return tuple(types)


def parse_single(text: str) -> Type:
    """The one complete type that a signature is, as variants have it. Raises: MalformedError."""
    types = parse_signature(text)
    if len(types) != 1:
        raise MalformedError(f"D-Bus signature {text!r} has {len(types)} complete types instead of one")
    return types[0]


def _complete(text: str, at: int, arrays: int, structs: int) -> tuple[Type, int]:
    """The complete type that begins at `at`, and where the next one begins."""
    code = text[at : at + 1]
    if (code and code in BASIC_CODES) or code == "v":
        return Type(code), at + 1
    if code == "a":
        if arrays == ARRAY_DEPTH_MOST:
            raise MalformedError(f"D-Bus signature {text!r}: more than {ARRAY_DEPTH_MOST} arrays in each other")
        element = _dict_entry if text[at + 1 : at + 2] == "{" else _complete
        inner, end = element(text, at + 1, arrays + 1, structs)
        return Type("a", (inner,)), end
    if code == "(":
        return _struct(text, at, arrays, structs + 1)
    raise MalformedError(f"D-Bus signature {text!r}: no complete type at {at}")


def _struct(text: str, at: int, arrays: int, structs: int) -> tuple[Type, int]:
    if structs > STRUCT_DEPTH_MOST:
        raise MalformedError(f"D-Bus signature {text!r}: more than {STRUCT_DEPTH_MOST} structs in each other")
    members: list[Type] = []
    at += 1
    while text[at : at + 1] != ")":
        member, at = _complete(text, at, arrays, structs)
        members.append(member)
    if not members:
        raise MalformedError(f"D-Bus signature {text!r}: empty struct")  # "Empty structures are not allowed"
    return Type("(", tuple(members)), at + 1


def _dict_entry(text: str, at: int, arrays: int, structs: int) -> tuple[Type, int]:
    # A dict entry counts as a struct does, stands in arrays only, and its key is a basic type.
    if structs >= STRUCT_DEPTH_MOST:
        raise MalformedError(f"D-Bus signature {text!r}: more than {STRUCT_DEPTH_MOST} structs in each other")
    key, at = _complete(text, at + 1, arrays, structs + 1)
    if key.code not in BASIC_CODES:
        raise MalformedError(f"D-Bus signature {text!r}: the key of a dict entry is a container")
    value, at = _complete(text, at, arrays, structs + 1)
    if text[at : at + 1] != "}":
        raise MalformedError(f"D-Bus signature {text!r}: a dict entry has a key and one value")
    return Type("{", (key, value)), at + 1

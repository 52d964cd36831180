"""What an object offers, as XML (D-Bus specification, "Introspection Data Format")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from xml.sax.saxutils import quoteattr

_DOCTYPE: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


class DescribedMethod(NamedTuple):
    """A method: signatures of what it takes and gives, and the names of these arguments as far as they have some."""

    name: str
    takes: str = ""
    gives: str = ""
    names: tuple[str, ...] = ()


class DescribedInterface(NamedTuple):
    """An interface: its methods, its signals with their signatures, its properties (all can be read, none written)."""

    name: str
    methods: Iterable[DescribedMethod]
    signals: Iterable[tuple[str, str]] = ()
    properties: Iterable[tuple[str, str]] = ()


def introspection(path: str, interfaces: Iterable[DescribedInterface], children: Iterable[str]) -> str:
    """The answer of Introspect for the object at `path`."""
    described = "".join(map(_interface, interfaces))
    nodes = "".join(f"  <node name={quoteattr(child)}/>\n" for child in children)
    return f"{_DOCTYPE}<node name={quoteattr(path)}>\n{described}{nodes}</node>\n"


def complete_types(signature: str) -> list[str]:
    """The complete types of a valid signature, each as text."""
    found: list[str] = []
    begin = 0
    for end in range(1, len(signature) + 1):
        part = signature[begin:end]
        if part[-1] != "a" and part.count("(") == part.count(")") and part.count("{") == part.count("}"):
            found.append(part)
            begin = end
    return found


def _interface(interface: DescribedInterface) -> str:
    lines = [f"  <interface name={quoteattr(interface.name)}>\n"]
    for method in interface.methods:
        lines += _method(method)
    for name, signature in interface.signals:
        lines.append(f"    <signal name={quoteattr(name)}>\n")
        lines += [f"      <arg type={quoteattr(code)}/>\n" for code in complete_types(signature)]
        lines.append("    </signal>\n")
    for name, signature in interface.properties:
        lines.append(f'    <property name={quoteattr(name)} type={quoteattr(signature)} access="read"/>\n')
    return "".join([*lines, "  </interface>\n"])


def _method(method: DescribedMethod) -> list[str]:
    lines = [f"    <method name={quoteattr(method.name)}>\n"]
    names = iter(method.names)
    for direction, signature in (("in", method.takes), ("out", method.gives)):
        for code in complete_types(signature):
            named = f" name={quoteattr(known)}" if (known := next(names, "")) else ""
            lines.append(f'      <arg{named} type={quoteattr(code)} direction="{direction}"/>\n')
    return [*lines, "    </method>\n"]

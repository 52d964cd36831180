"""The objects that a connection exports: found by path, described for whoever asks (Introspectable, Properties, Peer)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NoReturn

from tumpline.drivers.dbus.errors import BusError, ErrorName
from tumpline.drivers.dbus.interface import Call, Interface, Method, Methods
from tumpline.drivers.dbus.machine_id import machine_id
from tumpline.errors import LocalProtocolError
from tumpline.wire.dbus import Message, is_interface, is_member, is_object_path, parse_signature
from tumpline.wire.dbus.introspect import DescribedInterface, DescribedMethod, introspection

PEER: Final = "org.freedesktop.DBus.Peer"


class Objects:
    """A tree of paths; those above an exported one exist too, and list their children."""

    def __init__(self) -> None:
        self._exported: dict[str, dict[str, Interface]] = {}
        introspectable = Interface(
            "org.freedesktop.DBus.Introspectable",
            {"Introspect": Method(lambda call: self.introspect(call.path), "", "s", ("data",))},
        )
        self._standard = {each.name: each for each in (introspectable, _PEER_INTERFACE, _PROPERTIES)}

    def export(self, path: str, *interfaces: Interface) -> None:
        """Put an object there, or further interfaces on one. Raises: LocalProtocolError."""
        if not is_object_path(path):
            raise LocalProtocolError(f"{path!r} is no object path of D-Bus")
        for interface in interfaces:
            _check(interface)
        self._exported.setdefault(path, {}).update({each.name: each for each in interfaces})

    def unexport(self, path: str) -> None:
        """Take the object away. Idempotent."""
        self._exported.pop(path, None)

    def signature_of(self, path: str, interface: str, member: str) -> str:
        """The signature of a signal. Raises: LocalProtocolError: there is none."""
        try:
            return self._exported[path][interface].signals[member]
        except KeyError:
            raise LocalProtocolError(f"{path} exports no signal {interface}.{member}") from None

    def find(self, message: Message) -> Method:
        """The method that is called. Raises: BusError with the name everybody knows."""
        path, name, member = message.path, message.interface, message.member
        if name == PEER and member in _PEER_INTERFACE.methods:  # answered whatever the path
            return _chosen(_PEER_INTERFACE.methods[member], message)
        interfaces = self._exported.get(path)
        if interfaces is None:
            if not any(self._children(path)):
                raise BusError(ErrorName.UNKNOWN_OBJECT, f"there is no object {path}")
            interfaces = {}
        wanted = (
            [interfaces.get(name) or self._standard.get(name)]
            if name
            else [*interfaces.values(), *self._standard.values()]
        )
        for interface in wanted:
            if interface is not None and member in interface.methods:
                return _chosen(interface.methods[member], message)
        if wanted == [None]:
            raise BusError(ErrorName.UNKNOWN_INTERFACE, f"the object {path} has no interface {name}")
        raise BusError(ErrorName.UNKNOWN_METHOD, f"the object {path} has no method {name or 'ANY'}.{member}")

    def introspect(self, path: str) -> str:
        """The object as XML (D-Bus specification, "Introspection Data Format")."""
        interfaces = [*self._exported.get(path, {}).values(), *self._standard.values()]
        return introspection(path, map(_described, interfaces), sorted(set(self._children(path))))

    def _children(self, path: str) -> Iterator[str]:
        prefix = "/" if path == "/" else f"{path}/"
        for each in self._exported:
            if each.startswith(prefix) and each != path:
                yield each[len(prefix) :].partition("/")[0]


def _chosen(found: Method | tuple[Method, ...], message: Message) -> Method:
    several = (found,) if isinstance(found, Method) else found
    for method in several:
        if method.takes == message.signature:
            return method
    wanted = " or ".join(f"({method.takes})" for method in several)
    text = f"{message.member} takes arguments of the signature {wanted}, not ({message.signature})"
    raise BusError(ErrorName.INVALID_ARGS, text)


def _check(interface: Interface) -> None:
    """What a bus would refuse later is refused here. Raises: LocalProtocolError, MalformedError."""
    members = [*interface.methods, *interface.signals]
    if not is_interface(interface.name) or not all(map(is_member, members)):
        raise LocalProtocolError(
            f"{interface.name!r} is no interface of D-Bus, or one of its members has no valid name"
        )
    for method in _methods(interface.methods):
        parse_signature(method[1].takes)
        parse_signature(method[1].gives)
    for signature in interface.signals.values():
        parse_signature(signature)


def _methods(methods: Methods) -> Iterator[tuple[str, Method]]:
    for name, found in methods.items():
        for method in (found,) if isinstance(found, Method) else found:
            yield name, method


def _described(interface: Interface) -> DescribedInterface:
    methods = [DescribedMethod(name, each.takes, each.gives, each.names) for name, each in _methods(interface.methods)]
    return DescribedInterface(interface.name, methods, interface.signals.items())


def _machine_id(_call: Call) -> str:
    found = machine_id()
    if not found:
        raise BusError(ErrorName.FILE_NOT_FOUND, "this machine has no identity (/etc/machine-id)")
    return found


def _no_property(call: Call, interface: str, name: str, *_value: Any) -> NoReturn:
    raise BusError(ErrorName.UNKNOWN_PROPERTY, f"the object {call.path} has no property {interface}.{name}")


_PEER_INTERFACE: Final = Interface(
    PEER, {"Ping": Method(lambda _call: None), "GetMachineId": Method(_machine_id, "", "s", ("machine_uuid",))}
)
_PROPERTIES: Final = Interface(
    "org.freedesktop.DBus.Properties",
    {
        "Get": Method(_no_property, "ss", "v", ("interface_name", "property_name", "value")),
        "Set": Method(_no_property, "ssv", "", ("interface_name", "property_name", "value")),
        "GetAll": Method(lambda _call, _interface: {}, "s", "a{sv}", ("interface_name", "props")),
    },
)

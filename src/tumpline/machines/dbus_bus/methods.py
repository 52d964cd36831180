"""The bus's own methods (D-Bus specification, "Message Bus Messages"): what `org.freedesktop.DBus` answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from tumpline.errors import MalformedError, TumplineError
from tumpline.machines.dbus.connection import BUS_NAME
from tumpline.machines.dbus_bus.client import Client
from tumpline.machines.dbus_bus.config import BusConfig, Credentials
from tumpline.machines.dbus_bus.names import NameRegistry, OwnerChanged
from tumpline.wire.dbus import (
    ErrorName,
    Message,
    Variant,
    is_bus_name,
    is_well_known_name,
    parse_match_untrusted,
)
from tumpline.wire.dbus.introspect import DescribedInterface, DescribedMethod, introspection

_ALREADY_RUNNING: Final = 2  # answer of StartServiceByName


class CallRefusedError(TumplineError):
    """A call is answered by this error."""

    def __init__(self, name: ErrorName, text: str) -> None:
        super().__init__(text)
        self.name = name


class Host(Protocol):
    """What the methods need of their bus."""

    config: BusConfig
    names: NameRegistry

    def client_of(self, name: str) -> Client | None:
        """The owner of a unique or well-known name."""

    def unique_names(self) -> list[str]:
        """All clients that were greeted."""

    def greet(self, client: Client) -> str:
        """Give a unique name."""

    def name_of(self, client: int) -> str:
        """The unique name of a client."""

    def announce(self, changed: OwnerChanged | None) -> None:
        """Tell everybody who asked for it."""


class _Entry(NamedTuple):
    run: Callable[..., tuple[Any, ...]]
    takes: str
    gives: str


class BusMethods:
    """One table: interface and member, what it takes and gives."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._table: dict[str, dict[str, _Entry]] = {
            BUS_NAME: {
                "Hello": _Entry(self._hello, "", "s"),
                "RequestName": _Entry(self._request_name, "su", "u"),
                "ReleaseName": _Entry(self._release_name, "s", "u"),
                "ListQueuedOwners": _Entry(self._list_queued_owners, "s", "as"),
                "ListNames": _Entry(self._list_names, "", "as"),
                "ListActivatableNames": _Entry(lambda _client: ([BUS_NAME],), "", "as"),
                "NameHasOwner": _Entry(self._name_has_owner, "s", "b"),
                "GetNameOwner": _Entry(self._get_name_owner, "s", "s"),
                "StartServiceByName": _Entry(self._start_service, "su", "u"),
                "UpdateActivationEnvironment": _Entry(lambda _client, _environment: (), "a{ss}", ""),
                "AddMatch": _Entry(self._add_match, "s", ""),
                "RemoveMatch": _Entry(self._remove_match, "s", ""),
                "GetConnectionUnixUser": _Entry(lambda _client, name: (self._credentials(name).uid,), "s", "u"),
                "GetConnectionUnixProcessID": _Entry(self._get_pid, "s", "u"),
                "GetConnectionCredentials": _Entry(self._get_credentials, "s", "a{sv}"),
                "GetConnectionSELinuxSecurityContext": _Entry(self._no_selinux, "s", "ay"),
                "GetAdtAuditSessionData": _Entry(self._no_audit, "s", "ay"),
                "GetId": _Entry(lambda _client: (host.config.guid,), "", "s"),
                "ReloadConfig": _Entry(lambda _client: (), "", ""),
            },
            "org.freedesktop.DBus.Introspectable": {"Introspect": _Entry(self._introspect, "", "s")},
            "org.freedesktop.DBus.Peer": {
                "Ping": _Entry(lambda _client: (), "", ""),
                "GetMachineId": _Entry(self._machine_id, "", "s"),
            },
            "org.freedesktop.DBus.Properties": {
                "Get": _Entry(self._get, "ss", "v"),
                "GetAll": _Entry(lambda _client, _interface: (dict(_PROPERTIES),), "s", "a{sv}"),
                "Set": _Entry(self._set, "ssv", ""),
            },
        }

    def answer(self, client: Client, message: Message) -> tuple[str, tuple[Any, ...]]:
        """Signature and values of the answer. Raises: CallRefusedError, MalformedError."""
        entry = self._find(message)
        if entry.takes != message.signature:
            text = f"{message.member} takes ({entry.takes}), not ({message.signature})"
            raise CallRefusedError(ErrorName.INVALID_ARGS, text)
        return entry.gives, entry.run(client, *message.body_values())

    def _find(self, message: Message) -> _Entry:
        interface, member = message.interface, message.member
        tables = [self._table.get(interface, {})] if interface else list(self._table.values())
        for table in tables:
            if member in table:
                return table[member]
        known = not interface or interface in self._table
        name = ErrorName.UNKNOWN_METHOD if known else ErrorName.UNKNOWN_INTERFACE
        raise CallRefusedError(name, f"the bus does not know {interface or 'any interface'}.{member}")

    # ---- names -------------------------------------------------------------------------------------------------------

    def _hello(self, client: Client) -> tuple[str]:
        if client.unique_name:
            raise CallRefusedError(ErrorName.FAILED, f"Hello was answered already: you are {client.unique_name}")
        config = self._host.config
        if not config.admits(client.credentials.uid):
            text = f"user {client.credentials.uid} may not use this bus, which is user {config.host.uid}'s"
            raise CallRefusedError(ErrorName.ACCESS_DENIED, text)
        return (self._host.greet(client),)

    def _request_name(self, client: Client, name: str, flags: int) -> tuple[int]:
        _check_ownable(name)
        names, most = self._host.names, self._host.config.names_most
        if names.claims(client.number) >= most and client.number not in names.queue(name):
            raise CallRefusedError(ErrorName.LIMITS_EXCEEDED, f"a client may have {most} names at once")
        result, changed = names.request(name, client.number, flags)
        self._host.announce(changed)
        return (result,)

    def _release_name(self, client: Client, name: str) -> tuple[int]:
        _check_ownable(name)
        result, changed = self._host.names.release(name, client.number)
        self._host.announce(changed)
        return (result,)

    def _list_names(self, _client: Client) -> tuple[list[str]]:
        return ([BUS_NAME, *self._host.unique_names(), *self._host.names.names()],)

    def _list_queued_owners(self, _client: Client, name: str) -> tuple[list[str]]:
        if name == BUS_NAME:
            return ([BUS_NAME],)
        owner = self._known(name)
        if name == owner.unique_name:
            return ([name],)
        return ([self._host.name_of(number) for number in self._host.names.queue(name)],)

    def _name_has_owner(self, _client: Client, name: str) -> tuple[bool]:
        return (name == BUS_NAME or self._host.client_of(name) is not None,)

    def _get_name_owner(self, _client: Client, name: str) -> tuple[str]:
        return (BUS_NAME if name == BUS_NAME else self._known(name).unique_name,)

    def _known(self, name: str) -> Client:
        owner = self._host.client_of(name)
        if owner is None:
            raise CallRefusedError(ErrorName.NAME_HAS_NO_OWNER, f"nobody on this bus has the name {name!r}")
        return owner

    def _start_service(self, _client: Client, name: str, _flags: int) -> tuple[int]:
        if name != BUS_NAME and self._host.client_of(name) is None:
            raise not_provided(name)
        return (_ALREADY_RUNNING,)

    # ---- match rules -------------------------------------------------------------------------------------------------

    def _add_match(self, client: Client, text: str) -> tuple[()]:
        most = self._host.config.rules_most
        if client.rules.total() >= most:
            raise CallRefusedError(ErrorName.LIMITS_EXCEEDED, f"a client may have {most} match rules at once")
        client.rules[_rule(text)] += 1
        return ()

    def _remove_match(self, client: Client, text: str) -> tuple[()]:
        rule = _rule(text)
        if rule not in client.rules:
            raise CallRefusedError(ErrorName.MATCH_RULE_NOT_FOUND, f"you have no match rule {text!r}")
        client.rules[rule] -= 1
        if not client.rules[rule]:
            del client.rules[rule]
        return ()

    # ---- who is who --------------------------------------------------------------------------------------------------

    def _credentials(self, name: str) -> Credentials:
        return self._host.config.host if name == BUS_NAME else self._known(name).credentials

    def _get_pid(self, _client: Client, name: str) -> tuple[int]:
        return (self._credentials(name).pid,)

    def _get_credentials(self, _client: Client, name: str) -> tuple[dict[str, Variant]]:
        uid, pid, gids = self._credentials(name)
        found = {"UnixUserID": Variant("u", uid), "ProcessID": Variant("u", pid)}
        if gids:
            found["UnixGroupIDs"] = Variant("au", sorted(gids))
        return (found,)

    def _no_selinux(self, _client: Client, name: str) -> tuple[()]:
        self._credentials(name)
        raise CallRefusedError(ErrorName.SELINUX_CONTEXT_UNKNOWN, "this bus knows no SELinux contexts")

    def _no_audit(self, _client: Client, name: str) -> tuple[()]:
        self._credentials(name)
        raise CallRefusedError(ErrorName.AUDIT_DATA_UNKNOWN, "this bus knows no audit sessions")

    # ---- what every object has ---------------------------------------------------------------------------------------

    def _introspect(self, _client: Client) -> tuple[str]:
        described = [
            DescribedInterface(
                name,
                [DescribedMethod(member, entry.takes, entry.gives) for member, entry in table.items()],
                _SIGNALS if name == BUS_NAME else (),
                [(key, value.signature) for key, value in _PROPERTIES.items()] if name == BUS_NAME else (),
            )
            for name, table in self._table.items()
        ]
        return (introspection("/org/freedesktop/DBus", described, ()),)

    def _machine_id(self, _client: Client) -> tuple[str]:
        if not self._host.config.machine_id:
            raise CallRefusedError(ErrorName.FILE_NOT_FOUND, "this machine has no identity (/etc/machine-id)")
        return (self._host.config.machine_id,)

    def _get(self, _client: Client, interface: str, name: str) -> tuple[Variant]:
        if name not in _PROPERTIES or interface not in (BUS_NAME, ""):
            raise CallRefusedError(ErrorName.UNKNOWN_PROPERTY, f"the bus has no property {interface}.{name}")
        return (_PROPERTIES[name],)

    def _set(self, client: Client, interface: str, name: str, _value: Variant) -> tuple[()]:
        self._get(client, interface, name)
        raise CallRefusedError(ErrorName.PROPERTY_READ_ONLY, f"{interface}.{name} cannot be set")


def not_provided(name: str) -> CallRefusedError:
    """Nobody has the name, and nothing is started for it."""
    text = f"nobody on this bus has the name {name}, and it starts no services: start the service that is to have it"
    return CallRefusedError(ErrorName.SERVICE_UNKNOWN, text)


def _check_ownable(name: str) -> None:
    if not is_bus_name(name):
        raise CallRefusedError(
            ErrorName.INVALID_ARGS, f"{name!r} is no name a client could have; write org.example.Name"
        )
    if not is_well_known_name(name) or name == BUS_NAME:
        raise CallRefusedError(ErrorName.INVALID_ARGS, f"the name {name} is given by the bus alone")


def _rule(text: str) -> Any:
    try:
        return parse_match_untrusted(text)
    except MalformedError as error:
        raise CallRefusedError(ErrorName.MATCH_RULE_INVALID, str(error)) from None


_SIGNALS: Final = (("NameOwnerChanged", "sss"), ("NameLost", "s"), ("NameAcquired", "s"))
_PROPERTIES: Final = {"Features": Variant("as", []), "Interfaces": Variant("as", [])}

"""Signals that are wanted: match rules at the bus, handlers here."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tumpline.drivers.dbus.errors import BusError
from tumpline.errors import MalformedError
from tumpline.machines.dbus.connection import BUS_NAME, BUS_PATH
from tumpline.wire.dbus import (
    Kind,
    MatchRule,
    Message,
    arguments_of,
    encode_match,
    is_unique_name,
)

Handler = Callable[[Message, tuple[Any, ...]], None]
CallBus = Callable[..., Awaitable[tuple[Any, ...]]]

log = logging.getLogger(__name__)


class Subscription:
    """One handler of one rule, until it is cancelled."""

    __slots__ = ("_subscriptions", "handler", "rule")

    def __init__(self, subscriptions: Subscriptions, rule: MatchRule, handler: Handler) -> None:
        self._subscriptions = subscriptions
        self.rule = rule
        self.handler = handler

    def cancel(self) -> None:
        """The handler is not called any more. Idempotent."""
        self._subscriptions.remove(self)


class Subscriptions:
    """All handlers of one connection."""

    def __init__(self, call_bus: CallBus, post_bus: Callable[[str, str, str], None]) -> None:
        """`post_bus(member, signature, argument)` sends a call that wants no answer."""
        self._call_bus = call_bus
        self._post_bus = post_bus
        self._all: list[Subscription] = []
        self._rules: Counter[str] = Counter()
        self._owners: dict[str, str] = {}  # of the well-known names that rules ask about: their unique names

    async def add(self, rule: MatchRule, handler: Handler) -> Subscription:
        """Raises: BusError: the bus does not take the rule."""
        subscription = Subscription(self, rule, handler)
        self._all.append(subscription)  # before the bus is asked: nothing may be missed once it has answered
        try:
            for text in _texts(rule):
                self._rules[text] += 1
                if self._rules[text] == 1:
                    await self._call_bus("AddMatch", "s", text)
            if _names_sender(rule):
                await self._learn_owner(rule.sender)
        except BaseException:
            self.remove(subscription)
            raise
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Idempotent."""
        if subscription not in self._all:
            return
        self._all.remove(subscription)
        for text in _texts(subscription.rule):
            self._rules[text] -= 1
            if self._rules[text] <= 0:
                del self._rules[text]
                self._post_bus("RemoveMatch", "s", text)

    def deliver(self, message: Message) -> None:
        """A signal came."""
        try:
            arguments = arguments_of(message)
            values = message.body_values()
        except MalformedError as error:
            log.warning(
                "a signal %s.%s of %s cannot be read: %s", message.interface, message.member, message.sender, error
            )
            return
        if message.sender == BUS_NAME and message.member == "NameOwnerChanged" and values and values[0] in self._owners:
            self._owners[values[0]] = values[2]
        names = {message.sender, *(name for name, owner in self._owners.items() if owner == message.sender)}
        for subscription in list(self._all):
            if subscription.rule.matches(message, arguments, names, {message.destination}):
                _hand_over(subscription, message, values)

    async def _learn_owner(self, name: str) -> None:
        self._owners.setdefault(name, "")
        try:
            (self._owners[name],) = await self._call_bus("GetNameOwner", "s", name)
        except BusError:
            pass  # nobody has it: NameOwnerChanged tells when somebody does


def _hand_over(subscription: Subscription, message: Message, values: tuple[Any, ...]) -> None:
    try:
        subscription.handler(message, values)
    except Exception:
        # One handler's defect must not keep signals from the others, nor end the connection.
        log.exception("the handler of %s failed", encode_match(subscription.rule))


def _names_sender(rule: MatchRule) -> bool:
    """Whether messages, which carry unique names, must be told apart by who owns a well-known one."""
    return bool(rule.sender) and rule.sender != BUS_NAME and not is_unique_name(rule.sender)


def _texts(rule: MatchRule) -> list[str]:
    """What the bus is asked for."""
    texts = [encode_match(rule)]
    if _names_sender(rule):
        owner = MatchRule(
            Kind.SIGNAL, BUS_NAME, BUS_NAME, "NameOwnerChanged", BUS_PATH, arguments=((0, "", rule.sender),)
        )
        texts.append(encode_match(owner))
    return texts

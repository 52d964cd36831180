"""Which member an address belongs to: by the longest prefix that one claims, else by whose packets came from it."""

from __future__ import annotations

from typing import Final, NamedTuple

from tumpline.wire.overlay import Claim

LEARNED_S: Final = 300.0  # an address from which nothing comes for so long is forgotten, as switches do
LEARNED_MOST: Final = 4096  # strangers write source addresses


class _Claimant(NamedTuple):
    trust: int
    since: int  # of two with equal trust, who claimed it first keeps it
    name: str


class Known(NamedTuple):
    """Of one member: the networks that it claims, and the addresses that its packets came from."""

    claims: tuple[Claim, ...]
    learned: tuple[bytes, ...]


class AddressBook:
    """Claims and what was learned, of members by name."""

    def __init__(self) -> None:
        self._claims: dict[tuple[int, int, int], list[_Claimant]] = {}  # family in octets, prefix in bits, prefix
        self._bits: dict[int, list[int]] = {4: [], 16: []}  # prefixes that there are, the longest first
        self._of: dict[str, dict[tuple[int, int, int], _Claimant]] = {}
        self._learned: dict[bytes, tuple[str, float]] = {}  # the one seen last at the end
        self._count = 0

    def claim(self, name: str, claims: tuple[Claim, ...], trust: int) -> None:
        """These are all that a member claims from now on; one that it had claimed before stays as old as it is."""
        had, has = self._of.pop(name, {}), {}
        for claim in claims:
            place = _place(claim.address, claim.network_bits)
            before = had.get(place)
            if before is None or before.trust != trust:
                self._count += 1
                before = _Claimant(trust, self._count, name)
            has[place] = before
        for place in had.keys() - has.keys():
            self._drop(place, had[place])
        for place, claimant in has.items():
            if had.get(place) is not claimant:
                if place in had:
                    self._drop(place, had[place])
                self._add(place, claimant)
        if has:
            self._of[name] = has

    def forget(self, name: str) -> None:
        """A member is gone, and with it all that was known of its addresses."""
        self.claim(name, (), 0)
        for address in [address for address, (of, _) in self._learned.items() if of == name]:
            del self._learned[address]

    def learn(self, name: str, address: bytes, now: float) -> bool:
        """A packet of a member came from there; True: that is new."""
        before = self._learned.pop(address, None)
        if before is None and len(self._learned) >= LEARNED_MOST:
            del self._learned[next(iter(self._learned))]
        self._learned[address] = (name, now)
        return before is None or before[0] != name

    def owner(self, address: bytes) -> str | None:
        """Whose it is. What is claimed goes before what was learned, but for default routes."""
        number, bits_of_all = int.from_bytes(address, "big"), len(address) * 8
        for bits in self._bits[len(address)]:
            claimants = self._claims.get((len(address), bits, number >> (bits_of_all - bits)))
            if claimants and (bits or address not in self._learned):
                return claimants[0].name
        learned = self._learned.get(address)
        return learned[0] if learned is not None else None

    def next_timeout(self) -> float | None:
        """When the next address that was learned is forgotten."""
        first = next(iter(self._learned.values()), None)
        return None if first is None else first[1] + LEARNED_S

    def handle_timeout(self, now: float) -> bool:
        """True: something was forgotten."""
        old = [address for address, (_, at) in self._learned.items() if at + LEARNED_S <= now]
        for address in old:
            del self._learned[address]
        return bool(old)

    def shared(self, name: str) -> list[tuple[bytes, str]]:
        """Addresses that a member claims for itself, and somebody else does too: with who has them, or wants them."""
        places = [place for place in self._of.get(name, ()) if place[1] == place[0] * 8]
        return [
            (prefix.to_bytes(family, "big"), other.name)
            for family, bits, prefix in places
            for other in self._claims[family, bits, prefix]
            if other.name != name
        ]

    def is_claimed(self, address: bytes) -> bool:
        """Whether somebody said to have it, other than by a default route: nothing is to be learned of it."""
        number, bits_of_all = int.from_bytes(address, "big"), len(address) * 8
        return any(
            bits and (len(address), bits, number >> (bits_of_all - bits)) in self._claims
            for bits in self._bits[len(address)]
        )

    def describe(self, name: str) -> Known:
        """What is known of a member."""
        claims = tuple(
            Claim((prefix << family * 8 - bits).to_bytes(family, "big"), bits)
            for family, bits, prefix in self._of.get(name, ())
        )
        return Known(claims, tuple(address for address, (of, _) in self._learned.items() if of == name))

    def _add(self, place: tuple[int, int, int], claimant: _Claimant) -> None:
        claimants = self._claims.setdefault(place, [])
        claimants.append(claimant)
        claimants.sort(key=lambda one: (-one.trust, one.since))
        family, bits, _ = place
        if bits not in self._bits[family]:
            self._bits[family] = sorted([*self._bits[family], bits], reverse=True)

    def _drop(self, place: tuple[int, int, int], claimant: _Claimant) -> None:
        claimants = self._claims[place]
        claimants.remove(claimant)
        if not claimants:
            del self._claims[place]
            family, bits, _ = place
            if not any(one[:2] == (family, bits) for one in self._claims):
                self._bits[family] = [other for other in self._bits[family] if other != bits]


def _place(address: bytes, bits: int) -> tuple[int, int, int]:
    return len(address), bits, int.from_bytes(address, "big") >> (len(address) * 8 - bits)

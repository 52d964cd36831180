"""What makes a router of a laboratory a NAT of a given kind: text for `nft -f -`, kernel settings, miniupnpd's file.

Names of kinds follow RFC 4787's two questions: does the outside port of an inside endpoint stay the same towards everybody
(mapping), and who may send to it (filtering). IPv6 is never translated: there every kind is a stateful firewall.

| kind | mapping | filtering |
| --- | --- | --- |
| full-cone | endpoint-independent | endpoint-independent |
| address-restricted | endpoint-independent | address-dependent |
| port-restricted | endpoint-independent | address-and-port-dependent |
| masquerade | the same, as long as no stranger was faster: his datagram, let in to the router, takes the port | the same |
| symmetric | address-and-port-dependent, ports random | address-and-port-dependent |
| symmetric-sequential | address-and-port-dependent, ports counted up | address-and-port-dependent |
| blocked | no UDP at all | no UDP at all |
| upnp | as port-restricted, with a miniupnpd (UPnP IGD, NAT-PMP, PCP) beside it | as port-restricted |
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from tumpline.errors import ConfigError

TABLE: Final = "tumpline"  # one table holds all, so that one command shows it: nft list table inet tumpline
# RFC 4787 REQ-5: a mapping MUST NOT expire in less than two minutes, five are RECOMMENDED.
MAPPING_S: Final = 300
ENTRIES_MOST: Final = 65_535  # as many as there are ports
# Where the second host goes that wants a port which another has: above what Linux gives to sockets (32768 to 60999).
SPARE_PORTS: Final = "61000-65535"
SEQUENTIAL_FIRST, SEQUENTIAL_PORTS = 41_000, 2_000
# Marks a datagram from inside to the outside address between prerouting and postrouting: there iifname is not known.
HAIRPIN_MARK: Final = 0x7470


class NatKind(Enum):
    """As a topology file writes them."""

    FULL_CONE = "full-cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    MASQUERADE = "masquerade"
    SYMMETRIC = "symmetric"
    SYMMETRIC_SEQUENTIAL = "symmetric-sequential"
    BLOCKED = "blocked"
    UPNP = "upnp"


class FirewallKind(Enum):
    """As a topology file writes them."""

    NONE = "none"
    STATEFUL = "stateful"  # lets out, and lets in what answers
    CLOSED = "closed"  # lets out, and nothing in: not even answers


class NatSpec(NamedTuple):
    """A router: interfaces as they are called inside of it, and its address outside."""

    kind: NatKind
    inside_ifs: tuple[str, ...]
    outside_if: str
    outside_address4: str
    hairpin: bool = False  # inside hosts reach each other by their outside addresses


# Kinds whose mappings are kept in tables of ours: Linux itself promises the same outside port to nobody.
_ENDPOINT_INDEPENDENT = {
    NatKind.FULL_CONE,
    NatKind.ADDRESS_RESTRICTED,
    NatKind.PORT_RESTRICTED,
    NatKind.BLOCKED,
    NatKind.UPNP,
}


def nat_rules(spec: NatSpec) -> str:
    """The whole rule set as text for `nft -f -`; it replaces the one before, if there is one.

    Raises: ConfigError (miniupnpd would refuse this outside address).
    """
    if spec.kind is NatKind.UPNP:
        _check_upnp_address(spec)
    parts = [*_tables(spec), _input(spec), _forward(spec), _prerouting(spec), _postrouting(spec), *_learn(spec)]
    if spec.kind is NatKind.UPNP:
        parts += [_chain(name, "") for name in (UPNP_FORWARD, UPNP_PREROUTING, UPNP_POSTROUTING)]
    return _table(parts)


def nat_sysctls(spec: NatSpec) -> dict[str, str]:
    """What to write to files below /proc/sys. A file that is not there belongs to a module that is not: leave it out."""
    redirects = {f"net/ipv4/conf/{name}/send_redirects": "0" for name in ("all", *spec.inside_ifs)}
    return {
        **ROUTER_SYSCTLS,
        "net/netfilter/nf_conntrack_udp_timeout": "120",  # RFC 4787 REQ-5
        "net/netfilter/nf_conntrack_udp_timeout_stream": str(MAPPING_S),
        # A hairpinned datagram leaves where it came from: no reason to tell hosts to talk directly.
        **redirects,
    }


ROUTER_SYSCTLS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # Otherwise frames that only cross a bridge are translated as well, and hairpins between its hosts fail.
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
}


def firewall_rules(kind: FirewallKind, inside_ifs: tuple[str, ...] = ()) -> str:
    """A firewall of a node, or, with inside interfaces, of a router for those behind it; "" for none. IPv4 and IPv6."""
    if kind is FirewallKind.NONE:
        return ""
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept"
    if kind is FirewallKind.CLOSED:
        return _table([_filter("input", f'iifname "lo" accept\n{neighbours}', "drop"), _filter("forward", "", "drop")])
    answers = "ct state established,related accept"
    inside = f"iifname {_names(inside_ifs)} accept\n" if inside_ifs else ""
    return _table(
        [
            _filter("input", f'iifname "lo" accept\n{inside}{answers}\n{neighbours}', "drop"),
            _filter("forward", inside + answers, "drop"),
        ]
    )


# ---- pieces of a rule set --------------------------------------------------------------------------------------------


def _tables(spec: NatSpec) -> list[str]:
    options = f"flags dynamic,timeout\ntimeout {MAPPING_S}s\nsize {ENTRIES_MOST}"
    endpoint = "ipv4_addr . inet_service"
    tables = []
    if spec.kind in _ENDPOINT_INDEPENDENT:
        tables.append(_block("map outward", f"type {endpoint} : {endpoint}\n{options}"))
        tables.append(_block("set taken", f"type inet_service\n{options}"))
    if _has_inward(spec):
        tables.append(_block("map inward", f"type inet_service : {endpoint}\n{options}"))
    if spec.kind is NatKind.ADDRESS_RESTRICTED:
        tables.append(_block("set permitted", f"type {endpoint}\n{options}"))
    return tables


def _has_inward(spec: NatSpec) -> bool:
    return spec.hairpin or spec.kind in (NatKind.FULL_CONE, NatKind.ADDRESS_RESTRICTED)


def _input(spec: NatSpec) -> str:
    # What is dropped here leaves no trace in conntrack. What is let in takes the port that it was sent to: if an inside
    # host then sends from that port to where it came from, it gets another one. That is the masquerade kind.
    if spec.kind is NatKind.MASQUERADE:
        return _filter("input", "", "accept")
    accepted = "ct state established,related accept\nmeta l4proto { icmp, ipv6-icmp } accept"
    rules = "\n".join(f'iifname "{spec.outside_if}" {rule}' for rule in (*accepted.splitlines(), "drop"))
    return _filter("input", rules, "accept")


def _forward(spec: NatSpec) -> str:
    rules = ["meta l4proto udp drop"] if spec.kind is NatKind.BLOCKED else []
    rules += ["ct state established,related accept", f"iifname {_names(spec.inside_ifs)} accept"]
    rules += ["ct status dnat accept"]  # sent to a mapping: prerouting has decided
    if spec.kind is NatKind.UPNP:
        rules += [f"jump {UPNP_FORWARD}"]
    return _filter("forward", "\n".join(rules), "drop")


def _prerouting(spec: NatSpec) -> str:
    rules = []
    to_inside = "dnat ip to udp dport map @inward"
    if spec.kind is NatKind.UPNP:
        rules.append(f"jump {UPNP_PREROUTING}")
    if spec.kind is NatKind.FULL_CONE:
        rules.append(f'iifname "{spec.outside_if}" ip daddr {spec.outside_address4} {to_inside}')
    if spec.kind is NatKind.ADDRESS_RESTRICTED:
        known = "ip saddr . udp dport @permitted"
        rules.append(f'iifname "{spec.outside_if}" ip daddr {spec.outside_address4} {known} {to_inside}')
    if spec.hairpin:
        hairpin = f"iifname {_names(spec.inside_ifs)} ip daddr {spec.outside_address4}"
        rules.append(f"{hairpin} meta mark set {HAIRPIN_MARK:#x} {to_inside}")
    return _chain("prerouting", "type nat hook prerouting priority dstnat; policy accept;\n" + "\n".join(rules))


def _postrouting(spec: NatSpec) -> str:
    rules = [f"jump {UPNP_POSTROUTING}"] if spec.kind is NatKind.UPNP else []
    outside = f'oifname "{spec.outside_if}" meta nfproto ipv4'
    if spec.kind in _ENDPOINT_INDEPENDENT:
        kept = "meta l4proto udp snat ip to ip saddr . udp sport map @outward"
        spare = f"udp sport @taken snat ip to {spec.outside_address4}:{SPARE_PORTS} fully-random"
        leaving = [outside, *([f"meta mark {HAIRPIN_MARK:#x}"] if spec.hairpin else [])]
        rules += [f"{where} {rule}" for where in leaving for rule in (kept, spare)]
    if spec.hairpin:
        # RFC 4787 REQ-9: the other host sees the outside address, never the inside one.
        rules.append(f"meta mark {HAIRPIN_MARK:#x} snat ip to {spec.outside_address4}")
    fresh = _fresh_port(spec)
    rules += [f"{outside} {fresh}"] if fresh else []
    rules.append(f"{outside} masquerade")  # keeps the port if nobody has it
    return _chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;\n" + "\n".join(rules))


def _fresh_port(spec: NatSpec) -> str:
    """How a new mapping gets another port than its own; "" if it keeps it."""
    if spec.kind is NatKind.SYMMETRIC:
        return "masquerade fully-random"
    if spec.kind is NatKind.SYMMETRIC_SEQUENTIAL:
        ports = ", ".join(f"{index} : {SEQUENTIAL_FIRST + index}" for index in range(SEQUENTIAL_PORTS))
        counted = f"numgen inc mod {SEQUENTIAL_PORTS} map {{ {ports} }}"
        return f"meta l4proto {{ tcp, udp }} snat ip to {spec.outside_address4} : {counted}"
    return ""


def _learn(spec: NatSpec) -> list[str]:
    """Behind source NAT, where both the inside endpoint and the outside port are known, they are written down."""
    # Only what was translated: the router's own datagrams have its address all along.
    address = spec.outside_address4
    translated = f"meta l4proto udp ip saddr {address} ct direction original ct original ip saddr != {address}"
    inside, outside = "ct original ip saddr . ct original proto-src", "ip saddr . udp sport"
    rules = []
    if spec.kind in _ENDPOINT_INDEPENDENT:
        rules += [f"update @outward {{ {inside} : {outside} }}", "update @taken { udp sport }"]
    if _has_inward(spec):
        rules += [f"update @inward {{ udp sport : {inside} }}"]
    if spec.kind is NatKind.ADDRESS_RESTRICTED:
        rules += ["update @permitted { ip daddr . udp sport }"]
    if not rules:
        return []
    hook = "type filter hook postrouting priority srcnat + 10; policy accept;\n"
    return [_chain("learn", hook + "\n".join(f"{translated} {rule}" for rule in rules))]


def _names(interfaces: tuple[str, ...]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in interfaces) + " }"


def _filter(hook: str, rules: str, policy: str) -> str:
    return _chain(hook, f"type filter hook {hook} priority filter; policy {policy};\n{rules}")


def _chain(name: str, lines: str) -> str:
    return _block(f"chain {name}", lines)


def _block(head: str, lines: str) -> str:
    return "\n".join([f"{head} {{", *(f"  {line}" for line in lines.splitlines() if line), "}"])


def _table(parts: list[str]) -> str:
    # The first two lines make it replace what was there: "delete" alone fails where there was nothing.
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n{_block(f'table inet {TABLE}', chr(10).join(parts))}\n"


# ---- miniupnpd -------------------------------------------------------------------------------------------------------

UPNP_TOOLS: Final = {"miniupnpd": "miniupnpd-nftables"}  # program -> Debian package
UPNP_FORWARD: Final = "upnp_forward"
UPNP_PREROUTING: Final = "upnp_prerouting"
UPNP_POSTROUTING: Final = "upnp_postrouting"


def upnp_config(spec: NatSpec, lease_file: str) -> str:
    """The configuration file of Debian's miniupnpd-nftables (2.3.1), which fills the three chains of `nat_rules`."""
    settings = {
        "ext_ifname": spec.outside_if,
        "enable_natpmp": "yes",
        "enable_upnp": "yes",
        "secure_mode": "no",
        "lease_file": lease_file,
        "upnp_table_name": TABLE,
        "upnp_nat_table_name": TABLE,
        "upnp_forward_chain": UPNP_FORWARD,
        "upnp_nat_chain": UPNP_PREROUTING,
        "upnp_nat_postrouting_chain": UPNP_POSTROUTING,
        "uuid": "00000000-0000-4000-8000-000000000001",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [f"listening_ip={name}" for name in spec.inside_ifs]
    return "\n".join([*lines, "allow 1024-65535 0.0.0.0/0 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535", ""])


def upnp_argv(config_file: str, pid_file: str) -> list[str]:
    """Starts miniupnpd in the foreground; it logs to stderr. A multicast route to each inside interface must be there."""
    return ["miniupnpd", "-d", "-f", config_file, "-P", pid_file]


def _check_upnp_address(spec: NatSpec) -> None:
    if not IPv4Address(spec.outside_address4).is_global:
        raise ConfigError(
            f"the upnp router's outside address {spec.outside_address4} is a private or reserved one: miniupnpd forwards no "
            "ports for such; give that net a subnet4 that looks public, such as 11.22.33.0/24"
        )

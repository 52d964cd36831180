"""Options of `tumpline tunnel connect`, in the groups in which its help shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from tumpline.ui.cli.common import Flag

Repeated = Annotated[tuple[str, ...], Parameter(negative=())]


@Parameter(name="*", group=Group("Session", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """Which session, and how its members are heard."""

    # The older agents' variables are read, too.
    url: Annotated[str, Parameter(env_var="AMQP_URL")] = "amqp://guest:guest@localhost/"
    "The broker and, as its path, the session: amqp://USER:PASSWORD@HOST/SESSION, or amqps:// (TLS)."
    exchange: Annotated[str, Parameter(env_var="AMQP_EXCHANGE")] = "amq.topic"
    "The topic exchange of the session."
    format: Literal["auto", "binary", "v1", "v0"] = "auto"
    "How packets are written: auto is binary where the other side has it, else as older agents of generation v1, v0."
    via: Literal["auto", "direct", "router"] = "auto"
    "Which way binary packets go: auto and direct go without a router."
    key: Path | None = None
    "A file with the session's key (32 octets; raw, hexadecimal, Base64) or passphrase: the broker reads no packet then."
    identity: Path | None = None
    "A file with this agent's own key, made if it is not there (default: a new key for each start)."
    peer: Repeated = ()
    "NAME=KEY: NAME is only who has this public key; may be given several times."
    ca: Path | None = None
    "Who signs the broker's certificate (PEM), in place of the system's authorities."


@Parameter(name="*", group=Group("This machine in the overlay", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """The network interface and its addresses."""

    address: Repeated = ()
    "bbbb::1/64 or 10.2.0.1/24; may be given several times (default: an address that follows from the name)."
    ipv6_prefix: str | None = None
    "First half of an IPv6 address, as older agents take it: bbbb."
    ipv6_host: str | None = None
    "Its second half: 1."
    ipv4_address: str | None = None
    "As --address."
    interface: str = ""
    "Name of the network interface (default: the first free tumpline0, tumpline1, ...)."
    device: str | None = None
    "A TUN device that is there already, by its name: no root is needed if it is yours."
    mtu: int | None = None
    "Longest packet, in octets."
    force_bootstrap: Annotated[bool, Parameter(negative="--wait-for-bootstrap")] = True
    "Open the interface at once, or wait until a coordinator says tun.start."
    re_route_packets_if: str | None = None
    "What is tested lies behind this further interface."
    re_route_packets_prefix: str | None = None
    "Its IPv6 prefix there."
    re_route_packets_host: str | None = None
    "Its host part there; both are told to the coordinator."


@Parameter(name="*", group=Group("Radio probe", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class RadioOptions:
    """IEEE 802.15.4 frames of a probe in place of IP packets."""

    serial: Flag = False
    "Carry the frames of a radio probe in place of IP packets."
    serial_port: Annotated[str | None, Parameter(env_var="FINTEROP_CONNECTOR_SERIAL_PORT")] = None
    "Where the probe is: /dev/ttyUSB0, or better a name that stays: /dev/serial/by-id/... It may be unplugged."
    baudrate: Annotated[int | None, Parameter(env_var="FINTEROP_CONNECTOR_BAUDRATE")] = None
    "Its speed (default: 115200)."
    dialect: Literal["slip", "slip-radio", "sensniff"] | None = None
    "What it speaks: frames between ENDs of SLIP (default), Contiki-NG's slip-radio, or sensniff (it listens only)."
    passive: Flag = False
    "It listens only: nothing is sent to it, and acknowledgements are heard, too."
    trailer: Literal["none", "fcs", "metadata"] | None = None
    "What stands behind its frames: nothing, the FCS, or RSSI and LQI of TI's radios (default: as the dialect has it)."
    channel: int | None = None
    "Tune it to this channel, where the dialect can; captures name it."
    pan_id: str | None = None
    "Let it filter by this PAN, where the dialect can: abcd."
    short_address: str | None = None
    "Let it stand and acknowledge for the device that has this address, where the dialect can: 0001."
    flow_control: Flag = False
    "By RTS and CTS."


@Parameter(name="*", group=Group("Capture", sort_key=4))
@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """Packets and frames for Wireshark."""

    dump: Path | None = None
    "Write every packet into this pcapng file, or into a pipe (mkfifo) that Wireshark reads."
    dump_size: str = "100 MiB"
    "A file that is longer gets a number, and another is begun."
    dump_files: int = 10
    "How many of these are kept."
    dump_by_version: Flag = False
    "IPv4 and IPv6 as link types of their own (228, 229), not both as raw IP (101)."


SESSION, PLACE, RADIO, CAPTURE = SessionOptions(), PlaceOptions(), RadioOptions(), CaptureOptions()

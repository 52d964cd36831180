"""What the older agent's convergence layers are as links of this node: plain tables, as `[[links]]` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tumpline.drivers.links._tcpcl4_config import Tcpcl4Config
from tumpline.drivers.links._udpcl_config import UdpclConfig
from tumpline.node.config.checker import Checker
from tumpline.node.config.older.sections import Connect, Listen, TcpclSection, UdpclSection, endpoint
from tumpline.node.config.problems import Problems


def tcpcl4_config(section: TcpclSection) -> Tcpcl4Config:
    """The link's own configuration. Raises: ConfigError."""
    problems = Problems("tcpcl")
    made = Checker(problems, Path.cwd()).struct(tcpcl4_table(section), Tcpcl4Config, ())
    problems.raise_if_any()
    assert isinstance(made, Tcpcl4Config)
    return made


def tcpcl4_table(section: TcpclSection) -> dict[str, Any]:
    """The keys of `Tcpcl4Config`."""
    idle_s = 2 * section.keepalive_time if section.idle_time is None else section.idle_time
    return {
        "listen": _listen(section.init_listen),
        "connect": [address_of(each) for each in section.init_connect],
        "keepalive_s": section.keepalive_time,
        "idle_s": idle_s,
        "segment_mru": section.segment_size_mru,
        "test_extensions": "private" if section.enable_test else "",
        **_segments(section),
        "tls": _tls(section),
    }


def udpcl_config(section: UdpclSection) -> UdpclConfig:
    """The endpoint's own configuration; whom to poll is the agent's. Raises: ConfigError."""
    problems = Problems("udpcl")
    table = {key: value for key, value in udpcl_table(section).items() if key not in ("connect", "listen_s")}
    made = Checker(problems, Path.cwd()).struct(table, UdpclConfig, ())
    problems.raise_if_any()
    assert isinstance(made, UdpclConfig)
    return made


def udpcl_table(section: UdpclSection) -> dict[str, Any]:
    """The keys of `UdpclConfig`."""
    sizes = {} if section.mtu_default is None else _datagrams(section.mtu_default)
    return {
        "listen": _listen(section.init_listen),
        "connect": [address_of(each) for each in section.polling],
        "listen_s": min((each.interval_ms for each in section.polling), default=0) / 1000,
        "trust_node_ids": not _secured(section),  # as sessions without TLS are
        "ecn": section.ecn_init,
        "ecn_feedback": section.ecn_feedback,
        "tls": _dtls(section),
        "ecn_feedback_min_ms": section.ecn_feedback_min,
        "ecn_feedback_max_ms": section.ecn_feedback_max,
        "multicast": {"groups": _groups(section), "ttl": section.multicast.ttl},
        **sizes,
    }


def _datagrams(octets: int) -> dict[str, int]:
    """What was written is what is sent: nothing longer, and that without looking for it first."""
    return {"datagram_octets": octets, "datagram_octets_most": octets}


def _groups(section: UdpclSection) -> list[str]:
    members = [member for each in section.init_listen for member in each.multicast_member]
    return [each.addr if each.iface is None else f"{each.addr}%{each.iface}" for each in members]


def _secured(section: UdpclSection) -> bool:
    return bool(section.dtls_cert_file) and (section.dtls_enable_tx or bool(section.require_tls))


def address_of(where: Listen | Connect) -> str:
    """As links write it."""
    return endpoint(where.address or "::", where.port)


def _listen(entries: Sequence[Listen]) -> list[str]:
    """`::` is every address of both IP versions here; there, `0.0.0.0` beside it was needed for the other."""
    everywhere = {each.port for each in entries if each.address in ("", "::")}
    return [address_of(each) for each in entries if each.address != "0.0.0.0" or each.port not in everywhere]


def _segments(section: TcpclSection) -> dict[str, Any]:
    """Without either key our own sizes, which follow the acknowledgements; a size alone stays as it is."""
    first, target_s = section.segment_size_tx_initial, section.modulate_target_ack_time
    if first is None and target_s is None:
        return {}
    sizes = {} if first is None else {"segment_first_octets": first}
    return {**sizes, "segment_ack_s": 0.0 if target_s is None else target_s}


def _tls(section: TcpclSection) -> dict[str, Any]:
    """TLS without a certificate was an offer that nobody could take: it is not made."""
    if not section.tls_enable or section.require_tls is False or not section.tls_cert_file:
        return {"mode": "off"}
    files = {"ca": section.tls_ca_file, "cert": section.tls_cert_file, "key": section.tls_key_file}
    return {
        "mode": "required" if section.require_tls else "optional",
        "authenticate": _authenticate(section),
        "allow_uri_san": True,  # its certificates named nodes so
        "min_version": section.tls_version or "1.2",
        "ciphers": section.tls_ciphers or "",
        **_paths(files),
    }


def _dtls(section: UdpclSection) -> dict[str, Any]:
    """There, DTLS was never spoken; here it is where there is a certificate, and plainly with who knows none."""
    if not _secured(section):
        return {"mode": "off"}
    files = {"ca": section.dtls_ca_file, "cert": section.dtls_cert_file, "key": section.dtls_key_file}
    return {
        "mode": "required" if section.require_tls else "optional",
        "authenticate": "check" if section.dtls_ca_file else "none",
        "allow_uri_san": True,
        "min_version": section.dtls_version or "1.2",
        "ciphers": section.dtls_ciphers or "",
        **_paths(files),
    }


def _paths(files: Mapping[str, str | None]) -> dict[str, str]:
    """Relative ones start from the working directory, as they did."""
    return {key: str(Path.cwd() / Path(each).expanduser()) for key, each in files.items() if each}


def _authenticate(section: TcpclSection) -> str:
    demanded = {
        (True, True): "both",
        (False, True): "node",
        (True, False): "host",
        (False, False): "check" if section.tls_ca_file else "none",
    }
    return demanded[section.require_host_authn, section.require_node_authn]

"""From the older agent's YAML to its sections, or to all mistakes in it with their lines.

There, unknown keys and wrong entries were passed over; here they are mistakes, and what is taken otherwise than it was
written is remarked.
"""

from __future__ import annotations

import ssl
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypeVar

from tumpline.errors import ConfigError
from tumpline.node.config.checker import Checker
from tumpline.node.config.older.absent import refuse_absent
from tumpline.node.config.older.earlier import from_earlier
from tumpline.node.config.older.sections import SECTIONS, BpSection, TcpclSection, UdpclSection
from tumpline.node.config.problems import Path, Problems
from tumpline.node.config.yaml import parse
from tumpline.node.keys import examine
from tumpline.node.registry import did_you_mean

MAX_OCTETS = 4 << 20  # what is larger was not written by people
_NULL_SAYS = frozenset({"idle_time"})  # keys whose null is not "as if it were not there"
_EXTREMES = {"ecn_feedback_min": "soonest", "ecn_feedback_max": "latest"}
# Keys of a route that nothing follows from: the older agent never read `mtu`.
_FROM_WHERE = "bundles leave from where the agent listens"
_NOT_OF_ROUTES = {
    "mtu": "sessions tell what they can take, and the path MTU is found out",
    "local_if": _FROM_WHERE,
    "local_address": _FROM_WHERE,
    "local_port": _FROM_WHERE,
}
_FORBIDDEN = ("1.0", "1.1")  # RFC 8996: TLS 1.0 and 1.1, and DTLS 1.0, MUST NOT be used

Typed = TypeVar("Typed", TcpclSection, UdpclSection)


class OlderConfiguration(NamedTuple):
    """A file without mistakes. A section that the file does not have is None."""

    path: FilePath
    tcpcl: TcpclSection | None
    udpcl: UdpclSection | None
    bp: BpSection | None
    remarks: list[str]  # what is taken otherwise than it is written: `file:line: key: sentence`
    lines: dict[Path, int]  # where keys stand


def load_older(path: FilePath) -> OlderConfiguration:
    """The file's sections. Raises: ConfigError with every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; name the YAML file of the agents") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); name the YAML file of the agents") from error
    if len(text) > MAX_OCTETS:
        raise ConfigError(f"{path} is larger than {MAX_OCTETS >> 20} MiB; name a configuration file")
    problems = Problems(str(path))
    data = parse(text, problems)
    problems.raise_if_any()
    remarks = Problems(str(path), problems.lines)
    sections = _Reader(problems, remarks).read(data)
    problems.raise_if_any()
    own = {name: sections.get(name) for name in ("tcpcl", "udpcl", "bp")}
    return OlderConfiguration(path, **own, remarks=remarks.sentences(), lines=problems.lines)


class _Reader:
    def __init__(self, problems: Problems, remarks: Problems) -> None:
        self._problems = problems
        self._remarks = remarks

    def read(self, data: Any) -> dict[str, Any]:
        """Each section as far as it is right, so that what only its keys together show is told in the same run."""
        if not isinstance(data, dict):
            self._problems.add((), f"this is no table; write sections: {', '.join(SECTIONS)}")
            return {}
        data = self._usual_forms(without_nulls(data))
        if isinstance(data.get("bp"), dict):
            data["bp"] = from_earlier(data["bp"], self._remarks)
        for name in data.keys() - SECTIONS.keys():
            self._problems.add((name,), f"there is no such section; {did_you_mean(name, SECTIONS)}")
        sections = {name: self._section(data[name], kind, name) for name, kind in SECTIONS.items() if name in data}
        refuse_absent(data, self._problems)
        if (tcpcl := sections.get("tcpcl")) is not None:
            self._tls(tcpcl)
        if (udpcl := sections.get("udpcl")) is not None:
            self._dtls(udpcl)
        if (bp := sections.get("bp")) is not None:
            self._bp(bp, data["bp"])
        return sections

    def _usual_forms(self, data: dict[str, Any]) -> dict[str, Any]:
        """Forms that circulate and mean only one thing."""
        for name, section in data.items():
            if section is None:
                data[name] = {}
            for key in ("init_listen", "init_connect", "polling"):
                if isinstance(section, dict) and isinstance(section.get(key), dict):
                    section[key] = [section[key]]
                    self._remarks.add(
                        (name, key), "this must be a list, and is taken as a list of one; write - before it"
                    )
            for key in ("tls_version", "dtls_version"):
                if isinstance(section, dict) and isinstance(section.get(key), float):
                    section[key] = str(section[key])
        return data

    def _section(self, value: Any, kind: type[Any], name: str) -> Any:
        """All mistakes of its shape are told; what is right makes the section."""
        Checker(self._problems, FilePath.cwd(), assign=": ").struct(value, kind, (name,))
        right = (
            {key: value[key] for key in value if _is_right(key, value[key], kind)} if isinstance(value, dict) else {}
        )
        return Checker(Problems(""), FilePath.cwd()).struct(right, kind, (name,))

    # ---- what several keys together show ----------------------------------------------------------------------------

    def _tls(self, section: TcpclSection) -> None:
        self._version(("tcpcl", "tls_version"), section.tls_version)
        if section.tls_dhparam is not None:
            words = "passed over: keys are agreed on elliptic curves, which need no parameters; remove it"
            self._remarks.add(("tcpcl", "tls_dhparam"), words)
        if not section.tls_enable:
            if section.require_tls:
                self._problems.add(
                    ("tcpcl", "require_tls"), "tls_enable is false, so there can be no TLS; write tls_enable: true"
                )
            return
        self._ciphers(("tcpcl", "tls_ciphers"), section.tls_ciphers)
        self._certificates("tcpcl", "tls", section)
        asks = next((key for key in ("require_host_authn", "require_node_authn") if getattr(section, key)), None)
        if asks is not None and not section.tls_ca_file:
            self._problems.add(
                ("tcpcl", asks), "no certificate can be checked; name a CA's PEM file: tls_ca_file: ca.pem"
            )

    def _dtls(self, section: UdpclSection) -> None:
        self._version(("udpcl", "dtls_version"), section.dtls_version)
        for key, usual in (("ecn_feedback_min", 20), ("ecn_feedback_max", 1000)):
            if getattr(section, key) != usual:
                self._remarks.add(
                    ("udpcl", key), f"passed over: counts are told every {usual} ms at the {_EXTREMES[key]}; remove it"
                )
        if not section.dtls_enable_tx and not section.require_tls:
            return
        self._ciphers(("udpcl", "dtls_ciphers"), section.dtls_ciphers)
        self._certificates("udpcl", "dtls", section)

    def _certificates(self, name: str, prefix: str, section: TcpclSection | UdpclSection) -> None:
        files = {kind: getattr(section, f"{prefix}_{kind}_file") for kind in ("cert", "key", "ca")}
        cert, key, ca = (FilePath.cwd() / FilePath(each).expanduser() if each else None for each in files.values())
        if cert is None and key is None:
            if section.require_tls:
                self._problems.add(
                    (name, "require_tls"),
                    f"there is no {prefix}_cert_file, and so no TLS; name it and {prefix}_key_file",
                )
            elif files["ca"]:
                self._remarks.add(
                    (name, f"{prefix}_ca_file"),
                    f"not used: there is no {prefix}_cert_file, and so no TLS; name it and {prefix}_key_file",
                )
            return
        for missing, other in (("cert", "key"), ("key", "cert")):
            if not files[missing]:
                self._problems.add(
                    (name, f"{prefix}_{other}_file"), f"{prefix}_{missing}_file is missing; name both or neither"
                )
        for mistake in examine(cert, key, ca)[1]:
            self._problems.add((name, f"{prefix}_{mistake.field}_file"), mistake.sentence)
        if ca is None:
            words = "without a CA no peer's certificate is checked: whom a session is with is not known"
            self._remarks.add((name, f"{prefix}_cert_file"), f"{words}; name a PEM file: {prefix}_ca_file: ca.pem")

    def _version(self, path: Path, version: str | None) -> None:
        if version in _FORBIDDEN:
            self._problems.add(path, f"{version} must not be used any more (RFC 8996); write '1.2', '1.3' or null")

    def _ciphers(self, path: Path, ciphers: str | None) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(ciphers or "DEFAULT")
        except ssl.SSLError:
            self._problems.add(
                path, f"{ciphers!r} names no cipher that OpenSSL has; see openssl ciphers -v '{ciphers}'"
            )

    def _bp(self, section: BpSection, raw: Any) -> None:
        if isinstance(raw, dict) and "node_id" not in raw:
            self._problems.add(("bp",), "node_id is missing; write node_id: dtn://node/")
        for kind in section.cl_attach.keys() - SECTIONS.keys() | section.cl_attach.keys() & {"bp"}:
            self._problems.add(("bp", "cl_attach", kind), "there is no such convergence layer; write tcpcl or udpcl")
        for index, route in enumerate(section.tx_route_table):
            path: Path = ("bp", "tx_route_table", index)
            if route.next_nodeid and section.node_id is not None and route.next_nodeid == str(section.node_id):
                self._problems.add((*path, "next_nodeid"), "this is the node itself; name a neighbour")
            if route.cl_type == "udpcl" and route.address is None:
                self._problems.add(
                    path, "address is missing: UDPCL learns no address by itself; write address: 192.0.2.7"
                )
            for key, why in _NOT_OF_ROUTES.items():
                if getattr(route, key) is not None:
                    self._remarks.add((*path, key), f"passed over: {why}; remove it")


def _is_right(key: str, value: Any, kind: type[Any]) -> bool:
    found = Problems("")
    Checker(found, FilePath.cwd()).struct({key: value}, kind, ())
    return not len(found)


def without_nulls(value: Any) -> Any:
    """A key without a value says nothing, but for the few whose null means something. Sections stay."""
    return {name: _kept(section) if section is not None else None for name, section in value.items()}


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items() if item is not None or key in _NULL_SAYS}
    return [_kept(item) for item in value] if isinstance(value, list) else value

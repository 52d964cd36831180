"""`tumpline cert`: a private CA and certificates that name node IDs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tumpline.drivers.x509 import peer_certificate
from tumpline.errors import ConfigError, MalformedError
from tumpline.node.authority import CERT_DAYS, Authority, Issued
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output, pairs
from tumpline.wire.eid import Eid

_HERE = Path("certs")


def quick(
    *nodes: str, directory: Path = _HERE, days: int = CERT_DAYS, force: Flag = False, common: Common = DEFAULT
) -> int:
    """Everything for mutual TLS: a CA (the one in the directory, if there is one) and a certificate for each node.

    Parameters
    ----------
    nodes
        Names (ground stands for dtn://ground/) or node IDs.
    directory
        Where the files go.
    days
        How long the certificates are good.
    force
        Replace certificates of these nodes that are there.
    """
    if not nodes:
        raise ConfigError("which nodes? For example: tumpline cert quick ground relay rover")
    node_ids = [node_id(node) for node in nodes]
    authority = Authority.open(directory) if Authority.exists(directory) else Authority.create(directory)
    issued = [authority.issue([eid], days=days, force=force) for eid in node_ids]
    lines = [config_line(authority.cert, each) for each in issued]
    shown = [line for eid, line in zip(node_ids, lines, strict=True) for line in (f"# below [[links]] of {eid}", line)]
    value = {
        "ca": str(authority.cert),
        "certificates": [
            {"node_id": str(eid), "cert": str(each.cert), "key": str(each.key), "config": line}
            for eid, each, line in zip(node_ids, issued, lines, strict=True)
        ],
    }
    output = Output(common)
    output.note(f"{directory}/ holds the CA and {len(issued)} certificates; keep {directory}/ca.key off the nodes")
    output.result(value, shown)
    return 0


def node_id(text: str) -> Eid:
    """A node ID, or the name in one. Raises: MalformedError that says what to write."""
    eid = Eid.parse(text if ":" in text else f"dtn://{text}/")
    if eid.is_null or not eid.is_administrative:
        raise MalformedError(f"{text} is no node ID: write a name, dtn://NAME/ or ipn:NUMBER.0")
    return eid


def config_line(ca: Path, issued: Issued) -> str:
    """What to paste below [[links]]."""
    files = f'ca = "{ca.absolute()}", cert = "{issued.cert.absolute()}", key = "{issued.key.absolute()}"'
    return f'tls = {{ mode = "required", {files}, authenticate = "node" }}'


def init(directory: Path = _HERE, /, *, name: str = "tumpline private CA", common: Common = DEFAULT) -> int:
    """Make a private CA: ca.pem for every node, ca.key for nobody else.

    Parameters
    ----------
    directory
        Where its two files go.
    name
        What its certificate calls it.
    """
    authority = Authority.create(directory, name)
    value = {"ca": str(authority.cert), "key": str(directory / "ca.key")}
    Output(common).result(value, f"{authority.cert} is the CA; `tumpline cert issue NODE --directory {directory}` uses it")
    return 0


def issue(
    *nodes: str,
    directory: Path = _HERE,
    host: list[str] | None = None,
    days: int = CERT_DAYS,
    file: str | None = None,
    force: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Issue one certificate, for all the node IDs that one node has.

    Parameters
    ----------
    nodes
        Its node IDs, the primary one first (a name stands for dtn://NAME/).
    directory
        Where the CA is; the certificate goes there too.
    host
        A host name or address that it proves as well; may be given several times.
    days
        How long it is good.
    file
        What to call its files (default: as the node).
    force
        Replace it if it is there.
    """
    if not nodes:
        raise ConfigError("for which node? For example: tumpline cert issue dtn://ground/")
    authority = Authority.open(directory)
    issued = authority.issue([node_id(node) for node in nodes], host or (), days, file, force)
    line = config_line(authority.cert, issued)
    value = {"ca": str(authority.cert), "cert": str(issued.cert), "key": str(issued.key), "config": line}
    Output(common).result(value, [f"# below [[links]] of {node_id(nodes[0])}", line])
    return 0


def show(file: Path, /, *, common: Common = DEFAULT) -> int:
    """Show what a certificate says. Exits 1 if it is not valid now.

    Parameters
    ----------
    file
        PEM file.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except ValueError:
        raise ConfigError(f"{file} holds no certificate in PEM form") from None
    value = _described(certificate)
    shown = {key: ", ".join(item) if isinstance(item, list) else item for key, item in value.items()}
    Output(common).result(value, pairs(shown))
    return 0 if value["valid_now"] else 1


def _described(certificate: x509.Certificate) -> dict[str, Any]:
    names = peer_certificate(certificate.public_bytes(Encoding.DER))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return {
        "node_ids": list(names.node_ids),
        "hosts": [*names.dns_names, *names.ip_addresses],
        "subject": certificate.subject.rfc4514_string() or None,
        "issuer": certificate.issuer.rfc4514_string() or None,
        "not_before": begin.isoformat(),
        "not_after": end.isoformat(),
        "valid_now": begin <= datetime.now(UTC) <= end,
        "is_ca": _is_ca(certificate),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False

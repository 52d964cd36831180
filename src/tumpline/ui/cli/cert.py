"""`tumpline cert`: a private CA and certificates that name node IDs."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from tumpline.errors import ConfigError
from tumpline.node import ca
from tumpline.ui.cli.common import DEFAULT, Common, Flag
from tumpline.ui.cli.output import Output, pairs

_HERE = Path("certs")


def quick(
    *nodes: str, directory: Path = _HERE, days: int = ca.NODE_DAYS, force: Flag = False, common: Common = DEFAULT
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
    for eid in node_ids:
        ca.checked_names(ca.Names([eid]))  # all of them before the first file is written
    authority = directory / ca.CA_CERT
    if not authority.exists():
        ca.init_ca(directory)
    issued = [ca.issue(directory, [eid], days=days, overwrite=force) for eid in node_ids]
    lines = [config_line(authority, each) for each in issued]
    certificates = [
        {"node_id": eid, "cert": str(each.cert), "key": str(each.key), "config": line}
        for eid, each, line in zip(node_ids, issued, lines, strict=True)
    ]
    output = Output(common)
    output.note(f"{directory} holds the CA and {len(issued)} certificates; keep {directory / ca.CA_KEY} off the nodes")
    shown = [line for each in certificates for line in (f"# below [[links]] of {each['node_id']}", each["config"])]
    output.result({"ca": str(authority), "certificates": certificates}, shown)
    return 0


def node_id(text: str) -> str:
    """A node ID; a bare name stands for a dtn one."""
    return text if ":" in text else f"dtn://{text}/"


def config_line(authority: Path, issued: ca.Issued) -> str:
    """What to paste below [[links]]."""
    files = f'ca = "{authority.absolute()}", cert = "{issued.cert.absolute()}"'
    if issued.key is not None:
        files += f', key = "{issued.key.absolute()}"'
    return f'tls = {{ mode = "required", {files}, authenticate = "node" }}'


def init(directory: Path = _HERE, /, *, name: str = "tumpline CA", common: Common = DEFAULT) -> int:
    """Make a private CA: ca.pem for every node, ca.key for nobody else.

    Parameters
    ----------
    directory
        Where its two files go.
    name
        What its certificate calls it.
    """
    made = ca.init_ca(directory, name)
    value = {"ca": str(made), "key": str(directory / ca.CA_KEY)}
    Output(common).result(value, f"{made} is the CA; next: tumpline cert issue NODE --directory {directory}")
    return 0


def issue(
    *nodes: str,
    directory: Path = _HERE,
    host: list[str] | None = None,
    days: int = ca.NODE_DAYS,
    name: str | None = None,
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
    name
        What to call its files (default: as the node).
    force
        Replace it if it is there.
    """
    names = _names(nodes, host)
    made = ca.issue(directory, *names, name=name, days=days, overwrite=force)
    line = config_line(directory / ca.CA_CERT, made)
    value = {"ca": str(directory / ca.CA_CERT), "cert": str(made.cert), "key": str(made.key), "config": line}
    Output(common).result(value, [f"# below [[links]] of {names.node_ids[0]}", line])
    return 0


def request(
    *nodes: str,
    directory: Path = _HERE,
    host: list[str] | None = None,
    name: str | None = None,
    force: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Make a key on the node itself, and a signing request to carry to the CA: the key never travels.

    Parameters
    ----------
    nodes
        Its node IDs, the primary one first (a name stands for dtn://NAME/).
    directory
        Where the files go.
    host
        A host name or address to prove as well; may be given several times.
    name
        What to call the files (default: as the node).
    force
        Replace them if they are there.
    """
    made = ca.request(directory, *_names(nodes, host), name=name, overwrite=force)
    value = {"request": str(made.cert), "key": str(made.key)}
    Output(common).result(value, f"{made.cert} is the request; where the CA is: tumpline cert sign {made.cert.name}")
    return 0


def sign(
    file: Path,
    /,
    *,
    directory: Path = _HERE,
    days: int = ca.NODE_DAYS,
    force: Flag = False,
    common: Common = DEFAULT,
) -> int:
    """Sign a request, for the names it asks for. Look at them first: `tumpline cert show FILE`.

    Parameters
    ----------
    file
        The request; the certificate is written beside it.
    directory
        Where the CA is.
    days
        How long it is good.
    force
        Replace a certificate that is there.
    """
    made = ca.sign(directory, file, days=days, overwrite=force)
    Output(common).result({"cert": str(made.cert)}, f"{made.cert} is the certificate")
    return 0


def renew(
    file: Path,
    /,
    *,
    directory: Path = _HERE,
    days: int = ca.NODE_DAYS,
    key: Path | None = None,
    common: Common = DEFAULT,
) -> int:
    """Issue a certificate anew, in its place, for the same names. Sessions go on with the old one.

    Parameters
    ----------
    file
        The certificate.
    directory
        Where the CA is.
    days
        How long it is good from now.
    key
        Make a new key too, in this file.
    """
    made = ca.renew(directory, file, days=days, key=key)
    value = {"cert": str(made.cert), "key": str(made.key) if made.key else None}
    Output(common).result(value, f"{made.cert} is good for {days} days")
    return 0


def show(file: Path, /, *, common: Common = DEFAULT) -> int:
    """Show what a certificate or a signing request says. Exits 1 if a certificate is not valid now.

    Parameters
    ----------
    file
        PEM file.
    """
    value = ca.inspect(file)
    shown = {key: ", ".join(item) or None if isinstance(item, list) else item for key, item in value.items()}
    Output(common).result(value, pairs(shown))
    return 0 if value.get("valid", True) else 1


def _names(nodes: tuple[str, ...], hosts: list[str] | None) -> ca.Names:
    if not nodes:
        raise ConfigError("for which node? For example: dtn://ground/, or just ground")
    ips = [host for host in hosts or () if _is_ip(host)]
    return ca.Names([node_id(node) for node in nodes], [host for host in hosts or () if host not in ips], ips)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

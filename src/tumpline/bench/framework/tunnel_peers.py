"""Other tunnels over the same veths, as their manuals set them up: openvpn and tinc, each between the two sites."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tumpline.bench.framework.certificates import Certificates
from tumpline.bench.framework.tunnel_net import SITES, TunnelNet
from tumpline.errors import TumplineError
from tumpline.lab.holder import environment

OPENVPN_NET, TINC_NET = "10.3.0", "10.4.0"
_NUMBER: Final = {site: number for number, site in enumerate(SITES, 1)}
_KEY_BITS: Final = 2048  # tinc's own default


def start_openvpn(net: TunnelNet) -> str:
    """TLS between two ends, AES-256-GCM, UDP. Returns: the address of site b."""
    program = _program("openvpn")
    certificates = Certificates.make(net.directory / "openvpn", tuple(SITES))
    here, there = SITES
    for site, far, role in ((here, there, ["--tls-client"]), (there, here, ["--tls-server", "--dh", "none"])):
        cert, key = certificates.issued[site]
        ends = ["--ifconfig", f"{OPENVPN_NET}.{_NUMBER[site]}", f"{OPENVPN_NET}.{_NUMBER[far]}"]
        files = ["--ca", str(certificates.authority), "--cert", str(cert), "--key", str(key)]
        remote = ["--remote", f"{SITES[far]}.2", "--proto", "udp"]
        cipher = ["--data-ciphers", "AES-256-GCM"]
        command = [program, "--dev", "ovpn0", "--dev-type", "tun", *ends, *remote, *role, *files, *cipher]
        net.start(site, command, net.directory / f"openvpn-{site}.log")
    return f"{OPENVPN_NET}.{_NUMBER[there]}"


def start_tinc(net: TunnelNet) -> str:
    """Two hosts that know each other's keys; ciphers as they come. Returns: the address of site b."""
    program = _program("tincd", "tinc")
    keys = {site: generate_private_key(65537, _KEY_BITS) for site in SITES}
    here, there = SITES
    for site, far in ((here, there), (there, here)):
        directory = net.directory / f"tinc-{site}"
        _write_tinc(directory, site, far, keys)
        pid_file = f"--pidfile={directory / 'pid'}"
        net.start(site, [program, "-c", str(directory), pid_file, "-D"], net.directory / f"tinc-{site}.log")
    return f"{TINC_NET}.{_NUMBER[there]}"


def _write_tinc(directory: Path, site: str, far: str, keys: dict[str, RSAPrivateKey]) -> None:
    (directory / "hosts").mkdir(parents=True)
    (directory / "tinc.conf").write_text(f"Name = {site}\nInterface = tinc0\nConnectTo = {far}\nAddressFamily = ipv4\n")
    up = directory / "tinc-up"
    up.write_text(
        f"#!/bin/sh\nip address add {TINC_NET}.{_NUMBER[site]}/24 dev $INTERFACE\nip link set $INTERFACE up\n"
    )
    up.chmod(0o755)
    private = directory / "rsa_key.priv"
    private.write_bytes(keys[site].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    private.chmod(0o600)
    for each, key in keys.items():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
        subnet = f"Subnet = {TINC_NET}.{_NUMBER[each]}/32\n"
        (directory / "hosts" / each).write_text(f"Address = {SITES[each]}.2\n{subnet}{public}")


def _program(name: str, package: str = "") -> str:
    found = shutil.which(name, path=environment()["PATH"])
    if found is None:
        raise TumplineError(
            f"the bench compares with {name}, which is not installed: apt-get install {package or name}"
        )
    return found

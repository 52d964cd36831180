"""DTLS 1.2 with `openssl s_client` and `openssl s_server`, over UDP on loopback."""

import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tumpline.drivers.dtls.context import DtlsContexts
from tumpline.drivers.dtls.listener import Listener
from tumpline.drivers.dtls.session import DtlsSession
from tumpline.drivers.tls_files import TlsFiles, Verify
from tumpline.drivers.x509 import peer_certificate
from tumpline.testing.certificates import Authority

DEADLINE_S = 20.0


class Openssl:
    """One of its commands, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = b""

    def tell(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()


@contextmanager
def openssl(*arguments: str) -> Iterator[Openssl]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(["openssl", *arguments], **pipes)  # type: ignore[call-overload]
    with process:
        try:
            yield Openssl(process)
        finally:
            process.kill()


class End:
    """Our end: a socket, and a session or a listener that waits for one."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.session: DtlsSession | None = None
        self.received = b""
        self._listener = listener
        self._peer = ("127.0.0.1", 0)

    def begin(self, contexts: DtlsContexts, port: int) -> None:
        self._peer = "127.0.0.1", port
        self.session = DtlsSession.client(contexts, b"", 1200, time.monotonic())

    def until(self, done: Callable[[], object], peer: Openssl) -> None:
        """Carry datagrams, and read what openssl says, until this is true."""
        end = time.monotonic() + DEADLINE_S
        assert peer.process.stdout is not None
        while not done():
            assert time.monotonic() < end, (self.session and self.session.failure, peer.said.decode(errors="replace"))
            self._send()
            ready = select.select([self.socket.fileno(), peer.process.stdout.fileno()], [], [], 0.1)[0]
            if peer.process.stdout.fileno() in ready:
                peer.said += peer.process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if self.socket.fileno() in ready:
                self._receive(*self.socket.recvfrom(1 << 16))
            if self.session is not None:
                self.session.handle_timeout(time.monotonic())

    def _send(self) -> None:
        for datagram in self.session.datagrams() if self.session is not None else ():
            self.socket.sendto(datagram, self._peer)

    def _receive(self, datagram: bytes, sender: tuple[str, int]) -> None:
        if self.session is None and self._listener is not None:
            answer = self._listener.receive(datagram, repr(sender).encode(), time.monotonic())
            self._peer = sender
            self.session = answer.session
            if answer.datagram:
                self.socket.sendto(answer.datagram, sender)
        elif self.session is not None:
            self.received += b"".join(self.session.feed(datagram, time.monotonic()))

    def __enter__(self) -> "End":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def contexts(tls: dict[str, str]) -> DtlsContexts:
    return DtlsContexts(TlsFiles(tls["cert"], tls["key"], tls["ca"], verify=Verify.ALL))


def files(tls: dict[str, str]) -> list[str]:
    return ["-cert", tls["cert"], "-key", tls["key"], "-CAfile", tls["ca"]]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def talk(end: End, peer: Openssl) -> None:
    """A line in each direction, and who the other is."""
    end.until(lambda: end.session is not None and (end.session.is_established or end.session.failure), peer)
    session = end.session
    assert session is not None
    assert session.is_established, session.failure
    assert session.version == "DTLSv1.2"
    der = session.peer_certificate()
    assert der is not None
    assert peer_certificate(der).node_ids == ("dtn://theirs/",)
    session.write(b"from tumpline\n")
    end.until(lambda: b"from tumpline\n" in peer.said, peer)
    peer.tell(b"from openssl\n")
    end.until(lambda: b"from openssl\n" in end.received, peer)


def test_openssl_as_client(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with End(Listener(contexts(authority.issue("ours", ["dtn://ours/"])), 1200)) as end:
        theirs = files(authority.issue("theirs", ["dtn://theirs/"]))
        where = f"127.0.0.1:{end.port}"
        with openssl("s_client", "-dtls1_2", "-connect", where, *theirs, "-verify_return_error") as peer:
            talk(end, peer)
            assert b"Verify return code: 0 (ok)" in peer.said


def test_openssl_as_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    theirs = files(authority.issue("theirs", ["dtn://theirs/"]))
    port = free_port()
    arguments = ["-dtls1_2", "-listen", "-accept", f"127.0.0.1:{port}", "-Verify", "2", "-verify_return_error", *theirs]
    with End() as end, openssl("s_server", *arguments) as peer:
        end.until(lambda: b"ACCEPT" in peer.said, peer)
        end.begin(contexts(authority.issue("ours", ["dtn://ours/"])), port)
        talk(end, peer)


def test_openssl_without_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with End(Listener(contexts(authority.issue("ours", ["dtn://ours/"])), 1200)) as end:
        arguments = ["-dtls1_2", "-connect", f"127.0.0.1:{end.port}", "-CAfile", authority.file]
        with openssl("s_client", *arguments) as peer:
            end.until(lambda: end.session is not None and end.session.failure, peer)
            assert end.session is not None
            assert end.session.failure == "the peer gave no certificate; it needs tls.cert and tls.key"
            end.until(lambda: b"alert" in peer.said, peer)


def test_openssl_is_refused_that_speaks_only_version_1_0(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with End(Listener(contexts(authority.issue("ours", ["dtn://ours/"])), 1200)) as end:
        theirs = files(authority.issue("theirs", ["dtn://theirs/"]))
        arguments = ["-dtls1", "-cipher", "ALL:@SECLEVEL=0", "-connect", f"127.0.0.1:{end.port}", *theirs]
        with openssl("s_client", *arguments) as peer:
            end.until(lambda: b"alert" in peer.said or (end.session is not None and end.session.failure), peer)
            assert end.session is not None
            assert not end.session.is_established
            assert "does not speak a TLS version that we allow" in end.session.failure

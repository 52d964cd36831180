"""Where a broker is, as one line: `amqp[s]://user:password@host:port/vhost?heartbeat=10&ca=FILE`."""

from __future__ import annotations

import ssl
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from tumpline.drivers.dial import Address
from tumpline.errors import TumplineError

PORTS: Final = {"amqp": 5672, "amqps": 5671}
HEARTBEAT_S: Final = 10
HEARTBEAT_S_MOST: Final = 3600
# Of other clients, in URLs that are passed around; they say nothing that we would need.
IGNORED: Final = frozenset(
    {
        "blocked_connection_timeout",
        "channel_max",
        "connection_attempts",
        "connection_timeout",
        "frame_max",
        "locale",
        "retry_delay",
        "socket_timeout",
        "stack_timeout",
        "tcp_options",
    }
)
# RabbitMQ's names for the same: https://www.rabbitmq.com/docs/uri-query-parameters
_NAMES: Final = {
    "ca": "ca",
    "cacertfile": "ca",
    "cert": "certificate",
    "certfile": "certificate",
    "key": "key",
    "keyfile": "key",
    "server_name": "server_name",
    "server_name_indication": "server_name",
}


class AmqpUrl(NamedTuple):
    """A broker and who we are there. As text it shows no password."""

    host: str = "localhost"
    port: int = 5672
    virtual_host: str = "/"
    user: str = "guest"
    password: str = "guest"
    is_tls: bool = False
    heartbeat_s: int = HEARTBEAT_S  # 0: none
    ca: str = ""  # file of the CA that the broker's certificate must lead to; "" for those of the system
    certificate: str = ""  # ours, if the broker wants one
    key: str = ""
    server_name: str = ""  # in the broker's certificate; "" for the host
    verify: bool = True

    @classmethod
    def parse(cls, text: str) -> AmqpUrl:
        """Raises: TumplineError saying what to write."""
        if "#" in text:
            raise _wrong("a # in user, password or virtual host is written %23")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:  # its words would show the password, where somebody forgot to write its / as %2F
            raise _wrong("host or port is wrong (a / in user or password is written %2F)") from None
        if parts.scheme not in PORTS:
            raise _wrong(f'it begins with "{parts.scheme}:"' if parts.scheme else "the amqp:// is missing")
        url = cls(
            host=unquote(parts.hostname or "") or "localhost",
            port=port or PORTS[parts.scheme],
            virtual_host=unquote(parts.path[1:]) or "/",
            user=unquote(parts.username) if parts.username is not None else "guest",
            password=unquote(parts.password) if parts.password is not None else "guest",
            is_tls=parts.scheme == "amqps",
        )
        return url._with_query(parts)

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address(self.host, self.port)

    def __str__(self) -> str:
        scheme = "amqps" if self.is_tls else "amqp"
        port = "" if self.port == PORTS[scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = quote(self.virtual_host, safe="") if self.virtual_host != "/" else ""
        return f"{scheme}://{quote(self.user, safe='')}@{host}{port}/{path}"

    def __repr__(self) -> str:
        return f"AmqpUrl({str(self)!r})"

    def tls_context(self) -> ssl.SSLContext:
        """As the URL says. Raises: TumplineError naming the file."""
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = " or ".join(filter(None, (self.ca, self.certificate, self.key)))
            raise TumplineError(f"{self}: {files} is no usable PEM file: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _with_query(self, parts: SplitResult) -> AmqpUrl:
        url = self
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name == "heartbeat":
                url = url._replace(heartbeat_s=_seconds(value))
            elif name == "verify":
                url = url._replace(verify=_verify(value))
            elif name in _NAMES:
                fields: dict[str, Any] = {_NAMES[name]: value}
                url = url._replace(**fields)
            elif name not in IGNORED:
                raise _wrong(f'"{name}" is not known behind the ?; heartbeat, ca, cert, key, server_name, verify are')
        if not url.is_tls and (url.ca or url.certificate or url.key):
            raise _wrong("it names certificates: write amqps:// for TLS")
        return url


def _seconds(value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or int(value) > HEARTBEAT_S_MOST:
        raise _wrong(f'heartbeat "{value}" is no number of seconds up to {HEARTBEAT_S_MOST}')
    return int(value)


def _verify(value: str) -> bool:
    if value not in ("verify_peer", "verify_none"):
        raise _wrong(f'verify "{value[:40]}" is neither verify_peer nor verify_none')
    return value == "verify_peer"


def _wrong(what: str) -> TumplineError:
    """Without the URL itself: there is a password in it."""
    return TumplineError(f"AMQP URL: {what}; write it as amqp://user:password@host:5672/vhost")

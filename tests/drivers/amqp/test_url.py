"""URLs of brokers, as people write them."""

from __future__ import annotations

import pytest

from tumpline.drivers.amqp import AmqpUrl
from tumpline.errors import TumplineError
from tumpline.machines.amqp_client import ClientConfig


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("amqp://", AmqpUrl()),
        ("amqp://localhost", AmqpUrl()),
        ("amqp://localhost/", AmqpUrl()),
        ("amqp://localhost/%2F", AmqpUrl()),
        ("amqp://broker.example:1234/session01", AmqpUrl("broker.example", 1234, "session01")),
        ("amqp://me:my%40%2Fword@h/a%2Fb", AmqpUrl("h", virtual_host="a/b", user="me", password="my@/word")),
        ("amqp://me@h", AmqpUrl("h", user="me")),
        ("amqp://me:@h", AmqpUrl("h", user="me", password="")),
        ("amqp://[::1]:5/v", AmqpUrl("::1", 5, "v")),
        ("amqps://h/v?heartbeat=0", AmqpUrl("h", 5671, "v", is_tls=True, heartbeat_s=0)),
        (
            "amqps://h/v?ca=/a&cert=/b&key=/c&server_name=n&verify=verify_none",
            AmqpUrl("h", 5671, "v", is_tls=True, ca="/a", certificate="/b", key="/c", server_name="n", verify=False),
        ),
        (
            "amqps://h/v?cacertfile=/a&certfile=/b&keyfile=/c",
            AmqpUrl("h", 5671, "v", "guest", "guest", True, 10, "/a", "/b", "/c"),
        ),
        (
            "amqp://h/v?heartbeat=0&blocked_connection_timeout=2&retry_delay=1&socket_timeout=5&connection_attempts=3",
            AmqpUrl("h", virtual_host="v", heartbeat_s=0),
        ),
    ],
)
def test_what_is_read(text: str, url: AmqpUrl) -> None:
    assert tuple(AmqpUrl.parse(text)) == tuple(url)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost", "the amqp:// is missing"),
        ("http://h/", 'it begins with "http:"'),
        ("amqp://u:s3cret@h:port/", "host or port is wrong"),
        ("amqp://u:s3cret/x@h/", "a / in user or password is written %2F"),
        ("amqp://u:s3cret@[::1/", "host or port is wrong"),
        ("amqp://u:s3cret#x@h/", "a # in user, password or virtual host is written %23"),
        ("amqp://u:s3cret@h/v?heartbeat=soon", 'heartbeat "soon" is no number of seconds'),
        ("amqp://u:s3cret@h/v?heartbeat=9999", 'heartbeat "9999" is no number of seconds up to 3600'),
        ("amqp://u:s3cret@h/v?hartbeat=1", '"hartbeat" is not known'),
        ("amqp://u:s3cret@h/v?ca=/x", "write amqps:// for TLS"),
        ("amqps://u:s3cret@h/v?verify=maybe", "neither verify_peer nor verify_none"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(TumplineError, match="write it as amqp://") as caught:
        AmqpUrl.parse(text)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    url = AmqpUrl.parse("amqp://me:s3cret@h:99/v%2Fw?heartbeat=3")
    assert str(url) == "amqp://me@h:99/v%2Fw"
    assert "s3cret" not in f"{url!r} {[url]} {ClientConfig('me', 's3cret')!r}"

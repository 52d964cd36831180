"""`tcpcl-messagegen`: what one end writes the other one reads, or the exit code says that it does not."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from tumpline.errors import MalformedError
from tumpline.ui.bundlegen import messages
from tumpline.wire.generate_tcpcl4 import Message
from tumpline.wire.tcpcl4 import Acknowledgment, MessageType


def test_all_are_read_as_they_were_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.main(["500", "--port", "0", "--seed", "9"]) == 0
    assert capsys.readouterr().out == "500 messages each way, all read as they were written; seed 9\n"


def test_without_a_count_there_are_a_hundred(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.main(["--port", "0"]) == 0
    assert re.match(r"100 messages each way, .*; seed \d+\n", capsys.readouterr().out)


def test_a_message_that_comes_otherwise_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One octet of an acknowledgement is altered as it is written."""
    encode = Message.encode

    def altered(message: Message) -> bytes:
        octets = encode(message)
        return octets[:-1] + bytes([octets[-1] ^ 1]) if message.type is MessageType.XFER_ACK else octets

    monkeypatch.setattr(Message, "encode", altered)
    assert messages.main(["50", "--port", "0", "--seed", "9"]) == 1
    assert re.match(r"tcpcl-messagegen: message \d+ came as .*; seed 9\n", capsys.readouterr().err)


async def test_octets_that_end_early_are_seen() -> None:
    message = Message(MessageType.XFER_ACK, Acknowledgment(3, 7, 100))
    reader = asyncio.StreamReader()
    reader.feed_data(b"dtn!\x04\x00" + message.encode()[:-1])
    reader.feed_eof()
    with pytest.raises(MalformedError, match="the octets end in message 0"):
        await messages._read(reader, [message])


def test_a_port_in_use_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert messages.main(["--port", str(taken.getsockname()[1])]) == 1
    assert "in use" in capsys.readouterr().err

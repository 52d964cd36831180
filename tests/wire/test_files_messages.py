"""The files protocol's messages: as the document has them, there and back, and whatever strangers send."""

import hashlib
import re
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire import files
from tumpline.wire.files import Manifest, Piece, Receipt, decode_untrusted, encode

TRANSFER = bytes(range(16))
CONTENT = b"hello, rover"
MANIFEST = Manifest("hello.txt", len(CONTENT), hashlib.sha256(CONTENT).digest())
DOCUMENT = Path(__file__).parents[2] / "docs" / "files-protocol.md"


def documented() -> list[bytes]:
    """The hex of each example: of every line what stands before two spaces and a comment."""
    blocks = re.findall(r"```\n(a.*?)```", DOCUMENT.read_text(), re.DOTALL)
    lines = [[re.split(r"\s{2,}(?=\S*[^0-9a-f\s])", line)[0] for line in block.splitlines()] for block in blocks]
    return [bytes.fromhex(re.sub(r"\s", "", "".join(block))) for block in lines]


def test_the_examples_of_the_document_are_what_is_sent() -> None:
    chunk, receipt = documented()
    assert chunk == encode(Piece(TRANSFER, 1 << 24, 0, MANIFEST)) + CONTENT
    assert receipt == encode(Receipt(TRANSFER, True, "hello.txt"))


pieces = st.builds(
    Piece,
    st.binary(min_size=16, max_size=16),
    st.integers(1, files.MAX_CHUNK_OCTETS),
    st.none() | st.integers(0, files.MAX_CHUNKS - 1),
    st.none()
    | st.builds(Manifest, st.text(max_size=255), st.integers(0, files.MAX_CHUNKS), st.binary(min_size=32, max_size=32)),
)
receipts = st.builds(
    Receipt, st.binary(min_size=16, max_size=16), st.booleans(), st.text(max_size=files.MAX_TEXT_LENGTH // 4)
)


@given(pieces | receipts, st.binary(max_size=100))
def test_there_and_back(message: Piece | Receipt, data: bytes) -> None:
    octets = encode(message)
    assert decode_untrusted(octets + data) == (message, len(octets))


@given(st.binary(max_size=200))
def test_strangers_octets_raise_only_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_untrusted(b"\xa1" + data)


@given(st.data())
def test_altered_messages_raise_only_malformed(data: st.DataObject) -> None:
    octets = bytearray(encode(Piece(TRANSFER, 1 << 24, 0, MANIFEST)))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        message, _ = decode_untrusted(bytes(octets))
    except MalformedError:
        return
    assert isinstance(message, Piece | Receipt)


@pytest.mark.parametrize(
    "change",
    [
        {0: 2},
        {0: True},
        {1: 2},
        {1: None},
        {2: bytes(15)},
        {2: "x" * 16},
        {3: 0},
        {3: (1 << 30) + 1},
        {3: 1.0},
        {4: -1},
        {4: 1 << 20},
        {5: b"name"},
        {6: -1},
        {6: (1 << 44) + 1},
        {7: bytes(31)},
    ],
)
def test_each_field_is_checked(change: dict[int, object]) -> None:
    fields = cbor2.loads(encode(Piece(TRANSFER, 1 << 24, 0, MANIFEST)))
    assert decode_untrusted(cbor2.dumps(fields))
    with pytest.raises(MalformedError):
        decode_untrusted(cbor2.dumps(fields | change))
    with pytest.raises(MalformedError):
        decode_untrusted(cbor2.dumps({key: value for key, value in fields.items() if key != 6}))


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_a_message_that_ends_early(length: int) -> None:
    with pytest.raises(MalformedError):
        decode_untrusted(encode(Piece(TRANSFER, 1 << 24, 0, MANIFEST))[:length])


def test_a_header_without_end_is_not_followed() -> None:
    with pytest.raises(MalformedError):
        decode_untrusted(cbor2.dumps({99: bytes(3000), **cbor2.loads(encode(Receipt(TRANSFER, True, "")))}))

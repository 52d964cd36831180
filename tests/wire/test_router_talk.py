"""What routers say to each other."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.errors import MalformedError
from tumpline.wire.packet_json import Generation
from tumpline.wire.router_talk import Learned, Older, Said, Talk, decode_talk_untrusted

texts = st.text(max_size=40)
learned = st.builds(
    Learned, st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), texts, st.booleans()
)
older = st.builds(Older, texts, st.sampled_from(Generation), st.sampled_from([(), (0,), (1,), (0, 1)]))
talks = st.builds(
    Talk,
    st.sampled_from(Said),
    texts,
    texts,
    texts,
    st.lists(texts, max_size=4).map(tuple),
    texts,
    st.lists(learned, max_size=4).map(tuple),
    st.lists(older, max_size=4).map(tuple),
)


@given(talks)
def test_what_is_written_is_read(talk: Talk) -> None:
    assert decode_talk_untrusted(talk.encode()) == talk


def test_people_can_read_along() -> None:
    talk = Talk(
        Said.LEARNED, "east", "01", "8 shares", ("s.0",), "", (Learned(ip_address("bbbb::1").packed, "agent_1", True),)
    )
    assert talk.encode() == (
        b'{"version":1,"said":"learned","router":"east","instance":"01","plan":"8 shares","shares":["s.0"],"share":"",'
        b'"learned":[["bbbb::1","agent_1",true]],"agents":[]}'
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"version":2,"said":"here","router":"a","instance":"b"}',
        b'{"version":1,"said":"nothing","router":"a","instance":"b"}',
        b'{"version":1,"said":"here","router":"a","instance":"b","learned":[["no address","a",true]]}',
        b'{"version":1,"said":"here","router":"a","instance":"b","agents":[["a",2,[0]]]}',
        b'{"version":1,"said":"here","router":"a","instance":"b","agents":[["a",1,[2]]]}',
        b'{"version":1,"said":"here","router":"%b","instance":"b"}' % (b"a" * 300_000),
    ],
)
def test_what_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_talk_untrusted(body)


@given(talks, st.data())
def test_changed_octets_are_refused_or_read(talk: Talk, data: st.DataObject) -> None:
    octets = bytearray(talk.encode())
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedError):
        assert isinstance(decode_talk_untrusted(bytes(octets)), Talk)

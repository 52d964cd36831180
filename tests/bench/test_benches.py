"""Every bench runs, small, and gives the figures that it names; the plainest programs do the work they stand for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumpline.bench import codec, dbus_file, node_hop, ping, store, udpcl
from tumpline.bench.framework import plain
from tumpline.bench.framework.api import BenchSpec, Effort
from tumpline.bench.framework.certificates import Certificates
from tumpline.bench.limits import codec as plain_codec
from tumpline.bench.limits.stream import Task
from tumpline.ui.cli.app import run
from tumpline.wire.bundle7 import decode_bundle_untrusted

START = plain_codec.prefix("//rover/sink", "//ground/source")


@given(st.integers(0, 2**63), st.integers(2**16, 2**32 - 1), st.binary(min_size=100, max_size=100))
def test_the_plain_codec_makes_real_bundles(created_ms: int, sequence: int, payload: bytes) -> None:
    created_ms |= 1 << 33  # the plain encoder always writes nine octets: the shortest form from there on
    data = plain_codec.encode(START, created_ms, sequence, payload)
    bundle = decode_bundle_untrusted(data)
    assert (bundle.primary.created_ms, bundle.primary.sequence, bundle.payload) == (created_ms, sequence, payload)
    assert str(bundle.primary.destination) == "dtn://rover/sink"
    assert plain_codec.decode(data, len(START)) == (created_ms, sequence, payload)


def test_the_plain_decoder_finds_every_altered_octet_that_the_crcs_cover() -> None:
    data = plain_codec.encode(START, 1 << 40, 70_000, bytes(100))
    primary_end = 1 + len(START) + 8 + 5 + 5  # creation time, sequence number, lifetime
    covered = [*range(1, primary_end), *range(primary_end + 5, len(data) - 6)]
    sequence_head = 1 + len(START) + 8
    assert len(covered) > 150
    for index in covered:
        altered = bytearray(data)
        altered[index] ^= 0x01 if index == sequence_head else 0x10
        with pytest.raises(ValueError, match="CRC"):
            plain_codec.decode(bytes(altered), len(START))


@pytest.mark.parametrize("octets", [100, 65_536])
@pytest.mark.parametrize("listeners", [["sink"], ["sink", "relay"]])
@pytest.mark.parametrize("durable", [False, True])
def test_plain_programs_carry_everything(octets: int, listeners: list[str], durable: bool) -> None:
    assert plain.run_plain(listeners, "source", count=300, octets=octets, durable=durable) > 0


def test_plain_programs_over_tls(tmp_path: Any) -> None:
    certificates = Certificates.make(tmp_path / "certs", ["ground"])
    tls = str(certificates.all_in_one("ground"))
    assert plain.run_plain(["sink", "relay"], "source", count=300, tls=tls) > 0
    assert plain.run_plain(["sink"], "source", count=30, octets=1 << 20, tls=tls) > 0


def test_plain_ping_and_memory() -> None:
    assert 0 < plain.run_plain(["echo"], "ping", count=50) < 1
    assert 5 < plain.plain_rss_mib() < 200


def test_a_task_is_what_the_command_line_says() -> None:
    assert Task.parse('{"count": 3, "next_port": 7}') == Task(3, next_port=7)


SMALL = Effort(quick=True)


def _check(spec: BenchSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Effort, "runs", 1)
    figures = spec.run(SMALL)
    assert tuple(figures) == spec.figures
    assert all(figure.value > 0 and figure.limit > 0 and figure.ratio > 0 for figure in figures.values())


def test_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "BUNDLES", 2000)
    _check(codec.SPEC, monkeypatch)


def test_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("ADDED", 5000), ("MANY", 20_000), ("FEW", 500), ("_FORWARDED", 3000)):
        monkeypatch.setattr(store, name, count)
    _check(store.SPEC, monkeypatch)


@pytest.mark.slow
def test_node_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_hop, "COUNTS", {100: 5000, 64 << 10: 500, 1 << 20: 100})
    _check(node_hop.SPEC, monkeypatch)


@pytest.mark.slow
def test_dbus_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbus_file, "LARGE_MIB", 200)
    monkeypatch.setattr(dbus_file, "SMALL_FILES", 1000)
    _check(dbus_file.SPEC, monkeypatch)


@pytest.mark.slow
def test_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "PINGS", 100)
    _check(ping.SPEC, monkeypatch)


@pytest.mark.slow
def test_udpcl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udpcl, "FIRST_PER_S", {udpcl.SMALL: 2000.0, udpcl.LARGE: 200.0})
    monkeypatch.setattr(udpcl, "QUICK_S", 0.2)
    _check(udpcl.SPEC, monkeypatch)


class Scripted:
    """Ends that lose from some rate on, and cannot send faster than another."""

    def __init__(self, lossless_per_s: float, fastest_per_s: float) -> None:
        self.lossless_per_s, self.fastest_per_s = lossless_per_s, fastest_per_s
        self.trials: list[tuple[float, float]] = []

    def trial(self, per_s: float, seconds: float) -> udpcl.Trial:
        self.trials.append((per_s, seconds))
        sent_per_s = min(per_s, self.fastest_per_s)
        return udpcl.Trial(per_s, sent_per_s, int(sent_per_s > self.lossless_per_s), {})


@pytest.mark.parametrize(("lossless", "fastest"), [(1000.0, 1e9), (77_000.0, 1e9), (1e9, 50_000.0), (3.0, 1e9)])
def test_a_search_finds_the_highest_rate_without_loss(lossless: float, fastest: float) -> None:
    ends = Scripted(lossless, fastest)
    found = udpcl.search(ends, 10_000.0, 10.0)
    assert found.is_good
    assert 0.8 * min(lossless, fastest) < found.per_s <= min(lossless, fastest)
    assert ends.trials[-1][1] == 10.0
    assert len(ends.trials) < 200


def test_from_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(codec, "BUNDLES", 2000)
    assert run(["bench", "codec", "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bench"] == "codec"
    assert report["figures"].keys() == {"encode_per_s", "decode_per_s"}
    assert report["figures"]["encode_per_s"].keys() == {"value", "unit", "limit", "ratio", "limit_is"}
    assert "cpu" in report["machine"]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--list", "--json"]) == 0
    benches = json.loads(capsys.readouterr().out)["benches"]
    assert "hop_100B_per_s" in next(bench["figures"] for bench in benches if bench["bench"] == "node-hop")
    assert run(["bench", "hop"]) == 2
    assert run(["bench"]) == 2

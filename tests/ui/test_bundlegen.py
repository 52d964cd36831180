"""The commands: what they take, what they print, and that nothing lost or altered on the way is taken for good."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumpline.bench.framework.agents import clean_environment
from tumpline.testing.relay import Change, ChangeDatagram, tcp_relay, udp_relay
from tumpline.ui.bundlegen import main
from tumpline.wire.bundle7 import STRICT, decode_bundle_untrusted

Run = Callable[..., tuple[int, dict[str, Any]]]
SECURITY = [
    ("tcpcl", "false", "none"),
    ("tcpcl", "true", "TLSv1.3"),
    ("udpcl", "false", "none"),
    ("udpcl", "true", "DTLSv1.2"),
]
HIDDEN = b"x" * 5000  # of it any octet can be altered without a sign


class Input:
    """Standard input."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A run: exit code, what it printed as JSON."""

    def run_it(*argv: str, cl: str = "tcpcl") -> tuple[int, dict[str, Any]]:
        code = main([*argv, "--port", "0", "--json"], cl)
        return code, json.loads(capsys.readouterr().out)

    return run_it


@pytest.mark.parametrize("kind", ["fullvalid", "randcbor", "randbytes"])
@pytest.mark.parametrize(("cl", "secured", "security"), SECURITY)
def test_all_come_equal(run: Run, kind: str, cl: str, secured: str, security: str) -> None:
    code, result = run(kind, "200", "--use-tls", secured, cl=cl)
    assert (code, result["good"], result["faults"]) == (0, True, [])
    assert (result["asked"], result["sent"], result["equal"]) == (200, 200, 200)
    assert result["security"] == security


@pytest.mark.parametrize("count", range(1, 8))
def test_udpcl_ends_with_any_count(run: Run, count: int) -> None:
    """The older command hung with three and more."""
    code, result = run("fullvalid", str(count), cl="udpcl")
    assert (code, result["equal"]) == (0, count)


@pytest.mark.parametrize("mtu", ["64", "1400", "65507"])
def test_udpcl_loses_nothing_with_any_length_of_datagrams(run: Run, mtu: str) -> None:
    code, result = run("randbytes", "100", "--mtu-default", mtu, cl="udpcl")
    assert (code, result["equal"]) == (0, 100)


def test_standard_input_is_sent_as_it_is_even_if_it_is_empty(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"no bundle at all\0\xff", b""):
        monkeypatch.setattr(sys, "stdin", Input(data))
        code, result = run("stdin", "7")
        assert (code, result["equal"], result["octets"]) == (0, 7, 7 * len(data))


def test_bundles_cross_in_small_segments(run: Run) -> None:
    code, result = run("fullvalid", "100", "--segment-mru", "1000")
    assert (code, result["equal"]) == (0, 100)


@pytest.mark.parametrize("cl", ["tcpcl", "udpcl"])
def test_unknown_extensions_are_passed_over_and_critical_ones_refused(run: Run, cl: str) -> None:
    code, result = run("fullvalid", "100", "--enable-test", "private_extensions", cl=cl)
    assert (code, result["equal"], result["refused"]) == (0, 100, 0)


@pytest.mark.soak
@pytest.mark.parametrize(("cl", "secured", "security"), SECURITY)
def test_a_hundred_thousand_come_equal_in_bounded_memory(run: Run, cl: str, secured: str, security: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, result = run("fullvalid", "100000", "--use-tls", secured, cl=cl)
    assert (code, result["equal"]) == (0, 100_000)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 100 * 1024, "300 MB went through, a few hundredths of that may be on their way"


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [["3"], ["--gencount", "3"], ["3", "--gencount", "3"]])
def test_the_count_stands_where_the_older_ones_had_it(run: Run, count: list[str]) -> None:
    assert run("randcbor", *count)[1]["equal"] == 3


@pytest.mark.parametrize("word", ["false", "no", "0", "off", "False"])
def test_no_means_no(run: Run, word: str) -> None:
    """Of the older command's option any word that is not empty meant true."""
    assert run("randcbor", "--use-tls", word)[1]["security"] == "none"


@pytest.mark.parametrize("word", ["true", "yes", "1", "on"])
def test_yes_means_yes(run: Run, word: str) -> None:
    assert run("randcbor", "--use-tls", word)[1]["security"] == "TLSv1.3"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--use-tls", "maybe"], "'maybe' is neither true nor false"),
        (["3", "--gencount", "4"], "the count is given twice"),
        (["0"], "'0' is no number from 1 upwards"),
        (["--port", "65536"], "'65536' is no port"),
        (["--timeout", "soon"], "'soon' is no time"),
        (["--mtu-default", "63"], "unrecognized arguments: --mtu-default"),
    ],
)
def test_mistakes_are_said(capsys: pytest.CaptureFixture[str], argv: list[str], text: str) -> None:
    expect_mistake(capsys, argv, "tcpcl", text)


@pytest.mark.parametrize("mtu", ["63", "65508", "long"])
def test_datagrams_that_cannot_be_are_a_mistake(capsys: pytest.CaptureFixture[str], mtu: str) -> None:
    expect_mistake(capsys, ["--mtu-default", mtu], "udpcl", f"'{mtu}' is no length of a datagram")


def expect_mistake(capsys: pytest.CaptureFixture[str], argv: list[str], cl: str, text: str) -> None:
    """Of the command line."""
    with pytest.raises(SystemExit) as exit_:
        main(["randcbor", *argv], cl)
    assert exit_.value.code == 2
    assert text in capsys.readouterr().err


def test_the_same_seed_gives_the_same_files(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("fullvalid", "20", "--seed", "5", "--to-file", str(tmp_path / name))[1]["seed"] == 5
    files = sorted(tmp_path.glob("a*"))
    assert [file.name for file in files] == [f"a{number:06}.cbor" for number in range(20)]
    for file in files:
        decode_bundle_untrusted(file.read_bytes(), STRICT)
        assert (tmp_path / file.name.replace("a", "b")).read_bytes() == file.read_bytes()


def test_a_seed_by_chance_is_told(run: Run) -> None:
    seeds = {run("randcbor")[1]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_files_that_cannot_be_written_are_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fullvalid", "--port", "0", "--to-file", str(tmp_path / "none" / "x")], "tcpcl") == 2
    assert "x000000.cbor cannot be written" in capsys.readouterr().err


def test_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fullvalid", "10", "--port", "0"], "tcpcl") == 0
    out, err = capsys.readouterr()
    line = r"fullvalid: 10 of 10 bundles came equal over tcpcl \(security: none\); .* in .* s, \d+/s; seed \d+\n"
    assert re.fullmatch(line, out), out
    assert not err


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["fullvalid", "300", "--port", "0"], "tcpcl") == 0
    assert "tcpcl fullvalid" in capsys.readouterr().err


def test_a_port_in_use_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["fullvalid", "--json", "--port", str(taken.getsockname()[1])], "tcpcl") == 1
    out, err = capsys.readouterr()
    assert "in use" in err
    assert json.loads(out) == {"error": err.removeprefix("tcpcl-bundlegen: ").rstrip("\n"), "exit_code": 1}


# ---- what happens on the way -----------------------------------------------------------------------------------------


async def through(change: Change, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any], str]:
    """A run whose octets pass a relay. Its exit code, result and complaints."""
    port = free_port()
    async with tcp_relay(port, change) as via:
        arguments = [*argv, "--port", str(port), "--via", via, "--timeout", "2", "--json"]
        code = await asyncio.to_thread(main, arguments, "tcpcl")
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def altering(at: int) -> Change:
    """One octet of the stream."""

    def change(data: bytes, offset: int) -> bytes:
        if not offset <= at < offset + len(data):
            return data
        where = at - offset
        return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]

    return change


def dropping(at: int, octets: int) -> Change:
    """These octets of the stream."""
    return lambda data, offset: data[: max(at - offset, 0)] + data[max(at + octets - offset, 0) :]


def cutting(at: int) -> Change:
    """The connection, once so much has passed."""
    return lambda data, offset: data if offset < at else None


async def test_a_relay_that_does_nothing_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = await through(lambda data, _offset: data, capsys, "fullvalid", "200")
    assert (code, result["equal"]) == (0, 200)


async def test_an_octet_altered_on_the_way_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    code, result, _ = await through(altering(3000), capsys, "stdin", "20")
    assert (code, result["good"], result["equal"], result["altered"], result["lost"]) == (1, False, 19, 1, 0)
    assert re.fullmatch(r"bundle 0 came altered from octet \d+ on", result["faults"][1])


@pytest.mark.parametrize("change", [dropping(3000, 100), cutting(100_000)], ids=["dropped", "cut"])
async def test_octets_dropped_on_the_way_are_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    code, result, _ = await through(change, capsys, "stdin", "200")
    assert (code, result["good"]) == (1, False)
    assert result["equal"] < 200
    assert result["faults"]


@pytest.mark.parametrize("at", [30, 5000], ids=["in the handshake", "in a bundle"])
async def test_tls_that_is_tampered_with_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of the older command the exit code was 0 even when TLS had failed."""
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    code, result, _ = await through(altering(at), capsys, "stdin", "200", "--use-tls", "true")
    assert code != 0
    assert "no session" in result["error"] if code == 3 else result["equal"] < 200


async def through_datagrams(
    change: ChangeDatagram, capsys: pytest.CaptureFixture[str], *argv: str
) -> tuple[int, dict[str, Any]]:
    """A run of udpcl-bundlegen whose datagrams pass a relay."""
    port = free_port()
    async with udp_relay(port, change) as via:
        arguments = [*argv, "--port", str(port), "--via", via, "--timeout", "1", "--json"]
        code = await asyncio.to_thread(main, arguments, "udpcl")
    return code, json.loads(capsys.readouterr().out)


async def test_a_relay_of_datagrams_that_does_nothing_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, result = await through_datagrams(lambda data, _number: [data], capsys, "fullvalid", "200")
    assert (code, result["equal"]) == (0, 200)


async def test_a_datagram_altered_on_the_way_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    seen: list[int] = []

    def change(data: bytes, number: int) -> list[bytes]:
        """An octet in the middle of the third datagram that carries some of them."""
        if HIDDEN[:1000] not in data:
            return [data]
        seen.append(number)
        return [data if len(seen) != 3 else data[:700] + b"y" + data[701:]]

    code, result = await through_datagrams(change, capsys, "stdin", "20")
    assert (code, result["equal"], result["altered"], result["lost"]) == (1, 19, 1, 0)


async def test_datagrams_dropped_on_the_way_are_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    code, result = await through_datagrams(
        lambda data, number: [] if number % 20 == 10 else [data], capsys, "stdin", "50"
    )
    assert (code, result["altered"], result["surplus"]) == (1, 0, 0)
    assert 0 < result["lost"] < 50
    assert result["equal"] + result["lost"] == 50
    assert re.match(rf"{result['lost']} bundles were lost: number \d+", result["faults"][0])


async def test_dtls_that_is_tampered_with_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that was altered is dropped; its bundle is lost, and no other one."""
    monkeypatch.setattr(sys, "stdin", Input(HIDDEN))
    seen: list[int] = []

    def change(data: bytes, number: int) -> list[bytes]:
        """The third long record of application data (RFC 6347 §4.1: type 23)."""
        if data[0] == 23 and len(data) > 1000:
            seen.append(number)
        return [data if len(seen) != 3 or seen[2] != number else data[:700] + bytes([data[700] ^ 1]) + data[701:]]

    code, result = await through_datagrams(change, capsys, "stdin", "20", "--use-tls", "true")
    assert (code, result["security"]) == (1, "DTLSv1.2")
    assert (result["equal"], result["lost"], result["altered"]) == (19, 1, 0)


async def test_dtls_that_cannot_be_had_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Handshake records (type 22) do not pass: nothing goes in the clear instead."""
    passed: list[bytes] = []

    def change(data: bytes, _number: int) -> list[bytes]:
        passed.append(data)
        return [] if data[0] == 22 else [data]

    code, result = await through_datagrams(change, capsys, "fullvalid", "20", "--use-tls", "true")
    assert (code, "no session" in result["error"]) == (3, True)
    assert any(data[0] == 22 for data in passed)
    assert not any(data[0] == 0x9F for data in passed)


async def test_a_datagram_that_comes_twice_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle that is bare in its datagram: nobody can tell the copy from another one."""
    bare: list[bytes] = []

    def change(data: bytes, _number: int) -> list[bytes]:
        if data[0] != 0x9F or bare:
            return [data]
        bare.append(data)
        return [data, data]

    code, result = await through_datagrams(change, capsys, "fullvalid", "20", "--mtu-default", "60000")
    assert (code, result["surplus"], result["lost"], len(bare)) == (1, 1, 0, 1)
    assert f"{len(bare[0])} octets came that nobody sent, or came twice" in result["faults"][1]


def test_who_is_not_there_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fullvalid", "--port", "0", "--via", f"127.0.0.1:{free_port()}"], "tcpcl") == 3
    assert "no session with" in capsys.readouterr().err


def test_nothing_is_left_behind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = len(os.listdir("/proc/self/fd"))
    assert run("fullvalid", "50", "--use-tls", "true")[0] == 0
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) <= before


def test_an_interruption_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    script = "import sys; from tumpline.ui.bundlegen import main; sys.exit(main(sys.argv[1:], 'tcpcl'))"
    options = ["fullvalid", "100000000", "--port", "0", "--use-tls", "yes", "--log-level", "info"]
    environment = clean_environment(tmp_path) | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, *options]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "active: joined with" in line:
                assert list(tmp_path.iterdir())
                process.send_signal(signal.SIGINT)
                break
        assert process.wait(timeout=30) == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "tcpcl.test.bundlegen fullvalid 10",
        "tcpcl.test.bundlegen fullvalid --gencount 10",
        "tcpcl.test.messagegen",
        "udpcl.test.bundlegen --mtu-default 1400 fullvalid 10",
    ],
)
def test_the_older_commands_word_for_word(tmp_path: Path, words: str) -> None:
    """On their own port: in a network of their own."""
    compat = Path(__file__).parents[2] / "compat"
    environment = clean_environment(tmp_path) | {"PYTHONPATH": str(compat)}
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = [*alone, sys.executable, "-m", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"fullvalid: 10 of 10 bundles came equal over|100 messages each way", done.stdout), done.stdout

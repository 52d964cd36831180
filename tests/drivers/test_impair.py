"""The process that impairs links, measured from outside by ping and iperf3, between namespaces made for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tumpline.drivers.impair import LINE_OCTETS_MOST
from tumpline.lab.holder import environment
from tumpline.testing.nobody import as_nobody
from tumpline.testing.pair import ADDRESSES, Pair

# One at a time: what is measured is time.
pytestmark = pytest.mark.measured

NEAR = 0.1  # of what was asked
# A queue of 50 ms at the least, so that TCP fills the line without waiting long in it.
QUEUES = {1: "20 kB", 10: "60 kB", 50: "310 kB"}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Each test says what befalls frames; nothing at first."""
    with tempfile.TemporaryDirectory() as directory, Pair(Path(directory), {}, {}) as pair:
        yield pair


# ---- what was asked for is what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize(("there_ms", "back_ms", "count"), [(20, 0, 40), (20, 20, 20), (100, 100, 10), (1300, 0, 3)])
def test_delay(pair: Pair, there_ms: int, back_ms: int, count: int) -> None:
    pair.change(ab={"delay_ms": there_ms}, ba={"delay_ms": back_ms})
    pinged = pair.ping(count)
    asked_s = (there_ms + back_ms) / 1000
    assert pinged.received == count
    assert asked_s <= pinged.least_s <= pinged.mean_s < asked_s * (1 + NEAR)


@pytest.mark.parametrize("rate_mbit", [1, 10, 50])
def test_rate_of_datagrams(pair: Pair, rate_mbit: int) -> None:
    pair.change(ab={"rate": f"{rate_mbit} Mbit/s", "queue": QUEUES[rate_mbit]}, ba={})
    end = pair.iperf("-u", "-b", f"{rate_mbit * 1.5}M", "-l", "1400", "-t", "2")
    near(end["sum_received"]["bits_per_second"] * 1442 / 1400, rate_mbit * 1e6)


@pytest.mark.parametrize(
    ("rate_mbit", "delay_ms", "seconds"),
    [
        (10, 20, 2),
        *(pytest.param(rate, delay, 15, marks=pytest.mark.soak) for rate in (1, 10, 50) for delay in (0, 20, 100)),
    ],
)
def test_rate_of_a_stream(pair: Pair, rate_mbit: int, delay_ms: int, seconds: int) -> None:
    queue = QUEUES[rate_mbit] if delay_ms < 100 else f"{rate_mbit * 25} kB"
    pair.change(
        ab={"rate": f"{rate_mbit} Mbit/s", "queue": queue, "delay_ms": delay_ms / 2}, ba={"delay_ms": delay_ms / 2}
    )
    end = pair.iperf("-t", str(seconds), "-O", "1")
    near(end["sum_received"]["bits_per_second"] * 1514 / 1448, rate_mbit * 1e6)


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.soak)])
def test_loss(pair: Pair, seconds: int) -> None:
    pair.change(ab={"loss": "5 %"}, ba={})
    before = full_sockets(pair)
    end = pair.iperf("-u", "-b", "20M", "-l", "200", "-t", str(seconds))["sum"]
    # 12,500 a second: half a point of five is five standard deviations away in four seconds.
    assert end["packets"] >= 10_000 * seconds
    # A server that gets no processor misses what the link has carried; its kernel counts that.
    lost_on_the_way = end["lost_packets"] - (full_sockets(pair) - before)
    near(100 * lost_on_the_way / end["packets"], 5.0)


def test_ping_misses_what_was_lost_and_nothing_else(pair: Pair) -> None:
    pair.change(ab={}, ba={})
    pair.ping(1)  # the neighbours' addresses are known: nothing but echoes is sent
    before = pair.counts()
    pair.change(ab={"loss": 0.2}, ba={"loss": 0.2})
    pinged = pair.ping(300, 0.002)
    after = pair.counts()
    lost = sum(count["lost"] for count in after) - sum(count["lost"] for count in before)
    assert 0 < pinged.sent - pinged.received <= lost


def test_the_counters_leave_nothing_out(pair: Pair) -> None:
    pair.change(ab={"delay": "5 ms", "loss": 0.1, "duplicate": 0.1, "rate": "1 Mbit/s", "queue": "5 kB"}, ba={})
    pair.ping(100, 0.002, 1000)
    for count in pair.counts():
        came, went = count["received"] + count["duplicated"], count["carried"] + count["lost"] + count["dropped"]
        assert came == went + count["held"]
    ab, _ = pair.counts()
    assert ab["duplicated"] > 0
    assert ab["dropped"] > 0


def test_a_change_acts_at_once(pair: Pair) -> None:
    pair.change(ab={"delay": "30 s"}, ba={})
    slow = subprocess.Popen(
        pair.holder.command("a", ["ping", "-c", "1", "-W", "60", ADDRESSES["b"]]),
        env=environment(),
        stdout=subprocess.PIPE,
    )
    with slow:
        while pair.counts()[0]["held"] == 0:
            pass
        pair.change(ab={"delay": "10 ms"})
        assert slow.wait(20) == 0
    assert pair.ping(1).least_s < 1


# ---- what crosses ----------------------------------------------------------------------------------------------------


def test_frames_of_the_full_length_cross(pair: Pair) -> None:
    pair.change(ab={}, ba={})
    assert pair.ping(3, size=1472).received == 3


def test_longer_frames_cross_where_the_interfaces_have_them(tmp_path: Path) -> None:
    with Pair(tmp_path, {}, {}, mtu=9000) as pair:
        assert pair.ping(3, size=8972).received == 3


def test_a_frame_without_its_checksum_is_counted_and_goes_nowhere(pair: Pair) -> None:
    pair.change(ab={}, ba={})
    pair.ping(1)
    pair.run("a", ["ethtool", "-K", "eth0", "tx", "on"])
    send = "import socket; socket.socket(2, 2).sendto(b'x', ('10.9.0.2', 9))"
    pair.run("a", [sys.executable, "-W", "ignore", "-c", send])
    pair.run("a", [sys.executable, "-m", "tumpline.drivers.offloads", "eth0"])
    assert pair.counts()[0]["port"]["no_checksum"] == 1


def test_an_interface_goes_down_and_comes_again(pair: Pair) -> None:
    pair.change(ab={}, ba={})
    pair.holder.run(None, ["ip", "link", "set", "pb", "down"])
    before = cpu_s(pair)
    pair.run("a", ["sh", "-c", f"! ping -q -c 2 -i 0.2 -W 1 {ADDRESSES['b']}"])
    assert cpu_s(pair) - before < 0.5, "it turns in circles"
    pair.holder.run(None, ["ip", "link", "set", "pb", "up"])
    assert pair.ping(3).received == 3
    assert pair.counts()[0]["port"]["last_error"] == ""
    assert "down" in pair.counts()[1]["port"]["last_error"]


def test_an_interface_that_is_gone_takes_nothing_with_it(tmp_path: Path) -> None:
    with Pair(tmp_path, {}, {}) as pair:
        pair.holder.run(None, ["ip", "link", "del", "pb"])
        before = cpu_s(pair)
        pair.run("a", ["sh", "-c", f"! ping -q -c 2 -i 0.2 -W 1 {ADDRESSES['b']}"])
        assert cpu_s(pair) - before < 0.5, "it turns in circles"
        assert pair.counts()[1]["from"] == "pb"


FRAMES = """
    import json, time
    from tumpline.drivers.packet_port import PacketPort
    x, y = PacketPort("x"), PacketPort("y", 1 << 19)
    macs = bytes.fromhex("ffffffffffff020000000001")
    frames = [
        macs + bytes.fromhex("88b5"),  # the shortest
        macs + bytes.fromhex("88b5") + bytes(46),
        macs + bytes.fromhex("88b5") + bytes(range(250)) * 6,
        macs + bytes.fromhex("8100000788b5") + bytes(46),
        macs + bytes.fromhex("8100e00788b5") + bytes(1500),  # a tag does not count towards the MTU
        macs + bytes.fromhex("88a800638100000788b5") + bytes(1000),
        b"\\x02" + macs[1:] + bytes.fromhex("88b5") + bytes(100),  # to somebody else
    ] + [macs + bytes.fromhex("88b5") + number.to_bytes(4, "big") for number in range(5000)]
    came, batches, began = [], [], time.monotonic()
    x.send([macs, b""])  # no frames
    for frame in frames:
        x.send([frame])
        batches += y.receive(time.monotonic())
    ended = time.monotonic()
    assert x.receive(ended) == [], "it hears itself"
    times = [at for at, _ in batches]
    x.send(frames)
    x.send(frames)
    overrun = y.look().overrun
    print(json.dumps({
        "same": [frame for _, some in batches for frame in some] == frames,
        "in_time": times == sorted(times) and began <= times[0] and times[-1] <= ended,
        "overrun": overrun, "left": sum(len(some) for _ in range(99) for _, some in y.receive(time.monotonic())),
        "unsent": x.counts.unsent, "of": len(frames),
    }))
    x.close(); y.close()
"""


def test_a_port_hands_over_every_frame_as_it_was() -> None:
    links = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; ip link add x type veth peer name y"
    setup = f"{links}; ip link set x up; ip link set y up"
    said = json.loads(in_namespace(setup, [sys.executable, "-c", textwrap.dedent(FRAMES)]))
    assert said["same"]
    assert said["in_time"]
    assert said["unsent"] == 2
    assert said["overrun"] + said["left"] == 2 * said["of"], "what did not fit into the ring is counted"
    assert said["overrun"] > 0


# ---- what it is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("garbage", "JSON is malformed"),
        ("\x00\x01\udcff", "JSON is malformed"),
        ("[[1]]", "Expected `object`, got `array`"),
        ("7", "Expected `object`, got `int`"),
        ('{"a": "pa"}', "missing required field `b`"),
        ('{"a": "pa", "b": "pb", "abc": {}}', "unknown field `abc`"),
        (
            '{"a": "pa", "b": "pb", "ab": {"delay": "soon"}}',
            "pa to pb: delay: 'soon' is no duration; write for example",
        ),
        ('{"a": "pa", "b": "pb", "ba": {"dealy": 1, "loss": 2}}', "pa from pb: dealy: is unknown; did you mean delay?"),
        ('{"a": "pa", "b": "px"}', "no link joins pa and px; join them first, in a list"),
        ('[{"a": "lo", "b": "nothere"}]', "interface nothere cannot be joined: No such device"),
        ('[{"a": "pa", "b": "lo"}]', "interface pa belongs to two links; give each its own"),
        ('[{"a": "lo", "b": "lo"}]', "interface lo belongs to two links"),
        (
            '[{"a": "lo", "b": "an-interface-with-a-long-name"}]',
            "interface an-interface-with-a-long-name cannot be joined",
        ),
        ("x" * (2 * LINE_OCTETS_MOST), "JSON is malformed"),
    ],
)
def test_what_it_does_not_understand_it_says_and_goes_on(pair: Pair, line: str, error: str) -> None:
    answer = pair.say(line)
    assert list(answer) == ["error"]
    assert error in answer["error"]
    assert "\n" not in answer["error"]
    assert pair.tell([]) == {"links": 1}


def test_links_are_joined_while_others_carry(pair: Pair) -> None:
    pair.holder.run(None, ["ip", "link", "add", "m1", "type", "veth", "peer", "name", "m2"])
    assert pair.tell([{"a": "m1", "b": "m2"}]) == {"links": 2}
    assert len(pair.tell({"statistics": True})["statistics"]) == 4
    assert pair.ping(1).received == 1


def test_it_ends_with_its_input(tmp_path: Path) -> None:
    with Pair(tmp_path, {"delay": "0.1 s"}, {}) as pair:
        process = pair.process
        pair.ping(1)
        os.kill(pair.pid, signal.SIGINT)
        assert pair.counts()[0]["carried"] > 0, "Ctrl-C is not for it"
    assert process.returncode == 0
    assert pair.complaint == ""


def test_it_ends_when_nobody_hears_its_answers() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "tumpline.drivers.impair"], stdin=pipe, stdout=pipe, stderr=pipe
    ) as end:
        assert end.stdin is not None
        assert end.stdout is not None
        assert end.stderr is not None
        end.stdout.close()
        end.stdin.write(b"[]\n")
        end.stdin.flush()
        assert end.stderr.read() == b""
        assert end.wait(30) == 0


def test_without_interfaces_or_input() -> None:
    done = impair(stdin="[]\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"links":0}\n', "")
    done = subprocess.run(
        [sys.executable, "-m", "tumpline.drivers.impair"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "standard input takes commands line by line: give it a pipe\n"


# ---- who may ---------------------------------------------------------------------------------------------------------

NOBODYS_PAIR = """
    import os, tempfile
    from pathlib import Path
    from tumpline.testing.pair import Pair
    assert os.geteuid() != 0
    with tempfile.TemporaryDirectory() as directory, Pair(Path(directory), {"delay": "20 ms"}, {}) as pair:
        pinged = pair.ping(20)
        pair.change(ab={"rate": "10 Mbit/s", "queue": "60 kB"})
        end = pair.iperf("-u", "-b", "15M", "-l", "1400", "-t", "2")
        print(pinged.mean_s, end["sum_received"]["bits_per_second"])
"""


def test_all_of_it_without_root() -> None:
    command = as_nobody([sys.executable, "-c", textwrap.dedent(NOBODYS_PAIR)])
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    mean_s, received_bps = map(float, done.stdout.split())
    near(mean_s, 0.02)
    near(received_bps * 1442 / 1400, 10e6)


# ---- helpers ---------------------------------------------------------------------------------------------------------


def near(measured: float, asked: float) -> None:
    assert abs(measured - asked) <= NEAR * asked, f"measured {measured:g}, asked for {asked:g}"


def full_sockets(pair: Pair) -> int:
    """Datagrams that came to node b and found no room in their socket."""
    names, values = (line.split() for line in pair.run("b", ["grep", "^Udp:", "/proc/net/snmp"]).splitlines())
    return int(dict(zip(names, values, strict=True))["RcvbufErrors"])


def cpu_s(pair: Pair) -> float:
    """Processor time that the process has used so far."""
    fields = Path(f"/proc/{pair.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_namespace(setup: str, argv: list[str]) -> str:
    """Run it in a network of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--net", "--mount", "sh", "-ec", f'{setup}; exec "$@"', "sh", *argv]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def impair(stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tumpline.drivers.impair"], input=stdin, capture_output=True, text=True, check=False
    )

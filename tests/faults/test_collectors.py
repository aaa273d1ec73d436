"""ctship to real collectors: nfcapd reads what was sent, with the right times and ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.shipping.flowrecords import IPFIX, NETFLOW9, Messages
from tests.support import asked, unpacked
from tests.support.router import CHECKOUT
from tests.support.slow_pairing import SECOND, T
from tests.unit.shipping.test_flowrecords import flows, read

CHAIN = "00c0ffee00c0ffee"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three connections, of which one is open over all three segments."""
    made = tmp_path / "log"
    made.mkdir()
    for path in asked.record(made, chain=CHAIN):
        squeeze(path, SqueezeOptions())
    return made


def ship(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctship", "--router", "edge1", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def nfcapd(place: Path) -> Iterator[int]:
    """nfcapd on a port; what it received is in `place` when it has ended."""
    place.mkdir()
    port = free_port()
    running = subprocess.Popen(
        [unpacked.program("nfcapd"), "-w", place, "-b", "127.0.0.1", "-p", str(port), "-t", "3600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=unpacked.environment(),
    )
    time.sleep(1)
    try:
        yield port
        time.sleep(1)
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(20)


def dumped(place: Path, *filters: str) -> list[list[str]]:
    """What nfdump shows: start, end, source, post-NAT source, destination."""
    form = "fmt:%ts,%te,%sap,%nsap,%dap,%pr"
    done = subprocess.run(
        [unpacked.program("nfdump"), "-R", place, "-q", "-N", "-o", form, *filters],
        capture_output=True,
        text=True,
        env={**unpacked.environment(), "TZ": "UTC"},
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.count(",") == 5]
    return sorted([cell.strip() for cell in line.split(",")] for line in lines)


def stamp(ns: int) -> str:
    second, rest = divmod(ns, SECOND)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second)) + f".{rest // 10**6:03}"


@pytest.mark.parametrize("kind", ["ipfix", "netflow9"])
def test_nfcapd_reads_each_connection_once_with_its_times(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    with nfcapd(tmp_path / "flows") as port:
        to = ("--to", f"{kind}://127.0.0.1:{port}")
        code, said = ship(*to, folder)
        assert (code, said.count("sent as flows, nothing acknowledges them")) == (0, 3), said
        assert ship(*to, folder) == (0, "")
        assert "3 sent" in ship(*to, "--status", folder)[1]
    found = dumped(tmp_path / "flows")
    hour = 3600 * SECOND
    wanted = [
        # The kernel of this log tells no start: it is known from the dump of the last segment on.
        (T + 2 * hour, T + 2 * hour + 20 * SECOND, "10.0.0.5:51001", 40000),
        (T + hour + 60 * SECOND, T + hour + 90 * SECOND, "10.0.0.5:51002", 40001),
        (T + hour + 95 * SECOND, T + hour + 99 * SECOND, "10.0.0.6:51003", 40001),
    ]
    assert found == sorted(
        [
            stamp(start),
            stamp(end),
            inside,
            f"{asked.PUBLIC}:{port}",
            f"{asked.REMOTE}:443",
            "6",
        ]
        for start, end, inside, port in wanted
    )


@pytest.mark.parametrize("version", [IPFIX, NETFLOW9])
def test_nfcapd_keeps_counters_of_both_directions(tmp_path: Path, version: int) -> None:
    table = flows(2)
    for at, name in enumerate(("orig_bytes", "orig_packets", "reply_bytes", "reply_packets")):
        table.columns[name] = np.array([0, 1000 + at], "u8")
    with (
        nfcapd(tmp_path / "flows") as port,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
    ):
        messages = Messages(version, 7)
        for each in (table, flows(1, 10)):
            for message in messages.of(each, time.time_ns()):
                line.sendto(message, ("127.0.0.1", port))
    done = subprocess.run(
        [unpacked.program("nfdump"), "-R", str(tmp_path / "flows"), "-q", "-N"]
        + ["-o", "fmt:%sp,%byt,%pkt,%obyt,%opkt,%nsap", "-6"],
        capture_output=True,
        text=True,
        env=unpacked.environment(),
        check=True,
    )
    cells = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    assert ["1", "1000", "1001", "1002", "1003", "192.0.2.1:40000"] in cells
    assert ["0", "0", "0", "0", "0", "192.0.2.1:40000"] in cells
    # NAT of IPv6: dropped by its reader of IPFIX, kept by that of NetFlow 9.
    assert ("2001:db8::c000:201.40000" in [cell[-1] for cell in cells]) == (version == NETFLOW9)


_NFACCTD = """\
daemonize: false
nfacctd_ip: 127.0.0.1
nfacctd_port: {port}
plugins: print[flows]
print_refresh_time[flows]: 1
print_output[flows]: json
print_output_file[flows]: {place}/flows.json
print_output_file_append[flows]: true
aggregate[flows]: src_host, dst_host, src_port, dst_port, proto, post_nat_src_host, \
post_nat_dst_host, post_nat_src_port, post_nat_dst_port, nat_event, timestamp_start, timestamp_end
"""


@contextlib.contextmanager
def nfacctd(place: Path) -> Iterator[int]:
    """nfacctd of pmacct on a port; what it received is in the file flows.json in `place`."""
    place.mkdir()
    port, log = free_port(), place / "log"
    (place / "conf").write_text(_NFACCTD.format(port=port, place=place))
    libraries = {str(path.parent) for path in unpacked.pmacct().rglob("*.so.*")}
    with log.open("wb") as file:
        running = subprocess.Popen(
            [unpacked.pmacct() / "usr/sbin/nfacctd", "-f", place / "conf"],
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "TZ": "UTC", "LD_LIBRARY_PATH": ":".join(libraries)},
        )
    try:
        until(lambda: "waiting for NetFlow/IPFIX data" in log.read_text())
        yield port
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(20)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for it, at most 20 s."""
    for _ in range(200):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("not in 20 s")


@pytest.mark.parametrize("kind", ["ipfix", "netflow9"])
def test_nfacctd_reads_each_connection_once_with_its_times(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    with nfacctd(tmp_path / "flows") as port:
        code, said = ship("--to", f"{kind}://127.0.0.1:{port}", folder)
        assert code == 0, said
        file = tmp_path / "flows" / "flows.json"
        until(lambda: file.exists() and file.read_text().count("}\n") >= 3)
    found = [json.loads(line) for line in file.read_text().splitlines()]
    names = ("ip_src", "port_src", "post_nat_ip_src", "post_nat_port_src", "ip_dst", "port_dst")
    hour = 3600 * SECOND
    wanted = [
        (T + 2 * hour, T + 2 * hour + 20 * SECOND, "10.0.0.5", 51001, asked.PUBLIC, 40000),
        (T + hour + 60 * SECOND, T + hour + 90 * SECOND, "10.0.0.5", 51002, asked.PUBLIC, 40001),
        (T + hour + 95 * SECOND, T + hour + 99 * SECOND, "10.0.0.6", 51003, asked.PUBLIC, 40001),
    ]
    times = ("timestamp_start", "timestamp_end")
    assert sorted(
        [*(one[each][:23] for each in times), *(one[each] for each in names)] for one in found
    ) == sorted(
        [stamp(start), stamp(end), *ends, asked.REMOTE, 443] for start, end, *ends in wanted
    )
    assert {(one["nat_event"], one["ip_proto"]) for one in found} == {(5, "tcp")}


class Listener:
    """A collector by TCP that ends after `most` bytes, as often as it is told to."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._socket.accept()
                data = b""
                with line:
                    while more := line.recv(1 << 16):
                        data += more
                while len(data) >= 4:
                    length = int.from_bytes(data[2:4])
                    self.messages.append(data[:length])
                    data = data[length:]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def test_by_tcp_at_least_once_and_after_a_loss_again(folder: Path) -> None:
    listener = Listener()
    to = ("--to", f"ipfix+tcp://127.0.0.1:{listener.port}")
    assert ship(*to, folder)[0] == 0
    time.sleep(0.5)
    once = Counter(record[7] for record in read(listener.messages))
    assert once == {51001: 1, 51002: 1, 51003: 1}
    # What was noted last is lost with a crash: that segment comes again, the others do not.
    noted = folder / "ctship.shipped"
    lines = noted.read_text().splitlines(keepends=True)
    kept = [line for line in lines if "02.ctlog" not in line]
    noted.write_text("".join(kept))
    assert ship(*to, folder)[0] == 0
    time.sleep(0.5)
    assert Counter(record[7] for record in read(listener.messages)) == {**once, 51001: 2}
    listener.close()
    noted.unlink()
    code, said = ship(*to, folder)
    assert code == 2
    assert "the rest waits" in said


def test_by_udp_at_most_once(folder: Path) -> None:
    """A segment is noted before it is sent: a crash in between loses it, and says nothing twice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.setblocking(False)
        to = ("--to", f"ipfix://127.0.0.1:{line.getsockname()[1]}")
        for _ in range(3):
            assert ship(*to, folder)[0] == 0
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(line.recv(2000))
    assert Counter(record[7] for record in read(messages)) == {51001: 1, 51002: 1, 51003: 1}

"""Helper, labels and master of a connection, from the kernel to the squeezed log: FTP's data
connection names the control connection that it belongs to.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.ctlog_reader import Block, read
from tests.support.listeners import Recorder, ctlist, listed
from tests.support.router import CHECKOUT, INSIDE, INSIDE6, SERVER, SERVER6, Lab

RULES = """
table inet helpers {
    ct helper ftp-standard {
        type "ftp" protocol tcp
    }
    chain forward {
        type filter hook forward priority filter;
        tcp dport 21 ct helper set "ftp-standard"
        udp dport 53 ct label set 3
    }
}
"""
DATA_PORT = 40021


def ftp(lab: Lab, inside: str, server: str) -> int:
    """A control connection and a passive data connection; the port of the control connection."""
    with (
        lab.home(server).socket(socket.SOCK_STREAM, server, 21) as control,
        lab.home(server).socket(socket.SOCK_STREAM, server, DATA_PORT) as data,
        lab.home(inside).socket(socket.SOCK_STREAM, inside) as client,
        lab.home(inside).socket(socket.SOCK_STREAM, inside) as reader,
    ):
        for one in (control, data):
            one.listen()
        client.connect((server, 21))
        accepted, _ = control.accept()
        with accepted:
            accepted.sendall(b"220 ready\r\n")
            client.recv(100)
            client.sendall(b"EPSV\r\n" if ":" in server else b"PASV\r\n")
            accepted.recv(100)
            place = ",".join([*server.split("."), str(DATA_PORT >> 8), str(DATA_PORT & 255)])
            answer = (
                f"229 Extended (|||{DATA_PORT}|)" if ":" in server else f"227 Passive ({place})"
            )
            accepted.sendall(answer.encode() + b"\r\n")
            client.recv(100)
            reader.connect((server, DATA_PORT))
            sent, _ = data.accept()
            sent.close()
            return int(client.getsockname()[1])


@pytest.fixture
def log(lab: Lab, tmp_path: Path) -> tuple[Path, dict[str, int]]:
    """A log of FTP over both families, and a labelled flow; the control connections' ports."""
    lab.router.run("nft", "-f", "-", stdin=RULES)
    recorder = Recorder(lab, tmp_path / "log")
    ports = {inside: ftp(lab, inside, to) for inside, to in ((INSIDE, SERVER), (INSIDE6, SERVER6))}
    lab.udp(INSIDE, (SERVER, 53))
    lab.flush()
    recorder.flush()
    recorder.stop()
    return recorder.folder, ports


def check(folder: Path, ports: dict[str, int], *options: str) -> None:
    """Each data connection names its control connection."""
    rows = [row for row in listed(*options, folder) if row.get("event") != "DESTROY"]
    for inside, server in ((INSIDE, SERVER), (INSIDE6, SERVER6)):
        control = [row for row in rows if row["orig_src"] == inside and row.get("orig_dport") == 21]
        assert [row.get("helper") for row in control] == ["ftp"]
        assert "master_protocol" not in control[0]
        data = [row for row in rows if row["orig_src"] == inside and row["orig_dport"] == DATA_PORT]
        assert [
            (row["master_protocol"], row["master_src"], row["master_sport"], row["master_dst"])
            for row in data
        ] == [("tcp", inside, ports[inside], server)]
        assert data[0]["master_dport"] == 21
        assert "helper" not in data[0]
    (labelled,) = [row for row in rows if row.get("orig_dport") == 53]
    assert labelled["labels"] == [3]
    assert "master_src" not in labelled


def test_a_data_connection_names_its_master(log: tuple[Path, dict[str, int]]) -> None:
    """As events, as connections, and of a squeezed segment; the end of a connection has none."""
    folder, ports = log
    check(folder, ports)
    check(folder, ports, "-s")
    ends = [row for row in listed(folder) if row["event"] == "DESTROY"]
    assert not [key for row in ends for key in row if key.startswith(("master", "helper"))]
    events = listed_text(folder)
    (segment,) = folder.glob("*.ctlog")
    squeezed = subprocess.run([CHECKOUT / "bin/ctsqueeze", "-f", segment], timeout=60)
    assert squeezed.returncode == 0
    check(folder, ports)
    check(folder, ports, "-s")
    assert listed_text(folder) == events
    masters = [block.columns.get("master_dport", []) for block in blocks_of(segment)]
    assert sum(port == 21 for column in masters for port in column) == 2


def blocks_of(segment: Path) -> list[Block]:
    """As the reader of ctlog(5) sees them."""
    return read(segment.read_bytes(), known=frozenset({"coverage"}))


def listed_text(folder: Path) -> list[str]:
    """What squeezing does not change, as CSV, in any order."""
    columns = "event,protocol,orig_src,orig_sport,orig_dst,orig_dport,reply_dst,helper,labels"
    columns += ",master_protocol,master_src,master_sport,master_dst,master_dport,orig_bytes"
    return sorted(ctlist("--format", "csv", "--columns", columns, folder).stdout.splitlines())


def test_columns_that_nobody_has_cost_nothing(lab: Lab, tmp_path: Path) -> None:
    recorder = Recorder(lab, tmp_path / "log")
    lab.tcp(INSIDE, (SERVER, 25))
    lab.flush()
    recorder.flush()
    recorder.stop()
    (segment,) = recorder.segments
    stored = {name for block in blocks_of(segment) for name in block.columns}
    assert "orig_src" in stored
    assert not [name for name in stored if name.startswith(("master", "helper", "labels"))]

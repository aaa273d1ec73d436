"""What ctrecord says, and does not do, when something is in the way: one line, what and what to do;
and whom it does not believe.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from ctrecorder import uapi
from tests.support.folders import names
from tests.support.listeners import Recorder, listed
from tests.support.router import CHECKOUT, INSIDE, SERVER, Lab, Namespace, borrowed, event_sockets

CTRECORD = CHECKOUT / "bin/ctrecord"
NOBODY = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
]


def refused(namespace: Namespace, *command: object) -> str:
    """The one line on stderr of a command that must fail with 2."""
    done = namespace.run(*command, check=False)
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ctrecord: ")
    return line


def test_without_cap_net_admin(lab: Lab) -> None:
    """An ordinary user learns that it is a matter of privilege, and how to get it."""
    line = refused(lab.router, *NOBODY, CTRECORD, "-F", "-f", "/tmp/%Y.ctlog")
    assert "CAP_NET_ADMIN" in line
    assert "root" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-p", "tcp,carrier-pigeon"], "carrier-pigeon"),
        (["-b", "many"], "many"),
        (["-t", "7.5"], "7.5"),
        (["-t", "0"], "0"),
        (["-B", "-1"], "-1"),
        (["-U", "no-such-user"], "no-such-user"),
        (["-G", "no-such-group", "-U", "root"], "no-such-group"),
        (["--no-such-option"], "--no-such-option"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options(lab: Lab, tmp_path: Path, options: list[str], named: str) -> None:
    """The line names the value; nothing is written."""
    line = refused(lab.router, CTRECORD, "-F", "-f", tmp_path / "%Y.ctlog", *options)
    assert named in line
    assert names(tmp_path) == []


def test_a_missing_folder(lab: Lab, tmp_path: Path) -> None:
    line = refused(
        lab.router, CTRECORD, "-F", "-U", "root", "-f", tmp_path / "missing" / "%Y.ctlog"
    )
    assert str(tmp_path / "missing") in line


def test_a_folder_that_cannot_be_written(lab: Lab) -> None:
    """/proc takes no files, not even root's."""
    assert "/proc" in refused(lab.router, CTRECORD, "-F", "-U", "root", "-f", "/proc/%Y.ctlog")


def test_a_namespace_that_is_asleep(tmp_path: Path) -> None:
    """No rule uses connection tracking: nothing will ever be recorded, and it says so instead of
    waiting in silence.
    """
    with Lab(asleep=True) as lab:
        recorder = Recorder(lab, tmp_path / "log")
        recorder.wait("IPv6 connection tracking is off")
        lab.udp(INSIDE, (SERVER, 53), replied=False)
        recorder.flush()
        recorder.stop()
    assert listed(tmp_path / "log") == []


def test_an_awake_one_is_not_called_asleep(lab: Lab, tmp_path: Path) -> None:
    assert "tracking is off" not in Recorder(lab, tmp_path / "log").stop()


def test_sysctls_that_are_off(tmp_path: Path) -> None:
    """Each that matters is named with its value and the command that sets it."""
    with Lab(sysctls={"nf_conntrack_events": 2, "nf_conntrack_timestamp": 0}) as lab:
        log = Recorder(lab, tmp_path / "log").stop()
    for name, value in (("nf_conntrack_events", 2), ("nf_conntrack_timestamp", 0)):
        assert f"net.netfilter.{name} is {value}" in log
        assert f"sysctl -w net.netfilter.{name}=1" in log


def test_the_buffer_that_it_got(lab: Lab, tmp_path: Path) -> None:
    """-b is in KiB, and what the kernel gave is said; it is what the socket really has."""
    recorder = Recorder(lab, tmp_path / "log", "-b", 1024)
    (line,) = [line for line in recorder.log.splitlines() if "recording to" in line]
    assert "1024 KiB" in line
    (each,) = event_sockets(recorder.process.pid)
    with borrowed(recorder.process.pid, each.fd) as sock:
        assert (
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 1024 * 1024
        )  # the kernel doubles what is asked


def test_a_forger(lab: Lab, tmp_path: Path) -> None:
    """A process that sends what the kernel sends, to the recorder and to all listeners: refused and
    counted, never recorded.
    """
    recorder = Recorder(lab, tmp_path / "log")
    (target,) = event_sockets(recorder.process.pid)
    message = forged(INSIDE, SERVER)
    with lab.router.call(
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, uapi.NETLINK_NETFILTER)
    ) as liar:
        liar.bind((0, 0))
        liar.sendto(message, (target.port, 0))
        liar.sendto(message, (0, 1 << uapi.NFNLGRP_CONNTRACK_NEW - 1))
    port = lab.udp(INSIDE, (SERVER, 53))
    line = recorder.flush()
    assert "2 refused" in line
    assert "refused 2 messages" in recorder.stop()
    assert [row["orig_sport"] for row in listed(tmp_path / "log")] == [port]


def forged(source: str, destination: str) -> bytes:
    """A NEW of a UDP flow that never was: source:7 to destination:7."""

    def attribute(kind: int, *parts: bytes, nested: int = uapi.NLA_F_NESTED) -> bytes:
        payload = b"".join(parts)
        return (
            struct.pack("=HH", 4 + len(payload), kind | nested) + payload + bytes(-len(payload) % 4)
        )

    def plain(kind: int, payload: bytes) -> bytes:
        return attribute(kind, payload, nested=0)

    def tuple_of(kind: int, src: str, dst: str) -> bytes:
        return attribute(
            kind,
            attribute(
                uapi.CTA_TUPLE_IP,
                plain(uapi.CTA_IP_V4_SRC, socket.inet_aton(src)),
                plain(uapi.CTA_IP_V4_DST, socket.inet_aton(dst)),
            ),
            attribute(
                uapi.CTA_TUPLE_PROTO,
                plain(uapi.CTA_PROTO_NUM, b"\x11"),
                plain(uapi.CTA_PROTO_SRC_PORT, b"\0\7"),
                plain(uapi.CTA_PROTO_DST_PORT, b"\0\7"),
            ),
        )

    body = struct.pack("=BBH", uapi.AF_INET, 0, 0)
    body += tuple_of(uapi.CTA_TUPLE_ORIG, source, destination) + tuple_of(
        uapi.CTA_TUPLE_REPLY, destination, source
    )
    body += plain(uapi.CTA_STATUS, struct.pack(">I", uapi.IPS_CONFIRMED)) + plain(
        uapi.CTA_ID, struct.pack(">I", 1)
    )
    return (
        struct.pack(
            "=IHHII", 16 + len(body), uapi.CT_NEW, uapi.NLM_F_CREATE | uapi.NLM_F_EXCL, 0, 0
        )
        + body
    )


def test_help_and_version_need_no_privilege() -> None:
    """An ordinary user may ask."""
    for option in ("--help", "--version"):
        done = subprocess.run(
            [*NOBODY, CTRECORD, option],
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": "/"},
        )
        assert done.returncode == 0, done.stderr
        assert "ctrecord" in done.stdout

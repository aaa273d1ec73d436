"""omit = remote: what the kernel reports is recorded without the remote ends, and still pairs."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.ctlog.frame import Kind
from ctrecorder.kernel.request import RequestSocket, attribute
from ctrecorder.segment import live
from ctrecorder.segment.reader import Segment
from tests.support.folders import paths
from tests.support.listeners import Recorder, ctlist, ctwho, listed
from tests.support.router import (
    CHECKOUT,
    INSIDE,
    INSIDE6,
    INSIDE_SERVER,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    Lab,
)

OMIT = ("--omit", "remote")
HOME = "192.168.1.0/24, fd00:db8::/64"
REUSES = 1000


def connections(folder: Path, *words: object) -> list[dict[str, object]]:
    return listed("-s", *words, folder)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def said(*words: object) -> tuple[int, dict[str, object]]:
    """The answer of ctwho, as JSON, and its exit code."""
    done = ctwho(*words, "--format", "json", code=None)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return done.returncode, found


def squeeze(folder: Path) -> None:
    subprocess.run([CHECKOUT / "bin/ctsqueeze", folder], check=True, capture_output=True)


def traffic(lab: Lab) -> dict[str, int]:
    """Connections out, to a server behind DNAT, and to the router itself; ports by kind."""
    ports = {
        "out": lab.tcp(INSIDE, (SERVER, 25)),
        "out6": lab.udp(INSIDE6, (SERVER6, 53)),
        "in": lab.tcp(SERVER, (PUBLIC, 8080)),
    }
    lab.ping(INSIDE, SERVER, identifier=4711)
    with (
        lab.router.socket(socket.SOCK_DGRAM, PUBLIC, 514) as taker,
        lab.outside.socket(socket.SOCK_DGRAM, SERVER, 5140) as caller,
    ):
        caller.sendto(b"hello", (PUBLIC, 514))
        taker.recv(100)
    return ports


def assert_no_remote(folder: Path) -> None:
    """No byte of a server's address is in a segment, nor in what is said of it."""
    for path in paths(folder):
        with Segment(str(path)) as segment:
            blocks = [*segment.blocks_of(Kind.EVENTS), *segment.blocks_of(Kind.CONNECTIONS)]
            tables = [segment.read(block) for block in blocks]
            known = [segment.addresses(block) for block in segment.blocks_of(Kind.ADDRESSES)]
        for server in (SERVER, SERVER6):
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            packed = socket.inet_pton(family, server)
            data = path.read_bytes() + b"".join(
                column.astype(">u4").tobytes() if column.dtype == np.uint32 else column.tobytes()
                for table in tables
                for column in table.columns.values()
            )
            assert not any(each in data for each in (packed, packed[::-1], server.encode()))
            assert not any(addresses.may_hold(packed) for addresses in known)
    texts = [ctlist(*words, folder).stdout for words in ((), ("-s",), ("-H",), ("--coverage",))]
    texts += [ctlist("--format", each, folder).stdout for each in ("conntrack", "csv", "json")]
    assert not [text for text in texts if SERVER in text or SERVER6 in text]


def test_no_remote_end_is_recorded_and_the_inside_end_is(lab: Lab, tmp_path: Path) -> None:
    """Out, in by DNAT, to the router itself, both families: raw, in the next segment, squeezed."""
    recorder = Recorder(lab, tmp_path / "log", *OMIT)
    time.sleep(2.1)  # what is asked for is an answer from a second before
    with lab.home(INSIDE).socket(socket.SOCK_DGRAM, INSIDE, 40404) as long:
        long.sendto(b"x", (SERVER, 9))
        ports = traffic(lab)
        at = now()
        time.sleep(1.1)  # the name of a segment has its second
        recorder.rotate()
        lab.flush()
    time.sleep(1)  # and until a second later
    recorder.flush()
    recorder.stop()
    assert SERVER not in recorder.log
    for squeezed in (False, True):
        if squeezed:
            squeeze(recorder.folder)
        assert_no_remote(recorder.folder)
        for path in recorder.segments:
            with Segment(str(path)) as segment:
                assert segment.header.omit == "remote"
                assert segment.header.requires is not None
                assert "omit" in segment.header.requires
                assert f"{PUBLIC}/32" in (segment.header.inside or ())
        rows = connections(recorder.folder)
        (out,) = [row for row in rows if row.get("orig_sport") == ports["out"]]
        assert (out["orig_src"], out["reply_dst"]) == (INSIDE, PUBLIC)
        assert not {"orig_dst", "orig_dport", "reply_src", "reply_sport"} & out.keys()
        (called,) = [row for row in rows if row.get("reply_src") == INSIDE_SERVER]
        assert (called["orig_dst"], called["orig_dport"]) == (PUBLIC, 8080)
        assert not {"orig_src", "orig_sport", "reply_dst", "reply_dport"} & called.keys()
        (router,) = [row for row in rows if row.get("orig_dport") == 514]
        assert router["orig_dst"] == PUBLIC
        assert "orig_src" not in router
        (six,) = [row for row in rows if row.get("orig_src") == INSIDE6]
        assert six["reply_dst"] == PUBLIC6
        (over,) = [row for row in rows if row.get("orig_sport") == 40404]
        assert (over["start_source"], over["end_source"]) == ("kernel", "kernel")
        seen = over["seen"]
        assert isinstance(seen, list)
        assert {"new", "destroy"} <= {str(each).lower() for each in seen}
        code, answer = said(f"{PUBLIC}:40404", at, "-d", recorder.folder)
        assert code == 0, answer
        assert INSIDE in json.dumps(answer)
        code, answer = said(f"{PUBLIC}:40404", at, "--to", f"{SERVER}:9", "-d", recorder.folder)
        assert code == 3
        assert "ask without --to" in json.dumps(answer)


@pytest.mark.parametrize("kernel_times", [True, False])
def test_one_tuple_used_a_thousand_times(lab: Lab, tmp_path: Path, kernel_times: bool) -> None:
    """Each use is a connection of its own, raw and squeezed, also where the kernel dates none."""
    lab.router.sysctl(nf_conntrack_timestamp=int(kernel_times))
    recorder = Recorder(lab, tmp_path / "log", *OMIT)
    recorder.wait("table recorded")
    lab.router.call(reuse)
    recorder.flush()
    recorder.stop()
    for squeezed in (False, True):
        if squeezed:
            squeeze(recorder.folder)
        rows = [row for row in connections(recorder.folder) if row.get("orig_sport") == 1234]
        assert len(rows) == REUSES
        assert not [row for row in rows if {"orig_dst", "orig_dport", "reply_src"} & row.keys()]
        assert all("start" in row and "end" in row for row in rows)


def reuse() -> None:
    """One tuple is opened and closed, again and again."""

    def one(kind: int, source: str, target: str, sport: int, dport: int) -> bytes:
        addresses = attribute(uapi.CTA_IP_V4_SRC, socket.inet_aton(source))
        addresses += attribute(uapi.CTA_IP_V4_DST, socket.inet_aton(target))
        protocol = attribute(uapi.CTA_PROTO_NUM, bytes([uapi.IPPROTO_UDP]))
        protocol += attribute(uapi.CTA_PROTO_SRC_PORT, struct.pack(">H", sport))
        protocol += attribute(uapi.CTA_PROTO_DST_PORT, struct.pack(">H", dport))
        content = attribute(uapi.CTA_TUPLE_IP, addresses, nested=True)
        return attribute(
            kind, content + attribute(uapi.CTA_TUPLE_PROTO, protocol, nested=True), nested=True
        )

    orig = one(uapi.CTA_TUPLE_ORIG, INSIDE, "203.0.113.7", 1234, 53)
    reply = one(uapi.CTA_TUPLE_REPLY, "203.0.113.7", INSIDE, 53, 1234)
    timeout = attribute(uapi.CTA_TIMEOUT, struct.pack(">I", 60))
    requests = RequestSocket()
    flags = uapi.NLM_F_ACK | uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    for _ in range(REUSES):
        requests.ask(uapi.CT_NEW, uapi.AF_INET, orig + reply + timeout, flags)
        requests.ask(uapi.CT_DELETE, uapi.AF_INET, orig, uapi.NLM_F_ACK)
    requests.close()


def test_a_restart_pairs_over_the_dump(lab: Lab, tmp_path: Path) -> None:
    """A flow that is open over a restart is one connection, from its NEW to its DESTROY."""
    folder = tmp_path / "log"
    recorder = Recorder(lab, folder, *OMIT)
    with lab.home(INSIDE).socket(socket.SOCK_DGRAM, INSIDE, 40404) as long:
        long.sendto(b"x", (SERVER, 9))
        recorder.flush()
        recorder.stop()
        time.sleep(1.1)  # the name of a segment has its second
        recorder = Recorder(lab, folder, *OMIT)
        recorder.wait("table recorded")
        lab.flush()
    recorder.flush()
    recorder.stop()
    for squeezed in (False, True):
        if squeezed:
            squeeze(folder)
        (row,) = [row for row in connections(folder) if row.get("orig_sport") == 40404]
        assert (row["start_source"], row["end_source"]) == ("kernel", "kernel")


def test_what_is_published_and_noted_has_no_networks(lab: Lab, tmp_path: Path) -> None:
    """A rule's networks are in no GAP, MARK or HEADER; without omit they are."""
    chain = f"type filter hook prerouting priority raw; ip daddr {SERVER} notrack;"
    rule = f"table ip raw {{\nchain pre {{\n{chain}\n}}\n}}\n"
    lab.router.run("nft", "-f", "-", stdin=rule)
    for options, there in ((OMIT, False), ((), True)):
        folder = tmp_path / f"log{there}"
        recorder = Recorder(lab, folder, *options)
        recorder.flush()
        recorder.stop()
        texts = [ctlist(*words, folder).stdout for words in (("-H",), ("--coverage",))]
        assert [SERVER in text for text in texts] == [there, there]


def test_an_address_that_is_not_inside_is_not_denied(lab: Lab, tmp_path: Path) -> None:
    """Who called an address that did not count as inside is not known, so nobody is not proved."""
    recorder = Recorder(lab, tmp_path / "log", *OMIT)
    recorder.wait("table recorded")
    time.sleep(2)
    at = now()
    time.sleep(2)
    recorder.flush()
    recorder.stop()
    code, answer = said("203.0.113.99:80", at, "-d", recorder.folder)
    assert (code, "did not count as inside" in json.dumps(answer)) == (3, True)
    code, answer = said(f"{PUBLIC}:9", at, "-d", recorder.folder)
    assert code == 1, answer


def test_a_reload_leaves_out_and_a_wrong_value_keeps_leaving_out(lab: Lab, tmp_path: Path) -> None:
    """A new segment begins; its header says so; what is published names no address."""
    conf = tmp_path / "some.conf"
    conf.write_text(f"[record]\ninside = {HOME}\n")
    recorder = Recorder(lab, tmp_path / "log", "-c", conf)
    recorder.wait("table recorded")
    with lab.home(INSIDE).socket(socket.SOCK_DGRAM, INSIDE, 40404) as long:
        long.sendto(b"x", (SERVER, 9))
        for text in (f"omit = remote\ninside = {HOME}\n", "omit = remotte\n"):
            time.sleep(1.1)  # the name of a segment has its second
            conf.write_text(f"[record]\n{text}")
            recorder.rotate()
        recorder.wait("using omit = remote")
        recorder.wait("table recorded", 3)
        lab.udp(INSIDE, (SERVER, 53))
        recorder.flush()
        with Segment(str(recorder.segments[-1])) as one:
            published = Path(live.FOLDER, f"{one.header.chain}.json").read_text()
        lab.flush()
    recorder.flush()
    recorder.stop()
    assert '"watermark"' in published
    assert SERVER not in published
    found = [Segment(str(path)) for path in recorder.segments]
    assert [one.header.omit for one in found] == [None, "remote", "remote"]
    for one in found:
        one.close()
    before, *after = recorder.segments
    assert listed(before)[0]["orig_dst"] == SERVER
    rows = [row for path in after for row in listed(path)]
    assert {row.get("orig_sport") for row in rows} >= {40404}
    assert not [row for row in rows if "orig_dst" in row or SERVER in row.values()]
    (gap,) = [line for line in recorder.log.splitlines() if "gap (not-recording)" in line][:1]
    assert "the settings of what is recorded were changed" in gap

"""ctwho --store: ClickHouse gives the answer that the segments give."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.inquiry import typed
from ctrecorder.inquiry.ask import Asking, answer_all
from ctrecorder.inquiry.question import Question
from ctrecorder.inquiry.twin import twin
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import live
from ctrecorder.shipping.clickhouse import Store
from ctrecorder.shipping.target import parse
from ctrecorder.shipping.waiting import examine
from ctrecorder.store import rows
from ctrecorder.times import HOUR, SECOND
from tests.support import asked as asked_archive
from tests.support import holders
from tests.support.clickhouse import Server
from tests.support.holders import Log, T
from tests.support.router import CHECKOUT

HOURS = 3
# Questions; `bench store` asks some thousands.
QUESTIONS = int(os.environ.get("STORE_QUESTIONS", "300"))
_WORDS = {"ONE", "SEVERAL", "NOBODY", "ONE KNOWN (not proved)", "NOBODY KNOWN (not proved)"}
NOW = T + 1000 * HOUR
CLOCK = {"clock": {"synchronised": True, "error_us": 2_000, "offset_us": 0}}
ROUTERS = ("edge1", "edge2", "edge3", "edge4")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("clickhouse"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where recorders publish their state; of this machine none is read."""
    monkeypatch.setattr(live, "FOLDER", str(tmp_path / "run"))


def ship(server: Server, folder: Path, router: str) -> None:
    """What ctship does, without the command around it."""
    store, batch = Store(parse(server.target), router), examine(str(folder), raw=False).ready
    assert {one.how for one in store.send(batch).values()} == {"stored"}


def logs_of(folder: Path, router: str, network: list[holders.Flow]) -> list[Log]:
    """The log of a router: each has its own troubles."""
    deaf = [(T + 2 * HOUR + 600 * SECOND, T + 2 * HOUR + 900 * SECOND)]
    if router == "edge1":
        return [Log(folder, "a" * 16, state=CLOCK)]
    if router == "edge2":  # two recorders of one table, one with a hole
        return [
            Log(folder, "b" * 16, deaf=deaf, state=CLOCK),
            Log(folder, "c" * 16, stamped=False, state=CLOCK),
        ]
    if router == "edge3":  # kernel times are not known, and a segment is missing
        return [Log(folder, "d" * 16, deaf=deaf, stamped=False, state=CLOCK)]
    return [Log(folder, "e" * 16, covered=False)]  # version 1.0


def fleet(root: Path, server: Server) -> dict[str, list[holders.Flow]]:
    """Four routers, each in a folder below `root` and in the database; what they saw."""
    saw = {}
    for number, router in enumerate(ROUTERS):
        network = holders.flows(number, 200, HOURS, before=2)
        work = root.parent / f"work-{router}"
        work.mkdir()
        for log in logs_of(work, router, network):
            log.write(network, HOURS)
            for hour, path in enumerate(log.paths):
                resolution = ("us", "ms", "s")[hour % 3]
                squeeze(path, SqueezeOptions(resolution, keep_ids=hour == 1))
                if router == "edge3" and hour == 1:
                    Path(path).unlink()
                    continue
                there = root / router / log.chain
                there.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, there)
        ship(server, work, router)
        saw[router] = network
    return saw


def questions(seed: int, network: list[holders.Flow], number: int) -> Iterator[Question]:
    for one in holders.questions(seed, network, number, HOURS):
        middle, spread = (one.since + one.until) // 2, (one.until - one.since) / 2 / SECOND
        if one.protocols & {holders.ICMP, holders.ICMPV6}:
            one = replace(one, to=(one.to[0], 0))
        words = [_end(one.public), f"@{middle // SECOND}.{middle % SECOND:09}"]
        yield from typed.questions(
            words,
            NOW,
            zone="UTC",
            remote=_end(one.to) if one.to[0] else None,
            protocols=[str(each) for each in one.protocols],
            tolerance=spread,
        )


def _end(end: holders.End) -> str:
    address = f"[{end[0]}]" if ":" in end[0] else end[0]
    return f"{address}:{end[1]}" if end[1] else end[0]


def told(archive: str, asked: list[Question]) -> list[dict[str, Any]]:
    """All that the answers say, but for where and from which files."""
    found = []
    for one in answer_all(asked, Asking((archive,), NOW, "root")):
        facts = twin(one, connections=True)
        del facts["question"]["archive"], facts["evidence"]
        found.append({"code": int(one.code), **facts})
    return found


@pytest.mark.beside
def test_many_questions_to_both(server: Server, tmp_path: Path) -> None:
    """Verdict, persons, connections, holes, clocks, notes and exit code: 0 differences."""
    root = tmp_path / "root"
    saw = fleet(root, server)
    places = [*ROUTERS, ""]  # each alone, and all together
    words: Counter[str] = Counter()
    holes = several = 0
    for seed, router in enumerate(places):
        networks = saw[router] if router else [flow for each in saw.values() for flow in each]
        # One about all costs as much as four.
        number = QUESTIONS * (2 if router else 1) // (2 * len(ROUTERS) + 1)
        asked = list(questions(seed, networks, number))
        here = told(str(root / router), asked)
        there = told(f"{server.target}/{router}".rstrip("/"), asked)
        for question, one, other in zip(asked, here, there, strict=True):
            assert one == other, (router, question)
            words[one["verdict"]] += 1
            holes += bool(one["holes"])
            several += len(one["persons"]) > 1
    assert words.total() >= QUESTIONS * 0.9
    assert set(words) >= _WORDS, words
    assert min(holes, several) > QUESTIONS / 20


def ctwho(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctwho", "--utc", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def small(server: Server, tmp_path: Path, router: str) -> Path:
    """A squeezed archive of three segments, in the database as that of `router`."""
    folder = tmp_path / router
    folder.mkdir()
    for path in asked_archive.record(folder, chain="00c0ffee00c0ffee"):
        squeeze(path, SqueezeOptions())
    ship(server, folder, router)
    return folder


TIME = f"@{(T + 20 * SECOND) // SECOND}"


def test_the_list_of_a_fleet_can_name_a_database(server: Server, tmp_path: Path) -> None:
    folder = small(server, tmp_path, "gate1")
    listed = tmp_path / "fleet"
    listed.write_text(f"gate1 {server.target}\ngate2 {folder}\n")
    code, said = ctwho("192.0.2.1:40000", TIME, "--fleet", listed)
    assert (code, said.partition("\n")[0]) == (0, "SEVERAL: 2 inside hosts"), said
    listed.write_text(f"gate1 {server.target}\nlost {server.target}\n")
    code, said = ctwho("192.0.2.1:40000", TIME, "--fleet", listed)
    assert code == 3
    assert "lost did not answer" in said
    assert "no segments here" in said
    done = subprocess.run(
        [CHECKOUT / "bin" / "ctlist", "--fleet", listed], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "only ctwho asks ClickHouse" in done.stderr


def test_half_uploads_and_repeats_are_invisible(server: Server, tmp_path: Path) -> None:
    folder = small(server, tmp_path, "gate3")
    place = f"{server.target}/gate3"
    before = ctwho("192.0.2.1:40000", TIME, "--format", "csv", "--store", place)
    assert before[0] == 0
    # A try that broke off before its row of `segments`, with somebody else's connection.
    server.ask(
        "INSERT INTO connections (upload, segment_begin, router, start, inside, public, "
        "inside_port, port_shift, family, seen, start_source) SELECT generateUUIDv4(), "
        f"toDateTime({T // SECOND}), 'gate3', fromUnixTimestamp64Nano(toInt64({T})), "
        "toIPv6('::ffff:10.6.6.6'), toIPv6('::ffff:192.0.2.1'), 40000, 0, 2, 3, 1 FROM numbers(9)"
    )
    assert ctwho("192.0.2.1:40000", TIME, "--format", "csv", "--store", place) == before
    ship(server, folder, "gate3")  # all are there: nothing is sent
    # Made anew of the same events: each takes the place of the one that was there.
    again = tmp_path / "again"
    again.mkdir()
    for path in asked_archive.record(again, chain="00c0ffee00c0ffee"):
        squeeze(path, SqueezeOptions("s"))
    ship(server, again, "gate3")
    code, said = ctwho("192.0.2.1:40000", TIME, "-v", "--store", place)
    assert code == 0
    assert "ONE: 10.0.0.5 behind gate3" in said
    assert "gate3/00c0ffee00c0ffee/00000001-" in said  # what does not count any more is named
    assert server.ask("SELECT count() FROM segments WHERE router = 'gate3'") == [["6"]]


def test_rows_that_somebody_deleted_are_no_proof(server: Server, tmp_path: Path) -> None:
    small(server, tmp_path, "gate4")
    server.ask(
        "ALTER TABLE connections DELETE WHERE router = 'gate4' AND public_port = 40001 "
        "SETTINGS mutations_sync = 1"
    )
    place = f"{server.target}/gate4"
    code, said = ctwho("192.0.2.1:40001", f"@{(T + HOUR) // SECOND + 70}", "--store", place)
    assert code == 2, said
    assert "1 of 3 rows are there" in said
    assert "NOBODY: " not in said


def test_an_answer_that_is_too_long_is_asked_in_parts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what one segment has can be too much: then it is said."""
    small(server, tmp_path, "gate5")
    asked = Asking((f"{server.target}/gate5",), NOW, "root")
    (question,) = typed.questions(
        ["192.0.2.1", TIME], NOW, zone="", remote=None, protocols=[], tolerance=HOUR // SECOND
    )
    (whole,) = answer_all([question], asked)
    assert len(whole.persons) == 1
    head, one = len(rows._HEAD), rows._DTYPE.itemsize
    monkeypatch.setattr(rows, "_MAX_ROWS", head + 4 * one)
    (parts,) = answer_all([question], asked)
    assert twin(parts, connections=True) == twin(whole, connections=True)
    monkeypatch.setattr(rows, "_MAX_ROWS", head + 2 * one)
    with pytest.raises(ArchiveError, match="ask with a port, or --to"):
        answer_all([question], asked)


def test_what_is_no_such_database_is_one_line(server: Server, tmp_path: Path) -> None:
    for words, why in (
        (["--store", f"clickhouse://127.0.0.1:{server.port}/none"], "does not exist"),
        (["--store", "clickhouse://127.0.0.1:9/log"], "Connection refused"),
        (["--store", "http://127.0.0.1/log"], "is no database"),
        (["--store", f"{server.target}/-x"], "is no database"),
        (["--store", f"{server.target}/nobody"], "no segments here"),
        (["--store", server.target, "-d", tmp_path], "-d cannot be used with --store"),
        (["--store", server.target, "--hold"], "--hold cannot be used with --store"),
        (["--password-file", "x"], "--password-file: it is for --store"),
    ):
        code, said = ctwho("192.0.2.1:40000", TIME, *words)
        assert code == 2, (words, said)
        assert why in said
        assert len(said.splitlines()) == 1, said

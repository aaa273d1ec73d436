"""ctwho --store: ClickHouse gives the answer that the segments give."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.inquiry import typed
from ctrecorder.inquiry.ask import Asking, answer_all
from ctrecorder.inquiry.question import Question
from ctrecorder.inquiry.twin import twin
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import live
from ctrecorder.shipping.clickhouse import Store
from ctrecorder.shipping.target import parse
from ctrecorder.shipping.waiting import examine
from ctrecorder.times import HOUR, SECOND
from tests.support import holders
from tests.support.clickhouse import Server
from tests.support.holders import Log, T

HOURS = 6
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
    deaf = [(T + HOUR + 600 * SECOND, T + HOUR + 900 * SECOND)]
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
        network = holders.flows(number, 500, HOURS, before=2)
        work = root.parent / f"work-{router}"
        work.mkdir()
        for log in logs_of(work, router, network):
            log.write(network, HOURS)
            for hour, path in enumerate(log.paths):
                resolution = ("us", "ms", "s")[hour % 3]
                squeeze(path, SqueezeOptions(resolution, keep_ids=hour == 4))
                if router == "edge3" and hour == 3:
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


def test_thousands_of_questions_to_both(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    saw = fleet(root, server)
    words: dict[str, int] = {}
    for seed, router in enumerate([*ROUTERS, ""]):
        networks = saw[router] if router else [flow for each in saw.values() for flow in each]
        asked = list(questions(seed, networks, 100))
        here = told(str(root / router), asked)
        there = told(f"{server.target}/{router}".rstrip("/"), asked)
        for question, one, other in zip(asked, here, there, strict=True):
            assert one == other, question
            words[one["verdict"]] = words.get(one["verdict"], 0) + 1
    print(words)

"""Example filters with the counts of the slow evaluator, which was written from ctfilter(7): the
evaluator itself, and the compiled expressions on archives that are raw, squeezed and both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder.query.connections import list_connections
from ctrecorder.query.events import list_events
from ctrecorder.query.open import open_archive
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support import filter_data
from tests.support.folders import paths
from tests.support.slow_filter import Slow

DATA = Path(__file__).resolve().parents[2] / "data" / "filters"
FORMS = filter_data.FORMS
# IPv6 has another number for ICMP, and other addresses have no meaning outside.
ONLY_V4 = {"ip6", "proto > 17", "proto 1-17", "public net 192.168.0.0/16"}
# A squeezed segment has no rows of dumps.
ONLY_RAW = {"event new,existing and tcp"}


@pytest.fixture(autouse=True)
def in_utc() -> Iterator[None]:
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


def examples(name: str) -> list[tuple[str, dict[bool, int]]]:
    """Expressions, with how many connections (True) and events (False) of an archive match."""
    found = []
    for line in (DATA / f"{name}.tsv").read_text().splitlines():
        *_, text, connections, events = line.split("\t")
        counts = {True: connections, False: events}
        found.append((text, {kind: int(count) for kind, count in counts.items() if count != "-"}))
    return found


def test_there_are_200_examples_and_30_questions() -> None:
    texts = {text for name in ("home", "campus") for text, _ in examples(name)}
    assert len(texts) >= 200
    questions = (DATA / "questions.tsv").read_text().splitlines()
    assert len(questions) == 30
    assert all(len(line.split("\t")) == 4 for line in questions)


@pytest.mark.slow
@pytest.mark.parametrize("connections", [True, False], ids=["connections", "events"])
@pytest.mark.parametrize(
    ("family", "form"), [(AF_INET, "raw"), (AF_INET6, "mixed")], ids=["IPv4", "IPv6"]
)
def test_the_slow_evaluator_of_the_page(
    family: int, form: str, connections: bool, tmp_path: Path
) -> None:
    """The counts are those of the page, whatever the archive's form.

    A squeezed segment has the state of an end only, and the last mark for both.
    """
    v6 = family == AF_INET6
    rows = filter_data.rows_of(
        filter_data.home(tmp_path / "log", family, form), connections=connections
    )
    inside = tuple(map(filter_data.as_v6, filter_data.INSIDE)) if v6 else filter_data.INSIDE
    names = filter_data.lists(tmp_path, v6=v6)
    for text, counts in [*examples("home"), *examples("questions")]:
        if connections in counts and not (v6 and text in ONLY_V4 | ONLY_RAW):
            asked = filter_data.expression_as_v6(text) if v6 else text
            asked = asked.format(**names)
            matches = Slow(filter_data.NOW, inside, connections).parse(asked)
            assert sum(map(matches, rows)) == counts[connections], asked


@pytest.mark.slow
@pytest.mark.parametrize("connections", [True, False], ids=["connections", "events"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["IPv4", "IPv6"])
def test_compiled_expressions(family: int, form: str, connections: bool, tmp_path: Path) -> None:
    """The same counts from raw, squeezed and mixed archives, of IPv4 and IPv6."""
    v6 = family == AF_INET6
    archive = filter_data.home(tmp_path / "log", family, form)
    names = filter_data.lists(tmp_path, v6=v6)
    left_out = (ONLY_V4 if v6 else set()) | (ONLY_RAW if form != "raw" else set())
    for text, counts in [*examples("home"), *examples("questions")]:
        if connections in counts and text not in left_out:
            asked = (filter_data.expression_as_v6(text) if v6 else text).format(**names)
            assert count(archive, asked, connections, v6=v6) == counts[connections], asked


@pytest.mark.slow
@pytest.mark.parametrize("connections", [True, False], ids=["connections", "events"])
@pytest.mark.parametrize("form", ["raw", "mixed"])
def test_compiled_expressions_about_a_campus(form: str, connections: bool, tmp_path: Path) -> None:
    archive = filter_data.campus(tmp_path / "log", form)
    for text, counts in examples("campus"):
        assert count(archive, text, connections) == counts[connections], text


def count(folder: Path, text: str, connections: bool, *, v6: bool = False) -> int:
    """How many connections or events of an archive match."""
    query = filter_data.query(text, connections=connections, v6=v6)
    archive = open_archive(map(str, paths(folder)), query)
    try:
        listed = list_connections(archive, ("start",)) if connections else list_events(archive, ())
        return sum(len(table) for batch in listed for table in batch.tables)
    finally:
        archive.close()

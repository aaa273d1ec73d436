"""Example filters with the counts of the slow evaluator, which was written from ctfilter(7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support import filter_data
from tests.support.slow_filter import Slow

DATA = Path(__file__).resolve().parents[2] / "data" / "filters"
FORMS = filter_data.FORMS
# IPv6 has another number for ICMP.
ONLY_V4 = {"ip6", "proto > 17", "proto 1-17"}


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
    ("family", "form"), [(AF_INET, "raw"), (AF_INET, "squeezed"), (AF_INET6, "mixed")]
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
        if connections in counts and not (v6 and text in ONLY_V4):
            asked = filter_data.expression_as_v6(text) if v6 else text
            asked = asked.format(**names)
            matches = Slow(filter_data.NOW, inside, connections).parse(asked)
            assert sum(map(matches, rows)) == counts[connections], asked

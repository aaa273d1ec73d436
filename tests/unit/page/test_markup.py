"""HTML: whatever others wrote is text, and nothing else."""

from __future__ import annotations

import html
import re

import pytest

from ctrecorder.page.markup import content, facts, name_of, quoted, table, tag
from tests.support.page_twins import HOSTILE


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_escaped_wherever_it_stands(text: str) -> None:
    for made in (
        content(text),
        tag("p", text),
        tag("meta", content=text),
        quoted(text),
        name_of(text),
        table([text], [[text]], text),
        facts([(text, text)]),
    ):
        rest = re.sub(
            r"</?(p|span|bdo|bdi|table|caption|[a-z]{1,5})( [a-z]+=\"[^\"]*\")*>", "", made
        )
        assert not set(rest) & set('<>"')
        assert all(char.isprintable() or char == "\n" for char in made)


def test_elements_nest_and_what_is_made_is_not_escaped_again() -> None:
    made = tag("p", "a & ", tag("b", "<"), ["c", (each for each in "de")], class_="x", data_y='"')
    assert made == '\n<p class="x" data-y="&quot;">a &amp; <b>&lt;</b>cde</p>'


def test_a_name_of_an_attribute_can_be_a_parameter() -> None:
    assert tag("meta", name="n", content="c") == '\n<meta name="n" content="c">'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", " =1", "\t=1"])
def test_no_cell_is_computed_when_it_is_pasted(text: str) -> None:
    shown = re.sub("<[^>]*>", "", table(["h"], [[tag("p", text)], [quoted(text)]], "t"))
    cells = [html.unescape(line).strip() for line in shown.split("\n") if line.strip()][2:]
    assert cells
    assert not [cell for cell in cells if cell[0] in "=+-@"]


def test_a_fact_without_a_value_is_left_out() -> None:
    assert facts([("none", ""), ("one", "1")]).count("<dt>") == 1

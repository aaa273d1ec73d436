"""HTML, character for character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.html import without_marks


@given(st.text("<>&;/a-!#1 \n", max_size=80))
def test_the_length_stays(text: str) -> None:
    assert len(without_marks(text)) == len(text)


@given(st.sampled_from(["<!--", "<script>", "<style x=1>"]), st.text("ab<> ", max_size=20))
def test_what_is_hidden_is_not_read(begin: str, inside: str) -> None:
    end = {"<!--": "-->", "<script>": "</script >", "<style x=1>": "</STYLE>"}[begin]
    page = f"x{begin}{inside}{end}y"
    assert without_marks(page).split() == ["x", "y"]
    assert without_marks(f"x{begin}{inside}").split() == ["x"]


def test_marks_and_entities() -> None:
    assert without_marks("<td>a</td><td>b</td>").split() == ["a", "b"]
    assert "\n" in without_marks("a<br/>b")
    assert without_marks("&lt;&amp;&#65;&nbsp;&bogus;") == "<   &    A" + " " * 10 + "&bogus;"


def test_lines_that_belong_together_are_not_parted() -> None:
    """A browser shows no empty line between rows, items, divisions, and behind <br>."""
    for text in (
        "<tr><td>a</td></tr>\n <tr><td>b</td></tr>",
        "<div>a</div><div>b</div>",
        "a<br>\nb",
        "<li>a</li>\n<li>b</li>",
    ):
        shown = without_marks(text)
        assert len(shown) == len(text)
        assert shown.strip().split("\n")[0].strip() == "a"
        assert [line.strip() for line in shown.strip().split("\n")] == ["a", "b"]
    assert len(without_marks("<p>a</p>\n<p>b</p>").strip().split("\n")) == 3
    assert without_marks("<pre>a\n\nb</pre>").count("\n") == 3

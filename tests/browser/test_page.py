"""The page in a real browser: on a screen, and printed on A4 (make check-browser).

The pictures are kept in the folder of CTRECORDER_PICTURES, to look at.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.page import answer, twin
from tests.support import page_twins
from tests.support.page_twins import FREE, HOSTILE, with_text

A4_POINTS = (595, 842)
LONG = with_text(
    page_twins.of_letter(), "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", frozenset(["address"])
)
PAGES: dict[str, Any] = {
    "one": page_twins.answer(),
    "several": page_twins.several(),
    "letter": page_twins.of_letter(),
    "ipv6": LONG,
    "hostile": with_text(page_twins.several(), "".join(HOSTILE), FREE),
}


class Browser:
    """Debian's chromium, without a network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, path: Path, *options: str) -> str:
        """What it writes on standard output; it must not complain about the page."""
        command = ["unshare", "--net", "chromium", "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
        command += [f"--user-data-dir={self.folder / 'profile'}", "--enable-logging=stderr"]
        done = subprocess.run(
            [*command, *options, path.as_uri()],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = [line for line in done.stderr.split("\n") if "CONSOLE" in line and "file:" in line]
        assert said == []
        return done.stdout


@pytest.fixture(params=PAGES)
def shown(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A page as a file, NAME.html."""
    path = tmp_path / f"{request.param}.html"
    path.write_text(answer.html(PAGES[request.param]))
    return path


def kept(path: Path) -> None:
    """Keep a picture for those who want to look at it."""
    if folder := os.environ.get("CTRECORDER_PICTURES"):
        shutil.copy(path, folder)


def visible(page: str) -> Counter[str]:
    """How often each character stands in what is printed."""
    printed = re.sub(r"(?s)<head>.*</head>|<(details|h2) class=.screen.>.*?</\1>", "", page)
    return Counter("".join(html.unescape(re.sub("<[^>]*>", "", printed)).split()))


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_on_a_screen_the_style_applies_and_nothing_runs(shown: Path, tmp_path: Path) -> None:
    picture = shown.with_suffix(".png")
    browser = Browser(tmp_path)
    browser.run(shown, "--window-size=1000,3000", f"--screenshot={picture}")
    kept(picture)
    dom = browser.run(shown, "--dump-dom")
    assert "<script" not in dom
    assert dom.count("<style>") == 1
    spelled = twin.spelling(PAGES[shown.stem])
    assert f'<pre id="twin">{spelled}</pre>' in dom, "the browser shows the very bytes"


def test_on_a4_nothing_is_cut_and_each_sheet_has_the_hash(shown: Path, tmp_path: Path) -> None:
    paper = shown.with_suffix(".pdf")
    Browser(tmp_path).run(shown, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    kept(paper)
    info = output("pdfinfo", paper)
    size = re.search(r"Page size: +([\d.]+) x ([\d.]+)", info)
    assert size is not None
    assert (round(float(size[1])), round(float(size[2]))) == A4_POINTS
    digest = twin.digest(twin.spelling(PAGES[shown.stem]))
    sheets = output("pdftotext", "-layout", paper, "-").split("\f")[:-1]
    for number, sheet in enumerate(sheets, 1):
        assert f"SHA-256 of the twin: {digest}" in sheet
        assert re.search(rf"\b{number} ?/ ?{len(sheets)}\b", sheet)
    boxes = output("pdftotext", "-bbox", paper, "-")
    words = re.findall(
        r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)"', boxes
    )
    assert len(words) > 100
    margin = 30
    for left, top, right, bottom in (tuple(map(float, word)) for word in words):
        assert margin < left < right < A4_POINTS[0] - margin
        assert 0 < top < bottom < A4_POINTS[1]
    missing = visible(shown.read_text()) - Counter("".join(sheets))
    assert not missing, "characters that are on no sheet"
    text = " ".join("".join(sheets).split())
    whole = PAGES[shown.stem]
    for one in whole.get("questions", [whole]):
        assert one["verdict"] in text
    assert "The JSON twin" not in text, "what folds away on a screen is not printed"

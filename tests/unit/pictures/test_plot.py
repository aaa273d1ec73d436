"""The pictures, opened and looked into: text, units, holes, without colour."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.pictures import plot
from ctrecorder.pictures.rates import Rates, edges_of, ints, step_for
from ctrecorder.times import HOUR, MINUTE, SECOND
from tests.support.router import CHECKOUT
from tests.unit.pictures.test_rates import table

pytestmark = pytest.mark.slow
BEGIN = 1_795_455_437 * SECOND
HOLE = (BEGIN + 10 * HOUR, BEGIN + 13 * HOUR)
NAMES = ["2001:db8:1234:5678:9abc:def0:1234:5678, 443, 2026.11.23", "192.0.2.1", "192.0.2.2"]
BARS: Any = [
    ("remote,port,day: 3 of 8 by bytes", "bytes", [(NAMES[0], 1.2e9, "1,200,000,000"),
                                                   (NAMES[1], 4e8, "400,000,000"),
                                                   (NAMES[2], 3.0, "3")]),
    ("port: 2 of 9", "connections", [("53", 9, "9"), ("443", 5, "5")]),
]  # fmt: skip


def ahead(seconds: Any) -> Any:
    return np.full(len(seconds), 3600)


def draw(path: Path, hours: int = 26) -> Rates:
    random = np.random.default_rng(1)
    starts = random.integers(BEGIN, BEGIN + hours * HOUR, 20_000)
    starts = starts[(starts < HOLE[0]) | (starts >= HOLE[1])]
    kinds = random.choice(
        np.array([6, 17, 1, 132, 47, 50, 33], "u1"),
        len(starts),
        p=[0.5, 0.25, 0.1, 0.06, 0.04, 0.03, 0.02],
    )
    step = step_for(BEGIN, BEGIN + hours * HOUR, 300)
    rates = Rates(edges_of(BEGIN, BEGIN + hours * HOUR, step, ahead))
    rates.add(table(ints(starts), l4proto=kinds))
    plot.rates(str(path), rates, [HOLE], step, utc=False, offsets=ahead)
    return rates


def texts(path: Path) -> list[tuple[str, float, float, float, float]]:
    """Each text of an SVG with its box: left, right, top, bottom, in pixels, about."""
    found = []
    for one in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text"):
        style, text = one.get("style", ""), "".join(one.itertext())
        pixels = re.search(r"([\d.]+)px", style)
        assert pixels, style
        size = float(pixels[1])
        place = re.search(r"translate\(([\d.-]+) ([\d.-]+)\)", one.get("transform", ""))
        x, y = (
            (float(place[1]), float(place[2]))
            if place
            else (float(one.get("x", 0)), float(one.get("y", 0)))
        )
        wide = 0.6 * size * len(text)
        if "rotate(-90" in one.get("transform", ""):
            found.append((text, x - size, x, y - wide / 2, y + wide / 2))
            continue
        left = {"middle": x - wide / 2, "end": x - wide}.get(
            (re.search(r"text-anchor: (\w+)", style) or ["", ""])[1], x
        )
        found.append((text, left, left + wide, y - size, y))
    return found


def overlaps(path: Path) -> list[tuple[str, str]]:
    return [
        (one[0], other[0])
        for one, other in combinations(texts(path), 2)
        if one[1] < other[2] and other[1] < one[2] and one[3] < other[4] and other[3] < one[4]
    ]


def test_the_rate_says_what_it_shows(tmp_path: Path) -> None:
    draw(tmp_path / "rate.svg")
    words = [text for text, *_ in texts(tmp_path / "rate.svg")]
    assert "connections begun per minute" in words
    assert "local time, UTC+01:00; bins of 15 min" in words
    legend = ["tcp", "udp", "icmp", "sctp", "gre", "others", "hole: not all was recorded"]
    assert [word for word in words if word in legend] == legend


@pytest.mark.parametrize("hours", [1, 26, 24 * 40, 24 * 500])
def test_labels_do_not_overlap(tmp_path: Path, hours: int) -> None:
    draw(tmp_path / "rate.svg", hours)
    assert overlaps(tmp_path / "rate.svg") == []
    assert sum(bool(re.search(r"\d", text)) for text, *_ in texts(tmp_path / "rate.svg")) > 6


def test_without_colour(tmp_path: Path) -> None:
    """In grey, the hole is hatched, nothing is drawn over it, and lines differ in their dashes."""
    from matplotlib import image

    draw(tmp_path / "rate.png")
    grey = image.imread(tmp_path / "rate.png")[:, :, :3].mean(axis=2)
    height, width = grey.shape
    assert (height, width) == (450, 1000)
    hole = grey[100:380, 440:510]
    assert {round(float(one), 1) for one in np.unique(hole)} >= {0.3, 0.9}
    assert 0.05 < float((hole < 0.5).mean()) < 0.4
    assert float((grey[60:380, 600:900] < 0.99).mean()) < 0.2
    root = ElementTree.parse(_svg(tmp_path)).getroot()
    dashes = set()
    for one in root.iter("{http://www.w3.org/2000/svg}path"):
        style = one.get("style", "")
        if "stroke-width: 1.5" in style:
            dashes.add((re.search(r"stroke-dasharray: ([\d., ]+)", style) or ["", ""])[1])
    assert len(dashes) >= 6


def _svg(folder: Path) -> Path:
    draw(folder / "rate.svg")
    return folder / "rate.svg"


def test_nothing_is_drawn_where_nothing_was_recorded(tmp_path: Path) -> None:
    rates = draw(tmp_path / "rate.png")
    assert rates.holes([HOLE]).count("all") == 11
    assert int(rates.total[[one == "all" for one in rates.holes([HOLE])]].sum()) == 0


def test_bars(tmp_path: Path) -> None:
    plot.bars(str(tmp_path / "bars.svg"), BARS)
    words = [text for text, *_ in texts(tmp_path / "bars.svg")]
    assert {"bytes", "connections", "1,200,000,000", "port: 2 of 9", "192.0.2.1"} <= set(words)
    assert any("…" in word and len(word) < 50 for word in words)
    assert overlaps(tmp_path / "bars.svg") == []


def test_bars_of_nothing(tmp_path: Path) -> None:
    plot.bars(str(tmp_path / "bars.svg"), [("port: 0 of 0", "connections", [])])
    assert "port: 0 of 0" in [text for text, *_ in texts(tmp_path / "bars.svg")]


def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        draw(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends with \.png or \.svg"):
        plot.format_of("picture.pdf")
    with pytest.raises(ArchiveError, match="No such file"):
        plot.bars(str(tmp_path / "none" / "a.png"), BARS)


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "x.svg"
    victim.write_text("precious")
    path.symlink_to(victim)
    for _ in range(2):  # over a picture, too
        draw(path)
        assert b"<svg" in path.read_bytes()
    assert not path.is_symlink()
    assert victim.read_text() == "precious"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["victim", "x.svg"]


def test_without_matplotlib() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from ctrecorder.listing.ctlist import "
    code += "main; sys.exit(main(['--plot', 'x.png', 'tests/data/golden']))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "ctlist: --plot needs matplotlib: apt install python3-matplotlib" in done.stderr
    assert "Traceback" not in done.stderr


def test_minutes_are_shown_for_a_short_time(tmp_path: Path) -> None:
    rates = Rates(edges_of(BEGIN, BEGIN + 30 * MINUTE, MINUTE, ahead))
    rates.add(table([BEGIN + 5 * MINUTE] * 300))
    plot.rates(str(tmp_path / "a.svg"), rates, [], MINUTE, utc=True, offsets=ahead)
    words = [text for text, *_ in texts(tmp_path / "a.svg")]
    assert "connections begun per second" in words
    assert "UTC; bins of 1 min" in words


@pytest.mark.parametrize("hours", [1, 2.9, 4.9, 11, 24, 71, 100, 700, 2500, 9000])
def test_each_length_of_time_has_its_labels(hours: float) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([20_000.4, 20_000.4 + hours / 24], [0, 1])
    plot._dates(axes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 2 <= len(axes.xaxis.get_major_locator()()) <= 10

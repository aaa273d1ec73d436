"""Pictures as files, by matplotlib, which is imported here alone."""

from __future__ import annotations

import datetime
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctrecorder import labels
from ctrecorder.errors import ArchiveError, UsageError, why
from ctrecorder.folder import Folder
from ctrecorder.pictures.histogram import step_text
from ctrecorder.pictures.rates import Offsets, Rates, ints
from ctrecorder.pictures.zone import zone_text
from ctrecorder.spans import Span, clip, joined
from ctrecorder.times import DAY, HOUR, MINUTE, SECOND

FORMATS = ("png", "svg")
# Without colour, lines differ in their dashes.  The colours are those of Okabe and Ito, which also
# differ in brightness and for the colour blind.
_STYLES = (
    ("#000000", "-"),
    ("#0072B2", "--"),
    ("#D55E00", ":"),
    ("#009E73", "-."),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1))),
    ("#7F7F7F", (0, (1, 3))),
)
MOST_PROTOCOLS = len(_STYLES) - 1
_WIDTH_INCHES, _RATE_INCHES, _BAR_INCHES, _DOTS = 10.0, 4.5, 0.28, 100
_RATES = ((SECOND, "second"), (MINUTE, "minute"), (HOUR, "hour"), (DAY, "day"))
_LABEL_CHARACTERS = 46


def format_of(path: str) -> str:
    """The format of a picture, by the end of its name.  Raises UsageError."""
    found = os.path.splitext(path)[1].lower().removeprefix(".")
    if found not in FORMATS:
        raise UsageError(f"--plot {path}: the name ends with .png or .svg")
    return found


def check() -> None:
    """Raise UsageError if matplotlib is missing."""
    _pyplot()


def rates(
    path: str,
    found: Rates,
    holes: Sequence[Span],
    step: int,
    *,
    utc: bool,
    offsets: Offsets,
) -> None:
    """A picture of the rate by protocol, with the holes hatched."""
    figure, axes = _figure(_RATE_INCHES)
    edges = [_date(edge, offsets, utc=utc) for edge in ints(found.edges)]
    unit, name = _unit(found, step)
    parts = found.by_protocol(MOST_PROTOCOLS)
    # Where nothing was recorded, no rate is known.
    hidden = np.array([one == "all" for one in found.holes(holes)], np.bool_) & (found.total == 0)
    lengths = np.where(hidden, np.nan, np.diff(found.edges))
    for (number, counts), (colour, dashes) in zip(parts, _STYLES, strict=False):
        label = "others" if number is None else labels.protocol(number)
        heights = (counts * unit / lengths).tolist()
        axes.stairs(
            heights,
            edges,
            baseline=None,
            label=label,
            color=colour,
            linestyle=dashes,
            linewidth=1.5,
        )
    begin, end = int(found.edges[0]), int(found.edges[-1])
    shaded = [part for one in joined(holes) for part in clip(one, (begin, end))]
    for place, (first, last) in enumerate(shaded):
        axes.axvspan(
            _date(first, offsets, utc=utc),
            _date(last, offsets, utc=utc),
            facecolor="#DDDDDD",
            edgecolor="#555555",
            hatch="///",
            linewidth=0.5,
            label="hole: not all was recorded" if not place else None,
            zorder=0,
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"connections begun per {name}")
    axes.set_xlabel(f"{zone_text(found.edges, offsets, utc=utc)}; bins of {step_text(step)}")
    _dates(axes)
    axes.grid(axis="y", color="#CCCCCC", linewidth=0.5)
    if parts or shaded:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncol=4, frameon=False)
    _save(figure, path)


def bars(path: str, tops: Sequence[tuple[str, str, Sequence[tuple[str, float, str]]]]) -> None:
    """A picture with bars.

    `tops`: of each the title, the unit, and of each row the label, the length and the text.
    """
    rows = [max(len(one), 1) for _, _, one in tops]
    figure, found = _figure(
        sum(rows) * _BAR_INCHES + 1.2 * len(tops), ratios=[row + 3 for row in rows]
    )
    axes_of = [found] if len(tops) == 1 else list(found)
    for axes, (title, unit, one) in zip(axes_of, tops, strict=True):
        names = [_short(label) for label, _, _ in one]
        places = list(range(len(one)))
        drawn = axes.barh(
            places,
            [length for _, length, _ in one],
            color="#9ECAE1",
            edgecolor="#000000",
            linewidth=0.7,
            hatch="..",
        )
        axes.bar_label(drawn, [text for _, _, text in one], padding=4, fontsize=9)
        axes.set_yticks(places, names)
        axes.set_ylim(max(len(one), 1) - 0.4, -0.6)
        axes.margins(x=0.22)
        axes.set_xlim(left=0)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(_ticker().MaxNLocator(6))
        axes.xaxis.set_major_formatter(_ticker().EngFormatter(sep=""))
        axes.grid(axis="x", color="#CCCCCC", linewidth=0.5)
        axes.set_axisbelow(True)
    _save(figure, path)


def _pyplot() -> Any:
    """matplotlib, without a screen."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
        matplotlib.rcParams["svg.hashsalt"] = "ctrecorder"  # the same picture is the same file
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError(
            f"--plot needs matplotlib: apt install python3-matplotlib ({error})"
        ) from error
    return pyplot


def _figure(height: float, ratios: list[int] | None = None) -> tuple[Any, Any]:
    pyplot = _pyplot()
    count = len(ratios or [1])
    found: tuple[Any, Any] = pyplot.subplots(
        count,
        1,
        figsize=(_WIDTH_INCHES, height),
        layout="constrained",
        gridspec_kw={"height_ratios": ratios or [1]},
    )
    return found


def _save(figure: Any, path: str) -> None:
    pyplot = _pyplot()
    form = format_of(path)
    metadata: Any = {"Date": None} if form == "svg" else {"Software": "ctlist"}
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=form, dpi=_DOTS, metadata=metadata)
    finally:
        pyplot.close(figure)
    mask = os.umask(0)
    os.umask(mask)
    try:
        with Folder.of(path) as folder:
            folder.replace(os.path.basename(path), drawn.getvalue(), 0o666 & ~mask)
    except OSError as error:
        raise ArchiveError(f"{path}: {why(error)}") from error


def _date(ns: int, offsets: Offsets, *, utc: bool) -> float:
    """A time on the axis, in days: of the local clock, or of UTC."""
    seconds = ns / SECOND
    if not utc:
        seconds += int(offsets(np.array([ns // SECOND]))[0])
    return seconds / 86_400


def _dates(axes: Any) -> None:
    """Labels of dates and times that do not overlap."""
    from matplotlib import dates

    locator = dates.AutoDateLocator(tz=datetime.UTC, minticks=3, maxticks=9)
    formatter = dates.ConciseDateFormatter(locator, tz=datetime.UTC)
    formatter.formats = ["%Y", "%m-%d", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]
    formatter.zero_formats = ["", "%Y-%m-%d", "%m-%d", "%m-%d", "%H:%M", "%H:%M"]
    formatter.offset_formats = ["", "%Y", "%Y", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"]
    axes.xaxis_date(tz=datetime.UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker


def _unit(found: Rates, step: int) -> tuple[int, str]:
    """The shortest unit of a rate in which the greatest one is at least 1."""
    most = max(1, int(found.total.max()))
    return next(((unit, name) for unit, name in _RATES if most * unit >= step), _RATES[-1])


def _short(label: str) -> str:
    if len(label) <= _LABEL_CHARACTERS:
        return label
    half = (_LABEL_CHARACTERS - 1) // 2
    return f"{label[:half]}…{label[-half:]}"

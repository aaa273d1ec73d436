"""Where the lines of ctlist go, and what is said of them: to a screen with a pager, or a pipe.

In a pipe, holes are reported on standard error before the lines.  On a screen they stand between
the lines, at their time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ctrecorder.arguments.ask import inside_addresses
from ctrecorder.cli import common
from ctrecorder.columns import Table
from ctrecorder.fleet.by_router import ByRouter, router_field
from ctrecorder.order.by_column import columns_of
from ctrecorder.render.holes import describe
from ctrecorder.render.renderer import Renderer
from ctrecorder.render.timeline import CoverageHole
from ctrecorder.screen import fields
from ctrecorder.screen.colour import Paint, wanted
from ctrecorder.screen.layout import ASCII, UNICODE
from ctrecorder.screen.selected import Selected
from ctrecorder.screen.template import Template
from ctrecorder.screen.view import View


class Lines(Protocol):
    """Renders rows.

    `columns`: what it reads of tables.  `head`: the text before all lines.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def head(self) -> bytes: ...

    def lines(
        self, tables: Sequence[Table], order: NDArray[np.intp] | None = None
    ) -> Iterator[bytes | bytearray]: ...


def lines_of(args: argparse.Namespace, routers: Sequence[str] = ()) -> Lines:
    """What renders the rows; `routers`: of these, with the router.  Raises UsageError."""
    look = look_of(args)
    columns_of(args.sort, connections=args.connections)  # a wrong one is refused before any reading
    columns = None
    if args.columns is not None:
        columns = fields.fields_of(args.columns, connections=args.connections)
    form = args.format if args.format in ("csv", "json") else "text"
    added = [router_field(routers, form)] if routers else []
    if "{" in args.format:
        return Template(args.format, look, added)
    if columns and args.format in ("csv", "json"):
        return Selected(args.format, [*added, *columns], look)
    if columns or on_screen(args):
        # Of columns that were asked for, none is shortened in a pipe.
        is_wide = columns is not None and not on_screen(args)
        return View(
            look,
            width=None if is_wide else shutil.get_terminal_size().columns,
            columns=columns,
            before=added,
            signs=UNICODE if is_unicode() else ASCII,
            paint=Paint(on=wanted(args.color, terminal=is_terminal(), environment=os.environ)),
        )
    renderer = Renderer(
        args.format, connections=args.connections, utc=args.utc, heard=not shows_stops(args)
    )
    return ByRouter(renderer, routers, args.format) if routers else renderer


def names_router(args: argparse.Namespace) -> bool:
    """If a template has the router, which lines of many routers alone have."""
    form: str = args.format
    return re.search(r"\{router[:}]", form) is not None


def look_of(args: argparse.Namespace) -> fields.Look:
    """How rows are shown."""
    return fields.Look(
        connections=args.connections,
        utc=args.utc,
        inside=inside_addresses(),
        heard=not shows_stops(args),
        dated=bool(args.sort),
        exact="{" in args.format or args.format in ("csv", "json"),
    )


def shows_stops(args: argparse.Namespace) -> bool:
    """Whether the time of an end is the kernel's stop, if it is recorded.

    JSON and CSV have both.  The formats of other programs have the times of these.
    """
    people = args.format in ("text", "screen") or "{" in args.format
    return people and args.times == "kernel" and not args.connections


def on_screen(args: argparse.Namespace) -> bool:
    """Whether the rows are laid out for a screen: on a terminal, or if colours are wanted."""
    if args.anonymize or args.omit:  # which ends are inside cannot be seen any more
        return False
    return args.format == "screen" or (
        args.format == "text" and (is_terminal() or args.color == "always")
    )


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    try:
        return os.isatty(1)
    except OSError:
        return False


def is_unicode() -> bool:
    """Whether the locale has characters other than ASCII.

    Python writes UTF-8 in the locale C too, and then sets LC_CTYPE to C.UTF-8 itself (PEP 538).
    """
    environment = os.environ
    language = environment.get("LANG", "")
    named = environment.get("LC_ALL") or environment.get("LC_CTYPE") or language
    if named == "C.UTF-8" and not environment.get("LC_ALL") and language in ("", "C", "POSIX"):
        return False
    return named.lower().replace("-", "").partition("@")[0].endswith("utf8")


class Output:
    """Writes the lines, and what is said of them."""

    def __init__(self, lines: Lines, *, utc: bool) -> None:
        self._lines, self._utc = lines, utc
        self._view = lines if isinstance(lines, View) else None

    def head(self, holes: Sequence[CoverageHole], text: bytes) -> None:
        """Begin, with the holes that are known before the lines, and `text` before all lines."""
        if self._view is None:
            for hole in holes:
                self._report(describe(hole, utc=self._utc))
        else:
            self._view.holes = [
                (hole.start, describe(hole, utc=self._utc))
                for hole in sorted(holes, key=lambda one: one.start)
            ]
        common.write_out(text)

    def rows(self, tables: Sequence[Table], order: NDArray[np.intp] | None) -> None:
        """Write the lines of rows."""
        for text in self._lines.lines(tables, order):
            common.write_out(text)

    def hole(self, hole: CoverageHole) -> None:
        """A hole, now."""
        self.end([hole], [])

    def end(self, holes: Sequence[CoverageHole], notes: Sequence[str]) -> None:
        """After the last line: the holes that the lines proved, and notes on the whole."""
        texts = [*(describe(hole, utc=self._utc) for hole in holes), *notes]
        if self._view is None:
            for text in texts:
                self._report(text)
            return
        self._view.holes += [(0, text) for text in texts]
        common.write_out(self._view.rest())

    def _report(self, text: str) -> None:
        common.report("ctlist", text)


@contextlib.contextmanager
def paged(args: argparse.Namespace) -> Iterator[None]:
    """With a pager if standard output is a terminal and rows are for people."""
    is_text = args.format in ("text", "screen") or args.columns is not None
    if not is_text or not is_terminal() or args.no_pager:
        yield
        return
    from ctrecorder.screen import pager  # subprocess takes time to import

    with pager.paged(pager.command(os.environ)):
        yield

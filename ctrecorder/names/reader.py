"""--names: a file, a folder of files, or a command."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol, cast

from ctrecorder.errors import ArchiveError, UsageError, why
from ctrecorder.moments.moment import Zones
from ctrecorder.names import dhcpd, dnsmasq, kea, radius, rows
from ctrecorder.names.command import Command
from ctrecorder.names.directory import Directory
from ctrecorder.names.entry import Addresses, Entry, Line
from ctrecorder.names.store import Entries
from ctrecorder.names.written import Times
from ctrecorder.terminal import printable
from ctrecorder.times import BEGIN, END

# A longer line is damage: a line of these forms has some hundred bytes.
MAX_LINE = 65_536
# More files are a wrong folder.
MAX_FILES = 10_000
# One wrong line can mean a million.
MAX_PROBLEMS = 20
_FORMS = "leases of dnsmasq, Kea or ISC dhcpd, a detail file of FreeRADIUS, or CSV"


class Form(Protocol):
    """A reader of one kind of file, over all files of this kind in their order."""

    def feed(self, line: Line) -> Sequence[Entry]:
        """What the line completes.  Raises ValueError: the reason why a line is no use."""

    def finish(self) -> Sequence[Entry]:
        """What is still open."""


def read(
    source: str,
    now: int,
    *,
    zone: str = "",
    since: int = BEGIN,
    until: int = END,
    addresses: Collection[str] | None = None,
) -> Directory:
    """The directory that `source` names.

    "|/PATH" is a command.  Everything else is a file or a folder, never a command: an executable
    bit says little, because a copied file or a mounted disk of Windows has it everywhere.

    `now`: ns.  `zone`: of times that name none.  `since`, `until`: ns, the time of all questions.
    `addresses`: those of all questions; None: any.  What is outside is left out: a large source
    then takes little memory, and less time.  What cannot be read is in `problems`.

    Raises UsageError, ArchiveError.
    """
    times = Times(now, Zones(option=zone))
    if source.startswith("|"):
        return Command(source[1:], times)
    files = _files(source)
    entries = Entries(since, until)
    reading = _Reading(entries, Addresses(addresses), times)
    for number, path in enumerate(files):
        reading.file(number, path)
    reading.finish()
    return entries.directory(files, reading.shown_problems())


def _files(source: str) -> list[str]:
    """The file, or the files of the folder and those below it, in order of their names."""
    if not os.path.isdir(source):
        return [source]
    found = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [os.path.join(folder, name) for name in sorted(names) if name[:1] != "."]
        found += [path for path in paths if os.path.isfile(path)]
        if len(found) > MAX_FILES:
            raise UsageError(f"{source}: more than {MAX_FILES:,} files: name a part of them")
    if not found:
        raise UsageError(f"{source}: no files here")
    return found


class _Reading:
    """Reads files into `entries`."""

    def __init__(self, entries: Entries, addresses: Addresses, times: Times) -> None:
        self._entries = entries
        self._written: dict[int, int] = {}
        self._known: list[tuple[Callable[[str], bool], Form]] = [
            (kea.recognises, kea.Kea(addresses)),
            (dhcpd.recognises, dhcpd.Dhcpd(addresses)),
            (dnsmasq.recognises, dnsmasq.Dnsmasq(addresses, self._written)),
            (radius.recognises, radius.Radius(addresses, times)),
            (rows.recognises, rows.Rows(addresses, times)),
        ]
        self._damaged: list[str] = []
        self._problems: list[str] = []
        self._count = 0

    def file(self, number: int, path: str) -> None:
        """Read one file.  Raises ArchiveError, UsageError: of no known form, too many entries."""
        form: Form | None = None
        line = Line(number, 0, "")
        try:
            self._written[number] = os.stat(path).st_mtime_ns
            with _opened(path) as file:
                for text in _lines(file):
                    line = Line(number, line.number + 1, text)
                    form = form or self._form_of(text)
                    if form is not None:
                        self._feed(form, line, path)
                    elif text.strip() and not text.startswith("#"):
                        raise UsageError(f"{path}: it is none of: {_FORMS}")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            if len(self._damaged) < MAX_PROBLEMS:
                where = f"{path}: damaged; it is not read from line {line.number + 1} on"
                self._damaged.append(printable(where))
        except OSError as error:
            raise ArchiveError(f"--names: {path}: {why(error)}") from None
        if form is not None:  # a record of RADIUS ends with an empty line
            self._feed(form, Line(number, line.number + 1, ""), path)

    def finish(self) -> None:
        """After the last file."""
        for _, form in self._known:
            for entry in form.finish():
                self._entries.add(entry)

    def shown_problems(self) -> list[str]:
        """Damaged files, the first lines that cannot be read, and how many more there are."""
        more = self._count - len(self._problems)
        return [
            *self._damaged,
            *self._problems,
            *([f"{more:,} more lines cannot be read"] if more else []),
        ]

    def _form_of(self, text: str) -> Form | None:
        """The reader of the kind of file that has this line."""
        return next((form for recognises, form in self._known if recognises(text)), None)

    def _feed(self, form: Form, line: Line, path: str) -> None:
        try:
            if len(line.text) >= MAX_LINE:
                raise ValueError("it is too long")
            for entry in form.feed(line):
                self._entries.add(entry)
        except ValueError as error:
            self._problem(path, line.number, str(error))

    def _problem(self, path: str, number: int, reason: str) -> None:
        self._count += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(printable(f"{path}, line {number}: {reason}"))


def _opened(path: str) -> IO[bytes]:
    if path.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path))
    return Path(path).open("rb")


def _lines(file: IO[bytes]) -> Iterator[str]:
    """Lines without their ends; of one that is too long, the first part."""
    mark = b"\xef\xbb\xbf"  # Windows begins files of UTF-8 so
    while raw := file.readline(MAX_LINE):
        part = raw
        while len(part) == MAX_LINE and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE)
        yield raw.removeprefix(mark).decode(errors="backslashreplace").rstrip("\r\n")
        mark = b""

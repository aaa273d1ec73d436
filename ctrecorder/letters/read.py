"""Letters out of files, mailboxes and folders, which are never changed."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ctrecorder.envelopes.bounds import MAX_BYTES, MAX_DEPTH, Budget, Refused
from ctrecorder.envelopes.unpack import GZIP, ZIP, Broken, gunzip, unzip
from ctrecorder.errors import ArchiveError, why
from ctrecorder.letters.reader import read_letter
from ctrecorder.letters.sighting import Letter
from ctrecorder.terminal import printable

# A line between two mails of a mailbox: "From someone@example.com Tue Nov 24 06:00:05 2026".
_FROM = re.compile(rb"From \S{1,300} {1,4}[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]?\d ")
# The folders of a Maildir with letters; what is in "tmp" is not whole yet.
_MAILDIR = ("cur", "new")
_CHUNK = 2**16


def read(data: bytes, name: str, now: int, zone: str = "") -> Iterator[Letter]:
    """The letters in these bytes: a mail, a mailbox, an archive of letters, or another file.

    `name`: what to call them; `now`: ns; `zone`: of times whose zone the letter does not tell.
    """
    yield from _unpacked(data, printable(name), now, zone, Budget(), 0)


def read_path(path: str, now: int, zone: str = "") -> Iterator[Letter]:
    """The letters in a file, "-" for standard input, a Maildir, or a folder of files.

    A file that cannot be read is a letter with a problem.  Raises ArchiveError: there is no such
    file or folder.
    """
    if path == "-":
        yield from _stream(sys.stdin.buffer, "-", now, zone)
        return
    try:
        folder = Path(path).is_dir()
        names = _names(Path(path)) if folder else [Path(path)]
    except OSError as error:
        raise ArchiveError(f"cannot read {printable(path)}: {why(error)}") from error
    for each in names:
        name = printable(str(each))
        try:
            with each.open("rb") as file:
                yield from _stream(file, name, now, zone)
        except OSError as error:
            if not folder:
                raise ArchiveError(f"cannot read {name}: {why(error)}") from error
            yield Letter(name, "", problem=f"cannot be read: {why(error)}")


def _names(folder: Path) -> list[Path]:
    """The files of a Maildir or a folder, in the order of their names; no hidden ones."""
    if all((folder / name).is_dir() for name in _MAILDIR):
        folders = [folder / name for name in _MAILDIR]
    else:
        folders = [folder]
    found = [path for each in folders for path in each.iterdir() if path.is_file()]
    return sorted(path for path in found if not path.name.startswith("."))


def _stream(file: IO[bytes], name: str, now: int, zone: str) -> Iterator[Letter]:
    """The letters of an open file; of a mailbox one after the other, whatever its size."""
    first = file.readline(MAX_BYTES)
    if _FROM.match(first):
        yield from _box(file, first, name, now, zone)
        return
    data = first + file.read(MAX_BYTES + 1 - len(first))
    yield from read(data, name, now, zone)


def _box(file: IO[bytes], first: bytes, name: str, now: int, zone: str) -> Iterator[Letter]:
    """The mails of a mailbox, called "name#1", "name#2"; one mail alone has the file's name."""
    number = 1
    mail, size = [first], len(first)
    blank = False
    while line := file.readline(_CHUNK):
        if blank and _FROM.match(line):
            yield read_letter(b"".join(mail), f"{name}#{number}", now, zone)
            number += 1
            mail, size = [], 0
        blank = not line.strip()
        # What is longer than a letter may be is refused: its rest need not be kept.
        if size <= MAX_BYTES:
            mail.append(line)
            size += len(line)
    yield read_letter(b"".join(mail), name if number == 1 else f"{name}#{number}", now, zone)


def _unpacked(
    data: bytes, name: str, now: int, zone: str, budget: Budget, depth: int
) -> Iterator[Letter]:
    """The letters in the members of archives; other bytes are letters."""
    try:
        budget.part(depth)
        if len(data) > MAX_BYTES or not data.startswith((ZIP, GZIP)) or depth > MAX_DEPTH:
            yield from _mails(data, name, now, zone)
            return
        if data.startswith(ZIP):
            members = [
                (f"{name}/{printable(member)}", content)
                for member, content in unzip(data, budget, depth + 1)
            ]
        else:
            members = [(name.removesuffix(".gz"), gunzip(data, budget))]
    except (Refused, Broken) as error:
        yield Letter(name, hashlib.sha256(data).hexdigest(), problem=str(error))
        return
    for member, content in members:
        yield from _unpacked(content, member, now, zone, budget, depth + 1)


def _mails(data: bytes, name: str, now: int, zone: str) -> Iterator[Letter]:
    if _FROM.match(data):
        file = io.BytesIO(data)
        yield from _box(file, file.readline(_CHUNK), name, now, zone)
    else:
        yield read_letter(data, name, now, zone)

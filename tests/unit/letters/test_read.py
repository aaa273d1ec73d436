"""Letters out of files and mailboxes, which stay as they are; hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ctrecorder.errors import ArchiveError
from ctrecorder.letters.read import read, read_path
from ctrecorder.letters.sighting import Letter

NOW = 1_795_867_200 * 10**9  # 2026-11-28 12:00 UTC
LINE = b"198.51.100.%d:40000 2026-11-24T06:00:05Z\n"
MAIL = (
    b"From: a@kiesel.example\nTo: b@kiesel.example\nSubject: x\nMessage-ID: <%d@kiesel.example>\n"
    b"Date: Wed, 25 Nov 2026 09:30:00 +0100\n\n" + LINE
)
FROM = b"From a@kiesel.example Wed Nov 25 09:30:00 2026\n"
HEAD = b"From: a@b.example\nTo: c@d.example\nSubject: abuse from 198.51.100.1\n"
MIB = 2**20


def addresses(letters: list[Letter]) -> list[list[str]]:
    return [[each.address.value for each in letter.sightings] for letter in letters]


def packed(name: str, data: bytes) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return found.getvalue()


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mtime_ns,
            path.stat().st_mode,
        )
        for path in folder.rglob("*")
    }


def test_a_mailbox(tmp_path: Path) -> None:
    """A line "From " in a body is no mail of its own; nothing is locked or changed."""
    box = tmp_path / "box"
    quoted = b"> His letter:\n" + FROM + b"From now on it is quiet\n\nFrom here as well\n"
    box.write_bytes(FROM + MAIL % (1, 1) + quoted + b"\n" + FROM + MAIL % (2, 2) + b"\n")
    before = snapshot(tmp_path)
    letters = list(read_path(str(box), NOW))
    assert addresses(letters) == [["198.51.100.1"], ["198.51.100.2"]]
    assert [letter.file for letter in letters] == [f"{box}#1", f"{box}#2"]
    assert [letter.message_id for letter in letters] == ["1@kiesel.example", "2@kiesel.example"]
    assert snapshot(tmp_path) == before
    assert addresses(list(read(box.read_bytes(), "box", NOW))) == addresses(letters)
    box.write_bytes(FROM + MAIL % (1, 1))
    (letter,) = read_path(str(box), NOW)
    assert letter.file == str(box)
    assert letter.sightings[0].address.place.line == 1


def test_a_maildir(tmp_path: Path) -> None:
    for folder in ("cur", "new", "tmp"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cur" / "1:2,S").write_bytes(MAIL % (1, 1))
    (tmp_path / "new" / "2").write_bytes(MAIL % (2, 2))
    (tmp_path / "tmp" / "3").write_bytes(MAIL % (3, 3))
    before = snapshot(tmp_path)
    letters = list(read_path(str(tmp_path), NOW))
    assert addresses(letters) == [["198.51.100.1"], ["198.51.100.2"]]
    assert snapshot(tmp_path) == before


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(LINE % 2)
    (tmp_path / "a.eml").write_bytes(MAIL % (1, 1))
    (tmp_path / ".hidden").write_bytes(LINE % 3)
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "pipe")
    letters = list(read_path(str(tmp_path), NOW))
    assert addresses(letters) == [["198.51.100.1"], ["198.51.100.2"]]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LINE % 1)))
    (letter,) = read_path("-", NOW)
    assert (letter.file, len(letter.sightings)) == ("-", 1)


def test_archives_of_letters() -> None:
    inner = packed("box", FROM + MAIL % (1, 1) + b"\n" + FROM + MAIL % (2, 2))
    letters = list(read(gzip.compress(packed("in.zip", inner)), "all.zip.gz", NOW))
    assert addresses(letters) == [["198.51.100.1"], ["198.51.100.2"]]
    assert letters[0].file == "all.zip/in.zip/box#1"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        list(read_path(str(tmp_path / "none\x1b"), NOW))


def test_names_do_not_control_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m.txt"
    path.write_bytes(LINE % 1)
    (letter,) = read_path(str(path), NOW)
    assert letter.file.endswith("a\\x1b[31m.txt")
    assert letter.sightings[0].address.place.file == letter.file
    (letter,) = read(packed("\u202e.txt", LINE % 1), "z", NOW)
    assert letter.file == "z/\\u202e.txt"


def deep(count: int) -> bytes:
    data = b"x"
    for number in range(count):
        data = b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (number, number) + data
    return HEAD + data


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]>'
NOTICE = b'<Infringement xmlns="http://www.acns.net/ACNS"><Source><IP_Address>'
# What is refused, or of no use, and the line that says so.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip bomb": (lambda: packed("a", bytes(20 * MIB)), "unpacks to more than"),
    "gzip bomb": (lambda: gzip.compress(bytes(20 * MIB)), "unpacks to more than"),
    "too large": (lambda: bytes(8 * MIB + 1), "larger than 8 MiB"),
    "entities": (
        lambda: ENTITIES + NOTICE + b"&d;</IP_Address></Source></Infringement>",
        "refused",
    ),
    "file of the system": (
        lambda: b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + NOTICE + b"&x;",
        "refused",
    ),
    "deep parts": (lambda: deep(100), "nested deeper"),
    "deep XML": (lambda: NOTICE + b"<a>" * 100_000, "is broken"),
    "wide XML": (lambda: NOTICE + b"<a>1</a>" * 100_000, "is broken"),
    "many notices": (
        lambda: (NOTICE + b"1</IP_Address></Source></Infringement>") * 60_000,
        "no address",
    ),
    "many parts": (
        lambda: HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * 2_000,
        "more than 500 parts",
    ),
    "lines": (lambda: b"\n" * 300_000, "more than 200,000 lines"),
    "sightings": (
        lambda: b"".join(b"198.51.100.1:%d 2026-11-24T06:00:05Z\n" % n for n in range(1, 20_100)),
        "more than 20,000 sightings",
    ),
    "JSON": (lambda: b'{"xarf_version":' + b"[" * MIB, "too many values or levels"),
    "broken JSON": (
        lambda: b'{"xarf_version": "4.2.0",\n "source_identifier": ',
        "line 2 is broken",
    ),
}
# Nothing of this may take time that grows with the square of its length.
LONG: dict[str, Callable[[], bytes]] = {
    "digits": lambda: b"1" * MIB,
    "dots": lambda: b"1." * MIB,
    "groups": lambda: b"a:" * MIB,
    "blanks": lambda: b"a" + b" " * 4_000 + b":\n" + (b" " * 4_000 + b"\n") * 200,
    "marks": lambda: HEAD + b"Content-Type: text/html\n\n" + b"<!--<b>" * 200_000,
    "angles": lambda: b"<" * MIB + b"<Infringement " * 40_000,
    "ampersands": lambda: NOTICE + b"&" * MIB,
    "quotes": lambda: b"ip,time\n" + b'"a\n' * 100_000,
    "heads": lambda: b"ip,time\n" * 100_000,
    "times": lambda: (b"24 Nov 2026 06:00:05 " * 40 + b"\n") * 500,
    "addresses": lambda: (b"198.51.100.1 " * 300 + b"\n") * 500,
    "words": lambda: (b"abuse times are in the " * 170 + b"198.51.100.1\n") * 300,
    "encoded words": lambda: b"Subject: " + b"=?a?q?x" * 100_000 + b"\n" + HEAD + b"\nx",
    "folds": lambda: HEAD + b"X: y\n" + b" z\n" * 100_000,
    "parameters": lambda: HEAD + b"Content-Type: a/b" + b'; a="' * 100_000 + b"\n\nx",
    "escapes": lambda: b'{"a": "' + b"\\" * MIB,
    "brackets": lambda: (b"[" * 4_000 + b"\n") * 200,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_letters_are_refused_in_one_line(name: str) -> None:
    data, problem = HOSTILE[name]
    since = time.process_time()
    for letter in read(data(), "letter", NOW):
        assert problem in letter.problem
        assert letter.problem.isprintable()
        assert not letter.sightings
        assert len(letter.sha256) == (0 if name == "too large" else 64)
    assert time.process_time() - since < 20


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_time_grows_with_the_length(name: str) -> None:
    """At most 20 s of CPU for what a regular expression that tries all ways needs hours for."""
    since = time.process_time()
    assert [letter.problem for letter in read(LONG[name](), "letter", NOW)] != [""]
    assert time.process_time() - since < 20

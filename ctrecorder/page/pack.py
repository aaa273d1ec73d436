"""The pack of evidence: one tar file with an answer and all that is needed to check it.

It has no segment of the log, since those have the connections of all customers, but their hashes.
The same answer gives the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ctrecorder.errors import UsageError
from ctrecorder.page import answer, mail_text, shape, twin, words
from ctrecorder.page.shape import Json
from ctrecorder.times import SECOND

# All files are in this folder of the archive.
FOLDER = "ctwho-answer"
SUMS = "SHA256SUMS"
_MODE = 0o600
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}", re.ASCII)
_README = """\
The answer of ctwho to the question who had an address, and what proves it.

answer.html    the answer, for people; answer.txt is its short form
answer.json    its JSON twin, for programs; ctwho(1) describes it
coverage.json  which time of the log was asked, and what the log lacks there
seals.json     the segments of the log that were read, by name and hash
{letter}
Are the files as they were packed?
    sha256sum -c {sums}
Is the page as ctwho made it?
    ctwho --verify answer.html
Does the log still say the same? On a machine that has it:
    {command}

No segment of the log is here: it has the connections of others, too. Where it
is kept, its last hash in seals.json names it: cttest(1) shows and proves it.
"""


@dataclass(frozen=True)
class Letter:
    """The letter that was answered: the name of its file, and its bytes."""

    file: str
    data: bytes


def pack(whole: Json, letter: Letter | None, seals: Json) -> bytes:
    """The tar file for a twin.

    `letter`: left out of a copy without remote ends, since it names them.  `seals`: facts about the
    keys and ledgers of the archive.  Raises TwinError; UsageError if the letter is another one than
    that of the twin.
    """
    answers = twin.known(whole)
    _check_letter(answers, letter)
    enclosed = None if answers.get("redacted") else letter
    files = dict(_files(whole, answers, enclosed, seals))
    files["MANIFEST.json"] = _json(_manifest(whole, answers, enclosed, files))
    files[SUMS] = "".join(
        f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    ).encode()
    return _tar(files, _asked(answers))


def _files(
    whole: Json, answers: Json, letter: Letter | None, seals: Json
) -> Iterator[tuple[str, bytes]]:
    yield "answer.html", answer.html(whole).encode()
    yield "answer.json", f"{twin.spelling(whole)}\n".encode("ascii")
    yield "answer.txt", mail_text.text(whole).encode()
    yield "coverage.json", _json({"questions": [_coverage(one) for one in answers["questions"]]})
    yield "seals.json", _json({"questions": [_seals(one) for one in answers["questions"]], **seals})
    named = ""
    if letter is not None:
        yield _letter_name(letter), letter.data
        named = f"{_letter_name(letter):<15}the letter that was answered, as it came\n"
    command = answer.check_command(answers).replace("FILE.html", "answer.html")
    yield "README.txt", _README.format(letter=named, sums=SUMS, command=command).encode()


def _check_letter(answers: Json, letter: Letter | None) -> None:
    named = words.letter(answers)
    if letter is None or not named:
        if letter is not None:
            raise UsageError(f"{letter.file}: is not the letter of this answer, which has none")
        return
    if sha256(letter.data).hexdigest() != named["sha256"]:
        raise UsageError(f"{letter.file}: has changed since it was read: ask again")


def _letter_name(letter: Letter) -> str:
    """ "letter.eml": nothing but the suffix of the name that others gave it."""
    suffix = os.path.splitext(letter.file)[1]
    return f"letter{suffix}" if _SUFFIX.fullmatch(suffix) else "letter"


def _coverage(one: Json) -> Json:
    names = ("complete", "holes", "accepted", "complete_until", "clock")
    asked = {name: one["question"][name] for name in ("since", "until") if name in one["question"]}
    return {**asked, **{name: one[name] for name in names if name in one}}


def _seals(one: Json) -> Json:
    evidence = one.get("evidence", {})
    return {name: evidence.get(name, []) for name in ("segments", "receipts")}


def _manifest(
    whole: Json, answers: Json, letter: Letter | None, files: Mapping[str, bytes]
) -> Json:
    versions = {one.get("evidence", {}).get("version", "") for one in answers["questions"]}
    return {
        "made_by": sorted(filter(None, versions)),
        "twin_sha256": twin.digest(twin.spelling(whole)),
        "verdicts": [one["verdict"] for one in answers["questions"]],
        "redacted": bool(answers.get("redacted")),
        "letter": None if letter is None else _letter_name(letter),
        "files": [
            {"name": name, "bytes": len(data), "sha256": sha256(data).hexdigest()}
            for name, data in sorted(files.items())
        ],
    }


def _json(facts: Json) -> bytes:
    return f"{json.dumps(facts, indent=1)}\n".encode("ascii")


def _asked(answers: Json) -> int:
    """When the first question was asked, seconds; 0 if that is not known."""
    times = [one["question"]["asked"] for one in answers["questions"] if "asked" in one["question"]]
    return min((shape.nanoseconds(time) for time in times), default=0) // SECOND


def _tar(files: Mapping[str, bytes], time: int) -> bytes:
    """A tar file with the files in the order of their names, of root, at one time."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), time, _MODE
            entry.uname = entry.gname = "root"
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()
